"""What goes wrong with the emulated group's API on demand, and the record of what was called."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

# HTTP status and text. ResourceContention's status is the one in the service's model, the others those of
# "Common error types" in the API reference.
ERRORS = {
    "Throttling": (400, "Rate exceeded"),
    "AccessDenied": (
        403,
        "User: arn:aws:sts::123456789012:assumed-role/rehearsal/{instance} is not authorized to perform: "
        "autoscaling:{operation} because no identity-based policy allows the autoscaling:{operation} action",
    ),
    "ExpiredToken": (403, "The security token included in the request is expired"),
    "ResourceContention": (
        500,
        "You already have a pending update to an Amazon EC2 Auto Scaling resource (for example, an Auto "
        "Scaling group, instance, or load balancer).",
    ),
    "InternalFailure": (500, "The request processing has failed because of an unknown error."),
    "ServiceUnavailable": (503, "The service is unavailable. Please try again shortly."),
}


@dataclass
class Fault:
    """What goes wrong with the next calls of an operation.

    Args:
        operation: as AWS spells it, `CompleteLifecycleAction`; `*` for every one.
        code: one of `ERRORS`, or any other for a plain 400; empty for a fault that only delays.
        times: how many calls; None for all of them from now on.
        delay: seconds before the call is looked at.
        after: the call is carried out, and the answer alone is an error: what a lost answer looks like.
    """

    operation: str
    code: str = "Throttling"
    times: int | None = 1
    delay: float = 0.0
    after: bool = False

    def answer(self, operation: str, instance_id: str) -> tuple[int, dict[str, Any], str]:
        """HTTP status, headers and body, as the query protocol has them."""
        status, text = ERRORS.get(self.code, (400, "An error asked for."))
        text = escape(text.format(operation=operation, instance=instance_id))
        side = "Receiver" if status >= 500 else "Sender"
        return (
            status,
            {"Content-Type": "text/xml"},
            '<ErrorResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">'
            f"<Error><Type>{side}</Type><Code>{escape(self.code)}</Code><Message>{text}</Message></Error>"
            f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>",
        )


@dataclass(frozen=True)
class Call:
    """One call of the Auto Scaling API; `outcome` is `ok` or the error code, `at` the group's clock."""

    operation: str
    outcome: str
    at: float
    parameters: dict[str, Any] = field(default_factory=dict)

"""Amazon EC2 Auto Scaling: what the group says of this instance, heartbeats, and the answer.

boto3 (some 200 ms) is imported where a client is made, so that the words of this file can be used before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from lifecycle_agent.clients.aws import make_client
from lifecycle_agent.clients.bounded import within
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.model import ActionResult, Hook, LifecycleState, LifecycleTransition

T = TypeVar("T")

CONNECT_SECONDS = 2.0  # a regional endpoint connects in milliseconds
CALL_SECONDS = 6.0  # a call takes tens of ms; with this limit three tries fit even a short reserve

# Codes without "Throttl" in them that mean the same or pass by themselves; botocore's standard mode has them.
_PASSING = {
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "ResourceContention",
    "BandwidthLimitExceeded",
    "PriorRequestNotComplete",
    "RequestTimeout",
    "RequestTimeoutException",
    "SlowDown",
}


class Refusal(Enum):
    """Why a call failed, as far as it matters for what to do next."""

    NOT_ACTIVE = "no lifecycle action is active"
    TRANSIENT = "the service is busy or out of reach"
    DENIED = "the service refused"


class GroupError(LifecycleAgentError):
    """A call to Auto Scaling failed; `refusal` says of which kind it was."""

    def __init__(self, message: str, hint: str, refusal: Refusal) -> None:
        super().__init__(message, hint)
        self.refusal = refusal


@dataclass(frozen=True)
class Membership:
    """The group that an instance is in, and where in its life the group says it is."""

    group: str
    state: LifecycleState


class AutoScaling:
    """The five calls the agent makes. No retries here: what a failure means depends on the caller.

    Args:
        region: the instance's own, from its metadata; AWS_REGION and AWS_DEFAULT_REGION go before it.
    """

    def __init__(self, region: str, instance_id: str) -> None:
        import boto3.session  # noqa: F401 - here, so that the first call's time is the call's alone

        self._region = region
        self._instance_id = instance_id
        self._made: Any = None

    def _client(self) -> Any:
        """It looks for credentials only when it is made: without any, the next call makes another."""
        if self._made is None:
            self._made = make_client("autoscaling", self._region, CONNECT_SECONDS, CALL_SECONDS)
        return self._made

    def membership(self, deadline: Deadline) -> Membership | None:
        """Where the group says this instance is; None when no group knows it (any more)."""

        def ask(client: Any) -> Membership | None:
            answer = client.describe_auto_scaling_instances(InstanceIds=[self._instance_id])
            for found in answer["AutoScalingInstances"]:
                if found["InstanceId"] == self._instance_id:
                    return Membership(found["AutoScalingGroupName"], LifecycleState(found["LifecycleState"]))
            return None

        return self._call("DescribeAutoScalingInstances", deadline, ask)

    def hooks(self, group: str, deadline: Deadline) -> list[Hook]:
        """The group's lifecycle hooks (50 at most)."""

        def ask(client: Any) -> list[Hook]:
            answer = client.describe_lifecycle_hooks(AutoScalingGroupName=group)
            known = [transition.value for transition in LifecycleTransition]
            return [_hook(each) for each in answer["LifecycleHooks"] if each["LifecycleTransition"] in known]

        return self._call("DescribeLifecycleHooks", deadline, ask)

    def complete(
        self, group: str, hook: str, result: ActionResult, deadline: Deadline, token: str = ""
    ) -> None:
        """Answer this instance's lifecycle action, or the one that has the token."""
        self._call(
            "CompleteLifecycleAction",
            deadline,
            lambda client: client.complete_lifecycle_action(
                AutoScalingGroupName=group,
                LifecycleHookName=hook,
                LifecycleActionResult=result.value,
                **self._which(token),
            ),
        )

    def heartbeat(self, group: str, hook: str, deadline: Deadline, token: str = "") -> None:
        """Restart the heartbeat timeout of the lifecycle action: named as in `complete`."""
        self._call(
            "RecordLifecycleActionHeartbeat",
            deadline,
            lambda client: client.record_lifecycle_action_heartbeat(
                AutoScalingGroupName=group, LifecycleHookName=hook, **self._which(token)
            ),
        )

    def _which(self, token: str) -> dict[str, str]:
        """A lifecycle action is named by its token or its instance; either is enough."""
        return {"LifecycleActionToken": token} if token else {"InstanceId": self._instance_id}

    def _call(self, operation: str, deadline: Deadline, call: Callable[[Any], T]) -> T:
        """Make one call within the deadline and `CALL_SECONDS`; all that goes wrong is a `GroupError`."""
        from botocore.exceptions import ClientError, NoCredentialsError

        try:
            return within(deadline.timeout(CALL_SECONDS), lambda: call(self._client()))
        except ClientError as error:
            raise _refused(operation, error.response) from error
        except NoCredentialsError as error:
            self._made = None
            raise GroupError(
                f"{operation}: there are no AWS credentials",
                f"give the instance a profile that allows autoscaling:{operation}",
                Refusal.TRANSIENT,  # the metadata service may have missed one request for them
            ) from error
        except Exception as error:  # no connection, no answer in time, or one that is no answer
            what = " ".join(str(error).split())[:500]
            raise GroupError(
                f"{operation}: {type(error).__name__}: {what}",
                "the instance needs a way to the Auto Scaling endpoint, for example a VPC endpoint",
                Refusal.TRANSIENT,
            ) from error


def _hook(document: Mapping[str, Any]) -> Hook:
    return Hook(
        name=document["LifecycleHookName"],
        transition=LifecycleTransition(document["LifecycleTransition"]),
        heartbeat_timeout=float(document.get("HeartbeatTimeout", 3600)),
        global_timeout=float(document.get("GlobalTimeout", 48 * 3600)),
        default_result=ActionResult(document.get("DefaultResult", "ABANDON")),
    )


def _refused(operation: str, response: Any) -> GroupError:
    code = response.get("Error", {}).get("Code", "")
    text = " ".join(str(response.get("Error", {}).get("Message", "")).split())[:500]
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = f"{operation}: {code}: {text}"
    if code == "ValidationError" and text.startswith("No active Lifecycle Action"):
        hint = "the group does not wait for this instance (yet, any more, or for that hook)"
        return GroupError(message, hint, Refusal.NOT_ACTIVE)
    if status >= 500 or status in (408, 429) or "Throttl" in code or code in _PASSING:
        return GroupError(message, "it may pass: try again", Refusal.TRANSIENT)
    if "ExpiredToken" in code or code == "RequestExpired":
        return GroupError(message, "the instance profile's credentials are being renewed", Refusal.TRANSIENT)
    hint = f"allow autoscaling:{operation} in the instance profile, and check the hook's and the group's name"
    return GroupError(message, hint, Refusal.DENIED)

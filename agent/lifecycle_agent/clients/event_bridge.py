"""A lifecycle action's event as EventBridge delivers it. Pure: the caller reads it, and says what time it is.

Source of its form: "Amazon EC2 Auto Scaling event reference" in the service's user guide; of the names' form:
the service's API model. Anybody may have written what is read here, so nothing in it is believed before it
has been looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NoReturn

from lifecycle_agent.errors import UsageError
from lifecycle_agent.model import LifecycleTransition, NamedAction, NoticeKind, TargetState

MOST_BYTES = 256 * 1024  # EventBridge's own limit for an event

MOST_SECONDS = 7200.0  # the longest HeartbeatTimeout of a hook: nobody waits for the answer to an older one
MOST_AHEAD_SECONDS = 300.0  # of our clock: the signature of an AWS call bears no more than that either

MOST_SHOWN = 60  # characters of a wrong value in an error

SOURCE = "aws.autoscaling"
DETAIL_TYPE = {
    LifecycleTransition.LAUNCHING: "EC2 Instance-launch Lifecycle Action",
    LifecycleTransition.TERMINATING: "EC2 Instance-terminate Lifecycle Action",
}

REPLACE_ROOT_VOLUME = "ReplaceRootVolume"  # `Action` in events of an instance that gets a new root volume

INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_TOKEN = re.compile(r"[0-9A-Za-z-]{36}")
_HOOK = re.compile(r"[0-9A-Za-z_/-]{1,255}")
_REGION = re.compile(r"[a-z]{2,8}(-[a-z]{2,12}){1,3}-[0-9]{1,2}")
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?Z")
_PLACE = re.compile(r"EC2|AutoScalingGroup|WarmPool")

WHOLE = "hand in the event whole and unchanged, as an EventBridge rule passes it on"


@dataclass(frozen=True)
class LifecycleEvent:
    """A group waits for an answer about an instance, and says whom it asks.

    Args:
        age: seconds since the group has sent it; less than 0 where its clock is ahead of ours.
        origin: where the instance comes from: `EC2`, `AutoScalingGroup` or `WarmPool`; empty in events of a
            group that has not been told of warm pools.
        destination: where it goes, likewise.
        new_volume: whether it gets a new root volume, and stays.
    """

    instance_id: str
    transition: LifecycleTransition
    action: NamedAction
    region: str
    age: float
    origin: str = ""
    destination: str = ""
    new_volume: bool = False

    @property
    def kind(self) -> NoticeKind:
        """Which transition it starts."""
        if self.transition is LifecycleTransition.TERMINATING:
            if self.new_volume:
                return NoticeKind.REPLACE_ROOT
            return NoticeKind.ENTER_POOL if self.destination == "WarmPool" else NoticeKind.TERMINATE
        return NoticeKind.LEAVE_POOL if self.origin == "WarmPool" else NoticeKind.LAUNCH

    @property
    def target(self) -> TargetState | None:
        """What the group wants of the instance; None where the transition says it.

        How it is to rest in the warm pool the event does not say; it makes no difference to what is done.
        """
        if self.destination == "WarmPool":
            return TargetState.WARMED_STOPPED
        going = self.kind in (NoticeKind.TERMINATE, NoticeKind.REPLACE_ROOT)
        return None if going else TargetState.IN_SERVICE


def read_event(content: bytes, now: float) -> LifecycleEvent:
    """The event in `content`.

    Args:
        now: seconds since the epoch.

    Raises:
        UsageError: it is none, or too old to be answered.
    """
    event = _document(content)
    _refuse_what_is_like_it(event)
    if event.get("source") != SOURCE:
        _wrong("source", event.get("source"), f"is not {SOURCE!r}")
    detail = event.get("detail")
    if not isinstance(detail, dict):
        _wrong("detail", detail, "is no object")
    transition = _transition(event, detail)
    group = detail.get("AutoScalingGroupName")
    if not isinstance(group, str) or not 0 < len(group) <= 255 or not group.isprintable():
        _wrong("detail.AutoScalingGroupName", group, "is no group's name")
    return LifecycleEvent(
        _matching(_INSTANCE, detail, "an instance id"),
        transition,
        NamedAction(
            group,
            _matching(_HOOK_NAME, detail, "a lifecycle hook's name"),
            _matching(_ACTION_TOKEN, detail, "a lifecycle action's token"),
        ),
        _matching(("region", "region", _REGION), event, "a region"),
        _age(event.get("time"), now),
        _place(detail, "Origin"),
        _place(detail, "Destination"),
        detail.get("Action") == REPLACE_ROOT_VOLUME,
    )


# How an error calls a field, its key, and what it must look like.
_INSTANCE = ("detail.EC2InstanceId", "EC2InstanceId", INSTANCE_ID)
_HOOK_NAME = ("detail.LifecycleHookName", "LifecycleHookName", _HOOK)
_ACTION_TOKEN = ("detail.LifecycleActionToken", "LifecycleActionToken", _TOKEN)


def _document(content: bytes) -> dict[str, Any]:
    """The JSON object; one that is too large, too deep, or no JSON is refused."""
    if len(content) > MOST_BYTES:
        raise UsageError(f"the event is larger than {MOST_BYTES} bytes", WHOLE)
    if not content.strip():
        raise UsageError("the event is empty", WHOLE)
    try:
        document = json.loads(content.decode("utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise UsageError(f"the event is not UTF-8 (byte {error.start})", WHOLE) from error
    except RecursionError as error:
        raise UsageError("the event is no event: its JSON is nested too deeply", WHOLE) from error
    except ValueError as error:
        raise UsageError(f"the event is not JSON: {_short(str(error))}", WHOLE) from error
    if not isinstance(document, dict):
        raise UsageError(f"the event is no JSON object, but {_short(repr(document))}", WHOLE)
    return document


def _no_number(word: str) -> NoReturn:
    """NaN and the infinities, which Python takes and JSON does not know."""
    raise ValueError(f"{word} is no JSON")


def _refuse_what_is_like_it(event: Mapping[str, Any]) -> None:
    """Messages that others get about the same thing, each with a word of its own."""
    if event.get("Event") == "autoscaling:TEST_NOTIFICATION":
        raise UsageError(
            "this is the test notification that a group sends once to a hook's SNS topic or SQS queue",
            "nothing is to be done for it; only the event of an EventBridge rule is taken here",
        )
    if "TopicArn" in event and "Message" in event:
        what = "the envelope of an SNS message"
    elif "Records" in event or "Messages" in event or "ReceiptHandle" in event:
        what = "a list of records or an SQS message"
    elif "LifecycleActionToken" in event:
        what = (
            "the message that a hook sends to an SNS topic or an SQS queue itself, or an event's detail alone"
        )
    else:
        return
    raise UsageError(f"this is {what}, not an EventBridge event", WHOLE)


def _transition(event: Mapping[str, Any], detail: Mapping[str, Any]) -> LifecycleTransition:
    """The transition, said twice: as the type of the event, and in its detail."""
    said, word = event.get("detail-type"), detail.get("LifecycleTransition")
    if said not in DETAIL_TYPE.values():
        _wrong("detail-type", said, "is not " + " or ".join(repr(known) for known in DETAIL_TYPE.values()))
    if word not in [known.value for known in LifecycleTransition]:
        _wrong("detail.LifecycleTransition", word, "is no transition of a lifecycle hook")
    transition = LifecycleTransition(word)
    if DETAIL_TYPE[transition] != said:
        _wrong("detail.LifecycleTransition", word, f"does not go with detail-type {said!r}")
    return transition


def _matching(field: tuple[str, str, re.Pattern[str]], values: Mapping[str, Any], what: str) -> str:
    name, key, pattern = field
    value = values.get(key)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        _wrong(name, value, f"is not {what}")
    return value


def _place(detail: Mapping[str, Any], key: str) -> str:
    if key not in detail:
        return ""
    return _matching((f"detail.{key}", key, _PLACE), detail, "'EC2', 'AutoScalingGroup' or 'WarmPool'")


def _age(value: Any, now: float) -> float:
    """Seconds since the event's time."""
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    try:
        # `fromisoformat` takes no Z before Python 3.11.
        at = datetime.strptime(found[1], "%Y-%m-%dT%H:%M:%S") if found else None
    except ValueError:
        at = None
    if at is None or found is None:
        _wrong("time", value, "is not a time like 2026-01-02T03:04:05Z")
    age = now - at.replace(tzinfo=timezone.utc).timestamp() - float(found[2] or 0)
    if age > MOST_SECONDS:
        raise UsageError(
            f"the event is {age / 60:.0f} minutes old (time {_short(value)}): no group waits that long",
            "look at the instance's state; `lifecycle-agent drain --complete` answers what is asked now",
        )
    if age < -MOST_AHEAD_SECONDS:
        raise UsageError(
            f"the event is from the future (time {_short(value)}, {-age / 60:.0f} minutes ahead)",
            "set this machine's clock: AWS refuses calls that are signed at a wrong time, too",
        )
    return age


def _wrong(name: str, value: Any, what: str) -> NoReturn:
    if value is None:
        raise UsageError(f"the event has no {name}", WHOLE)
    raise UsageError(f"the event's {name} {what}: {_short(repr(value))}", WHOLE)


def _short(text: str) -> str:
    """Text for an error: one line of it, and not all of what somebody may have sent."""
    line = "".join(character if character.isprintable() else "?" for character in text[: MOST_SHOWN + 1])
    return line if len(text) <= MOST_SHOWN else line[:MOST_SHOWN] + "..."

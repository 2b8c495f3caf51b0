"""An EventBridge event of a lifecycle action: what is taken from it, and what is not taken for one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_agent.clients.event_bridge import (
    MOST_AHEAD_SECONDS,
    MOST_BYTES,
    MOST_SECONDS,
    LifecycleEvent,
    read_event,
)
from lifecycle_agent.errors import UsageError
from lifecycle_agent.model import LifecycleTransition, NamedAction, NoticeKind, TargetState

# As in the service's user guide.
EVENT: dict[str, Any] = {
    "version": "0",
    "id": "468fe059-f4b7-445f-bb22-2a271b94974d",
    "detail-type": "EC2 Instance-terminate Lifecycle Action",
    "source": "aws.autoscaling",
    "account": "123456789012",
    "time": "2015-12-22T18:43:48Z",
    "region": "us-east-1",
    "resources": [
        "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:59fcbb81-bd02-485d-80ce-563ef5b237bf"
        ":autoScalingGroupName/sampleASG"
    ],
    "detail": {
        "LifecycleActionToken": "630aa23f-48eb-45e7-aba6-799ea6093a0f",
        "AutoScalingGroupName": "sampleASG",
        "LifecycleHookName": "SampleLifecycleHook-6789",
        "EC2InstanceId": "i-004365c01913204a0",
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
    },
}
THEN = datetime(2015, 12, 22, 18, 43, 48, tzinfo=timezone.utc).timestamp()
LAUNCH = "EC2 Instance-launch Lifecycle Action"
LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"

GONE = object()


def changed(path: str, value: Any) -> dict[str, Any]:
    """The event with one value changed, or gone."""
    event = copy.deepcopy(EVENT)
    *above, key = path.split(".")
    place = event["detail"] if above else event
    if value is GONE:
        place.pop(key, None)
    else:
        place[key] = value
    return event


def read(event: Any, now: float = THEN + 5) -> LifecycleEvent:
    return read_event(json.dumps(event).encode(), now)


def refused(content: bytes, now: float = THEN + 5) -> UsageError:
    """What is said of it: two lines, none of them long, nothing in them that a terminal would obey."""
    with pytest.raises(UsageError) as caught:
        read_event(content, now)
    error = caught.value
    assert error.message.isprintable()
    assert error.hint.isprintable()
    assert len(error.message) < 300
    return error


def test_the_event_of_the_user_guide() -> None:
    assert read(EVENT) == LifecycleEvent(
        "i-004365c01913204a0",
        LifecycleTransition.TERMINATING,
        NamedAction("sampleASG", "SampleLifecycleHook-6789", "630aa23f-48eb-45e7-aba6-799ea6093a0f"),
        "us-east-1",
        5.0,
    )


@pytest.mark.parametrize(
    ("launching", "origin", "destination", "kind", "target"),
    [
        (False, "AutoScalingGroup", "EC2", NoticeKind.TERMINATE, None),
        (False, None, None, NoticeKind.TERMINATE, None),
        (False, "WarmPool", "EC2", NoticeKind.TERMINATE, None),
        (False, "AutoScalingGroup", "WarmPool", NoticeKind.ENTER_POOL, TargetState.WARMED_STOPPED),
        (True, "EC2", "AutoScalingGroup", NoticeKind.LAUNCH, TargetState.IN_SERVICE),
        (True, None, None, NoticeKind.LAUNCH, TargetState.IN_SERVICE),
        (True, "EC2", "WarmPool", NoticeKind.LAUNCH, TargetState.WARMED_STOPPED),
        (True, "WarmPool", "AutoScalingGroup", NoticeKind.LEAVE_POOL, TargetState.IN_SERVICE),
    ],
)
def test_what_it_starts(
    launching: bool, origin: str | None, destination: str | None, kind: NoticeKind, target: TargetState | None
) -> None:
    event = copy.deepcopy(EVENT)
    if launching:
        event["detail-type"], event["detail"]["LifecycleTransition"] = LAUNCH, LAUNCHING
    if origin is not None:
        event["detail"] |= {"Origin": origin, "Destination": destination}

    seen = read(event)

    assert (seen.kind, seen.target) == (kind, target)
    assert seen.transition.name == ("LAUNCHING" if launching else "TERMINATING")


@pytest.mark.parametrize(
    ("written", "age"),
    [("2015-12-22T18:43:48Z", 5.0), ("2015-12-22T18:43:48.214Z", 4.786), ("2015-12-22T18:44:53Z", -60.0)],
)
def test_its_age(written: str, age: float) -> None:
    assert read(changed("time", written)).age == pytest.approx(age, abs=1e-3)


@pytest.mark.parametrize(
    "value", ["plain", "a b", "team/orders.v2", "Grüße", "it's", '"', "$(reboot)", "a" * 255], ids=repr
)
def test_a_group_may_be_called_what_the_service_allows(value: str) -> None:
    assert read(changed("detail.AutoScalingGroupName", value)).action.group == value


@pytest.mark.parametrize("path", ["detail.NotificationMetadata", "more", "detail.More"])
def test_what_is_not_known_is_not_looked_at(path: str) -> None:
    assert read(changed(path, [None])) == read(EVENT)


# -- what is refused

WRONG: list[tuple[str, Any, str]] = [
    ("source", "aws.ec2", "the event's source is not 'aws.autoscaling': 'aws.ec2'"),
    ("source", GONE, "the event has no source"),
    ("source", ["aws.autoscaling"], "the event's source is not"),
    ("detail-type", "EC2 Instance Launch Successful", "the event's detail-type is not 'EC2 Instance-launch"),
    ("detail-type", GONE, "the event has no detail-type"),
    ("detail-type", {}, "the event's detail-type is not"),
    ("detail-type", LAUNCH, "does not go with detail-type 'EC2 Instance-launch Lifecycle Action'"),
    ("detail.LifecycleTransition", LAUNCHING, "does not go with detail-type 'EC2 Instance-terminate"),
    ("detail.LifecycleTransition", "autoscaling:EC2_INSTANCE_LAUNCH", "is no transition"),
    ("detail.LifecycleTransition", [], "is no transition"),
    ("detail", GONE, "the event has no detail"),
    ("detail", [], "the event's detail is no object: []"),
    ("detail", "{}", "the event's detail is no object"),
    ("detail.EC2InstanceId", "mi-004365c01913204a0", "is not an instance id: 'mi-004365c01913204a0'"),
    ("detail.EC2InstanceId", "i-004365C01913204a0", "is not an instance id"),
    ("detail.EC2InstanceId", "i-004365c", "is not an instance id"),
    ("detail.EC2InstanceId", "i-004365c01913204a0\n", "is not an instance id"),
    ("detail.EC2InstanceId", "i-004365c01913204a0; reboot", "is not an instance id"),
    ("detail.EC2InstanceId", "i-٠٠٤٣٦٥٠١", "is not an instance id"),
    ("detail.EC2InstanceId", 7, "is not an instance id: 7"),
    ("detail.LifecycleActionToken", "630aa23f", "is not a lifecycle action's token"),
    ("detail.LifecycleActionToken", "x" * 37, "is not a lifecycle action's token"),
    (
        "detail.LifecycleActionToken",
        "630aa23f-48eb-45e7-aba6-799ea6093a0 ",
        "is not a lifecycle action's token",
    ),
    ("detail.LifecycleHookName", "", "is not a lifecycle hook's name: ''"),
    ("detail.LifecycleHookName", "a hook", "is not a lifecycle hook's name"),
    ("detail.LifecycleHookName", "h" * 256, "is not a lifecycle hook's name"),
    ("detail.LifecycleHookName", "ho\u200bok", "is not a lifecycle hook's name"),
    ("detail.AutoScalingGroupName", "", "is no group's name"),
    ("detail.AutoScalingGroupName", "a\nb", "is no group's name: 'a\\\\nb'"),
    ("detail.AutoScalingGroupName", "a\x1b[2J", "is no group's name"),
    ("detail.AutoScalingGroupName", "\ud800", "is no group's name"),
    ("detail.AutoScalingGroupName", "g" * 256, "is no group's name"),
    ("detail.Origin", "Elsewhere", "is not 'EC2', 'AutoScalingGroup' or 'WarmPool': 'Elsewhere'"),
    ("detail.Destination", None, "the event has no detail.Destination"),
    ("detail.Destination", "WarmPool ", "is not 'EC2'"),
    ("region", "us-east-1.example.com", "is not a region"),
    ("region", "us-east-1/", "is not a region"),
    ("region", GONE, "the event has no region"),
    ("time", GONE, "the event has no time"),
    ("time", 1450809828, "is not a time like"),
    ("time", "2015-12-22 18:43:48", "is not a time like"),
    ("time", "2015-12-22T18:43:48+00:00", "is not a time like"),
    ("time", "2015-13-22T18:43:48Z", "is not a time like"),
    ("time", "2015-12-22T18:43:60Z", "is not a time like"),
    ("time", "٢٠١٥-12-22T18:43:48Z", "is not a time like"),
]
FIELDS = [
    "detail.LifecycleActionToken",
    "detail.AutoScalingGroupName",
    "detail.LifecycleHookName",
    "detail.EC2InstanceId",
    "detail.LifecycleTransition",
]


@pytest.mark.parametrize(("path", "value", "what"), WRONG, ids=lambda part: str(part)[:20])
def test_a_wrong_value(path: str, value: Any, what: str) -> None:
    error = refused(json.dumps(changed(path, value)).encode())

    assert what.replace("\\\\", "\\") in error.message
    assert path in error.message or value is GONE


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize(
    "value", [GONE, None, True, 1.5, [], {}, "", "\x00", "x" * 300], ids=lambda v: str(v)[:9]
)
def test_no_field_may_be_missing_or_something_else(path: str, value: Any) -> None:
    if path.endswith("GroupName") and value == "x" * 300:
        value = "x" * 256

    assert path in refused(json.dumps(changed(path, value)).encode()).message


NESTED = '{"source": "aws.autoscaling", "detail": ' + '{"a": ' * 50_000


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "the event is empty"),
        (b" \n", "the event is empty"),
        (b"{", "the event is not JSON"),
        (b"\xff\xfe{}", "the event is not UTF-8 (byte 0)"),
        (json.dumps(EVENT).encode("utf-16"), "the event is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (NESTED.encode(), "the event is"),
        (b"[]", "the event is no JSON object, but []"),
        (b'"' + b"x" * 1000 + b'"', "the event is no JSON object"),
        (b"null", "the event is no JSON object, but None"),
        (b"NaN", "the event is not JSON: NaN"),
        (b'{"source": Infinity}', "the event is not JSON: Infinity"),
        (b'{"source": ' + b"9" * 200_000 + b"}", "the event"),
        (json.dumps(EVENT).encode() + b"{}", "the event is not JSON: Extra data"),
        (json.dumps(EVENT).encode() + b" " * MOST_BYTES, f"the event is larger than {MOST_BYTES} bytes"),
        (b'{"source": "\x1b[31m"}', "the event is not JSON"),
        (b'{"source": "\\u001b[31m"}', "the event's source is not"),
    ],
    ids=lambda part: str(part)[:16],
)
def test_what_is_no_event_at_all(content: bytes, what: str) -> None:
    assert what in refused(content).message


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ({"Event": "autoscaling:TEST_NOTIFICATION", "AutoScalingGroupName": "g"}, "the test notification"),
        (
            {"Type": "Notification", "TopicArn": "arn:aws:sns:...", "Message": "{}"},
            "the envelope of an SNS message",
        ),
        ({"Records": [{"body": "{}"}]}, "a list of records or an SQS message"),
        ({"Messages": [{"Body": "{}"}]}, "a list of records or an SQS message"),
        (
            {"LifecycleActionToken": "x", "Service": "AWS Auto Scaling"},
            "the message that a hook sends to an SNS topic",
        ),
        (EVENT["detail"], "an event's detail alone"),
    ],
)
def test_what_others_are_told_of_the_same_thing_is_called_by_its_name(message: Any, what: str) -> None:
    assert what in refused(json.dumps(message).encode()).message


@pytest.mark.parametrize(
    ("late", "what"),
    [
        (MOST_SECONDS, None),
        (MOST_SECONDS + 1, "120 minutes old"),
        (10.0**8, "minutes old"),
        (-MOST_AHEAD_SECONDS, None),
        (-MOST_AHEAD_SECONDS - 1, "from the future"),
        (-(10.0**8), "from the future"),
    ],
)
def test_only_an_event_of_now_is_taken(late: float, what: str | None) -> None:
    if what is None:
        assert read(EVENT, THEN + late).age == late
    else:
        assert what in refused(json.dumps(EVENT).encode(), THEN + late).message


# -- whatever comes

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
    max_leaves=12,
)
PATHS = ["source", "detail-type", "time", "region", "detail", "detail.Origin", *FIELDS]


def taken_or_refused(content: bytes) -> None:
    """It is an event, or two lines say why it is none."""
    try:
        said = read_event(content, THEN).action.group
    except UsageError as error:
        said = error.message
    assert said.isprintable()
    assert 0 < len(said) < 300


@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    taken_or_refused(content)


@given(st.sampled_from(PATHS), JSON)
def test_any_value_in_any_place(path: str, value: Any) -> None:
    taken_or_refused(json.dumps(changed(path, value)).encode())


@given(st.data())
def test_any_damage(data: st.DataObject) -> None:
    content = bytearray(json.dumps(EVENT).encode())
    at = data.draw(st.integers(0, len(content) - 1))
    damage: Callable[[], bytes] = data.draw(
        st.sampled_from(
            [
                lambda: bytes(content[:at]),
                lambda: bytes(content[at:]),
                lambda: bytes(content[:at] + b"\0" + content[at:]),
            ]
        )
    )
    taken_or_refused(damage())


def test_one_that_gets_a_new_root_volume_is_not_gone_for_good() -> None:
    """The root volume's replacement in an instance refresh: before it the terminating hook asks."""
    event = copy.deepcopy(EVENT)
    event["detail"] |= {
        "Origin": "AutoScalingGroup",
        "Destination": "AutoScalingGroup",
        "Action": "ReplaceRootVolume",
    }
    assert (read(event).kind, read(event).target) == (NoticeKind.REPLACE_ROOT, None)
    event["detail-type"], event["detail"]["LifecycleTransition"] = LAUNCH, LAUNCHING
    assert (read(event).kind, read(event).target) == (NoticeKind.LAUNCH, TargetState.IN_SERVICE)

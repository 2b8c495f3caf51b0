"""The agent's Auto Scaling client and its side of a lifecycle action, against the emulated group.

The unit tests try the same cases with fakes; here they go through boto3, its checks of every parameter
against the service's model, and answers as AWS words them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
from werkzeug.wrappers import Request, Response

from lifecycle_agent.clients.autoscaling import AutoScaling, GroupError, Membership, Refusal
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.model import ActionResult, Hook, LifecycleState, LifecycleTransition
from lifecycle_agent.rehearsal.group import Group
from lifecycle_agent.rehearsal.group_faults import ERRORS, Fault
from lifecycle_agent.rehearsal.http import Served
from lifecycle_agent.rehearsal.imds import Imds
from lifecycle_agent.transition import heartbeat
from lifecycle_agent.transition.heartbeat import GroupSide

ME = "i-0123456789abcdef0"
GROUP = "orders"
SECONDS = 30.0  # nothing here takes as long
TERMINATING = LifecycleTransition.TERMINATING


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[Group]:
    with Group(name=GROUP) as group:
        group.add_hook("drain", heartbeat_timeout=60)
        group.place(ME)
        monkeypatch.setenv("AWS_ENDPOINT_URL_AUTO_SCALING", group.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA0000000000000000")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "rehearsal")
        yield group


@pytest.fixture
def client(group: Group) -> AutoScaling:
    return AutoScaling("us-east-1", ME)


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(SECONDS)


def refused(call: Callable[[], object]) -> GroupError:
    with pytest.raises(GroupError) as caught:
        call()
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def eventually(condition: Callable[[], bool]) -> None:
    limit = Deadline.after(SECONDS)
    while not condition():
        assert not limit.passed
        time.sleep(0.01)


# -- the calls


def test_where_the_instance_is(group: Group, client: AutoScaling, deadline: Deadline) -> None:
    assert client.membership(deadline) == Membership(GROUP, LifecycleState("InService"))
    group.terminate(ME)
    assert client.membership(deadline) == Membership(GROUP, LifecycleState("Terminating:Wait"))
    assert AutoScaling("us-east-1", "i-0fedcba9876543210").membership(deadline) is None


def test_the_hooks(group: Group, client: AutoScaling, deadline: Deadline) -> None:
    group.add_hook(
        "warm-up",
        LifecycleTransition.LAUNCHING,
        heartbeat_timeout=30,
        default_result=ActionResult.CONTINUE,
        global_timeout=90,
    )
    assert sorted(client.hooks(GROUP, deadline), key=lambda hook: hook.name) == [
        Hook("drain", TERMINATING, 60.0, 6000.0, ActionResult.ABANDON),
        Hook("warm-up", LifecycleTransition.LAUNCHING, 30.0, 90.0, ActionResult.CONTINUE),
    ]


@pytest.mark.parametrize("result", list(ActionResult))
def test_an_answer(group: Group, client: AutoScaling, deadline: Deadline, result: ActionResult) -> None:
    group.terminate(ME)
    client.complete(GROUP, "drain", result, deadline)
    action = group.action(ME)
    assert action is not None
    assert (action.result, action.answered_by) == (result, "instance ID")


def test_a_heartbeat(group: Group, client: AutoScaling, deadline: Deadline) -> None:
    group.terminate(ME)
    action = group.action(ME)
    assert action is not None
    before = action.expires
    client.heartbeat(GROUP, "drain", deadline)
    assert action.heartbeats == 1
    assert action.expires > before


# -- what goes wrong


@pytest.mark.parametrize("when", ["too early", "too late", "no such hook"])
@pytest.mark.parametrize("what", ["complete", "heartbeat"])
def test_no_active_action(
    group: Group, client: AutoScaling, deadline: Deadline, when: str, what: str
) -> None:
    hook = "other" if when == "no such hook" else "drain"
    if when != "too early":
        group.terminate(ME)
    if when == "too late":
        client.complete(GROUP, "drain", ActionResult.CONTINUE, deadline)
    if what == "complete":
        error = refused(lambda: client.complete(GROUP, hook, ActionResult.CONTINUE, deadline))
    else:
        error = refused(lambda: client.heartbeat(GROUP, hook, deadline))
    assert error.refusal is Refusal.NOT_ACTIVE
    assert ME in error.message


@pytest.mark.parametrize("code", [*ERRORS, "RequestLimitExceeded", "ThrottlingException", "SomethingElse"])
def test_errors_that_pass_are_told_from_those_that_stay(
    group: Group, client: AutoScaling, deadline: Deadline, code: str
) -> None:
    group.fail(Fault("DescribeAutoScalingInstances", code, times=1))
    error = refused(lambda: client.membership(deadline))
    stays = code in ("AccessDenied", "SomethingElse")
    assert error.refusal is (Refusal.DENIED if stays else Refusal.TRANSIENT)
    assert code in error.message
    assert client.membership(deadline) is not None, "asked once, and no more than once"


def test_a_refused_permission_is_named(group: Group, client: AutoScaling, deadline: Deadline) -> None:
    group.fail(Fault("CompleteLifecycleAction", "AccessDenied"))
    error = refused(lambda: client.complete(GROUP, "drain", ActionResult.CONTINUE, deadline))
    assert "autoscaling:CompleteLifecycleAction" in error.hint


def test_another_groups_name_is_refused_for_good(client: AutoScaling, deadline: Deadline) -> None:
    assert refused(lambda: client.heartbeat("no-such", "drain", deadline)).refusal is Refusal.DENIED


def test_an_answer_that_does_not_come_is_not_waited_for(group: Group, client: AutoScaling) -> None:
    client.membership(Deadline.after(SECONDS))
    group.fail(Fault("DescribeAutoScalingInstances", code="", delay=2.0))
    error = refused(lambda: client.membership(Deadline.after(0.1)))
    assert error.refusal is Refusal.TRANSIENT
    assert "no answer within 0.1 s" in error.message


@pytest.mark.parametrize("answer", [b"", b"<html>welcome to the proxy</html>", b"\xff\xfe", b"<a/>"], ids=str)
def test_an_answer_that_is_none_may_pass(
    group: Group, deadline: Deadline, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    @Request.application
    def app(request: Request) -> Response:
        return Response(answer)

    proxy = Served(app)
    proxy.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL_AUTO_SCALING", proxy.url)
        client = AutoScaling("us-east-1", ME)
        calls: list[Callable[[], object]] = [
            lambda: client.membership(deadline),
            lambda: client.hooks(GROUP, deadline),
        ]
        for call in calls:
            assert refused(call).refusal is Refusal.TRANSIENT
    finally:
        proxy.stop()


def test_nobody_there_may_pass(group: Group, deadline: Deadline, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        monkeypatch.setenv("AWS_ENDPOINT_URL_AUTO_SCALING", f"http://127.0.0.1:{taken.getsockname()[1]}")
        error = refused(lambda: AutoScaling("us-east-1", ME).membership(deadline))
    assert error.refusal is Refusal.TRANSIENT
    assert "VPC endpoint" in error.hint


def test_credentials_that_come_late_are_found(
    group: Group, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client looks for them once; the metadata service may have been slow just then."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    client = AutoScaling("us-east-1", ME)
    error = refused(lambda: client.membership(deadline))
    assert error.refusal is Refusal.TRANSIENT
    assert "no AWS credentials" in error.message
    with Imds(ME) as imds:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url)
        assert client.membership(deadline) is not None


@pytest.mark.parametrize(
    ("environ", "region"),
    [
        ({}, "eu-central-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-3"),
        ({"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-2"),
    ],
)
def test_the_region_is_the_environments_or_the_machines(
    group: Group,
    deadline: Deadline,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    region: str,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    seen: list[str] = []

    @Request.application
    def app(request: Request) -> Response:
        seen.append(request.headers["Authorization"].split("/")[2])
        return Response("<no/>", 503)

    elsewhere = Served(app)
    elsewhere.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL_AUTO_SCALING", elsewhere.url)
        refused(lambda: AutoScaling("eu-central-1", ME).membership(deadline))
    finally:
        elsewhere.stop()
    assert seen == [region]


# -- the whole side


@pytest.fixture
def side(group: Group, monkeypatch: pytest.MonkeyPatch) -> Iterator[GroupSide]:
    for name in ("LOOK_SECONDS", "LONGEST_LOOK_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(heartbeat, name, 0.05)
    side = GroupSide(
        lambda: AutoScaling("us-east-1", ME),
        TERMINATING,
        "",
        None,
        Deadline.after(600.0),
        lambda ends: None,
    )
    yield side
    side.stop()
    if side.ident is not None:
        side.join(SECONDS)


def complete(side: GroupSide) -> str:
    return side.complete(
        ActionResult.CONTINUE,
        Deadline.after(SECONDS),
        Deadline.after(SECONDS),
        time.sleep,
        lambda text: None,
    )


def answered(group: Group) -> tuple[ActionResult | None, str]:
    action = group.action(ME)
    assert action is not None
    return action.result, action.answered_by


def test_heartbeats_keep_the_action_open_past_its_timeout(group: Group, side: GroupSide) -> None:
    group.add_hook("drain", heartbeat_timeout=1)
    group.terminate(ME)
    began = group.action(ME)
    assert began is not None
    side.start()
    eventually(lambda: began.heartbeats >= 6)
    assert began.expires - began.began > 2
    assert began.active
    assert complete(side) == "hook drain, CONTINUE: the group has the answer"
    assert answered(group) == (ActionResult.CONTINUE, "instance ID")


def test_the_group_is_waited_for_until_it_asks(
    group: Group, side: GroupSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    with group.turn() as model:
        model.deregistration_delay = 0.5
    group.terminate(ME)
    side.start()
    eventually(lambda: side.group() == GROUP)
    assert side.waiting() is False
    assert group.state(ME) == "Terminating"
    assert complete(side).endswith("the group has the answer")
    assert answered(group) == (ActionResult.CONTINUE, "instance ID")


def test_every_call_throttled_a_few_times(group: Group, side: GroupSide) -> None:
    for operation in (
        "DescribeAutoScalingInstances",
        "DescribeLifecycleHooks",
        "RecordLifecycleActionHeartbeat",
        "CompleteLifecycleAction",
    ):
        group.fail(Fault(operation, "Throttling", times=3))
    group.terminate(ME)
    side.start()
    action = group.action(ME)
    assert action is not None
    eventually(lambda: action.heartbeats > 0)
    assert complete(side).endswith("the group has the answer")
    assert answered(group) == (ActionResult.CONTINUE, "instance ID")
    assert [call.outcome for call in group.calls].count("Throttling") == 12


def test_an_answer_lost_on_its_way_back(group: Group, side: GroupSide) -> None:
    group.fail(Fault("CompleteLifecycleAction", "InternalFailure", after=True))
    group.terminate(ME)
    assert "moved on" in complete(side)
    assert answered(group) == (ActionResult.CONTINUE, "instance ID")


def test_another_instances_action_is_left_alone(group: Group, side: GroupSide) -> None:
    other = "i-0fedcba9876543210"
    group.place(other)
    for instance in (ME, other):
        group.terminate(instance)
    complete(side)
    action = group.action(other)
    assert action is not None
    assert action.active


def test_codedeploys_hook_is_left_alone(group: Group, side: GroupSide) -> None:
    theirs = "CodeDeploy-managed-automatic-terminate-hook-abc"
    group.add_hook(theirs)
    group.terminate(ME)
    complete(side)
    actions = {name: group.action(ME, name) for name in ("drain", theirs)}
    assert [name for name, action in actions.items() if action is not None and action.active] == [theirs]


def test_a_retained_instance_is_said(group: Group, side: GroupSide) -> None:
    with group.turn() as model:
        model.retain_on_abandon = True
    group.terminate(ME)
    with group.turn() as model:
        model.complete("drain", ActionResult.ABANDON, instance_id=ME)
    with pytest.raises(LifecycleAgentError, match="Retained"):
        complete(side)

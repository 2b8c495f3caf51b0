"""The emulated group as an AWS SDK sees it, every answer held against the service's own model."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import ListShape, OperationModel, Shape, StructureShape

from lifecycle_agent.model import ActionResult, LifecycleTransition
from lifecycle_agent.rehearsal.group import Group
from lifecycle_agent.rehearsal.group_faults import ERRORS, Fault
from lifecycle_agent.rehearsal.imds import TARGET_STATE, Imds

ME = "i-0123456789abcdef0"
GROUP = "rehearsal"
ON_ME = {"AutoScalingGroupName": GROUP, "LifecycleHookName": "drain", "InstanceId": ME}
# "Common error types" of the API reference, and the one that the service documents nowhere and gives most.
COMMON = {
    "AccessDenied",
    "ExpiredToken",
    "InternalFailure",
    "ServiceUnavailable",
    "Throttling",
    "ValidationError",
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def hold(shape: Shape, element: ElementTree.Element, where: str) -> None:
    """Check an element of an answer against the service's model: names, types, what must be there."""
    if isinstance(shape, StructureShape):
        tags = [child.tag.rpartition("}")[2] for child in element]
        assert set(tags) <= set(shape.members), f"{where}: {tags}"
        assert set(shape.required_members) <= set(tags), f"{where}: {tags}"
        for child, tag in zip(element, tags, strict=True):
            hold(shape.members[tag], child, f"{where}.{tag}")
    elif isinstance(shape, ListShape):
        for child in element:
            assert child.tag.endswith("}member"), f"{where}: {child.tag}"
            hold(shape.member, child, f"{where}[]")
    else:
        text = element.text or ""
        check = {"integer": int, "boolean": ["true", "false"].index, "timestamp": datetime_of, "string": str}
        check[shape.type_name](text)  # type: ignore[operator]
        assert not getattr(shape, "enum", None) or text in shape.enum, f"{where}: {text}"  # type: ignore[attr-defined]


def datetime_of(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def hold_answer(operation_model: OperationModel, response_dict: dict[str, Any], **_: object) -> None:
    """What the SDK is about to parse, and would take silently whatever is in it."""
    root = ElementTree.fromstring(response_dict["body"])
    name = operation_model.name
    if response_dict["status_code"] >= 400:
        code = root.findtext("{*}Error/{*}Code")
        errors: Any = operation_model.service_model.error_shapes
        modelled = {shape.error_code for shape in errors}
        assert code in modelled | COMMON, f"{name}: {code}"
        assert root.findtext("{*}RequestId")
        return
    assert root.tag.endswith(f"}}{name}Response")
    assert root.findtext("{*}ResponseMetadata/{*}RequestId")
    output = operation_model.output_shape
    if output is not None:
        result = root.find(f"{{*}}{output.serialization['resultWrapper']}")
        if result is None:
            assert not output.required_members
            assert not output.members
        else:
            hold(output, result, name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def group(clock: Clock) -> Iterator[Group]:
    with Group(clock=clock, deregistration_delay=10, proceed_delay=5) as group:
        group.add_hook("drain", heartbeat_timeout=60)
        group.place(ME)
        yield group


def client_of(url: str, service: str = "autoscaling") -> Any:
    client: Any = boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="AKIA0000000000000000",
        aws_secret_access_key="rehearsal",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=10),
    )
    if service == "autoscaling":
        client.meta.events.register("before-parse.auto-scaling", hold_answer)
    return client


@pytest.fixture
def client(group: Group) -> Any:
    return client_of(group.url)


def refusal(call: Any, **parameters: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response
    return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"], error["Error"]["Message"]


def state(client: Any) -> str | None:
    found = client.describe_auto_scaling_instances(InstanceIds=[ME])["AutoScalingInstances"]
    return found[0]["LifecycleState"] if found else None


def test_the_way_out(client: Any, clock: Clock) -> None:
    assert state(client) == "InService"
    activity = client.terminate_instance_in_auto_scaling_group(
        InstanceId=ME, ShouldDecrementDesiredCapacity=True
    )["Activity"]
    assert (activity["AutoScalingGroupName"], activity["StatusCode"]) == (GROUP, "InProgress")
    assert state(client) == "Terminating"
    clock.now += 10
    assert state(client) == "Terminating:Wait"
    clock.now += 50
    client.record_lifecycle_action_heartbeat(**ON_ME)
    clock.now += 50
    client.complete_lifecycle_action(**ON_ME, LifecycleActionResult="CONTINUE")
    assert state(client) == "Terminating:Proceed"
    clock.now += 5
    assert state(client) is None


def test_the_token_names_the_action_too(client: Any, group: Group, clock: Clock) -> None:
    group.terminate(ME)
    clock.now += 10
    event = group.event(ME)["detail"]
    by_token = {"AutoScalingGroupName": GROUP, "LifecycleHookName": "drain"}
    other = "00000000-0000-0000-0000-000000000000"
    assert refusal(client.record_lifecycle_action_heartbeat, **by_token, LifecycleActionToken=other) == (
        400,
        "ValidationError",
        f"No active Lifecycle Action found with token {other}",
    )
    by_token["LifecycleActionToken"] = event["LifecycleActionToken"]
    client.record_lifecycle_action_heartbeat(**by_token)
    client.complete_lifecycle_action(**by_token, LifecycleActionResult="CONTINUE")
    action = group.action(ME)
    assert action is not None
    assert (action.answered_by, action.result) == ("token", ActionResult.CONTINUE)
    assert event == {
        "LifecycleActionToken": action.token,
        "AutoScalingGroupName": GROUP,
        "LifecycleHookName": "drain",
        "EC2InstanceId": ME,
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
        "Origin": "AutoScalingGroup",
        "Destination": "EC2",
    }


def test_no_active_lifecycle_action(client: Any, group: Group, clock: Clock) -> None:
    answer = {**ON_ME, "LifecycleActionResult": "CONTINUE"}
    refused = (400, "ValidationError", f"No active Lifecycle Action found with instance ID {ME}")
    assert refusal(client.complete_lifecycle_action, **answer) == refused
    assert refusal(client.record_lifecycle_action_heartbeat, **ON_ME) == refused
    group.terminate(ME)
    clock.now += 10
    assert refusal(client.complete_lifecycle_action, **{**answer, "LifecycleHookName": "other"}) == refused
    client.complete_lifecycle_action(**answer)
    assert refusal(client.complete_lifecycle_action, **answer) == refused


def test_an_answer_must_be_one_of_two_and_name_somebody(client: Any) -> None:
    hook = {"AutoScalingGroupName": GROUP, "LifecycleHookName": "drain"}
    call = client.complete_lifecycle_action
    assert refusal(call, **ON_ME, LifecycleActionResult="MAYBE")[1] == "ValidationError"
    assert refusal(call, **hook, LifecycleActionResult="CONTINUE")[1] == "ValidationError"


def test_an_unknown_group_and_an_unknown_instance(client: Any) -> None:
    no_group = "AutoScalingGroup name not found - AutoScalingGroup nobody not found"
    refused = (400, "ValidationError", no_group)
    wrong = {**ON_ME, "AutoScalingGroupName": "nobody"}
    assert refusal(client.complete_lifecycle_action, **wrong, LifecycleActionResult="CONTINUE") == refused
    assert refusal(client.record_lifecycle_action_heartbeat, **wrong) == refused
    assert refusal(client.describe_lifecycle_hooks, AutoScalingGroupName="nobody") == refused
    assert refusal(
        client.terminate_instance_in_auto_scaling_group,
        InstanceId="i-00000000000000000",
        ShouldDecrementDesiredCapacity=True,
    ) == (
        400,
        "ValidationError",
        "Instance Id not found - No managed instance found for instance ID: i-00000000000000000",
    )
    found = client.describe_auto_scaling_instances(InstanceIds=["i-00000000000000000"])
    assert found["AutoScalingInstances"] == []
    assert client.describe_auto_scaling_groups(AutoScalingGroupNames=["nobody"])["AutoScalingGroups"] == []


def test_an_instance_is_not_terminated_twice(client: Any) -> None:
    wish = {"InstanceId": ME, "ShouldDecrementDesiredCapacity": True}
    client.terminate_instance_in_auto_scaling_group(**wish)
    assert refusal(client.terminate_instance_in_auto_scaling_group, **wish)[1] == "ScalingActivityInProgress"


def test_hooks_as_the_api_shows_them(client: Any) -> None:
    client.put_lifecycle_hook(
        AutoScalingGroupName=GROUP,
        LifecycleHookName="warm-up",
        LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
    )
    drain, warm_up = client.describe_lifecycle_hooks(AutoScalingGroupName=GROUP)["LifecycleHooks"]
    assert drain == {
        "LifecycleHookName": "drain",
        "AutoScalingGroupName": GROUP,
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
        "HeartbeatTimeout": 60,
        "GlobalTimeout": 6000,
        "DefaultResult": "ABANDON",
    }
    assert (warm_up["HeartbeatTimeout"], warm_up["GlobalTimeout"]) == (3600, 172800)
    wish = {"AutoScalingGroupName": GROUP, "LifecycleHookName": "drain"}
    client.put_lifecycle_hook(**wish, HeartbeatTimeout=90)
    wish["LifecycleHookNames"] = [wish.pop("LifecycleHookName")]  # type: ignore[assignment]
    [changed] = client.describe_lifecycle_hooks(**wish)["LifecycleHooks"]
    assert changed == {**drain, "HeartbeatTimeout": 90, "GlobalTimeout": 9000}
    client.delete_lifecycle_hook(AutoScalingGroupName=GROUP, LifecycleHookName="drain")
    assert client.describe_lifecycle_hooks(**wish)["LifecycleHooks"] == []


def test_the_limits_of_a_hook(client: Any, group: Group) -> None:
    hook = {
        "AutoScalingGroupName": GROUP,
        "LifecycleHookName": "new",
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
    }
    for timeout in (29, 7201):
        assert refusal(client.put_lifecycle_hook, **hook, HeartbeatTimeout=timeout)[1] == "ValidationError"
    for timeout in (30, 7200):
        client.put_lifecycle_hook(**hook, HeartbeatTimeout=timeout)
    assert refusal(client.put_lifecycle_hook, **{**hook, "LifecycleTransition": "no"})[1] == "ValidationError"
    assert refusal(client.put_lifecycle_hook, **hook, DefaultResult="no")[1] == "ValidationError"
    del hook["LifecycleTransition"]
    hook["LifecycleHookName"] = "newer"
    assert refusal(client.put_lifecycle_hook, **hook)[1] == "ValidationError"
    assert refusal(client.delete_lifecycle_hook, **hook)[1] == "ValidationError"
    for number in range(48):
        group.add_hook(f"hook-{number}")
    hook["LifecycleTransition"] = "autoscaling:EC2_INSTANCE_TERMINATING"
    assert refusal(client.put_lifecycle_hook, **hook)[1] == "LimitExceeded"


def test_a_world_in_a_hurry_has_short_hooks_and_says_so(client: Any, group: Group) -> None:
    group.add_hook("hurry", heartbeat_timeout=10)
    wish = {"AutoScalingGroupName": GROUP, "LifecycleHookNames": ["hurry"]}
    [hook] = client.describe_lifecycle_hooks(**wish)["LifecycleHooks"]
    assert (hook["HeartbeatTimeout"], hook["GlobalTimeout"]) == (10, 1000)


def test_the_group_is_among_the_groups(client: Any) -> None:
    [shown] = client.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])["AutoScalingGroups"]
    assert [instance["InstanceId"] for instance in shown["Instances"]] == [ME]
    assert shown["DesiredCapacity"] == 1
    retention = shown["InstanceLifecyclePolicy"]["RetentionTriggers"]["TerminateHookAbandon"]
    assert retention == "terminate"


def test_instances_come_in_pages(client: Any, group: Group) -> None:
    for number in range(59):
        group.place(f"i-{number:017x}")
    first = client.describe_auto_scaling_instances()
    second = client.describe_auto_scaling_instances(NextToken=first["NextToken"])
    assert (len(first["AutoScalingInstances"]), len(second["AutoScalingInstances"])) == (50, 10)
    assert "NextToken" not in second
    pages = client.get_paginator("describe_auto_scaling_instances").paginate(PaginationConfig={"PageSize": 7})
    assert len({one["InstanceId"] for page in pages for one in page["AutoScalingInstances"]}) == 60
    assert refusal(client.describe_auto_scaling_instances, NextToken="x")[1] == "InvalidNextToken"


STATUSES = {
    "Throttling": 400,
    "AccessDenied": 403,
    "ExpiredToken": 403,
    "ResourceContention": 500,
    "InternalFailure": 500,
    "ServiceUnavailable": 503,
}


def test_every_error_on_demand_is_tried() -> None:
    assert set(STATUSES) == set(ERRORS)


@pytest.mark.parametrize(("code", "status"), STATUSES.items())
def test_errors_on_demand(client: Any, group: Group, code: str, status: int) -> None:
    group.fail(Fault("DescribeLifecycleHooks", code, times=2))
    call, wish = client.describe_lifecycle_hooks, {"AutoScalingGroupName": GROUP}
    assert state(client) == "InService"  # another operation is not hit
    assert [refusal(call, **wish)[:2], refusal(call, **wish)[:2]] == [(status, code)] * 2
    assert len(call(**wish)["LifecycleHooks"]) == 1
    outcomes = [made.outcome for made in group.calls if made.operation == "DescribeLifecycleHooks"]
    assert outcomes == [code, code, "ok"]


def test_the_texts_that_people_look_up(client: Any, group: Group) -> None:
    group.fail(Fault("*", "Throttling"))
    assert refusal(client.record_lifecycle_action_heartbeat, **ON_ME)[2] == "Rate exceeded"
    group.fail(Fault("*", "AccessDenied"))
    assert refusal(client.record_lifecycle_action_heartbeat, **ON_ME)[2] == (
        f"User: arn:aws:sts::123456789012:assumed-role/rehearsal/{ME} is not authorized to perform: "
        "autoscaling:RecordLifecycleActionHeartbeat because no identity-based policy allows the "
        "autoscaling:RecordLifecycleActionHeartbeat action"
    )


def test_errors_until_it_is_healed(client: Any, group: Group) -> None:
    group.fail(Fault("*", times=None))
    for _ in range(5):
        assert refusal(client.describe_auto_scaling_instances)[1] == "Throttling"
    group.heal()
    assert state(client) == "InService"


def test_an_answer_that_is_lost_after_the_deed(client: Any, group: Group, clock: Clock) -> None:
    group.terminate(ME)
    clock.now += 10
    group.fail(Fault("CompleteLifecycleAction", "InternalFailure", after=True))
    answer = {**ON_ME, "LifecycleActionResult": "CONTINUE"}
    assert refusal(client.complete_lifecycle_action, **answer)[0] == 500
    assert state(client) == "Terminating:Proceed"
    assert refusal(client.complete_lifecycle_action, **answer)[1] == "ValidationError"


def test_an_answer_that_comes_late(client: Any, group: Group) -> None:
    group.fail(Fault("DescribeAutoScalingInstances", "", delay=0.2))
    before = time.monotonic()
    assert state(client) == "InService"
    assert time.monotonic() - before >= 0.2


def test_calls_are_on_record(client: Any, group: Group, clock: Clock) -> None:
    assert group.calls == []
    refusal(client.complete_lifecycle_action, **ON_ME, LifecycleActionResult="CONTINUE")
    [call] = group.calls
    assert (call.operation, call.outcome, call.at) == (
        "CompleteLifecycleAction",
        "ValidationError",
        clock.now,
    )
    assert call.parameters["InstanceId"] == ME


def test_storage_is_at_the_same_address(group: Group) -> None:
    s3 = client_of(group.url, "s3")
    s3.create_bucket(Bucket="rehearsal-logs")
    s3.put_object(Bucket="rehearsal-logs", Key="a/b.log.zst", Body=os.urandom(100_000), Metadata={"sha": "1"})
    found = s3.head_object(Bucket="rehearsal-logs", Key="a/b.log.zst")
    assert (found["ContentLength"], found["Metadata"]) == (100_000, {"sha": "1"})


def test_groups_made_through_the_api_are_beside_ours(client: Any, group: Group) -> None:
    client.create_launch_configuration(
        LaunchConfigurationName="plain", ImageId="ami-12c6146b", InstanceType="t3.micro"
    )
    client.create_auto_scaling_group(
        AutoScalingGroupName="theirs",
        LaunchConfigurationName="plain",
        MinSize=0,
        MaxSize=1,
        AvailabilityZones=["us-east-1a"],
    )
    try:
        names = [
            one["AutoScalingGroupName"] for one in client.describe_auto_scaling_groups()["AutoScalingGroups"]
        ]
        assert names == [GROUP, "theirs"]
        assert client.describe_lifecycle_hooks(AutoScalingGroupName="theirs")["LifecycleHooks"] == []
    finally:
        client.delete_auto_scaling_group(AutoScalingGroupName="theirs")
        client.delete_launch_configuration(LaunchConfigurationName="plain")


def test_real_time_passes_by_itself() -> None:
    said: list[tuple[str, str]] = []
    gone = threading.Event()
    with Group(
        lambda who, what: said.append((who, what)),
        deregistration_delay=0.05,
        proceed_delay=0.05,
        on_terminated=lambda instance_id: gone.set(),
    ) as group:
        group.add_hook("drain", heartbeat_timeout=1, default_result=ActionResult.CONTINUE)
        group.place(ME)
        group.terminate(ME)
        assert gone.wait(20)
        assert group.state(ME) == "Terminated"
    assert ("group", f"{ME}: hook drain heartbeat timeout: CONTINUE by default") in said
    assert said[-1] == ("group", f"{ME}: Terminating:Proceed -> Terminated")


def test_a_launch_in_real_time_and_imds_beside_it() -> None:
    with Group() as group, Imds(ME) as imds:
        imds.set(TARGET_STATE, lambda: group.target_state(ME))
        group.add_hook("warm-up", LifecycleTransition.LAUNCHING)
        assert imds.look_up(TARGET_STATE) is None
        group.launch(ME)
        assert imds.look_up(TARGET_STATE) == "InService"
        client = client_of(group.url)
        assert state(client) == "Pending:Wait"
        client.complete_lifecycle_action(
            **{**ON_ME, "LifecycleHookName": "warm-up"}, LifecycleActionResult="CONTINUE"
        )
        assert state(client) == "InService"

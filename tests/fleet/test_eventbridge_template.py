"""`packaging/eventbridge/template.yaml`: from the group's event to its answer, by what the template says.

What AWS does with it is done here as its documentation and the SSM agent's source say: EventBridge matches
the pattern and fills in the template without escaping anything; Systems Manager holds each parameter against
what is allowed, puts it into the script as it is, and has `sh -c` run that with AWS_SSM_INSTANCE_ID set.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]
from moto.events.models import EventPattern

from lifecycle_agent.model import LifecycleTransition
from lifecycle_agent.rehearsal.imds import TARGET_STATE, Trouble
from tests.fleet.job import GROUP, Job
from tests.stage import HOOK, INSTANCE, PATIENCE, until

TEMPLATE = Path(__file__).parents[2] / "packaging" / "eventbridge" / "template.yaml"
ANOTHER = "i-0123456789abcdef9"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}

pytestmark = pytest.mark.once


class Stack:
    """The template with its parameters filled in, as far as these tests look."""

    def __init__(self, **parameters: str) -> None:
        self._values: dict[str, Any] = {"AWS::AccountId": "123456789012", "AWS::Region": "us-east-1"}
        self._values |= {"AWS::Partition": "aws", "Document": "document-1"}

        class Loader(yaml.SafeLoader):  # type: ignore[misc, unused-ignore]
            """YAML with CloudFormation's short forms."""

        for tag, fill in (("!Ref", self._ref), ("!Sub", self._sub), ("!GetAtt", str)):
            Loader.add_constructor(tag, lambda loader, node, fill=fill: fill(loader.construct_scalar(node)))
        # Twice: the parameters' defaults and kinds are in it, too.
        for name, about in self._load(Loader)["Parameters"].items():
            value = parameters.get(name, about.get("Default"))
            listed = about["Type"] == "CommaDelimitedList"
            for each in value.split(",") if listed else [value]:
                assert "AllowedPattern" not in about or re.search(about["AllowedPattern"], str(each)), each
            self._values[name] = value.split(",") if listed else value
        resources = self._load(Loader)["Resources"]
        self.rule, self.document, self.role = (
            resources[name]["Properties"] for name in ("Rule", "Document", "Role")
        )
        (self.target,) = self.rule["Targets"]

    def _load(self, loader: Any) -> dict[str, Any]:
        loaded: dict[str, Any] = yaml.load(TEMPLATE.read_text(), loader)
        return loaded

    def _ref(self, name: str) -> Any:
        return self._values.get(name, f"<{name}>")

    def _sub(self, text: str) -> str:
        return re.sub(r"\$\{([\w:]+)\}", lambda found: str(self._ref(found[1])), text)

    # -- EventBridge

    def matches(self, event: dict[str, Any]) -> bool:
        """Whether the rule passes the event on."""
        pattern: Any = EventPattern.load(json.dumps(self.rule["EventPattern"]))
        return bool(pattern.matches_event(event))

    def transformed(self, event: dict[str, Any]) -> str:
        """What the target gets: a variable that stands alone in quotes, and nothing in it escaped."""
        transformer = self.target["InputTransformer"]
        text: str = transformer["InputTemplate"]
        for name, path in transformer["InputPathsMap"].items():
            value: Any = event
            for key in path.removeprefix("$.").split("."):
                value = value[key]
            text = text.replace(f"<{name}>", f'"{value}"')
        assert "<" not in text
        return text

    # -- Systems Manager

    def script(self, parameters: dict[str, list[str]]) -> str:
        """The script with the values in it.

        Raises:
            PermissionError: a value is not allowed, or a parameter is not known.
        """
        content = self.document["Content"]
        values = {
            name: about["default"] for name, about in content["parameters"].items() if "default" in about
        }
        for name, listed in parameters.items():
            about, (value,) = content["parameters"].get(name), listed
            if about is None:
                raise PermissionError(name)
            # Go's `$` is the end of the text alone, Python's also stands before a last line feed.
            pattern = re.sub(r"\$$", r"\\Z", about.get("allowedPattern", ""))
            if not re.search(pattern, value) or value not in about.get("allowedValues", [value]):
                raise PermissionError(f"{name}: {value}")
            values[name] = value
        assert values.keys() == content["parameters"].keys()
        (step,) = content["mainSteps"]
        text = "\n".join(step["inputs"]["runCommand"])
        text = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: values[found[1]], text)
        assert "{{" not in text
        return text

    def delivered(self, event: dict[str, Any]) -> str:
        """The script that an event becomes."""
        return self.script(json.loads(self.transformed(event)))


@pytest.fixture
def stack() -> Stack:
    return Stack(Group=GROUP, Hooks=f"{HOOK},warm-up")


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with Job(tmp_path) as job:
        # What is on PATH there, with the configuration that it has there.
        program = tmp_path / "bin" / "lifecycle-agent"
        program.parent.mkdir()
        command = shlex.join([sys.executable, "-m", "lifecycle_agent", "--config", str(job.config_path)])
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        program.chmod(0o755)
        yield job


def run(job: Job, script: str, instance: str | None = INSTANCE) -> subprocess.CompletedProcess[str]:
    """What the SSM agent does with a script."""
    file = job.directory / "_script.sh"
    file.write_text(script)
    file.chmod(0o700)
    environ = job.environ(**CREDENTIALS, PATH=f"{job.directory}/bin:{os.environ['PATH']}")
    if instance is not None:
        environ["AWS_SSM_INSTANCE_ID"] = instance
    return subprocess.run(
        ["sh", "-c", str(file)], env=environ, capture_output=True, text=True, timeout=PATIENCE * 2
    )


def taken_away(job: Job) -> dict[str, Any]:
    """The event of the group's question."""
    job.group.terminate(INSTANCE)
    until(lambda: job.group.state(INSTANCE) == "Terminating:Wait")
    return job.group.event(INSTANCE)


# -- the way


def test_the_group_is_answered_with_the_events_token(job: Job, stack: Stack) -> None:
    """The metadata has everything but the path that the watcher would need."""
    job.imds.fail(403, TARGET_STATE)
    event = taken_away(job)
    assert stack.matches(event)

    ran = run(job, stack.delivered(event))

    assert ran.returncode == 0, ran.stderr
    action = job.group.action(INSTANCE)
    assert action is not None
    assert (action.answered_by, action.token) == ("token", event["detail"]["LifecycleActionToken"])
    assert job.answers() == ["CONTINUE"]
    assert not job.registered()


def test_with_the_metadata_service_closed(job: Job, stack: Stack) -> None:
    job.imds.fail(Trouble.RESET)

    ran = run(job, stack.delivered(taken_away(job)))

    assert ran.returncode == 0, ran.stderr
    assert job.answers() == ["CONTINUE"]


def test_on_every_other_instance_it_ends_at_once(job: Job, stack: Stack) -> None:
    ran = run(job, stack.delivered(taken_away(job)), ANOTHER)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert not job.imds.requests
    assert not job.group.calls


def test_where_nobody_says_which_instance_it_is_it_says_so(job: Job, stack: Stack) -> None:
    """It would be quiet on all of them else, and nobody would answer."""
    ran = run(job, stack.delivered(taken_away(job)), None)

    assert ran.returncode != 0
    assert "AWS_SSM_INSTANCE_ID" in ran.stderr
    assert not job.group.calls


def test_a_launch_gets_through_as_it_is(job: Job, stack: Stack) -> None:
    """As far as the agent, which gets the event as the group has sent it."""
    job.group.add_hook("warm-up", LifecycleTransition.LAUNCHING, heartbeat_timeout=600)
    job.group.launch(ANOTHER)
    event = job.group.event(ANOTHER)
    assert stack.matches(event)
    given = job.directory / "given"
    (job.directory / "bin" / "lifecycle-agent").write_text(f'#!/bin/sh\necho "$@"; cat >{given}\n')

    ran = run(job, stack.delivered(event), ANOTHER)

    assert (ran.returncode, ran.stdout) == (0, "drain --event -\n")
    seen = json.loads(given.read_text())
    assert seen == {key: event[key] for key in ("source", "detail-type", "time", "region", "detail")}


# -- what the rule passes on


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("AutoScalingGroupName", "others"),
        ("LifecycleHookName", "CodeDeploy-managed-automatic-launch-deployment-hook-orders"),
        ("LifecycleHookName", "somebody-elses"),
    ],
)
def test_what_is_not_for_the_agent_is_not_passed_on(job: Job, stack: Stack, key: str, value: str) -> None:
    event = taken_away(job)
    event["detail"][key] = value

    assert not stack.matches(event)


@pytest.mark.parametrize("said", ["EC2 Instance Terminate Successful", "EC2 Instance Launch Unsuccessful"])
def test_nor_what_is_no_question(job: Job, stack: Stack, said: str) -> None:
    assert not stack.matches(taken_away(job) | {"detail-type": said})


# -- hostile values

HOSTILE = [
    "'; touch owned; '",
    '"; touch owned; "',
    "$(touch owned)",
    "`touch owned`",
    "a\nEND_OF_EVENT\ntouch owned\n",
    "a\n",
    "\\",
    "{{ Token }}",
    "{{ssm:secret}}",
    "",
    "x\x00",
    "ключ",
    '", "more": "',
]
PLACES = [
    "EC2InstanceId",
    "LifecycleHookName",
    "LifecycleActionToken",
    "AutoScalingGroupName",
    "Origin",
    "time",
    "region",
]
PLACES += ["detail-type", "LifecycleTransition", "Destination"]


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
@pytest.mark.parametrize("place", PLACES)
def test_a_hostile_value_does_not_get_through(stack: Stack, place: str, value: str) -> None:
    """EventBridge makes something that is no JSON of it, or Systems Manager refuses it."""
    event = json.loads(json.dumps(EVENT))
    (event if place in event else event["detail"])[place] = value

    with pytest.raises((PermissionError, json.JSONDecodeError)):
        stack.delivered(event)


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_nor_as_a_parameter_that_somebody_sends_by_hand(stack: Stack, value: str) -> None:
    good = json.loads(stack.transformed(EVENT))
    stack.script(good)
    for name in good:
        with pytest.raises(PermissionError):
            stack.script({**good, name: [value]})
    with pytest.raises(PermissionError):
        stack.script({**good, "executionTimeout": [value]})


def test_codedeploys_hooks_cannot_be_asked_for() -> None:
    with pytest.raises(AssertionError):
        Stack(Group=GROUP, Hooks="drain,CodeDeploy-managed-x")


EVENT = {
    "source": "aws.autoscaling",
    "detail-type": "EC2 Instance-terminate Lifecycle Action",
    "time": "2026-01-02T03:04:05.678Z",
    "region": "us-gov-west-1",
    "detail": {
        "LifecycleActionToken": "71514b9d-6a40-4b26-8523-05e7eEXAMPLE",
        "AutoScalingGroupName": GROUP,
        "LifecycleHookName": HOOK,
        "EC2InstanceId": INSTANCE,
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
        "Origin": "AutoScalingGroup",
        "Destination": "EC2",
    },
}

# -- the rest of the template


def test_the_role_may_send_this_command_to_this_group_and_nothing_else(stack: Stack) -> None:
    (policy,) = stack.role["Policies"]
    to_document, to_instances = policy["PolicyDocument"]["Statement"]

    assert [statement["Action"] for statement in (to_document, to_instances)] == ["ssm:SendCommand"] * 2
    assert to_document["Resource"] == "arn:aws:ssm:us-east-1:123456789012:document/document-1"
    assert to_document["Resource"] == stack.target["Arn"]
    tag = {"ssm:resourceTag/aws:autoscaling:groupName": GROUP}
    assert to_instances["Condition"] == {"StringEquals": tag}
    assert stack.target["RunCommandParameters"] == {
        "RunCommandTargets": [{"Key": "tag:aws:autoscaling:groupName", "Values": [GROUP]}]
    }


def test_the_command_may_run_longer_than_a_transition_by_default(stack: Stack) -> None:
    content = stack.document["Content"]

    assert content["mainSteps"][0]["inputs"]["timeoutSeconds"] == "{{ executionTimeout }}"
    # [drain] timeout and the longest deregistration delay of a load balancer
    assert int(content["parameters"]["executionTimeout"]["default"]) > 600 + 3600


def test_shellcheck_has_nothing_to_say(job: Job, stack: Stack) -> None:
    file = job.directory / "script.sh"
    file.write_text(stack.delivered(EVENT))

    checked = subprocess.run(["shellcheck", file], capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout

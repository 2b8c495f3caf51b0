"""`drain --event`: an EventBridge event, as the group sends it, in the hands of the real command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent.model import LifecycleTransition
from lifecycle_agent.rehearsal.group_faults import Fault
from lifecycle_agent.rehearsal.imds import TARGET_STATE, Trouble
from tests.fleet.job import GROUP, Job
from tests.stage import APP, HOOK, INSTANCE, PATIENCE, until

ANOTHER = "i-0123456789abcdef9"
# Where the metadata service is closed, credentials come from the rest of the usual chain.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
SSM = {**CREDENTIALS, "AWS_SSM_INSTANCE_ID": INSTANCE}


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with Job(tmp_path) as job:
        yield job


def event(job: Job, **detail: Any) -> dict[str, Any]:
    """The group takes the instance away and says so, with other words in the detail if asked."""
    if not job.group.state(INSTANCE).endswith(":Wait"):
        job.group.terminate(INSTANCE)
        until(lambda: job.group.state(INSTANCE) == "Terminating:Wait")
    said = job.group.event(INSTANCE)
    said["detail"] |= detail
    return said


def written(job: Job, said: Any) -> str:
    """A file with the event in it."""
    path = job.directory / "event.json"
    path.write_text(json.dumps(said))
    return str(path)


def tokens(job: Job, operation: str) -> list[str | None]:
    """The token of each accepted call."""
    return [
        call.parameters.get("LifecycleActionToken")
        for call in job.group.calls
        if (call.operation, call.outcome) == (operation, "ok")
    ]


def operations(job: Job) -> set[str]:
    return {call.operation for call in job.group.calls}


def nothing_was_touched(job: Job) -> bool:
    """No request to the registry, no command, no answer, no line in the journal."""
    return not (job.eureka.requests or job.commands_run() or job.answers() or job.journal() or job.called)


def assert_taken_out(job: Job, said: dict[str, Any]) -> None:
    """The whole termination, answered once, with the event's token."""
    assert not job.registered()
    assert job.commands_run() == ["one", "two"]
    assert job.manifest()["instance_id"] == INSTANCE
    assert job.answers() == ["CONTINUE"]
    token = said["detail"]["LifecycleActionToken"]
    assert tokens(job, "CompleteLifecycleAction") == [token]
    assert set(tokens(job, "RecordLifecycleActionHeartbeat")) == {token}
    assert set(job.outcomes().values()) == {"done"}


# -- what it does


def test_a_termination_is_answered_with_the_events_token(job: Job) -> None:
    said = event(job)

    ran = job.by_hand("drain", "--event", written(job, said))

    assert ran.code == 0, ran
    assert_taken_out(job, said)
    assert job.report()["notice"]["reason"] == f"the group asks hook {HOOK} by an event"
    assert job.report()["notice"]["kind"] == "terminate"


def test_it_comes_from_standard_input_as_well(job: Job) -> None:
    said = event(job)

    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "lifecycle_agent",
            "--config",
            job.config_path,
            "drain",
            "--event",
            "-",
            "--reason",
            "a test",
        ],
        env=job.environ(),
        input=json.dumps(said).encode(),
        capture_output=True,
        timeout=PATIENCE * 2,
    )

    assert ran.returncode == 0, ran.stderr
    assert_taken_out(job, said)
    assert job.report()["notice"]["reason"] == "a test"


def test_with_only_the_target_state_closed(job: Job) -> None:
    job.imds.fail(403, TARGET_STATE)
    said = event(job)

    assert job.by_hand("drain", "--event", written(job, said)).code == 0

    assert_taken_out(job, said)


@pytest.mark.parametrize("trouble", [Trouble.RESET, Trouble.HANG, 403], ids=str)
def test_with_the_metadata_service_closed(job: Job, trouble: Trouble | int) -> None:
    """The registration says which machine it is of: the address here is not the registered one."""
    center = {
        "@class": "com.netflix.appinfo.AmazonInfo",
        "name": "Amazon",
        "metadata": {"instance-id": INSTANCE},
    }
    instance = {
        "app": APP,
        "hostName": "orders",
        "ipAddr": "10.0.0.7",
        "dataCenterInfo": center,
        "instanceId": "orders:1",
    }
    job.eureka.registry.register(APP, {"instance": instance})
    job.imds.fail(trouble)
    said = event(job)

    ran = job.by_hand("drain", "--event", written(job, said), **SSM)

    assert ran.code == 0, ran
    assert_taken_out(job, said)
    (key,) = [key for key in job.bucket.listing() if key.endswith("manifest.json")]
    assert key.startswith(f"asg/{GROUP}/{INSTANCE}/")


def test_the_hook_of_the_event_goes_before_the_configured_one(job: Job) -> None:
    """The group asks two hooks, and each has an event of its own."""
    job.group.add_hook("other", heartbeat_timeout=600)
    job.group.terminate(INSTANCE)
    said = job.group.event(INSTANCE, "other")

    ran = job.by_hand("drain", "--event", written(job, said))

    assert ran.code == 0, ran
    assert "the event is for the hook 'other', and hooks.terminate is 'drain'" in ran.err
    assert tokens(job, "CompleteLifecycleAction") == [said["detail"]["LifecycleActionToken"]]
    other, own = (job.group.action(INSTANCE, name) for name in ("other", HOOK))
    assert other is not None
    assert own is not None
    assert (other.answered_by, own.active) == ("token", True)


@pytest.mark.parametrize("operation", ["DescribeAutoScalingInstances", "DescribeLifecycleHooks"])
def test_what_the_role_may_not_ask_is_not_needed(job: Job, operation: str) -> None:
    job.group.fail(Fault(operation, "AccessDenied", times=None))
    said = event(job)

    ran = job.by_hand("drain", "--event", written(job, said))

    assert ran.code == 0, ran
    assert_taken_out(job, said)


def test_a_dry_run_says_what_it_would_do(job: Job) -> None:
    ran = job.by_hand("drain", "--dry-run", "--event", written(job, event(job)))

    assert ran.code == 0, ran
    assert "discovery.deregister" in ran.out
    assert "answer the group's lifecycle hook" in ran.out
    assert nothing_was_touched(job)
    assert operations(job) == set()


# -- beside another transition


def test_beside_the_watcher_the_group_has_one_answer(job: Job) -> None:
    agent = job.start("run")
    until(lambda: agent.said("the group wants this instance InService"))
    said = event(job)

    ran = job.by_hand("drain", "--event", written(job, said))

    assert ran.code == 0, ran
    until(lambda: job.completed_at() is not None)
    assert job.answers() == ["CONTINUE"]
    assert job.boundaries().count("started discovery.out_of_service") == 1
    assert job.commands_run() == ["one", "two"]
    assert agent.stop() == 0


def test_a_second_delivery_does_nothing_more(job: Job) -> None:
    said = written(job, event(job))
    assert job.by_hand("drain", "--event", said).code == 0
    asked, lines = len(job.eureka.requests), len(job.journal())

    ran = job.by_hand("drain", "--event", said)

    assert ran.code == 0, ran
    assert (len(job.eureka.requests), len(job.journal())) == (asked, lines)
    assert job.answers() == ["CONTINUE"]


def test_a_drain_by_hand_gives_way(job: Job) -> None:
    job.configure_all(settle="50s")
    by_hand = job.start("drain")
    until(lambda: job.transition().get("step") == "discovery.settle")
    job.configure_all()
    said = event(job)

    ran = job.by_hand("drain", "--event", written(job, said))

    assert ran.code == 0, ran
    assert by_hand.wait() == 143
    assert_taken_out(job, said)


def test_one_that_died_is_gone_on_from(job: Job) -> None:
    """Whoever follows it has the event, and the group waits."""
    job.configure_all(settle="50s")
    said = event(job)
    first = job.start("drain", "--event", written(job, said))
    until(lambda: job.transition().get("step") == "discovery.settle")
    job.configure_all()
    second = job.start("drain", "--event", written(job, said))
    until(lambda: second.said("following the transition"))
    first.process.kill()

    assert second.wait() == 0
    assert_taken_out(job, said)
    assert job.boundaries().count("started discovery.out_of_service") == 1


def test_no_wait_is_exit_code_3(job: Job) -> None:
    job.configure_all(settle="50s")
    said = written(job, event(job))
    first = job.start("drain", "--event", said)
    until(lambda: job.transition().get("step") == "discovery.settle")

    ran = job.by_hand("drain", "--no-wait", "--event", said)

    assert ran.code == 3
    ran.assert_two_lines()
    assert first.stop() == 143


# -- what it refuses: exit code 2, two lines, and nothing was touched


@pytest.mark.parametrize(
    ("detail", "what"),
    [
        ({"EC2InstanceId": ANOTHER}, f"the event is for {ANOTHER}, and this is {INSTANCE}"),
        (
            {"AutoScalingGroupName": "others"},
            "the event is of the group 'others', and this instance is in 'rehearsal'",
        ),
        (
            {"LifecycleHookName": "CodeDeploy-managed-automatic-launch-1"},
            "which CodeDeploy's own agent answers",
        ),
        ({"LifecycleActionToken": "$(reboot)"}, "is not a lifecycle action's token: '$(reboot)'"),
    ],
    ids=["instance", "group", "CodeDeploy", "token"],
)
def test_it_is_not_for_us(job: Job, detail: dict[str, str], what: str) -> None:
    ran = job.by_hand("drain", "--event", written(job, event(job, **detail)))

    assert ran.code == 2, ran
    assert what in ran.assert_two_lines()[0]
    assert nothing_was_touched(job)


def test_another_group_in_the_tags_is_enough(job: Job) -> None:
    job.imds.set("tags/instance/", "aws:autoscaling:groupName")
    job.imds.set("tags/instance/aws:autoscaling:groupName", "others")

    ran = job.by_hand("drain", "--event", written(job, event(job)))

    assert ran.code == 2, ran
    assert "this instance is in 'others'" in ran.assert_two_lines()[0]
    assert nothing_was_touched(job)
    assert operations(job) == set()


def test_an_event_of_what_is_long_over_is_refused(job: Job) -> None:
    """It was delivered once more, and the instance has been in the warm pool meanwhile."""
    said = event(job)
    with job.group.turn() as model:
        model.members[INSTANCE].state = "InService"
    sent = datetime.now(timezone.utc) - timedelta(minutes=20)
    said["time"] = f"{sent:%Y-%m-%dT%H:%M:%SZ}"

    ran = job.by_hand("drain", "--event", written(job, said))

    assert ran.code == 2, ran
    assert f"the group has {INSTANCE} InService: what it asked for is over" in ran.assert_two_lines()[0]
    assert nothing_was_touched(job)


def test_an_old_event_is_refused(job: Job) -> None:
    said = event(job)
    said["time"] = "2026-01-02T03:04:05Z"

    ran = job.by_hand("drain", "--event", written(job, said))

    assert ran.code == 2, ran
    assert "minutes old" in ran.assert_two_lines()[0]
    assert nothing_was_touched(job)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[" * 100_000, b"NaN", b"[]", b"\x1b[31m", b"{" + b" " * 300_000],
    ids=["empty", "bytes", "deep", "NaN", "list", "control", "large"],
)
@pytest.mark.parametrize("how", ["file", "stdin"])
def test_what_is_no_event_is_two_lines(job: Job, content: bytes, how: str) -> None:
    path = job.directory / "event.json"
    path.write_bytes(content)
    source = str(path) if how == "file" else "-"
    with path.open("rb") as stream:
        ran = subprocess.run(
            [
                sys.executable,
                "-m",
                "lifecycle_agent",
                "--config",
                job.config_path,
                "drain",
                "--event",
                source,
            ],
            env=job.environ(),
            stdin=stream,
            capture_output=True,
            timeout=PATIENCE,
        )

    assert ran.returncode == 2, ran
    assert [line[:6] for line in ran.stderr.splitlines()] == [b"error:", b"  do: "]
    assert b"\x1b" not in ran.stderr
    assert nothing_was_touched(job)


@pytest.mark.parametrize("what", ["nothing", "directory", "fifo"])
def test_a_file_that_is_none_is_two_lines(job: Job, what: str) -> None:
    path = job.directory / "there"
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)

    ran = job.by_hand("drain", "--event", str(path))

    assert ran.code == 2, ran
    assert str(path) in ran.assert_two_lines()[0]


def test_an_event_is_answered_anyhow(job: Job) -> None:
    ran = job.by_hand("drain", "--complete", "--event", written(job, event(job)))

    assert ran.code == 2, ran
    assert "--complete and --event" in ran.assert_two_lines()[0]
    assert nothing_was_touched(job)


def test_a_machine_that_does_not_say_who_it_is_is_exit_code_4(job: Job) -> None:
    job.imds.fail(Trouble.RESET)

    ran = job.by_hand("drain", "--event", written(job, event(job)), **CREDENTIALS, AWS_SSM_INSTANCE_ID="")

    assert ran.code == 4, ran
    ran.assert_two_lines()
    assert nothing_was_touched(job)


# -- launching, and the warm pool


def in_state(job: Job, state: str) -> bool:
    return job.group.state(INSTANCE) == state


def prepared(job: Job) -> str:
    """A hook and a configuration for new instances; returns where the warm-up leaves its line."""
    job.group.add_hook("warm-up", LifecycleTransition.LAUNCHING, heartbeat_timeout=600)
    warm = job.directory / "warm"
    job.keep_renewing()
    job.configure_all(
        f"""launch = "warm-up"
        [[launch.command]]
        argv = ["/bin/sh", "-c", "echo warm >> {warm}"]
        """
    )
    return str(warm)


def test_a_launch_is_prepared_and_answered_with_the_events_token(job: Job) -> None:
    warm = Path(prepared(job))
    job.group.launch(INSTANCE)
    until(lambda: job.group.state(INSTANCE) == "Pending:Wait")
    said = job.group.event(INSTANCE)

    ran = job.by_hand("drain", "--event", written(job, said))

    assert ran.code == 0, ran
    assert warm.read_text() == "warm\n"
    assert job.answers() == ["CONTINUE"]
    assert tokens(job, "CompleteLifecycleAction") == [said["detail"]["LifecycleActionToken"]]
    until(lambda: job.group.state(INSTANCE) == "InService")
    assert job.status_in_registry() == "UP"
    assert job.report()["notice"]["kind"] == "launch"


def test_a_launch_that_fails_is_abandoned(job: Job) -> None:
    prepared(job)
    job.configure_all('launch = "warm-up"\n[[launch.command]]\nargv = ["/bin/false"]')
    job.group.launch(INSTANCE)
    until(lambda: job.group.state(INSTANCE) == "Pending:Wait")
    said = job.group.event(INSTANCE)

    ran = job.by_hand("drain", "--event", written(job, said))

    assert ran.code == 1, ran
    assert job.answers() == ["ABANDON"]
    assert tokens(job, "CompleteLifecycleAction") == [said["detail"]["LifecycleActionToken"]]


def test_into_the_warm_pool_and_out_of_it_and_back(job: Job) -> None:
    """One life, an event for each of its three turns; every answer has the token of its own question."""
    warm = Path(prepared(job))
    expected, kinds = [], []
    for turn, state in (
        ("launch_into_pool", "Warmed:Pending:Wait"),
        ("leave_pool", "Pending:Wait"),
        ("return_to_pool", "Warmed:Pending:Wait"),
    ):
        with job.group.turn() as model:
            getattr(model, turn)(INSTANCE)
        until(partial(in_state, job, state))
        said = job.group.event(INSTANCE)
        expected.append(said["detail"]["LifecycleActionToken"])

        agent = job.start("drain", "--event", written(job, said))
        assert agent.wait() == 0, agent.lines
        kinds.append(job.report()["notice"]["kind"])
        until(lambda: not job.group.state(INSTANCE).endswith((":Wait", ":Proceed")))

    assert kinds == ["launch", "leave-pool", "enter-pool"]
    assert job.answers() == ["CONTINUE"] * 3
    assert tokens(job, "CompleteLifecycleAction") == expected
    assert warm.exists()
    assert job.status_in_registry() == "OUT_OF_SERVICE"  # of an app whose units are not ours to stop


def test_an_event_that_comes_again_touches_nothing(job: Job) -> None:
    """EventBridge delivers at least once: a second time, and when the instance was drained since."""
    warm = Path(prepared(job))
    job.group.launch(INSTANCE)
    until(lambda: job.group.state(INSTANCE) == "Pending:Wait")
    event = written(job, job.group.event(INSTANCE))
    assert job.by_hand("drain", "--event", event).code == 0
    until(lambda: job.group.state(INSTANCE) == "InService")
    assert job.by_hand("drain").code == 0
    before = len(job.journal())

    ran = job.by_hand("drain", "--event", event)

    assert ran.code == 0, ran
    assert "has its answer already" in ran.err
    assert len(job.journal()) == before
    assert warm.read_text() == "warm\n"
    assert job.answers() == ["CONTINUE"]


def test_what_the_service_has_answered_is_not_done_again_by_the_event(job: Job) -> None:
    """Another hook still holds the group, so that nothing but the journal tells."""
    warm = Path(prepared(job))
    job.group.add_hook("CodeDeploy-managed-hook", LifecycleTransition.LAUNCHING, heartbeat_timeout=600)
    job.group.launch(INSTANCE)
    until(lambda: job.group.state(INSTANCE) == "Pending:Wait")
    event = job.group.event(INSTANCE, "warm-up")
    job.start()
    until(lambda: job.answers() == ["CONTINUE"])
    until(lambda: any(line["event"] == "over" for line in job.journal()))

    ran = job.by_hand("drain", "--event", written(job, event))

    assert ran.code == 0, ran
    assert warm.read_text() == "warm\n"
    assert job.answers() == ["CONTINUE"]


def test_a_new_root_volume_is_drained_for_and_launched_from(job: Job) -> None:
    """Only the event tells; the metadata go on to say InService, and the service does not believe that."""
    prepared(job)
    agent = job.start()
    until(lambda: agent.said("the group wants this instance InService"))
    job.group.replace_root(INSTANCE)
    until(lambda: in_state(job, "ReplacingRootVolume:Wait"))
    said = job.group.event(INSTANCE)
    assert said["detail"]["Action"] == "ReplaceRootVolume"

    assert job.by_hand("drain", "--event", written(job, said)).code == 0

    assert job.answers() == ["CONTINUE"]
    assert job.manifest()["complete"]
    until(lambda: in_state(job, "RootVolumeReplaced"))
    until(lambda: agent.said("drained for a new root volume, until the machine boots from it"))
    assert not job.registered()
    assert agent.stop() == 0

    shutil.rmtree(job.directory / "state")  # it was on the old one
    job.register()
    job.group.root_replaced(INSTANCE)
    until(lambda: in_state(job, "Pending:Wait"))
    job.start()
    until(lambda: in_state(job, "InService"))
    assert job.answers() == ["CONTINUE"] * 2
    assert [
        each.parameters["LifecycleHookName"] for each in job.group.calls if "Complete" in each.operation
    ] == [
        HOOK,
        "warm-up",
    ]
    assert job.status_in_registry() == "UP"


def test_an_event_to_launch_what_the_journal_has_in_service_is_refused_where_the_group_is_silent(
    job: Job,
) -> None:
    warm = Path(prepared(job))
    agent = job.start()
    until(lambda: agent.said("the group wants this instance InService"))
    job.group.launch("i-00000000000000001")
    until(lambda: job.group.state("i-00000000000000001") == "Pending:Wait")
    said = job.group.event("i-00000000000000001")
    said["detail"]["EC2InstanceId"] = INSTANCE
    job.group.fail(Fault("DescribeAutoScalingInstances", "AccessDenied", times=None))

    message, hint = job.by_hand("drain", "--event", written(job, said)).assert_two_lines()

    assert f"by the journal {INSTANCE} is launched already: in service" in message
    assert "complete --result CONTINUE" in hint
    assert not warm.exists()
    assert job.status_in_registry() == "UP"

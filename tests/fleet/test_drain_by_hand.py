"""What a person does at a machine: drain, follow, stop, undrain, look, answer; and every exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_agent.model import ActionResult
from lifecycle_agent.rehearsal.group_faults import Fault
from lifecycle_agent.rehearsal.imds import Trouble
from tests.fleet.job import Job
from tests.stage import HOOK, INSTANCE, Agent, until

pytestmark = pytest.mark.once


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with Job(tmp_path) as job:
        yield job


def draining(job: Job, *arguments: str) -> Agent:
    """A drain by hand that is in a long settling."""
    job.configure_all(settle="50s")
    agent = job.start("drain", *arguments)
    until(lambda: job.transition().get("pid") == agent.pid and job.transition()["step"] == "discovery.settle")
    return agent


# -- drain


def test_everything_but_the_answer(job: Job) -> None:
    ran = job.by_hand("drain", "--reason", "kernel update")
    assert ran.code == 0, ran
    assert not job.registered()
    assert job.commands_run() == ["one", "two"]
    assert job.manifest()
    assert job.called["/notice"] == 2
    assert "complete" not in job.outcomes()
    assert job.report()["notice"]["reason"] == "kernel update"
    assert job.group.calls == [], "the group is not even asked"
    assert ran.out == "", "no terminal, no picture"


def test_on_request_the_group_is_answered(job: Job) -> None:
    job.group.terminate(INSTANCE)
    ran = job.by_hand("drain", "--complete")
    assert ran.code == 0, ran
    assert job.answers() == ["CONTINUE"]
    assert job.outcomes()["complete"] == "done"


def test_a_failed_step_is_exit_code_1_and_abandons_where_that_is_configured(job: Job) -> None:
    job.configure_all('on_failure = "abandon"\n[[drain.command]]\nargv = ["/bin/false"]\non_failure = "fail"')
    job.group.terminate(INSTANCE)
    ran = job.by_hand("drain", "--complete")
    assert ran.code == 1
    assert job.answered() is ActionResult.ABANDON
    assert job.outcomes()["drain.command.1"] == "failed"
    assert job.commands_run() == ["one", "two"], "the rest goes on"
    assert not job.registered()


def test_an_answer_that_is_refused_is_a_failure_with_its_reason(job: Job) -> None:
    job.configure_all(timeout="8s")
    job.group.fail(Fault("CompleteLifecycleAction", "AccessDenied", times=None))
    job.group.terminate(INSTANCE)
    ran = job.by_hand("drain", "--complete")
    assert ran.code == 1
    until(lambda: job.called["/notice"] == 3)  # it starts, it went well, it did not: the group has no answer
    assert "Traceback" not in ran.err
    assert job.outcomes()["complete"] == "failed"
    (answer,) = [step for step in job.report()["steps"] if step["name"] == "complete"]
    assert "allow autoscaling:CompleteLifecycleAction in the instance profile" in answer["detail"]


def test_throttled_throughout_it_is_answered_all_the_same(job: Job) -> None:
    for operation in ("DescribeAutoScalingInstances", "DescribeLifecycleHooks", "CompleteLifecycleAction"):
        job.group.fail(Fault(operation, "Throttling", times=2))
    job.group.terminate(INSTANCE)
    ran = job.by_hand("drain", "--complete")
    assert ran.code == 0, ran
    assert job.answers() == ["CONTINUE"]


def test_a_load_balancer_is_waited_for_and_then_the_group_answered(job: Job) -> None:
    with job.group.turn() as model:
        model.deregistration_delay = 3.0
    job.group.terminate(INSTANCE)
    ran = job.by_hand("drain", "--complete")
    assert ran.code == 0, ran
    assert job.answers() == ["CONTINUE"]
    settle = next(step for step in job.report()["steps"] if step["name"] == "discovery.settle")
    action = job.group.action(INSTANCE)
    assert action is not None
    assert settle["seconds"] > 1, "the drain came after the load balancer"


def test_steps_are_done_before_the_load_balancer_is(job: Job) -> None:
    """The deadline ends the waiting, and the answer is owed still when the group asks at last."""
    job.configure_all(timeout="3s", settle="100ms")
    with job.group.turn() as model:
        model.deregistration_delay = 6.0
    job.group.terminate(INSTANCE)
    ran = job.by_hand("drain", "--complete")
    assert job.answers() == ["CONTINUE"], ran
    assert not job.registered()


def test_a_dry_run_prints_the_plan_and_touches_nothing(job: Job) -> None:
    ran = job.by_hand("drain", "--dry-run", "--complete")
    assert ran.code == 0
    assert ran.err == ""
    rows = {line.split()[0]: line.split()[1:3] for line in ran.out.splitlines()}
    assert list(rows)[:4] == ["step", "notify.start", "discovery.out_of_service", "discovery.settle"]
    assert rows["complete"] == ["6", "s"]
    assert "60 s for all of it" in ran.out
    assert job.journal() == []
    assert job.transition() == {}
    assert job.eureka.requests == []
    assert job.group.calls == []
    assert "complete" not in job.by_hand("drain", "--dry-run").out
    assert job.by_hand("undrain", "--dry-run").out.splitlines()[1].startswith("discovery.back_in_service")


# -- one at a time


def test_no_wait_is_exit_code_3(job: Job) -> None:
    agent = draining(job)
    for command in ("drain", "undrain"):
        ran = job.by_hand(command, "--no-wait")
        assert ran.code == 3
        message, _ = ran.assert_two_lines()
        assert f"process {agent.pid}" in message


@pytest.mark.parametrize(("fails", "code"), [("", 0), ('on_failure = "fail"', 1)], ids=["done", "failed"])
def test_a_second_drain_follows_the_first_and_ends_as_it_does(job: Job, fails: str, code: int) -> None:
    command = "/bin/false" if fails else "/bin/true"
    job.configure_all(f'[[drain.command]]\nargv = ["{command}"]\n{fails}', settle="3s")
    first = job.start("drain")
    until(lambda: job.transition().get("step") == "discovery.settle")
    second = job.by_hand("drain")
    assert f"following the transition that is running (process {first.pid}, drain)" in second.err
    assert first.wait() == second.code == code
    assert [line["event"] for line in job.journal()].count("notice") == 1


def test_one_that_is_followed_and_dies_is_said(job: Job) -> None:
    first = draining(job)
    second = job.start("drain")
    until(lambda: second.said("following"))
    os.kill(first.pid, signal.SIGKILL)
    assert second.wait() == 1
    assert second.said("ended early: its process died")
    assert not second.said("Traceback")


# -- stopping and going on


def test_a_terminated_one_stops_at_once_and_the_same_command_goes_on(job: Job) -> None:
    agent = draining(job)
    assert agent.stop() == 143
    assert job.status_in_registry() == "OUT_OF_SERVICE"
    job.configure_all()
    ran = job.by_hand("drain")
    assert ran.code == 0, ran
    assert job.boundaries().count("started discovery.out_of_service") == 1
    assert job.boundaries().count("notice") == 1
    assert job.called["/notice"] == 2


def test_ctrl_c_lets_the_running_step_end(job: Job) -> None:
    gate = job.directory / "gate"
    os.mkfifo(gate)
    job.configure_all(f'[[drain.command]]\nargv = ["/bin/cat", "{gate}"]')
    agent = job.start("drain")
    until(lambda: job.transition().get("step") == "drain.command.1")
    agent.process.send_signal(signal.SIGINT)
    gate.write_text("now")  # opens only once the command is there to read
    assert agent.wait() == 143
    assert job.boundaries()[-2:] == ["ended drain.command.1", "interrupted"]
    assert job.registered()


def test_ctrl_c_again_and_again_stops_at_once(job: Job) -> None:
    agent = draining(job)

    def stopped() -> bool:
        agent.process.send_signal(signal.SIGINT)
        return job.boundaries()[-1] == "interrupted"

    until(stopped)
    # The last one may have come when it was over already and the signal was an ordinary one again.
    assert agent.wait() in (143, 130, -signal.SIGINT)
    assert "ended discovery.settle" not in job.boundaries()


@pytest.mark.parametrize(
    "step",
    [
        "discovery.out_of_service",
        "discovery.settle",
        "drain.command.1",
        "drain.http.1",
        "logs",
        "complete",
    ],
)
def test_terminated_in_any_step_it_stops_and_goes_on_to_the_answer(job: Job, step: str) -> None:
    """Also in one that blocks: the watcher has patience for 5 s, and then it would be a death."""
    environ = {}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = "http://127.0.0.1:{1}/".format(*silent.getsockname())
        match step:
            case "discovery.out_of_service":
                job.eureka.hang()
            case "discovery.settle":
                job.configure_all(settle="50s")
            case "drain.command.1":
                job.configure_all('[[drain.command]]\nargv = ["/bin/sleep", "50"]\ntimeout = "55s"')
            case "drain.http.1":
                job.configure_all(f'[[drain.http]]\nurl = "{nobody}"\ntimeout = "50s"')
            case "logs":
                environ["AWS_ENDPOINT_URL_S3"] = nobody
            case "complete":
                job.group.fail(Fault("CompleteLifecycleAction", "Throttling", times=None))
        notice = job.seen()
        agent = job.start(*job.transition_of(notice)[2:], **environ)
        until(lambda: job.transition().get("step") == step)
        assert agent.stop() == 143
    assert job.boundaries()[-1] == "interrupted"
    assert f"ended {step}" not in job.boundaries()
    assert job.answers() == []
    job.group.heal()
    job.eureka.heal()
    job.configure_all()
    ran = job.run(*job.transition_of(notice))
    assert ran.code == 0, ran
    assert job.answers() == ["CONTINUE"]
    assert not job.registered()


# -- undrain


def test_undrain_takes_the_app_back_into_service(job: Job) -> None:
    assert draining(job).stop() == 143
    assert job.status_in_registry() == "OUT_OF_SERVICE"
    back = job.start("undrain")
    until(lambda: job.asked("DELETE", "/status"))
    job.register()  # as the app does when its renewal is answered with 404
    assert back.wait() == 0
    assert job.status_in_registry() == "UP"


def test_drained_again_after_an_undrain_everything_is_done_again(job: Job) -> None:
    assert job.by_hand("drain").code == 0
    job.register()
    assert job.by_hand("undrain").code == 0
    assert job.by_hand("drain").code == 0
    assert job.boundaries().count("ended discovery.out_of_service") == 2
    assert not job.registered()


# -- status


def test_status_while_it_drains_and_afterwards(job: Job) -> None:
    before = job.by_hand("status")
    assert before.code == 0
    assert "agent: not running" in before.out
    agent = draining(job)

    during = job.by_hand("status")
    assert "▸ discovery.settle" in during.out
    assert "✓ discovery.out_of_service" in during.out
    shown = json.loads(job.by_hand("status", "--json").out)
    assert shown["transition"]["running"] is True
    assert (shown["transition"]["pid"], shown["transition"]["step"]) == (agent.pid, "discovery.settle")
    assert shown["watcher"]["running"] is False

    agent.stop()
    assert "stopped; it goes on" in job.by_hand("status").out
    job.configure_all()
    assert job.by_hand("drain").code == 0
    after = job.by_hand("status")
    assert "drained by hand): done" in after.out
    assert "✓ logs" in after.out
    shown = json.loads(job.by_hand("status", "--json").out)
    assert (shown["transition"]["running"], shown["transition"]["outcome"]) == (False, "done")


def test_status_of_one_that_died(job: Job) -> None:
    agent = draining(job)
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    assert "its process died in the middle" in job.by_hand("status").out


# -- complete and heartbeat


@pytest.mark.parametrize("result", list(ActionResult))
def test_complete(job: Job, result: ActionResult) -> None:
    job.group.terminate(INSTANCE)
    ran = job.by_hand("complete", "--result", result.value)
    assert ran.code == 0, ran
    assert ran.out == f"completed: group rehearsal, hook {HOOK}, {result.value}\n"
    assert job.answered() is result


def test_heartbeat(job: Job) -> None:
    job.group.terminate(INSTANCE)
    ran = job.by_hand("heartbeat")
    assert ran.code == 0, ran
    assert ran.out == f"heartbeat: group rehearsal, hook {HOOK}, 600 s from now\n"
    action = job.group.action(INSTANCE)
    assert action is not None
    assert action.heartbeats == 1


COMPLETE, HEARTBEAT = ("complete", "--result", "CONTINUE"), ("heartbeat",)
TROUBLES = ["no action", "denied", "busy", "no instance", "no hook", "several hooks"]


@pytest.mark.parametrize(
    ("command", "trouble"),
    [(HEARTBEAT, "no action"), *((COMPLETE, trouble) for trouble in TROUBLES)],
    ids=lambda part: part if isinstance(part, str) else part[0],
)
def test_what_the_group_refuses_is_two_lines(job: Job, command: tuple[str, ...], trouble: str) -> None:
    code = 1
    if trouble == "denied":
        job.group.fail(Fault("DescribeAutoScalingInstances", "AccessDenied", times=None))
    elif trouble == "busy":
        job.group.fail(Fault("*", "Throttling", times=None))
    elif trouble == "no instance":
        with job.group.turn() as model:
            model.members.clear()
    elif trouble == "no hook":
        with job.group.turn() as model:
            model.remove_hook(HOOK)
        job.configure()
    elif trouble == "several hooks":
        job.group.add_hook("other")
        job.configure()
        code = 2
    ran = job.by_hand(*command)
    assert ran.code == code, ran
    message, hint = ran.assert_two_lines()
    assert {
        "no action": "No active Lifecycle Action found",
        "denied": "AccessDenied",
        "busy": "Rate exceeded",
        "no instance": f"no Auto Scaling group knows instance {INSTANCE}",
        "no hook": "has no lifecycle hook",
        "several hooks": "several hooks: drain, other",
    }[trouble] in message
    assert len(hint) > len("  do: ")


# -- where it cannot begin


@pytest.mark.parametrize(
    "command", [("drain",), ("undrain",), COMPLETE, HEARTBEAT], ids=lambda command: command[0]
)
def test_without_a_metadata_service_it_is_exit_code_4(job: Job, command: tuple[str, ...]) -> None:
    job.imds.fail(Trouble.RESET)
    ran = job.by_hand(*command)
    assert ran.code == 4
    ran.assert_two_lines()
    assert job.journal() == []


def test_a_runtime_directory_that_cannot_be_is_two_lines(job: Job) -> None:
    (job.directory / "in-the-way").write_text("")
    ran = job.by_hand("drain", RUNTIME_DIRECTORY=str(job.directory / "in-the-way"))
    assert ran.code == 1
    ran.assert_two_lines()


def test_a_state_directory_that_cannot_be_is_said_and_stops_nothing(job: Job) -> None:
    (job.directory / "state").write_text("in the way")
    ran = job.by_hand("drain")
    assert ran.code == 0, ran
    assert "the journal cannot be written" in ran.err
    assert not job.registered()


@pytest.mark.parametrize("told", ["", "{", "[]", "7", '{"notice": {}}', '{"notice": 1}'])
def test_a_notice_that_is_none_is_wrong_usage(job: Job, told: str) -> None:
    ran = job.by_hand("drain", "--notice", told)
    assert ran.code == 2
    ran.assert_two_lines()


def test_after_a_reboot_the_status_still_has_the_last_transition(job: Job) -> None:
    """The runtime directory is gone with it; the service brings the report back."""
    assert job.by_hand("drain").code == 0
    (job.directory / "run" / "status.json").unlink()
    assert "last transition" not in job.by_hand("status").out
    agent = job.start("run")
    until(lambda: agent.said("drained by hand, and stays so until"))
    shown = job.by_hand("status").out
    assert "last transition: drain-" in shown
    assert "discovery.deregister" in shown
    assert agent.stop() == 0

"""Every way in which an instance comes and goes, each with the real agent in the emulated world."""

from __future__ import annotations

import json
import signal
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from lifecycle_agent.deadline import boottime
from lifecycle_agent.model import ActionResult, LifecycleTransition, Notice, NoticeKind
from lifecycle_agent.rehearsal.group_faults import Fault
from lifecycle_agent.rehearsal.imds import TARGET_STATE
from lifecycle_agent.steps.arrival import DENIED_SECONDS, NEW_SECONDS
from lifecycle_agent.watch.supervisor import GAVE_WAY
from tests.fleet.job import REGISTRATION, Job
from tests.stage import APP, HOOK, INSTANCE, PATIENCE, Agent, until
from tests.worlds.clock import FOR_PYTHON

pytestmark = pytest.mark.once

LAUNCHING = LifecycleTransition.LAUNCHING
OUT, UP = "OUT_OF_SERVICE", "UP"

# A command that succeeds once its file is there.
LAUNCH = """
[launch]
timeout = "60s"
[[launch.command]]
argv = ["/bin/sh", "-c", "echo warm-up >> {commands}; {then}"]
[launch.ready]
argv = ["/bin/sh", "-c", "test -e {ready}"]
timeout = "{timeout}"
"""


class Life(Job):
    """A job whose instance comes and goes in every way, with an app that renews its lease."""

    def __enter__(self) -> Life:
        super().__enter__()
        self.keep_renewing()
        return self

    def launches(self, then: str = "true", timeout: str = "30s", more: str = "") -> Path:
        """Configure a launch; what it is ready by is the file that is returned."""
        ready = self.directory / "ready"
        self.more(LAUNCH.format(commands=self.commands, ready=ready, then=then, timeout=timeout) + more)
        return ready

    def more(self, text: str) -> None:
        """Lay something over the configuration."""
        folder = self.directory / "config.d"
        folder.mkdir(exist_ok=True)
        (folder / "more.toml").write_text(text)

    def new(self) -> None:
        """The instance is one that the group is launching, not one that is there."""
        self.group.add_hook("warm-up", LAUNCHING, heartbeat_timeout=600)
        self.group.launch(INSTANCE)

    def is_spot(self) -> None:
        self.imds.set("instance-life-cycle", "spot")

    def interrupts(self, seconds: float = 100.0, action: str = "terminate") -> None:
        at = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        said = {"action": action, "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
        self.imds.set("spot/instance-action", json.dumps(said))

    def recommends(self) -> None:
        self.imds.set("events/recommendations/rebalance", '{"noticeTime": "2026-01-01T00:00:00Z"}')

    def schedules(self, seconds: float, event: str = "instance-event-1") -> None:
        at = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        not_before = f"{at:%d %b %Y %H:%M:%S} GMT"
        about = {"Code": "system-reboot", "State": "active", "EventId": event, "NotBefore": not_before}
        self.imds.set("events/maintenance/scheduled", json.dumps([about]))

    def kinds(self) -> list[str]:
        """Of the transitions, in order."""
        return [line["notice"]["kind"] for line in self.journal() if line["event"] == "notice"]

    def over(self, kind: str, times: int = 1) -> bool:
        """Whether so many of a kind have come to their end."""
        lines = self.journal()
        names = {line["transition"] for line in lines if line["event"] == "over"}
        return len([name for name in names if name.startswith(f"{kind}-2")]) >= times

    def asked_of_group(self) -> Counter[str]:
        return Counter(call.operation for call in self.group.calls)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    with Life(tmp_path) as life:
        yield life


def watching(life: Life, sentence: str = "waiting: ") -> Agent:
    agent = life.start()
    until(lambda: agent.said(sentence))
    return agent


# -- launch


def test_a_new_instance_is_ready_before_anybody_is_sent_to_it(life: Life) -> None:
    ready = life.launches()
    life.new()
    agent = life.start()
    until(lambda: life.transition().get("step") == "launch.ready")
    until(lambda: life.status_in_registry() == OUT)  # the app had registered as UP
    assert life.commands_run() == ["warm-up"]
    assert life.group.state(INSTANCE) == "Pending:Wait"
    ready.touch()
    until(lambda: life.group.state(INSTANCE) == "InService")
    assert life.answered() is ActionResult.CONTINUE
    assert life.status_in_registry() == UP
    until(lambda: agent.said("the group wants this instance InService"))
    assert life.kinds() == ["launch"]
    assert not agent.said("Traceback")


@pytest.mark.parametrize("what", ["warm-up", "readiness"])
def test_one_that_fails_is_abandoned_and_its_logs_are_saved_first(life: Life, what: str) -> None:
    life.launches(then="exit 3" if what == "warm-up" else "true", timeout="1s")
    life.new()
    life.start()
    until(lambda: life.answers())
    assert life.answers() == ["ABANDON"]
    until(lambda: life.over("launch"))
    report = next(line for line in life.journal() if line["event"] == "over")
    assert report["outcome"] == "failed"
    assert life.manifest()["complete"]
    assert life.status_in_registry() != UP or what == "warm-up"
    assert life.called["/notice"] >= 2
    # the group takes it away, and that is done as any other time
    until(lambda: life.kinds()[-1] == "terminate")


def test_one_in_service_already_is_only_put_on_record(life: Life) -> None:
    life.launches()
    life.group.add_hook("warm-up", LAUNCHING)
    agent = life.start()
    until(lambda: life.over("launch"))
    until(lambda: agent.said("the group wants this instance InService"))
    assert life.commands_run() == []
    assert set(life.asked_of_group()) <= {"DescribeAutoScalingInstances", "DescribeLifecycleHooks"}
    assert life.status_in_registry() == UP
    assert agent.said("found in group rehearsal in InService: put on record")


def test_the_first_one_of_a_group_may_be_there_before_the_hook(life: Life) -> None:
    life.launches().touch()
    life.group.launch(INSTANCE)
    agent = life.start()
    until(lambda: life.over("launch"))
    until(lambda: agent.said("put on record") or agent.said("no lifecycle hook for this: no answer is owed"))
    assert "CompleteLifecycleAction" not in life.asked_of_group()


def test_nor_does_a_hook_that_is_configured_and_not_there_yet_undo_a_launch(life: Life) -> None:
    """What is ready and UP stays so, whatever became of the answer, and nobody is told of a failure."""
    life.launches(more='[hooks]\nlaunch = "warm-up"\n').touch()
    life.group.add_hook("CodeDeploy-managed-automatic-launch-deployment-hook-1", LAUNCHING)
    life.group.launch(INSTANCE)
    agent = life.start()
    until(lambda: life.over("launch"))
    until(lambda: agent.said("the group wants this instance InService"))
    assert life.report()["outcome"] != "failed"
    assert "no answer is owed" in life.report()["completion"]
    assert life.status_in_registry() == UP
    assert life.kinds() == ["launch"]
    assert life.commands_run() == ["warm-up"]


def test_nobody_is_told_of_one_that_is_only_put_on_record(life: Life) -> None:
    life.launches()
    agent = watching(life, "the group wants this instance InService")
    assert agent.said("put on record")
    assert life.called["/notice"] == 0


@pytest.mark.parametrize("phase", ["pool", "new"])
def test_nothing_is_done_by_hand_to_what_the_group_is_launching(life: Life, phase: str) -> None:
    life.launches().touch()
    if phase == "new":
        life.new()
        until(lambda: life.group.state(INSTANCE) == "Pending:Wait")
    else:
        life.group.launch_into_pool(INSTANCE)
        life.start()
        until(lambda: life.over("launch"))
    for command in ("drain", "undrain"):
        message, _ = life.by_hand(command).assert_two_lines()
        assert ("is in the warm pool" if phase == "pool" else "is launching i-0123456789abcdef0") in message
    assert life.kinds() == ["launch"] * (phase == "pool")


def test_what_is_in_service_is_drained_by_hand_though_no_service_has_it_on_record(life: Life) -> None:
    life.launches().touch()
    assert life.by_hand("drain").code == 0
    agent = life.start()
    until(lambda: agent.said("drained by hand, and stays so until"))
    assert not life.registered()


def test_codedeploys_hook_is_left_to_codedeploy(life: Life) -> None:
    life.launches().touch()
    life.group.add_hook("CodeDeploy-managed-automatic-launch-deployment-hook-1", LAUNCHING)
    life.new()
    life.start()
    until(lambda: life.over("launch"))
    assert [
        call.parameters["LifecycleHookName"] for call in life.group.calls if "Complete" in call.operation
    ] == ["warm-up"]
    assert life.group.state(INSTANCE) == "Pending:Wait", "CodeDeploy has not answered yet"


def test_a_launching_hook_is_not_ours_unless_a_launch_is_configured(life: Life) -> None:
    life.new()
    agent = life.start()
    until(lambda: agent.said("the group wants this instance InService"))
    assert life.kinds() == ["found"]
    assert life.group.calls == []


# -- the warm pool


def test_into_the_pool_out_of_it_back_and_terminated_in_it(life: Life) -> None:
    life.launches().touch()
    life.group.add_hook("warm-up", LAUNCHING, heartbeat_timeout=600)
    life.group.launch_into_pool(INSTANCE)
    life.start()
    until(lambda: life.group.state(INSTANCE) == "Warmed:Stopped")
    assert life.status_in_registry() == OUT
    until(lambda: life.over("launch"))

    life.group.leave_pool(INSTANCE)
    until(lambda: life.group.state(INSTANCE) == "InService")
    assert life.status_in_registry() == UP
    until(lambda: life.over("leave-pool"))

    life.group.return_to_pool(INSTANCE)
    until(lambda: life.group.state(INSTANCE) == "Warmed:Stopped")
    assert life.status_in_registry() == OUT, "an app that runs on keeps its registration, out of service"
    until(lambda: life.over("enter-pool"))

    life.group.terminate(INSTANCE)
    until(lambda: life.group.state(INSTANCE) == "Warmed:Terminated")
    until(lambda: life.over("terminate"))
    assert not life.registered()
    assert life.kinds() == ["launch", "leave-pool", "enter-pool", "terminate"]
    assert life.answers() == ["CONTINUE"] * 4


def test_an_app_that_is_up_again_is_held_back_while_the_group_is_asked_where_it_has_it(life: Life) -> None:
    """Out of the pool, and the metadata are ahead of the group, which cannot be reached."""
    ready = life.launches()
    ready.touch()
    life.group.add_hook("warm-up", LAUNCHING, heartbeat_timeout=600)
    life.group.launch_into_pool(INSTANCE)
    life.start()
    until(lambda: life.over("launch"))
    ready.unlink()
    life.group.fail(Fault("DescribeAutoScalingInstances", times=None))
    life.group.leave_pool(INSTANCE)
    until(lambda: life.transition().get("step") == "launch.arrival")
    life.eureka.registry.cancel(APP, REGISTRATION)  # the app is started again, and its override is gone
    life.register()
    assert life.status_in_registry() == UP
    until(lambda: life.status_in_registry() == OUT)
    assert life.transition()["step"] == "launch.arrival"
    life.group.heal()
    ready.touch()
    until(lambda: life.group.state(INSTANCE) == "InService")
    assert life.status_in_registry() == UP


# -- standby, detached


def test_standby_and_back(life: Life) -> None:
    agent = watching(life)
    life.group.enter_standby(INSTANCE)
    until(lambda: agent.said("on standby, out of service until the group takes it back"))
    assert life.status_in_registry() == OUT
    assert life.commands_run() == ["one", "two"]
    life.group.exit_standby(INSTANCE)
    until(lambda: life.over("undrain"))
    assert life.status_in_registry() == UP
    assert life.group.calls == [], "no hook runs for standby"


def test_taken_away_on_standby_the_apps_commands_are_not_run_again(life: Life) -> None:
    agent = watching(life)
    life.group.enter_standby(INSTANCE)
    until(lambda: agent.said("on standby, out of service until the group takes it back"))
    life.group.terminate(INSTANCE)
    until(lambda: life.over("terminate"))
    assert life.commands_run() == ["one", "two"]
    assert life.answers() == ["CONTINUE"]


def test_detached_it_is_left_alone_and_attached_it_is_looked_after_again(life: Life) -> None:
    agent = watching(life)
    life.group.detach(INSTANCE)
    until(lambda: agent.said("detached from its group: the app keeps running"))
    assert life.status_in_registry() == UP
    life.imds.set("tags/instance/aws:autoscaling:groupName", "another")
    life.group.attach(INSTANCE)
    until(lambda: life.over("attach"))
    life.group.terminate(INSTANCE)
    until(lambda: life.over("terminate"))
    assert life.kinds() == ["found", "detach", "attach", "terminate"]
    assert not life.registered()
    assert life.answers() == ["CONTINUE"]


# -- spot, rebalance, maintenance


def test_a_spot_interruption_is_the_eight_steps_in_its_time(life: Life) -> None:
    life.is_spot()
    agent = watching(life)
    life.interrupts()
    until(lambda: life.over("spot"))
    assert not life.registered()
    assert life.manifest()["complete"]
    notice = next(line for line in life.journal() if line.get("notice", {}).get("kind") == "spot")
    assert 40 < notice["ends"] - notice["at"] <= 60, (
        "no later than `[drain] timeout`, and no later than the notice"
    )
    until(lambda: agent.said("drained, for EC2 interrupts this spot instance"))
    assert life.answers() == [], "the group has not asked"
    # it does, in the end
    life.group.terminate(INSTANCE)
    until(lambda: life.over("terminate"))
    assert life.answers() == ["CONTINUE"]
    assert life.commands_run() == ["one", "two"]


def test_one_in_the_middle_of_a_drain_leaves_it_less_time(life: Life) -> None:
    life.configure_all(settle="20s", timeout="300s")
    life.is_spot()
    agent = watching(life)
    life.group.terminate(INSTANCE)
    until(lambda: life.transition().get("step") == "discovery.settle")
    life.interrupts(12)
    until(lambda: agent.said("EC2 interrupts this spot instance: there is less time"))
    until(lambda: life.over("terminate"))
    assert life.kinds() == ["found", "terminate"]
    starts = [line for line in life.boundaries() if line == "started discovery.out_of_service"]
    assert len(starts) == 1, "a step that had finished ran again"
    assert life.answers() == ["CONTINUE"]
    settle = next(step for step in life.report()["steps"] if step["name"] == "discovery.settle")
    assert settle["seconds"] < 15


def test_one_that_is_over_is_no_reason_to_stay_out_of_service(life: Life) -> None:
    """Hibernated and resumed: the notice is gone, and the clock has jumped past its time."""
    life.is_spot()
    watching(life)
    life.interrupts(-200, "hibernate")  # a time that has passed: it is given two minutes all the same
    until(lambda: life.over("spot"))
    assert life.kinds()[-1] == "spot"


@pytest.mark.parametrize("what", ["rebalance", "maintenance"])
def test_advice_is_told_once(life: Life, what: str) -> None:
    life.is_spot()
    watching(life)
    life.recommends() if what == "rebalance" else life.schedules(3600)
    until(lambda: life.over(what))
    agent = life.start()  # beside the first one: it knows by the journal
    until(lambda: agent.said("the group wants this instance InService"))
    polls = life.imds.requests["autoscaling/target-lifecycle-state"]
    until(lambda: life.imds.requests["autoscaling/target-lifecycle-state"] > polls + 40)
    assert life.kinds() == ["found", what]
    assert life.called["/notice"] == 1
    assert life.status_in_registry() == UP
    assert life.commands_run() == []


def test_a_rebalance_may_be_a_drain(life: Life) -> None:
    life.more('[rebalance]\naction = "drain"')
    life.is_spot()
    agent = watching(life)
    life.recommends()
    until(lambda: agent.said("drained: EC2 recommends to rebalance"))
    assert not life.registered()
    assert life.group.calls == []


def test_maintenance_may_be_a_drain_until_it_is_over(life: Life) -> None:
    life.more('[maintenance]\naction = "drain"\nlead = "10m"')
    agent = watching(life)
    life.schedules(500)
    until(lambda: agent.said("drained: EC2 has scheduled system-reboot"))
    assert not life.registered()
    life.register()  # the app is started again, by hand here
    life.imds.set("events/maintenance/scheduled", "[]")
    until(lambda: life.over("undrain"))
    assert life.status_in_registry() == UP


# -- by hand, while the service runs


def test_what_is_done_by_hand_is_left_so(life: Life) -> None:
    agent = watching(life)
    assert life.by_hand("drain").code == 0
    until(lambda: agent.said("drained by hand, and stays so until"))
    life.group.enter_standby(INSTANCE)
    life.group.exit_standby(INSTANCE)
    assert agent.stop() == 0
    agent = watching(life, "drained by hand, and stays so until")
    life.register()
    assert life.by_hand("undrain").code == 0
    until(lambda: agent.said("the group wants this instance InService"))
    assert life.kinds() == ["found", "drain", "undrain"]


def test_a_drain_by_hand_that_is_stopped_goes_on_where_it_was(life: Life) -> None:
    life.configure_all(settle="50s")
    agent = watching(life)
    hand = life.start("drain")
    until(lambda: life.transition().get("step") == "discovery.settle")
    hand.process.send_signal(signal.SIGINT)
    until(lambda: "stopping after this step" in life.transition().get("text", ""))
    assert hand.process.poll() is None
    hand.process.send_signal(signal.SIGINT)
    assert hand.wait() == 143
    assert hand.said("run the same command again to go on where it was")
    until(lambda: agent.said("`drain` goes on with it, `undrain` takes the app back"))
    assert life.status_in_registry() == OUT


def test_a_way_back_that_fails_is_tried_again_by_the_service(life: Life) -> None:
    agent = watching(life)
    life.group.enter_standby(INSTANCE)
    until(lambda: agent.said("on standby, out of service"))
    life.eureka.hang()
    life.configure_all()
    life.group.exit_standby(INSTANCE)
    until(lambda: life.transition().get("step") == "discovery.back_in_service")
    life.eureka.heal()
    until(lambda: life.over("undrain"))
    assert life.status_in_registry() == UP


@pytest.mark.parametrize("booted", [60.0, 3 * 86400.0], ids=["just booted", "running for days"])
def test_the_group_cannot_be_asked_whether_it_is_new(life: Life, booted: float) -> None:
    life.launches().touch()
    life.new()
    life.imds.set("tags/instance/aws:autoscaling:groupName", life.group.name)
    life.group.fail(Fault("DescribeAutoScalingInstances", "AccessDenied", times=None))
    clock = life.directory / "clock"
    clock.write_bytes(struct.pack("d", booted - boottime()))
    agent = life.start("run", WORLD_CLOCK=str(clock), PYTHONPATH=str(FOR_PYTHON))
    if booted < NEW_SECONDS:
        until(lambda: life.group.state(INSTANCE) == "InService")
        assert agent.said("taken for a new instance")
        assert life.answers() == ["CONTINUE"]
    else:
        until(lambda: life.over("launch"), DENIED_SECONDS + PATIENCE)
        assert agent.said("taken for one that is in service: put on record")
        assert life.commands_run() == []
        assert life.status_in_registry() == UP


def test_the_hook_of_a_pool_is_the_terminating_one(life: Life) -> None:
    watching(life)
    life.group.return_to_pool(INSTANCE)
    until(lambda: life.over("enter-pool"))
    completed = [call for call in life.group.calls if call.operation == "CompleteLifecycleAction"]
    assert [call.parameters["LifecycleHookName"] for call in completed] == [HOOK]


def test_undrain_is_refused_where_the_group_wants_something_else(life: Life) -> None:
    life.group.enter_standby(INSTANCE)
    message, hint = life.by_hand("undrain").assert_two_lines()
    assert "wants i-0123456789abcdef0 Standby: it cannot go back into service" in message
    assert "ExitStandby" in hint


def test_undrain_is_refused_once_a_termination_has_begun_though_the_metadata_are_silent(life: Life) -> None:
    assert life.run(*life.transition_of(life.seen())).code == 0
    life.imds.set(TARGET_STATE, None)
    message, hint = life.by_hand("undrain").assert_two_lines()
    assert "the group takes i-0123456789abcdef0 away: it cannot go back into service" in message
    assert "status" in hint


def test_undrain_that_has_waited_for_others_is_refused_where_it_may_not_be_done_any_more(life: Life) -> None:
    life.configure_all(settle="50s")
    first = life.start("drain")
    until(lambda: life.transition().get("step") == "discovery.settle")
    second = life.start("undrain")
    until(lambda: second.said("following the transition"))
    life.group.enter_standby(INSTANCE)
    assert first.stop() == 143
    assert second.wait() == 1
    assert second.said("wants i-0123456789abcdef0 Standby: it cannot go back into service")
    assert life.status_in_registry() == OUT


def test_undrain_is_refused_as_long_as_ec2_is_to_take_the_machine(life: Life) -> None:
    life.is_spot()
    life.interrupts()
    message, hint = life.by_hand("undrain").assert_two_lines()
    assert "EC2 is to terminate i-0123456789abcdef0, a spot instance: it cannot go back" in message
    assert "takes it back then" in hint


def test_undrain_is_refused_on_standby_though_the_metadata_do_not_say_so_just_now(life: Life) -> None:
    agent = watching(life)
    life.group.enter_standby(INSTANCE)
    until(lambda: agent.said("on standby, out of service"))
    life.imds.fail(500, TARGET_STATE)
    message, _ = life.by_hand("undrain").assert_two_lines()
    assert "wants i-0123456789abcdef0 Standby: it cannot go back into service" in message


@pytest.mark.parametrize("kind", [NoticeKind.STAY_DRAINED, NoticeKind.RETURN, NoticeKind.REBALANCE])
def test_what_the_service_has_seen_before_a_person_did_something_else_is_decided_anew(
    life: Life, kind: NoticeKind
) -> None:
    notice = Notice(kind, "seen before", boottime())
    assert life.by_hand("drain").code == 0
    ran = life.run(*life.transition_of(notice))
    assert ran.code == GAVE_WAY
    assert f"has been begun since: {kind.value} gives way" in ran.err
    assert life.kinds() == ["drain"]
    life.register()  # as systemd has started it
    assert life.run(*life.transition_of(replace(notice, seen_at=boottime()))).code != GAVE_WAY


@pytest.mark.parametrize("command", ["drain", "undrain"])
def test_a_launch_that_owes_its_answer_is_not_taken_over_by_hand(life: Life, command: str) -> None:
    ready = life.launches()
    life.new()
    life.start()
    until(lambda: life.transition().get("step") == "launch.ready")
    message, hint = life.by_hand(command).assert_two_lines()
    assert "the group is launching this instance" in message
    assert "complete --result ABANDON" in hint
    ready.touch()
    until(lambda: life.group.state(INSTANCE) == "InService")
    assert life.kinds() == ["launch"]

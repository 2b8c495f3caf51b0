"""The emulated group's states, hooks and timers, on a clock of the test's own."""

from __future__ import annotations

import pytest

from lifecycle_agent.model import ActionResult, LifecycleTransition, TargetState
from lifecycle_agent.rehearsal.group_model import GroupModel
from lifecycle_agent.rehearsal.lifecycle import Refusal

ME = "i-0abc"
CONTINUE, ABANDON = ActionResult.CONTINUE, ActionResult.ABANDON
LAUNCHING, TERMINATING = LifecycleTransition.LAUNCHING, LifecycleTransition.TERMINATING


class World:
    """A group, its clock, and what it said."""

    def __init__(self, **settings: object) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.group = GroupModel(self.said.append, clock=lambda: self.now, **settings)  # type: ignore[arg-type]

    @property
    def states(self) -> list[str]:
        """The states the instance went through."""
        return [line.rpartition(" -> ")[2] for line in self.said if " -> " in line]

    def state_at(self, now: float) -> str:
        self.now = now
        return self.group.state(ME)


def test_the_way_out_behind_a_load_balancer() -> None:
    world = World(deregistration_delay=30, proceed_delay=5)
    group = world.group
    group.add_hook("drain", heartbeat_timeout=60)
    group.place(ME)
    assert group.target_state(ME) is None
    group.terminate(ME)
    assert group.target_state(ME) is TargetState.TERMINATED
    assert world.state_at(29.9) == "Terminating"
    assert world.state_at(30) == "Terminating:Wait"
    world.now = 42
    group.complete("drain", CONTINUE, instance_id=ME)
    assert group.state(ME) == "Terminating:Proceed"
    assert [member.state for member in group.present()] == ["Terminating:Proceed"]
    assert world.state_at(47) == "Terminated"
    assert group.present() == []
    assert group.gone == [ME]
    action = group.action(ME)
    assert action is not None
    assert (action.result, action.answered_by, action.seconds_left) == (CONTINUE, "instance ID", 48)
    assert world.said == [
        "i-0abc: InService -> Terminating",
        "i-0abc: Terminating -> Terminating:Wait",
        "i-0abc: asks hook drain, waits up to 60 s",
        "i-0abc: hook drain says CONTINUE, 48.0 s left",
        "i-0abc: Terminating:Wait -> Terminating:Proceed",
        "i-0abc: Terminating:Proceed -> Terminated",
    ]


def test_without_a_hook_nobody_is_asked() -> None:
    world = World()
    world.group.add_hook("warm-up", LAUNCHING)
    world.group.place(ME)
    world.group.terminate(ME)
    assert world.states == ["Terminating", "Terminated"]
    assert world.group.action(ME) is None


def test_a_hook_of_the_launch_holds_the_instance_up() -> None:
    world = World(launch_delay=2)
    world.group.add_hook("warm-up", LAUNCHING)
    world.group.launch(ME)
    assert world.group.target_state(ME) is TargetState.IN_SERVICE
    world.now = 2
    world.group.complete("warm-up", CONTINUE, instance_id=ME)
    assert world.states == ["Pending", "Pending:Wait", "Pending:Proceed", "InService"]


@pytest.mark.parametrize("by_timeout", [True, False])
def test_a_launch_that_is_abandoned_ends_the_instance(by_timeout: bool) -> None:
    world = World()
    world.group.add_hook("warm-up", LAUNCHING, heartbeat_timeout=60)
    world.group.launch(ME)
    if by_timeout:
        world.now = 60
    else:
        world.group.complete("warm-up", ABANDON, instance_id=ME)
    assert world.group.state(ME) == "Terminated"
    assert world.states == ["Pending", "Pending:Wait", "Terminating", "Terminated"]
    assert world.group.target_state(ME) is TargetState.TERMINATED


@pytest.mark.parametrize("default", [CONTINUE, ABANDON])
def test_the_heartbeat_timeout_gives_the_default_result(default: ActionResult) -> None:
    world = World()
    world.group.add_hook("drain", heartbeat_timeout=60, default_result=default)
    world.group.place(ME)
    world.group.terminate(ME)
    assert world.state_at(59.9) == "Terminating:Wait"
    assert world.state_at(60) == "Terminated"
    action = world.group.action(ME)
    assert action is not None
    assert (action.result, action.answered_by, action.seconds_left) == (default, "heartbeat timeout", 0)


def test_a_heartbeat_starts_the_timeout_anew_but_not_the_global_one() -> None:
    world = World()
    world.group.add_hook("drain", heartbeat_timeout=60, global_timeout=130)
    world.group.place(ME)
    world.group.terminate(ME)
    for now in (50, 100):
        world.now = now
        world.group.heartbeat("drain", instance_id=ME)
    assert world.said[-2:] == [
        "i-0abc: heartbeat for hook drain, waits another 60 s",
        "i-0abc: heartbeat for hook drain, waits another 30 s",
    ]
    assert world.state_at(129.9) == "Terminating:Wait"
    assert world.state_at(130) == "Terminated"
    action = world.group.action(ME)
    assert action is not None
    assert (action.answered_by, action.heartbeats) == ("global timeout", 2)


@pytest.mark.parametrize(("timeout", "global_timeout"), [(30, 3000), (1728, 172800), (7200, 172800)])
def test_the_global_timeout(timeout: int, global_timeout: int) -> None:
    assert World().group.add_hook("drain", heartbeat_timeout=timeout).global_timeout == global_timeout


def test_timers_are_exact_however_late_anybody_looks() -> None:
    world = World(deregistration_delay=10, proceed_delay=1)
    world.group.add_hook("drain", heartbeat_timeout=60)
    world.group.place(ME)
    world.group.terminate(ME)
    world.now = 1000
    assert world.group.state(ME) == "Terminated"
    action = world.group.action(ME)
    assert action is not None
    assert (action.began, action.answered_at) == (10, 70)


def test_several_hooks_wait_for_each_other() -> None:
    world = World()
    for name in ("drain", "backup"):
        world.group.add_hook(name)
    world.group.place(ME)
    world.group.terminate(ME)
    world.group.complete("drain", CONTINUE, instance_id=ME)
    assert world.group.state(ME) == "Terminating:Wait"
    world.group.complete("backup", CONTINUE, instance_id=ME)
    assert world.group.state(ME) == "Terminated"


def test_what_is_due_first_happens_first() -> None:
    world = World()
    for name, timeout in (("slow", 90), ("quick", 60)):
        world.group.add_hook(name, heartbeat_timeout=timeout, default_result=CONTINUE)
    world.group.place(ME)
    world.group.terminate(ME)
    assert world.group.next_due() == 60
    world.now = 60
    world.group.complete("slow", CONTINUE, instance_id=ME)
    quick, slow = world.group.action(ME, "quick"), world.group.action(ME, "slow")
    assert quick is not None
    assert slow is not None
    assert (quick.answered_by, slow.answered_by) == ("heartbeat timeout", "instance ID")
    assert slow.seconds_left == 30


def test_abandon_cancels_the_remaining_hooks() -> None:
    world = World()
    for name in ("drain", "backup"):
        world.group.add_hook(name)
    world.group.place(ME)
    world.group.terminate(ME)
    world.group.complete("drain", ABANDON, instance_id=ME)
    assert world.group.state(ME) == "Terminated"
    backup = world.group.action(ME, "backup")
    assert backup is not None
    assert (backup.answered_by, backup.result) == ("cancelled", None)
    with pytest.raises(Refusal, match="No active Lifecycle Action"):
        world.group.complete("backup", CONTINUE, instance_id=ME)


@pytest.mark.parametrize("by_timeout", [True, False])
def test_a_group_that_retains_keeps_the_instance_for_a_human(by_timeout: bool) -> None:
    world = World(retain_on_abandon=True)
    world.group.add_hook("drain", heartbeat_timeout=60)
    world.group.place(ME)
    world.group.terminate(ME)
    if by_timeout:
        world.now = 60
    else:
        world.group.complete("drain", ABANDON, instance_id=ME)
    assert world.state_at(100000) == "Terminating:Retained"
    assert world.group.gone == []
    world.group.terminate(ME)
    assert world.states[-2:] == ["Terminating:Proceed", "Terminated"]


def test_a_group_that_retains_lets_go_on_continue() -> None:
    world = World(retain_on_abandon=True)
    world.group.add_hook("drain")
    world.group.place(ME)
    world.group.terminate(ME)
    world.group.complete("drain", CONTINUE, instance_id=ME)
    assert world.group.state(ME) == "Terminated"


def test_through_the_warm_pool() -> None:
    world = World(pool_state=TargetState.WARMED_HIBERNATED)
    group = world.group
    group.add_hook("warm-up", LAUNCHING)
    group.add_hook("drain", TERMINATING)
    group.launch_into_pool(ME)
    assert group.target_state(ME) is TargetState.WARMED_HIBERNATED
    group.complete("warm-up", CONTINUE, instance_id=ME)
    group.leave_pool(ME)
    assert group.target_state(ME) is TargetState.IN_SERVICE
    group.complete("warm-up", CONTINUE, instance_id=ME)
    group.return_to_pool(ME)
    assert group.target_state(ME) is TargetState.WARMED_HIBERNATED
    group.complete("drain", CONTINUE, instance_id=ME)
    group.terminate(ME)
    assert group.target_state(ME) is TargetState.WARMED_TERMINATED
    group.complete("drain", CONTINUE, instance_id=ME)
    into = ["Warmed:Pending", "Warmed:Pending:Wait", "Warmed:Pending:Proceed", "Warmed:Hibernated"]
    out = ["Pending", "Pending:Wait", "Pending:Proceed", "InService"]
    end = ["Warmed:Terminating", "Warmed:Terminating:Wait", "Warmed:Terminating:Proceed", "Warmed:Terminated"]
    assert world.states == [*into, *out, *into, *end]
    assert group.gone == [ME]


def test_a_launch_into_the_pool_that_is_abandoned_ends_there() -> None:
    world = World()
    world.group.add_hook("warm-up", LAUNCHING)
    world.group.launch_into_pool(ME)
    world.group.complete("warm-up", ABANDON, instance_id=ME)
    assert world.states[-2:] == ["Warmed:Terminating", "Warmed:Terminated"]


def test_standby_and_detach_ask_nobody() -> None:
    world = World()
    group = world.group
    group.add_hook("warm-up", LAUNCHING)
    group.add_hook("drain", TERMINATING)
    group.place(ME)
    group.enter_standby(ME)
    assert group.target_state(ME) is TargetState.STANDBY
    group.exit_standby(ME)
    group.detach(ME)
    assert (group.target_state(ME), group.present()) == (TargetState.DETACHED, [])
    group.attach(ME)
    assert world.states == [
        *["EnteringStandby", "Standby", "Pending", "InService"],
        *["Detaching", "Detached", "Pending", "InService"],
    ]
    assert group.actions == []


@pytest.mark.parametrize(
    ("transition", "result"),
    [(LAUNCHING, ABANDON), (TERMINATING, CONTINUE)],
    ids=["launching", "terminating"],
)
def test_deleting_a_hook_answers_what_it_waits_for(
    transition: LifecycleTransition, result: ActionResult
) -> None:
    world = World()
    world.group.add_hook("hook", transition)
    if transition is LAUNCHING:
        world.group.launch(ME)
    else:
        world.group.place(ME)
        world.group.terminate(ME)
    world.group.remove_hook("hook")
    action = world.group.action(ME)
    assert action is not None
    assert (action.result, action.answered_by) == (result, "hook deleted")
    assert world.group.state(ME) == "Terminated"


def test_an_instance_that_is_not_yet_in_service_can_be_taken_away() -> None:
    world = World()
    world.group.add_hook("warm-up", LAUNCHING)
    world.group.launch(ME)
    world.group.terminate(ME)
    action = world.group.action(ME)
    assert action is not None
    assert (action.answered_by, world.group.state(ME)) == ("cancelled", "Terminated")


def test_too_early_too_late_and_the_wrong_hook_are_one_refusal() -> None:
    world = World(deregistration_delay=10)
    group = world.group
    group.add_hook("drain", heartbeat_timeout=60)
    group.place(ME)
    text = f"ValidationError: No active Lifecycle Action found with instance ID {ME}"

    def refused(hook: str = "drain") -> bool:
        with pytest.raises(Refusal) as caught:
            group.complete(hook, CONTINUE, instance_id=ME)
        return str(caught.value) == text

    assert refused()
    group.terminate(ME)
    assert refused()
    world.now = 10
    assert refused("other")
    group.complete("drain", CONTINUE, instance_id=ME)
    assert refused()


def test_what_the_group_does_next_is_known() -> None:
    world = World(deregistration_delay=10)
    world.group.add_hook("drain", heartbeat_timeout=60)
    world.group.place(ME)
    assert world.group.next_due() is None
    world.group.terminate(ME)
    assert world.group.next_due() == 10
    assert world.state_at(10) == "Terminating:Wait"
    assert world.group.next_due() == 70

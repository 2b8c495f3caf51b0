"""What a transition goes on from: the drain right before it, whatever has passed in between."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lifecycle_agent.config import Config
from lifecycle_agent.deadline import boottime
from lifecycle_agent.journal import Journal
from lifecycle_agent.model import (
    COMPLETE,
    ENOUGH,
    LifecycleTransition,
    NamedAction,
    Notice,
    NoticeKind,
    Outcome,
    StepReport,
    TargetState,
)
from lifecycle_agent.transition import take_up
from lifecycle_agent.transition.plan import (
    ARRIVAL,
    BACK_IN_SERVICE,
    COMMAND,
    DEREGISTER,
    HTTP,
    OUT_OF_SERVICE,
    SETTLE,
    START_UNITS,
    UNITS,
    VERIFY,
    WARM_UP,
)
from lifecycle_agent.transition.take_up import Transition, already_over

ONE, TWO, CALL = f"{COMMAND}.1", f"{COMMAND}.2", f"{HTTP}.1"
TERMINATE = NoticeKind.TERMINATE


def notice(kind: NoticeKind, only_told: bool = False, target: TargetState | None = None) -> Notice:
    return Notice(kind, kind.value, boottime(), only_told=only_told, target=target)


class Past:
    """A journal, and transitions that are in it."""

    def __init__(self, directory: Path) -> None:
        self.journal = Journal(directory, "i-1")

    def had(self, about: Notice, *steps: str, over: bool = True, failed: str = "") -> str:
        transition = Transition.take_up(about, Config(), self.journal)
        for step in steps:
            self.journal.step_ended(StepReport(step, Outcome.DONE, ""))
        if failed:
            self.journal.step_ended(StepReport(failed, Outcome.FAILED, ""))
        if over:
            self.journal.over(Outcome.DONE, "")
        return transition.transition_id

    def takes_up(self, about: Notice) -> Transition:
        return Transition.take_up(about, Config(), self.journal)


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path)


@pytest.mark.parametrize(
    "before",
    [
        *(NoticeKind.DRAIN, NoticeKind.STAY_DRAINED, NoticeKind.STANDBY, NoticeKind.SPOT),
        *(NoticeKind.REBALANCE, NoticeKind.MAINTENANCE, NoticeKind.ENTER_POOL),
    ],
)
@pytest.mark.parametrize("over", [True, False], ids=["over", "cut off"])
def test_the_apps_commands_are_not_repeated(past: Past, before: NoticeKind, over: bool) -> None:
    earlier = past.had(notice(before), ONE, CALL, "discovery.out_of_service", over=over, failed=TWO)
    transition = past.takes_up(notice(TERMINATE))
    assert set(transition.ended) == {ONE, CALL}
    assert transition.commands == earlier, "one of its commands may still run"


def test_nor_after_what_came_between_and_left_the_app_alone(past: Past) -> None:
    past.had(notice(NoticeKind.DRAIN), ONE)
    past.had(notice(NoticeKind.REBALANCE, only_told=True))
    past.had(notice(NoticeKind.UNDRAIN), over=False)  # cut off before it had started anything
    assert set(past.takes_up(notice(TERMINATE)).ended) == {ONE}


@pytest.mark.parametrize("steps", [(START_UNITS,), ()], ids=["units started", "nothing to start"])
def test_once_the_app_is_back_they_are(past: Past, steps: tuple[str, ...]) -> None:
    past.had(notice(NoticeKind.STANDBY), ONE)
    past.had(notice(NoticeKind.UNDRAIN), *steps, over=not steps)
    assert past.takes_up(notice(TERMINATE)).ended == {}


def test_on_the_way_into_the_pool_a_new_instance_has_run_them_too(past: Past) -> None:
    past.had(notice(NoticeKind.LAUNCH, target=TargetState.WARMED_STOPPED), ONE, over=False)
    assert set(past.takes_up(notice(TERMINATE)).ended) == {ONE}


def test_a_launch_into_service_has_not(past: Past) -> None:
    past.had(notice(NoticeKind.LAUNCH, target=TargetState.IN_SERVICE), "launch.command.1")
    assert past.takes_up(notice(TERMINATE)).ended == {}


def test_a_person_may_repeat_them(past: Past) -> None:
    past.had(notice(NoticeKind.DRAIN), ONE)
    assert past.takes_up(notice(NoticeKind.DRAIN)).ended == {}


def test_the_first_of_several_gives_the_commands_their_names(past: Past) -> None:
    first = past.had(notice(NoticeKind.DRAIN), over=False)
    past.had(notice(NoticeKind.SPOT), over=False)
    assert past.takes_up(notice(TERMINATE)).commands == first


def test_the_action_that_an_event_has_named_is_kept(past: Past) -> None:
    action = NamedAction("orders", "drain", "token")
    named = Notice(TERMINATE, "by an event", boottime(), LifecycleTransition.TERMINATING, action=action)
    past.had(named, over=False)
    plain = Notice(TERMINATE, "seen", boottime(), LifecycleTransition.TERMINATING)
    assert past.takes_up(plain).notice.action == action


def test_what_was_cut_off_before_it_had_done_anything_is_looked_past(past: Past) -> None:
    into_pool = notice(NoticeKind.LAUNCH, target=TargetState.WARMED_HIBERNATED)
    past.had(into_pool, ONE)
    past.had(into_pool, over=False)
    assert set(past.takes_up(notice(TERMINATE)).ended) == {ONE}


def test_what_a_person_did_while_a_termination_was_dead_is_not_repeated(past: Past) -> None:
    past.had(notice(TERMINATE), "discovery.out_of_service", over=False)
    past.had(notice(NoticeKind.DRAIN), ONE, over=False)
    transition = past.takes_up(notice(TERMINATE))
    assert transition.recorded is not None
    assert set(transition.ended) == {"discovery.out_of_service", ONE}


def test_what_a_person_deregistered_meanwhile_is_taken_out_of_service_anew(past: Past) -> None:
    """An app that runs on has registered again, and is UP."""
    past.had(notice(TERMINATE), OUT_OF_SERVICE, SETTLE, ONE, over=False)
    past.had(notice(NoticeKind.DRAIN), TWO, DEREGISTER, over=False, failed=UNITS)
    assert set(past.takes_up(notice(TERMINATE)).ended) == {ONE, TWO}


def test_nor_need_a_command_have_run(past: Past) -> None:
    past.had(notice(TERMINATE), OUT_OF_SERVICE, SETTLE, DEREGISTER, VERIFY, over=False)
    past.had(notice(NoticeKind.DRAIN), OUT_OF_SERVICE, SETTLE, DEREGISTER, over=False)
    assert set(past.takes_up(notice(TERMINATE)).ended) == set()


def test_an_app_that_was_stopped_first_does_not_register_again(past: Past) -> None:
    past.had(notice(TERMINATE), OUT_OF_SERVICE, SETTLE, over=False)
    past.had(notice(NoticeKind.DRAIN), ONE, UNITS, DEREGISTER)
    assert set(past.takes_up(notice(TERMINATE)).ended) == {ONE, OUT_OF_SERVICE, SETTLE}


def test_what_it_has_deregistered_itself_is_not(past: Past) -> None:
    past.had(notice(TERMINATE), OUT_OF_SERVICE, SETTLE, DEREGISTER, over=False)
    past.had(notice(NoticeKind.DRAIN), over=False)
    assert set(past.takes_up(notice(TERMINATE)).ended) == {OUT_OF_SERVICE, SETTLE, DEREGISTER}


def test_a_launch_that_another_process_has_finished_meanwhile_is_over(past: Past) -> None:
    seen = Notice(NoticeKind.LAUNCH, "seen", boottime(), LifecycleTransition.LAUNCHING)
    assert already_over(seen, past.journal) is None
    past.had(replace(seen, reason="by an event"), COMPLETE)
    assert already_over(seen, past.journal) is Outcome.DONE
    assert already_over(replace(seen, seen_at=boottime() + 1), past.journal) is None


@pytest.mark.parametrize("kind", [NoticeKind.REBOOT, NoticeKind.SHUTDOWN])
def test_nor_are_they_repeated_where_a_person_came_between_as_the_machine_went_down(
    past: Past, kind: NoticeKind
) -> None:
    past.had(notice(kind), ONE)
    past.had(notice(NoticeKind.DRAIN), over=False)
    assert set(past.takes_up(notice(kind)).ended) == {ONE}


def test_a_way_back_whose_steps_were_all_skipped_is_looked_past(past: Past) -> None:
    past.had(notice(NoticeKind.SPOT), ONE)
    past.takes_up(notice(NoticeKind.UNDRAIN))
    past.journal.step_ended(StepReport(START_UNITS, Outcome.SKIPPED, "no time"))
    past.journal.over(Outcome.FAILED, "")
    assert set(past.takes_up(notice(TERMINATE)).ended) == {ONE}


def test_a_way_back_that_has_lifted_the_override_is_not(past: Past) -> None:
    past.had(notice(NoticeKind.STANDBY), ONE)
    past.had(notice(NoticeKind.UNDRAIN), BACK_IN_SERVICE, over=False)
    assert past.takes_up(notice(TERMINATE)).ended == {}


def test_what_was_only_put_on_record_is_looked_past(past: Past) -> None:
    past.had(notice(NoticeKind.LAUNCH, target=TargetState.WARMED_RUNNING), ONE)
    past.takes_up(notice(NoticeKind.LAUNCH))
    past.journal.step_ended(StepReport(ARRIVAL, Outcome.DONE, "", data={ENOUGH: True}))
    past.journal.over(Outcome.DONE, "")
    assert set(past.takes_up(notice(TERMINATE)).ended) == {ONE}


def test_one_that_has_answered_is_gone_on_with_however_late(past: Past) -> None:
    """A machine that is hibernated with its answer on the way says that it is over when it wakes."""
    long_ago = replace(notice(NoticeKind.LAUNCH, target=TargetState.WARMED_HIBERNATED), seen_at=-1e6)
    launched = past.had(long_ago, ONE, COMPLETE, over=False)
    assert past.takes_up(long_ago).transition_id == launched


def test_one_that_was_cut_off_before_its_answer_and_is_late_is_done_anew(past: Past) -> None:
    long_ago = replace(notice(NoticeKind.LAUNCH, target=TargetState.WARMED_HIBERNATED), seen_at=-1e6)
    launched = past.had(long_ago, ONE, over=False)
    assert past.takes_up(long_ago).transition_id != launched


def test_a_warm_up_that_failed_may_have_started_the_app(past: Past) -> None:
    past.had(notice(NoticeKind.ENTER_POOL), ONE)
    past.had(notice(NoticeKind.LEAVE_POOL), f"{WARM_UP}.1", failed="launch.ready", over=False)
    past.journal.over(Outcome.FAILED, "")
    assert past.takes_up(notice(TERMINATE)).ended == {}


def test_a_launch_that_boots_the_machine_again_and_again_is_counted(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = notice(NoticeKind.LAUNCH, target=TargetState.IN_SERVICE)
    first = past.had(new, f"{WARM_UP}.1", over=False)
    for boots in (1, 2, 3):
        monkeypatch.setattr("lifecycle_agent.journal.boot_id", lambda boot=f"boot {boots}": boot)
        monkeypatch.setattr(take_up, "boot_id", lambda boot=f"boot {boots}": boot)
        past.journal = Journal(past.journal.path.parent, "i-1")
        transition = past.takes_up(replace(new, seen_at=boottime()))
        assert transition.transition_id == first
        assert transition.ended == {}, "a boot has undone it"
        assert transition.recorded is not None
        assert transition.recorded.reboots == boots


@pytest.mark.parametrize("kind", [NoticeKind.STANDBY, NoticeKind.UNDRAIN, NoticeKind.REBALANCE])
def test_what_died_in_its_last_moment_is_not_done_again(past: Past, kind: NoticeKind) -> None:
    seen = notice(kind)
    past.had(seen, ONE)
    assert already_over(seen, past.journal) is Outcome.DONE
    assert already_over(replace(seen, seen_at=boottime() + 1), past.journal) is None

"""Where an instance stands, folded from its journal; and the record that the watcher keeps of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lifecycle_agent.journal import Journal, boot_id
from lifecycle_agent.model import (
    COMPLETE,
    ENOUGH,
    UNASKED,
    UNKNOWN,
    Notice,
    NoticeKind,
    Outcome,
    StepReport,
    TargetState,
)
from lifecycle_agent.standing import Phase, Standing, standing
from lifecycle_agent.watch.record import Record

INSTANCE = "i-0123456789abcdef0"
DONE, FAILED = Outcome.DONE, Outcome.FAILED


def notice(
    kind: NoticeKind, target: TargetState | None = None, event: str = "", only_told: bool = False
) -> Notice:
    return Notice(kind, kind.value, 1.0, target=target, event=event, only_told=only_told)


def write(journal: Journal, about: Notice, outcome: Outcome | None, answered: Outcome | None = None) -> None:
    journal.begin(f"{about.kind.value}-{len(journal.history())}", about, 100.0)
    if answered is not None:
        journal.step_ended(StepReport(COMPLETE, answered, ""))
    if outcome is not None:
        journal.over(outcome, "")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path, INSTANCE)


def stands(journal: Journal) -> Standing:
    return standing(journal.history(), boot_id())


@pytest.mark.parametrize(
    ("kinds", "phase"),
    [
        ([], Phase.NEW),
        ([(NoticeKind.FOUND, DONE)], Phase.IN_SERVICE),
        ([(NoticeKind.LAUNCH, None)], Phase.NEW),
        ([(NoticeKind.LAUNCH, DONE)], Phase.IN_SERVICE),
        ([(NoticeKind.LAUNCH, FAILED)], Phase.OUT),
        ([(NoticeKind.LAUNCH, FAILED), (NoticeKind.LAUNCH, None)], Phase.OUT),
        ([(NoticeKind.LAUNCH, FAILED), (NoticeKind.LAUNCH, DONE)], Phase.IN_SERVICE),
        ([(NoticeKind.DRAIN, FAILED)], Phase.DRAINED),
        ([(NoticeKind.DRAIN, DONE), (NoticeKind.UNDRAIN, DONE)], Phase.IN_SERVICE),
        ([(NoticeKind.DRAIN, DONE), (NoticeKind.UNDRAIN, None)], Phase.OUT),
        ([(NoticeKind.DRAIN, DONE), (NoticeKind.SHUTDOWN, DONE)], Phase.DRAINED),
        ([(NoticeKind.FOUND, DONE), (NoticeKind.SHUTDOWN, None)], Phase.OUT),
        ([(NoticeKind.STANDBY, None)], Phase.STANDBY),
        ([(NoticeKind.STANDBY, DONE), (NoticeKind.SPOT, DONE)], Phase.STANDBY),
        ([(NoticeKind.ENTER_POOL, FAILED)], Phase.POOLED),
        ([(NoticeKind.ENTER_POOL, DONE), (NoticeKind.LEAVE_POOL, None)], Phase.POOLED),
        ([(NoticeKind.ENTER_POOL, DONE), (NoticeKind.LEAVE_POOL, DONE)], Phase.IN_SERVICE),
        ([(NoticeKind.DETACH, DONE)], Phase.DETACHED),
        ([(NoticeKind.DETACH, DONE), (NoticeKind.ATTACH, DONE)], Phase.IN_SERVICE),
        ([(NoticeKind.REBALANCE, DONE)], Phase.ADVISED),
        ([(NoticeKind.TERMINATE, DONE)], Phase.GONE),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, list) else None,
)
def test_what_it_is_folded_to(
    journal: Journal, kinds: list[tuple[NoticeKind, Outcome | None]], phase: Phase
) -> None:
    for kind, outcome in kinds:
        write(journal, notice(kind), outcome)
    found = stands(journal)
    assert found.phase is phase
    assert found.this_boot
    changed_it = [outcome for kind, outcome in kinds if kind is not NoticeKind.SPOT]
    assert found.finished is (not kinds or changed_it[-1] is not None)


def test_launched_into_the_pool_it_rests_there(journal: Journal) -> None:
    write(journal, notice(NoticeKind.LAUNCH, TargetState.WARMED_STOPPED), DONE)
    assert stands(journal).phase is Phase.POOLED


def test_a_launch_that_was_cut_off_in_its_last_moment_is_over_once_another_one_has_begun(
    journal: Journal,
) -> None:
    journal.begin("launch", notice(NoticeKind.LAUNCH, TargetState.WARMED_RUNNING), 100.0)
    journal.step_ended(StepReport("launch.ready", DONE, ""))
    journal.step_ended(StepReport(COMPLETE, DONE, ""))
    assert stands(journal).phase is Phase.NEW, "it is gone on with, to say that it is over"
    journal.begin("leave-pool", notice(NoticeKind.LEAVE_POOL, TargetState.IN_SERVICE), 100.0)
    journal.step_ended(StepReport("launch.arrival", Outcome.WARNED, "not known", data={UNKNOWN: True}))
    journal.over(Outcome.WARNED, "")
    assert (stands(journal).phase, stands(journal).finished) == (Phase.POOLED, True)


def test_one_that_had_failed_by_then_is_not(journal: Journal) -> None:
    journal.begin("launch", notice(NoticeKind.LAUNCH, TargetState.WARMED_RUNNING), 100.0)
    journal.step_ended(StepReport("launch.ready", FAILED, ""))
    journal.step_ended(StepReport(COMPLETE, DONE, ""))
    write(journal, notice(NoticeKind.REBALANCE, only_told=True), DONE)
    assert stands(journal).phase is Phase.NEW


def test_a_launch_out_of_an_interruption_is_not_a_new_one(journal: Journal) -> None:
    write(journal, notice(NoticeKind.SPOT), DONE)
    write(journal, notice(NoticeKind.LAUNCH), None)
    assert (stands(journal).phase, stands(journal).finished) == (Phase.OUT, False)


def test_people_being_told_changes_nothing_but_is_remembered(journal: Journal) -> None:
    write(journal, notice(NoticeKind.FOUND), DONE)
    write(journal, notice(NoticeKind.REBALANCE, event="at 1", only_told=True), DONE)
    write(journal, notice(NoticeKind.MAINTENANCE, event="cut off", only_told=True), None)
    found = stands(journal)
    assert (found.phase, found.kind) == (Phase.IN_SERVICE, NoticeKind.FOUND)
    assert found.handled == {(NoticeKind.REBALANCE, "at 1")}


def test_a_termination_without_its_answer_is_not_finished(journal: Journal) -> None:
    write(journal, notice(NoticeKind.TERMINATE), FAILED, answered=FAILED)
    assert (stands(journal).phase, stands(journal).finished) == (Phase.GONE, False)
    write(journal, notice(NoticeKind.TERMINATE), FAILED, answered=DONE)
    assert stands(journal).finished


def test_what_was_begun_by_hand_in_another_boot_has_gone_with_it(journal: Journal) -> None:
    write(journal, notice(NoticeKind.DRAIN), None)
    assert stands(journal).phase is Phase.DRAINED
    assert standing(journal.history(), "another").phase is Phase.OUT
    write(journal, notice(NoticeKind.DRAIN), DONE)
    later = standing(journal.history(), "another")
    assert (later.phase, later.this_boot) == (Phase.DRAINED, False)


@pytest.mark.parametrize("kind", [NoticeKind.LAUNCH, NoticeKind.LEAVE_POOL])
def test_a_launch_that_could_not_be_answered_serves_all_the_same(journal: Journal, kind: NoticeKind) -> None:
    """It is ready and UP: launched once more, it would be taken out of service for it."""
    journal.begin("1", notice(kind, TargetState.IN_SERVICE), 100.0)
    journal.step_ended(StepReport("launch.ready", DONE, ""))
    journal.step_ended(StepReport(COMPLETE, FAILED, ""))
    journal.over(FAILED, "")
    assert stands(journal).phase is Phase.IN_SERVICE
    journal.begin("2", notice(kind, TargetState.IN_SERVICE), 100.0)
    journal.step_ended(StepReport("launch.ready", FAILED, ""))
    journal.step_ended(StepReport(COMPLETE, DONE, ""))
    journal.over(FAILED, "")
    assert stands(journal).phase is Phase.OUT


def test_what_could_not_find_out_changes_nothing(journal: Journal) -> None:
    journal.begin("1", notice(NoticeKind.LAUNCH, TargetState.IN_SERVICE), 100.0)
    journal.step_ended(StepReport("launch.arrival", Outcome.WARNED, "", data={UNKNOWN: True}))
    journal.over(Outcome.WARNED, "")
    assert stands(journal) == Standing()


def test_a_termination_that_was_not_asked_yet_is_not_finished(journal: Journal) -> None:
    """The machine was to go before that, by its spot notice, and has not."""
    journal.begin("1", notice(NoticeKind.TERMINATE), 100.0)
    journal.step_ended(StepReport(COMPLETE, DONE, "", data={UNASKED: True}))
    journal.over(DONE, "")
    assert (stands(journal).phase, stands(journal).finished) == (Phase.GONE, False)


@pytest.mark.parametrize("down", [NoticeKind.REBOOT, NoticeKind.SHUTDOWN])
def test_what_it_is_held_for_outlives_a_boot(journal: Journal, down: NoticeKind) -> None:
    write(journal, notice(NoticeKind.MAINTENANCE, event="e"), DONE)
    write(journal, notice(down), DONE)
    now = stands(journal)
    assert (now.phase, now.kind, now.down) == (Phase.ADVISED, NoticeKind.MAINTENANCE, True)


# -- the record


def test_the_record_sees_what_others_write(tmp_path: Path, journal: Journal) -> None:
    record = Record(tmp_path, INSTANCE)
    assert record.standing().phase is Phase.NEW
    write(journal, notice(NoticeKind.DRAIN), DONE)
    assert record.standing().phase is Phase.DRAINED
    write(Journal(tmp_path, "i-of-the-image"), notice(NoticeKind.TERMINATE), DONE)
    assert record.standing().phase is Phase.DRAINED


def test_what_is_put_on_record_is_in_the_journal(tmp_path: Path, journal: Journal) -> None:
    assert Record(tmp_path, INSTANCE).put(notice(NoticeKind.DETACH)).phase is Phase.DETACHED
    (recorded,) = journal.history()
    assert (recorded.notice.kind, recorded.outcome) == (NoticeKind.DETACH, DONE)
    assert Record(tmp_path, INSTANCE).standing().phase is Phase.DETACHED


def test_what_could_not_be_written_is_not_done_again(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("")
    record = Record(tmp_path / "in-the-way", INSTANCE)
    assert record.put(notice(NoticeKind.FOUND)).phase is Phase.IN_SERVICE
    assert record.ended(notice(NoticeKind.STANDBY), DONE).phase is Phase.STANDBY
    assert record.standing().phase is Phase.STANDBY


def test_and_what_is_written_after_it_counts_from_there(tmp_path: Path, journal: Journal) -> None:
    write(journal, notice(NoticeKind.FOUND), DONE)
    record = Record(tmp_path, INSTANCE)
    assert record.ended(notice(NoticeKind.STANDBY), FAILED).phase is Phase.STANDBY
    write(journal, notice(NoticeKind.UNDRAIN), DONE)
    assert record.standing().phase is Phase.IN_SERVICE


def test_a_launch_that_found_it_in_service_leaves_it_where_it_stood(journal: Journal) -> None:
    """Also one that an event of long ago has asked for, into a pool that it is not in."""
    late = notice(NoticeKind.LAUNCH, TargetState.WARMED_STOPPED)

    def found() -> None:
        journal.begin(f"late-{len(journal.history())}", late, 100.0)
        journal.step_ended(StepReport("launch.arrival", DONE, "found", data={ENOUGH: True}))
        journal.over(DONE, "")

    found()
    assert stands(journal).phase is Phase.IN_SERVICE
    write(journal, notice(NoticeKind.DRAIN), DONE)
    found()
    assert stands(journal).phase is Phase.DRAINED


def test_a_second_drain_that_a_boot_cuts_off_takes_nothing_back(journal: Journal) -> None:
    write(journal, notice(NoticeKind.DRAIN), DONE)
    write(journal, notice(NoticeKind.DRAIN), None)
    later = standing(journal.history(), "another")
    assert (later.phase, later.this_boot) == (Phase.DRAINED, False)


def test_what_a_person_begins_right_after_is_not_overlooked(tmp_path: Path, journal: Journal) -> None:
    record = Record(tmp_path, INSTANCE)
    write(journal, notice(NoticeKind.RETURN), DONE)
    write(journal, notice(NoticeKind.DRAIN), None)
    assert record.ended(notice(NoticeKind.RETURN), DONE).phase is Phase.DRAINED
    journal.over(DONE, "")
    assert record.standing().finished


@pytest.mark.parametrize(
    "after",
    [
        (NoticeKind.DRAIN, DONE),
        (NoticeKind.DRAIN, None),
        (NoticeKind.UNDRAIN, DONE),
        (NoticeKind.SHUTDOWN, DONE),
    ],
    ids=str,
)
@pytest.mark.parametrize("ended", [DONE, None], ids=["over", "cut off"])
def test_what_the_group_takes_away_stays_gone_whatever_is_done_by_hand_since(
    journal: Journal, after: tuple[NoticeKind, Outcome | None], ended: Outcome | None
) -> None:
    write(journal, notice(NoticeKind.TERMINATE), ended, DONE if ended else None)
    write(journal, notice(after[0]), after[1])
    now = stands(journal)
    assert (now.phase, now.kind, now.finished) == (Phase.GONE, NoticeKind.TERMINATE, ended is not None)

"""The journal: what it remembers, and what a torn, foreign, hostile or unwritable file does to it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_agent import journal as journals
from lifecycle_agent.config import Config, DrainSection
from lifecycle_agent.deadline import boottime
from lifecycle_agent.journal import Journal, Recorded, boot_id
from lifecycle_agent.model import LifecycleTransition, Notice, NoticeKind, Outcome, StepReport
from lifecycle_agent.transition import take_up as taking
from lifecycle_agent.transition.take_up import Transition, already_over

ME = "i-0123456789abcdef0"
NOTICE = Notice(NoticeKind.TERMINATE, "scale-in", 100.0, LifecycleTransition.TERMINATING)
REPORT = StepReport("logs", Outcome.WARNED, "2 files", 1.5, ("one is gone",), {"bucket": "acme", "files": 2})
CONFIG = Config(drain=DrainSection(timeout=600.0))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path, ME)
    journal.begin("t1", NOTICE, 700.0)
    return journal


def last(journal: Journal) -> Recorded:
    """What the next process would find."""
    return Journal(journal.path.parent, ME).history()[-1]


def spoil(journal: Journal, **changes: Any) -> None:
    """Add a line as the last one is, with some of its values changed."""
    line = {**json.loads(journal.path.read_text().splitlines()[-1]), **changes}
    with journal.path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def test_a_transition_is_remembered_as_it_was(journal: Journal) -> None:
    journal.attempt()
    journal.step_started("logs")
    journal.step_ended(REPORT)
    recorded = last(journal)
    assert recorded.notice == NOTICE
    assert (recorded.transition_id, recorded.ends, recorded.boot) == ("t1", 700.0, boot_id())
    assert recorded.ended == {"logs": REPORT}
    assert recorded.outcome is None
    journal.over(Outcome.DONE, "answered")
    assert last(journal).outcome is Outcome.DONE


def test_a_step_that_only_began_has_not_ended(journal: Journal) -> None:
    journal.step_started("logs")
    assert last(journal).ended == {}


def test_the_newest_transition_counts(journal: Journal) -> None:
    journal.step_ended(REPORT)
    journal.over(Outcome.DONE, "")
    journal.begin("t2", replace(NOTICE, reason="again"), 900.0)
    recorded = last(journal)
    assert (recorded.transition_id, recorded.ended, recorded.outcome) == ("t2", {}, None)


def test_no_journal_no_transition(tmp_path: Path) -> None:
    assert Journal(tmp_path / "nowhere", ME).history() == []


def test_deaths_in_a_row(journal: Journal) -> None:
    for died in range(4):
        assert last(journal).deaths == died
        journal.attempt()
    journal.interrupted()  # told to stop: no death, and the row is over
    assert last(journal).deaths == 0
    journal.attempt()
    recorded = last(journal)
    assert (recorded.deaths, recorded.attempts) == (1, 5)


# -- files that are not as they should be


def test_every_torn_end_is_dropped_and_nothing_else(journal: Journal) -> None:
    journal.attempt()
    whole = journal.path.read_bytes()
    journal.step_ended(REPORT)
    line = journal.path.read_bytes()[len(whole) :]
    for length in range(len(line) - 1):
        journal.path.write_bytes(whole + line[:length])
        assert last(journal).ended == {}, length
        journal.step_started("logs")  # goes on behind the torn one, on a line of its own
        journal.over(Outcome.FAILED, "")
        assert last(journal).outcome is Outcome.FAILED, length
    journal.path.write_bytes(whole + line[:-1])  # complete but for the line's end
    journal.over(Outcome.DONE, "")
    assert last(journal).ended == {"logs": REPORT}
    assert last(journal).outcome is Outcome.DONE


def test_another_instances_journal_is_not_ours(journal: Journal) -> None:
    """A journal baked into an AMI."""
    journal.over(Outcome.DONE, "")
    other = Journal(journal.path.parent, "i-0fedcba9876543210")
    assert other.history() == []
    other.begin("t9", NOTICE, 1.0)
    assert last(journal).transition_id == "t1"


def test_a_line_of_another_transition_changes_nothing(journal: Journal) -> None:
    spoil(journal, event="over", outcome="done", transition="t0")
    assert last(journal).outcome is None


def test_a_line_of_a_later_format_is_not_guessed_at(journal: Journal) -> None:
    spoil(journal, event="over", outcome="done", v=2)
    assert last(journal).outcome is None


ENDED = {
    "event": "ended",
    "name": "logs",
    "outcome": "done",
    "detail": "",
    "seconds": 1,
    "warnings": [],
    "data": {},
}
HOSTILE: list[dict[str, Any]] = [
    {"event": None},
    {"event": ["notice"]},
    {"event": "notice", "notice": "terminate"},
    {"event": "notice", "notice": {"kind": "explode", "reason": "", "seen_at": 1}},
    {"event": "notice", "notice": {"kind": "terminate", "reason": 5, "seen_at": 1}},
    {"event": "notice", "notice": {"kind": "terminate", "reason": "", "seen_at": "now"}},
    {"event": "notice", "ends": float("inf")},
    {"event": "notice", "ends": float("nan")},
    {"event": "notice", "ends": "never"},
    {"event": "notice", "ends": True},
    {"event": "notice", "transition": 7},
    {"event": "notice", "notice": {"kind": "spot", "reason": "", "seen_at": 1, "event": ["x"]}},
    {"event": "deadline", "ends": float("inf"), "seen_at": 1},
    {"event": "deadline", "ends": 1},
    {"event": "over", "outcome": "splendid"},
    {"event": "over", "outcome": []},
    {"event": "ended"},
    {**ENDED, "detail": 1},
    {**ENDED, "seconds": "long"},
    {**ENDED, "seconds": float("inf")},
    {**ENDED, "warnings": 3},
    {**ENDED, "warnings": [{}]},
    {**ENDED, "data": []},
    {**ENDED, "name": None},
    {**ENDED, "outcome": None},
]


@pytest.mark.parametrize("line", HOSTILE, ids=str)
def test_a_line_that_makes_no_sense_changes_nothing(journal: Journal, line: dict[str, Any]) -> None:
    journal.attempt()
    before = last(journal)
    notice = {"notice": json.loads(journal.path.read_text().splitlines()[0])["notice"], "ends": 700.0}
    spoil(journal, **{**notice, **line})
    assert last(journal) == before


@pytest.mark.parametrize(
    "junk",
    [b"\0" * 100, b"\xff\xfe\xfa", b"[" * 100_000, b"1" * 10_000, b"null", b'"text"', b"{}", b"{" * 9],
    ids=lambda junk: str(junk[:6]),
)
def test_junk_between_the_lines_is_passed_over(journal: Journal, junk: bytes) -> None:
    with journal.path.open("ab") as file:
        file.write(junk + b"\n")
    journal.step_ended(REPORT)
    assert last(journal).ended == {"logs": REPORT}


@given(st.binary(max_size=200), st.integers(0, 2000))
def test_reading_never_fails(tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int) -> None:
    journal = Journal(tmp_path_factory.mktemp("state"), ME)
    journal.begin("t1", NOTICE, 700.0)
    journal.attempt()
    journal.step_ended(REPORT)
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
    journal.history()


def test_the_oldest_lines_of_a_huge_journal_are_left_alone(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.begin("t2", NOTICE, 900.0)
    monkeypatch.setattr(journals, "MOST_BYTES", journal.path.stat().st_size * 2 // 3)
    assert last(journal).transition_id == "t2"


@pytest.mark.parametrize("obstacle", ["a file where the directory should be", "a directory", "a full disk"])
def test_a_journal_that_cannot_be_written_stops_nothing_and_is_said_once(
    tmp_path: Path, obstacle: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "state"
    if obstacle.startswith("a file"):
        state.write_text("in the way")
    else:
        state.mkdir()
        path = state / "journal.jsonl"
        path.mkdir() if obstacle == "a directory" else path.symlink_to("/dev/full")
    journal = Journal(state, ME)
    with caplog.at_level("ERROR", "lifecycle_agent"):
        journal.begin("t1", NOTICE, 700.0)
        journal.attempt()
        journal.over(Outcome.DONE, "")
    if obstacle != "a full disk":  # /dev/full is endless zeros to a reader
        assert journal.history() == []
    assert "cannot be written" in journal.broken
    assert [record.message for record in caplog.records] == [f"{journal.broken}; going on without it"]


def test_data_that_is_no_json_is_written_down_as_text(journal: Journal) -> None:
    journal.step_ended(replace(REPORT, data={"path": Path("/var/log")}))
    assert last(journal).ended["logs"].data == {"path": "/var/log"}


def test_two_threads_never_write_over_each_other(journal: Journal) -> None:
    def write(name: str) -> None:
        for number in range(50):
            journal.step_ended(replace(REPORT, name=f"{name}.{number}"))

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(last(journal).ended) == 200


# -- going on


def taken_up(journal: Journal, notice: Notice) -> Transition:
    return Transition.take_up(notice, CONFIG, Journal(journal.path.parent, ME))


def begin(tmp_path: Path, notice: Notice, ends: float) -> Journal:
    journal = Journal(tmp_path, ME)
    journal.begin("t1", notice, ends)
    journal.step_ended(REPORT)
    return journal


def test_a_termination_goes_on_with_its_own_deadline(tmp_path: Path) -> None:
    now = boottime()
    journal = begin(tmp_path, replace(NOTICE, seen_at=now - 10), now + 50)
    transition = taken_up(journal, replace(NOTICE, seen_at=now))
    assert transition.transition_id == "t1"
    assert transition.deadline.at == now + 50
    assert transition.notice.seen_at == now - 10
    assert transition.recorded is not None
    assert set(transition.ended) == {"logs"}


def test_it_has_less_time_when_the_machine_itself_goes(tmp_path: Path) -> None:
    now = boottime()
    begin(tmp_path, replace(NOTICE, seen_at=now - 10), now + 500)

    transition = taken_up(Journal(tmp_path, ME), replace(NOTICE, ends=now + 90))

    assert transition.deadline.at == now + 90
    assert transition.notice.ends == now + 90
    assert transition.notice.seen_at == now - 10
    assert set(transition.ended) == {"logs"}
    assert last(Journal(tmp_path, ME)).ends == now + 90, "the next process knows"


def test_nor_has_one_of_an_earlier_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = boottime()
    monkeypatch.setattr(journals, "boot_id", lambda: "the boot before")
    begin(tmp_path, replace(NOTICE, seen_at=now + 5000), now + 5500)
    monkeypatch.undo()

    transition = taken_up(Journal(tmp_path, ME), replace(NOTICE, ends=now + 90))

    assert transition.deadline.at == now + 90


@pytest.mark.parametrize("kind", [NoticeKind.TERMINATE, NoticeKind.SHUTDOWN, NoticeKind.REBOOT])
def test_what_overtakes_a_drain_by_hand_waits_for_its_command_and_repeats_none(
    tmp_path: Path, kind: NoticeKind
) -> None:
    now = boottime()
    journal = Journal(tmp_path, ME)
    journal.begin("by-hand", Notice(NoticeKind.DRAIN, "by hand", now), now + 500)
    journal.step_ended(replace(REPORT, name="drain.command.1"))
    journal.step_started("drain.command.2")
    journal.interrupted()
    notice = Notice(kind, "overtaken", now)

    first = taken_up(Journal(tmp_path, ME), notice)
    again = taken_up(Journal(tmp_path, ME), notice)

    assert first.commands == again.commands == "by-hand", "the second command may still run, under that name"
    assert set(first.ended) == set(again.ended) == {"drain.command.1"}


def test_a_command_that_reboots_the_machine_does_so_a_few_times_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for boot in range(4):
        monkeypatch.setattr(journals, "boot_id", lambda boot=boot: f"boot {boot}")
        monkeypatch.setattr(taking, "boot_id", lambda boot=boot: f"boot {boot}")
        transition = taken_up(Journal(tmp_path, ME), NOTICE)
        Journal(tmp_path, ME).interrupted()

    assert transition.recorded is not None
    assert transition.recorded.reboots == 3


def test_a_new_transition_ends_with_the_machine(tmp_path: Path) -> None:
    now = boottime()
    notice = Notice(NoticeKind.SHUTDOWN, "switched off", now, ends=now + 90)

    first = taken_up(Journal(tmp_path, ME), notice)
    again = taken_up(Journal(tmp_path, ME), notice)

    assert first.deadline.at == again.deadline.at == now + 90
    assert again.transition_id == first.transition_id, "one whose process died goes on"


def test_a_deadline_brought_forward_stays_there(tmp_path: Path) -> None:
    now = boottime()
    journal = begin(tmp_path, replace(NOTICE, seen_at=now), now + 600)
    journal.deadline(now + 40, now)
    assert taken_up(journal, NOTICE).deadline.at == now + 40


def test_a_deadline_never_lies_further_off_than_the_whole(tmp_path: Path) -> None:
    journal = begin(tmp_path, NOTICE, boottime() + 1e9)
    assert taken_up(journal, NOTICE).deadline.remaining() <= 600


def test_after_a_reboot_the_clock_begins_anew_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = boottime()
    monkeypatch.setattr(journals, "boot_id", lambda: "the boot before")
    journal = begin(tmp_path, replace(NOTICE, seen_at=now + 5000), now + 5500)
    monkeypatch.undo()
    first = taken_up(journal, NOTICE)
    assert 590 < first.deadline.remaining() <= 600
    assert first.notice.seen_at <= boottime(), "seconds since the notice are never negative"
    assert set(first.ended) == set(), "the app was started again, and the step is done again"
    journal.step_ended(REPORT)
    second = taken_up(journal, NOTICE)
    assert second.deadline.at == first.deadline.at, "the second death in this boot"
    assert set(second.ended) == {"logs"}, "that was after the reboot"


def test_a_termination_is_not_done_twice(tmp_path: Path) -> None:
    journal = begin(tmp_path, NOTICE, boottime() + 50)
    assert already_over(NOTICE, journal) is None
    journal.over(Outcome.WARNED, "")
    assert already_over(NOTICE, journal) is Outcome.WARNED
    assert already_over(replace(NOTICE, kind=NoticeKind.DRAIN), journal) is None


ANSWERED = StepReport("complete", Outcome.DONE, "the group has the answer", 0.1)


def test_a_termination_whose_answer_failed_is_not_over_and_only_answers(tmp_path: Path) -> None:
    journal = begin(tmp_path, NOTICE, boottime() + 50)
    journal.step_ended(replace(ANSWERED, outcome=Outcome.FAILED))
    journal.over(Outcome.FAILED, "")

    assert already_over(NOTICE, journal) is None
    transition = taken_up(journal, NOTICE)

    assert transition.transition_id == "t1"
    assert set(transition.ended) == {"logs"}


def test_nothing_done_by_hand_since_makes_a_termination_be_done_again(tmp_path: Path) -> None:
    journal = begin(tmp_path, NOTICE, boottime() + 50)
    journal.step_ended(ANSWERED)
    journal.over(Outcome.DONE, "")
    journal.begin("t2", replace(NOTICE, kind=NoticeKind.UNDRAIN), boottime() + 50)
    assert already_over(NOTICE, journal) is Outcome.DONE


def test_a_termination_cut_off_goes_on_behind_something_done_by_hand(tmp_path: Path) -> None:
    journal = begin(tmp_path, NOTICE, boottime() + 50)
    journal.begin("t2", BY_HAND, boottime() + 50)
    journal.over(Outcome.DONE, "")
    assert taken_up(journal, NOTICE).transition_id == "t1"


@pytest.mark.parametrize("over", [True, False])
def test_a_termination_does_not_repeat_the_commands_of_the_drain_right_before_it(
    tmp_path: Path, over: bool
) -> None:
    journal = begin(tmp_path, BY_HAND, boottime() + 50)
    journal.step_ended(replace(REPORT, name="drain.command.1"))
    journal.step_ended(replace(REPORT, name="drain.http.1", outcome=Outcome.FAILED))
    if over:
        journal.over(Outcome.FAILED, "")

    first = taken_up(journal, replace(NOTICE, seen_at=boottime()))

    assert first.transition_id != "t1"
    assert set(first.ended) == {"drain.command.1"}, "not the logs, and not what failed"
    assert set(taken_up(journal, NOTICE).ended) == {"drain.command.1"}, "nor after a crash"


def test_an_undrain_makes_the_commands_of_the_drain_before_it_count_no_more(tmp_path: Path) -> None:
    journal = begin(tmp_path, BY_HAND, boottime() + 50)
    journal.step_ended(replace(REPORT, name="drain.command.1"))
    journal.begin("t2", replace(BY_HAND, kind=NoticeKind.UNDRAIN), boottime() + 50)
    journal.over(Outcome.DONE, "")
    assert taken_up(journal, NOTICE).ended == {}


BY_HAND = Notice(NoticeKind.DRAIN, "by hand", 0.0)


def test_a_drain_by_hand_goes_on_while_there_is_time(tmp_path: Path) -> None:
    journal = begin(tmp_path, BY_HAND, boottime() + 50)
    assert taken_up(journal, replace(BY_HAND, seen_at=boottime())).transition_id == "t1"


def test_a_drain_by_hand_whose_time_is_up_is_another_one(tmp_path: Path) -> None:
    """The app may have been started again since: nothing that was done then counts."""
    journal = begin(tmp_path, BY_HAND, boottime() - 1)
    transition = taken_up(journal, replace(BY_HAND, seen_at=boottime()))
    assert transition.recorded is None
    assert transition.deadline.remaining() > 590


def test_a_drain_by_hand_before_a_reboot_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = begin(tmp_path, BY_HAND, boottime() + 50)
    monkeypatch.setattr(taking, "boot_id", lambda: "this boot")
    assert taken_up(journal, replace(BY_HAND, seen_at=boottime())).recorded is None


def test_the_newer_command_says_whether_the_group_is_answered(tmp_path: Path) -> None:
    journal = begin(tmp_path, BY_HAND, boottime() + 50)
    asked = taken_up(journal, replace(BY_HAND, completes=LifecycleTransition.TERMINATING))
    assert asked.transition_id == "t1"
    assert asked.notice.completes is LifecycleTransition.TERMINATING
    assert taken_up(journal, BY_HAND).notice.completes is None


@pytest.mark.parametrize("kind", [NoticeKind.DRAIN, NoticeKind.UNDRAIN])
def test_what_was_begun_as_something_else_is_not_gone_on_with(tmp_path: Path, kind: NoticeKind) -> None:
    journal = begin(tmp_path, replace(NOTICE, kind=kind), boottime() + 50)
    assert taken_up(journal, replace(NOTICE, seen_at=boottime())).recorded is None

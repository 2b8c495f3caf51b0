"""The runner: what a failure, a shortage of time, a crash and a stop mean for the rest and the answer."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted, StepFailed
from lifecycle_agent.files import StatusFile
from lifecycle_agent.journal import Journal, Recorded
from lifecycle_agent.model import (
    ENOUGH,
    ActionResult,
    LifecycleTransition,
    Notice,
    NoticeKind,
    Outcome,
    StepReport,
)
from lifecycle_agent.steps import Done, StepRun, Work
from lifecycle_agent.transition import worker
from lifecycle_agent.transition.conduct import _told_to_stop
from lifecycle_agent.transition.plan import ANSWER_SECONDS, Plan, PlannedStep, When
from lifecycle_agent.transition.progress import Teller
from lifecycle_agent.transition.runner import Runner
from lifecycle_agent.transition.worker import Stop

NOTICE = Notice(NoticeKind.TERMINATE, "scale-in", 0.0, LifecycleTransition.TERMINATING)
A, B = PlannedStep("a", ""), PlannedStep("b", "")
LAST = PlannedStep("last", "", reserve=10.0, essential=True)
Body = Callable[[Work], Done]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Step:
    """A step that does what a function says."""

    def __init__(self, body: Body) -> None:
        self.run = body


class Trial:
    """A runner over fake steps, with 100 s of time of which 20 s are the completion's."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.deadline = Deadline.after(100.0, self.clock)
        self.journal = Journal(directory / "state", "i-1")
        self.journal.begin("t1", NOTICE, self.deadline.at)
        self.status = StatusFile(directory / "run")
        self.stop = Stop()
        self.bodies: dict[str, Body] = {}
        self.ran: list[str] = []
        self.given: dict[str, float] = {}  # seconds that each step had
        self.answers: list[ActionResult] = []
        self.shown: list[str] = []
        self.answering: Callable[[Work], str] = lambda work: "answered"
        self.failure = ActionResult.ABANDON

    def runner(
        self,
        *steps: PlannedStep,
        ended: dict[str, StepReport] | None = None,
        left_out: tuple[PlannedStep, ...] = (),
        answers: bool = True,
        gone: Deadline | None = None,
    ) -> Runner:
        plan = Plan(steps, 100.0, 20.0 if answers else 0.0, left_out)
        names = tuple(step.name for step in steps)
        teller = Teller(
            "t1", NOTICE, self.deadline, names, self.status, lambda now: self.shown.append(now.text)
        )
        complete = self._complete if answers else None
        return Runner(
            plan,
            self.deadline,
            self.journal,
            teller,
            self.stop,
            ended or {},
            self._make,
            complete,
            self.failure,
            gone,
        )

    def run(self, *steps: PlannedStep, **options: object) -> Runner:
        runner = self.runner(*steps, **options)  # type: ignore[arg-type]
        runner.run()
        return runner

    def recorded(self) -> Recorded:
        return self.journal.history()[-1]

    def _make(self, step: PlannedStep) -> StepRun:
        def run(work: Work) -> Done:
            self.ran.append(step.name)
            self.given[step.name] = work.deadline.remaining()
            body = self.bodies.get(step.name)
            return body(work) if body is not None else Done("fine")

        return Step(run)

    def _complete(self, result: ActionResult, work: Work) -> str:
        self.given["complete"] = work.deadline.remaining()
        self.answers.append(result)
        return self.answering(work)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """What a blocked step waits for: let go at the end, for the next test's sake."""
    event = threading.Event()
    yield event
    event.set()


def raising(error: BaseException) -> Body:
    def run(work: Work) -> Done:
        raise error

    return run


def outcomes(runner: Runner) -> dict[str, Outcome]:
    return {report.name: report.outcome for report in runner.reports}


def test_steps_in_order_then_the_answer(trial: Trial) -> None:
    runner = trial.run(A, B, LAST)
    assert trial.ran == ["a", "b", "last"]
    assert trial.answers == [ActionResult.CONTINUE]
    assert runner.outcome is Outcome.DONE
    assert [report.name for report in runner.reports] == ["a", "b", "last", "complete"]
    assert runner.reports[-1].detail == "answered"
    assert list(trial.recorded().ended) == ["a", "b", "last", "complete"]
    assert trial.status.read()["transition"]["ended"][-1]["name"] == "complete"


def test_each_boundary_is_in_the_journal_before_the_next_thing_happens(trial: Trial) -> None:
    seen: list[list[str]] = []

    def look(work: Work) -> str:
        seen.append(list(trial.recorded().ended))
        return "looked"

    trial.bodies["b"] = lambda work: Done(look(work))
    trial.answering = look
    trial.run(A, B)
    assert seen == [["a"], ["a", "b"]]


def test_a_warning_is_no_failure(trial: Trial) -> None:
    trial.bodies["a"] = lambda work: Done("fine", warnings=("but",))
    runner = trial.run(A)
    assert runner.outcome is Outcome.WARNED
    assert trial.answers == [ActionResult.CONTINUE]


@pytest.mark.parametrize(
    "error",
    [
        StepFailed("no", "try"),
        ValueError("odd"),
        OSError(28, "No space left"),
        RecursionError(),
        SystemExit(0),
        KeyboardInterrupt(),
        GeneratorExit(),
    ],
    ids=repr,
)
def test_whatever_a_step_raises_the_rest_goes_on_and_the_group_is_answered(
    trial: Trial, error: BaseException
) -> None:
    trial.bodies["a"] = raising(error)
    runner = trial.run(A, B, LAST)
    assert trial.ran == ["a", "b", "last"]
    assert outcomes(runner)["a"] is Outcome.FAILED
    assert runner.outcome is Outcome.FAILED
    assert trial.answers == [ActionResult.ABANDON]


def test_a_failure_says_what_is_wrong_and_what_to_do(trial: Trial) -> None:
    trial.bodies["a"] = raising(StepFailed("no way", "try harder"))
    assert trial.run(A).reports[0].detail == "no way; try harder"


def test_a_step_that_cannot_even_be_made_is_a_failure(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(step: PlannedStep) -> StepRun:
        raise AssertionError("no such step")

    monkeypatch.setattr(trial, "_make", make)
    assert outcomes(trial.run(A)) == {"a": Outcome.FAILED, "complete": Outcome.DONE}


def test_the_configuration_says_what_a_failure_answers(trial: Trial) -> None:
    trial.failure = ActionResult.CONTINUE
    trial.bodies["a"] = raising(StepFailed("no", "try"))
    trial.run(A)
    assert trial.answers == [ActionResult.CONTINUE]


def test_the_group_is_answered_even_if_the_runner_itself_breaks(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = trial.runner(A, B)

    def broken(step: PlannedStep) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(runner, "_step", broken)
    with pytest.raises(ZeroDivisionError):
        runner.run()
    assert len(trial.answers) == 1


def test_a_failed_answer_is_a_failed_transition(trial: Trial) -> None:
    trial.answering = lambda work: raising(StepFailed("denied", "allow it"))(work).detail
    runner = trial.run(A)
    assert outcomes(runner) == {"a": Outcome.DONE, "complete": Outcome.FAILED}
    assert runner.outcome is Outcome.FAILED


def test_nothing_is_answered_where_nothing_is_owed(trial: Trial) -> None:
    runner = trial.run(A, answers=False)
    assert trial.answers == []
    assert outcomes(runner) == {"a": Outcome.DONE}


def test_what_a_step_leaves_for_later_is_the_same_as_after_a_crash(trial: Trial) -> None:
    trial.bodies["a"] = lambda work: Done("", {"keys": ("x", "y"), "path": Path("/var")})
    runner = trial.run(A)
    assert runner.earlier("a") == {"keys": ["x", "y"], "path": "/var"} == trial.recorded().ended["a"].data
    assert runner.earlier("b") == {}


def test_data_that_cannot_be_written_down_is_a_failure_of_the_step(trial: Trial) -> None:
    endless: dict[str, object] = {}
    endless["self"] = endless
    trial.bodies["a"] = lambda work: Done("", endless)
    assert outcomes(trial.run(A, B)) == {"a": Outcome.FAILED, "b": Outcome.DONE, "complete": Outcome.DONE}


# -- time


def taking(trial: Trial, seconds: float) -> Body:
    def run(work: Work) -> Done:
        trial.clock.now += seconds
        return Done("")

    return run


def test_a_step_gets_its_timeout_or_what_is_left_after_the_reserve(trial: Trial) -> None:
    trial.bodies["a"] = taking(trial, 65)
    trial.run(PlannedStep("a", "", timeout=30.0), PlannedStep("b", "", timeout=30.0), LAST)
    assert trial.given["a"] == 30
    assert trial.given["b"] == 100 - 65 - LAST.reserve - 20
    assert trial.given["last"] == 100 - 65 - 20


def test_out_of_time_the_rest_is_skipped_but_for_what_is_essential(trial: Trial) -> None:
    trial.bodies["a"] = taking(trial, 70)
    runner = trial.run(A, B, LAST)
    assert trial.ran == ["a", "last"]
    assert outcomes(runner)["b"] is Outcome.SKIPPED
    assert trial.given["last"] == LAST.reserve, "what was kept for it is there"
    assert runner.outcome is Outcome.FAILED
    assert trial.answers == [ActionResult.ABANDON]


@pytest.mark.parametrize("late", [81, 100, 5000])
def test_what_is_essential_is_tried_even_if_no_time_is_left_at_all(trial: Trial, late: float) -> None:
    """Taken up again after its deadline: each gets a quarter of the completion's reserve."""
    trial.bodies["a"] = taking(trial, late)
    trial.run(A, LAST)
    assert trial.given["last"] == 5
    assert len(trial.answers) == 1


def test_the_answer_is_tried_for_as_long_as_the_group_may_want_it(trial: Trial) -> None:
    trial.bodies["a"] = taking(trial, 5000)
    trial.run(A)
    assert trial.given["complete"] == ANSWER_SECONDS


def test_a_deadline_tightened_meanwhile_ends_the_step(trial: Trial) -> None:
    def tightened(work: Work) -> Done:
        trial.deadline.tighten(trial.clock.now + 40)
        return Done(str(work.deadline.remaining()))

    trial.bodies["a"] = tightened
    assert trial.run(A, LAST).reports[0].detail == "10.0"


def test_a_step_that_blocks_is_left_behind_and_the_group_answered(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, released: threading.Event
) -> None:
    monkeypatch.setattr(worker, "GRACE", 0.01)
    late: list[str] = []

    def blocks(work: Work) -> Done:
        trial.clock.now += 31
        released.wait()
        try:
            work.say("still here")
            work.wait(0)
        except Interrupted:
            late.append("told to end")
        over.set()
        return Done("too late")

    over = threading.Event()
    trial.bodies["a"] = blocks
    runner = trial.run(PlannedStep("a", "", timeout=30.0), B)
    assert outcomes(runner) == {"a": Outcome.FAILED, "b": Outcome.DONE, "complete": Outcome.DONE}
    assert "left behind" in runner.reports[0].detail
    released.set()
    assert over.wait(10)
    assert late == ["told to end"]
    assert "still here" not in trial.shown
    assert [report.name for report in runner.reports] == ["a", "b", "complete"]


def test_a_step_is_let_finish_within_the_grace(trial: Trial) -> None:
    trial.bodies["a"] = taking(trial, 30 + worker.GRACE)
    assert outcomes(trial.run(PlannedStep("a", "", timeout=30.0)))["a"] is Outcome.DONE


def test_without_a_thread_to_be_had_steps_run_all_the_same(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert trial.run(A, LAST).outcome is Outcome.DONE
    assert trial.answers == [ActionResult.CONTINUE]


# -- going on


def test_what_ended_before_is_not_run_again_and_stays_in_the_report(trial: Trial) -> None:
    before = {"a": StepReport("a", Outcome.FAILED, "no", 1.0, (), {"x": 1})}
    runner = trial.run(A, B, ended=before)
    assert trial.ran == ["b"]
    assert runner.reports[0] is before["a"]
    assert runner.earlier("a") == {"x": 1}
    assert trial.answers == [ActionResult.ABANDON], "a failure before the crash is one still"


def test_an_answer_that_was_given_is_not_given_again(trial: Trial) -> None:
    before = {name: StepReport(name, Outcome.DONE, "") for name in ("a", "complete")}
    assert trial.run(A, ended=before).outcome is Outcome.DONE
    assert trial.answers == []


def test_what_is_left_out_is_skipped_unless_it_is_done_already(trial: Trial) -> None:
    before = {"a": StepReport("a", Outcome.DONE, "", 1.0)}
    runner = trial.run(A, B, LAST, ended=before, left_out=(A, B))
    assert trial.ran == ["last"]
    assert outcomes(runner)["b"] is Outcome.SKIPPED
    assert outcomes(runner)["a"] is Outcome.DONE
    assert "died" in runner.reports[1].detail
    assert trial.answers == [ActionResult.ABANDON]


# -- being told to stop


def test_told_to_stop_a_step_ends_and_nothing_is_answered(trial: Trial) -> None:
    def waits(work: Work) -> Done:
        trial.stop.now.set()
        work.wait(1000)
        return Done("")

    trial.bodies["a"] = waits
    with pytest.raises(Interrupted):
        trial.run(A, B)
    assert trial.ran == ["a"]
    assert trial.answers == []
    assert trial.recorded().ended == {}, "it is run again"


def test_told_to_stop_a_step_that_blocks_is_not_waited_for(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, released: threading.Event
) -> None:
    monkeypatch.setattr(worker, "STOP_GRACE", 0.01)

    def blocks(work: Work) -> Done:
        trial.stop.now.set()
        released.wait()
        return Done("")

    trial.bodies["a"] = blocks
    with pytest.raises(Interrupted):
        trial.run(A)
    assert trial.answers == []


@pytest.mark.parametrize("steps", [(A, B), (A,)], ids=["with more to do", "before the answer"])
def test_told_to_stop_after_the_step_the_step_ends_first(
    trial: Trial, steps: tuple[PlannedStep, ...]
) -> None:
    def interrupted(work: Work) -> Done:
        trial.stop.after_step.set()
        work.wait(0)
        return Done("ended")

    trial.bodies["a"] = interrupted
    with pytest.raises(Interrupted):
        trial.run(*steps)
    assert list(trial.recorded().ended) == ["a"]
    assert trial.answers == []


def test_told_to_stop_while_answering_the_answer_is_owed_still(trial: Trial) -> None:
    def waits(work: Work) -> str:
        trial.stop.now.set()
        work.wait(1000)
        return ""

    trial.answering = waits
    with pytest.raises(Interrupted):
        trial.run(A)
    assert list(trial.recorded().ended) == ["a"]


@pytest.mark.parametrize(
    ("sent", "now", "after_step"),
    [
        ([signal.SIGTERM], True, False),
        ([signal.SIGINT], False, True),
        ([signal.SIGINT, signal.SIGINT], True, True),
    ],
    ids=["SIGTERM", "SIGINT", "SIGINT twice"],
)
def test_the_signals(sent: list[signal.Signals], now: bool, after_step: bool) -> None:
    stop = Stop()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with _told_to_stop(stop):
        for number in sent:
            os.kill(os.getpid(), number)
        assert (stop.now.is_set(), stop.after_step.is_set()) == (now, after_step)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_what_a_step_says_is_shown(trial: Trial) -> None:
    def says(work: Work) -> Done:
        work.say("counting sheep", 1, 2)
        return Done("")

    trial.bodies["a"] = says
    trial.run(A)
    assert "counting sheep" in trial.shown


def test_the_answer_has_no_longer_than_the_machine(tmp_path: Path) -> None:
    trial = Trial(tmp_path)

    trial.run(A, gone=Deadline.after(30.0, trial.clock))

    assert trial.given["complete"] == 27, "the report is to be written while there is a machine"


def test_an_installation_that_is_being_replaced_is_a_death_and_no_failure(tmp_path: Path) -> None:
    trial = Trial(tmp_path)

    def torn(work: Work) -> Done:
        raise ImportError("cannot import name 'session' from 'botocore'")

    trial.bodies["b"] = torn
    with pytest.raises(ImportError):
        trial.run(A, B)

    assert trial.answers == []
    recorded = trial.recorded()
    assert set(recorded.ended) == {"a"}, "the next process does the step"
    assert recorded.outcome is None


# -- what a failure, or a finding, means for the steps after it


WELL, FAILED_ONLY = replace(B, when=When.WELL), PlannedStep("saved", "", when=When.FAILED)
FAILS = StepFailed("no", "hint")


def test_after_a_failure_what_needs_success_is_skipped_and_the_rest_is_done(trial: Trial) -> None:
    trial.bodies["a"] = raising(FAILS)
    runner = trial.run(A, WELL, FAILED_ONLY, PlannedStep("told", ""))
    assert trial.ran == ["a", "saved", "told"]
    assert [(report.name, report.outcome) for report in runner.reports[:2]] == [
        ("a", Outcome.FAILED),
        ("b", Outcome.SKIPPED),
    ]
    assert "after a" in runner.reports[1].detail
    assert trial.answers == [ActionResult.ABANDON]


def test_without_one_what_is_for_failures_is_not_even_mentioned(trial: Trial) -> None:
    runner = trial.run(A, WELL, FAILED_ONLY)
    assert trial.ran == ["a", "b"]
    assert [report.name for report in runner.reports] == ["a", "b", "complete"]
    assert trial.answers == [ActionResult.CONTINUE]


def test_what_was_skipped_for_a_failure_stays_so_after_a_crash(trial: Trial) -> None:
    trial.bodies["a"] = raising(FAILS)
    trial.run(A, WELL, FAILED_ONLY)
    trial.ran.clear()
    runner = trial.run(A, WELL, FAILED_ONLY, ended=dict(trial.recorded().ended))
    assert trial.ran == []
    assert [report.name for report in runner.reports] == ["a", "b", "saved", "complete"]


@pytest.mark.parametrize("again", [False, True], ids=["at once", "after a crash"])
def test_a_finding_that_nothing_is_to_be_done_ends_it_without_an_answer(trial: Trial, again: bool) -> None:
    trial.bodies["a"] = lambda work: Done("found", {ENOUGH: True})
    runner = trial.run(A, B, LAST)
    if again:
        trial.ran.clear()
        runner = trial.run(A, B, LAST, ended=dict(trial.recorded().ended))
    assert trial.ran == ([] if again else ["a"])
    assert trial.answers == []
    assert runner.outcome is Outcome.DONE

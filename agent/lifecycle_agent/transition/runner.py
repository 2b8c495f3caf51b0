"""Carries a plan out, step by step, and answers the group whatever happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted, LifecycleAgentError
from lifecycle_agent.journal import Journal
from lifecycle_agent.logline import logger
from lifecycle_agent.model import COMPLETE, ENOUGH, UNASKED, UNKNOWN, ActionResult, Outcome, StepReport
from lifecycle_agent.steps import Done, StepRun, Work
from lifecycle_agent.transition.completion import NOT_ASKED
from lifecycle_agent.transition.plan import ANSWER_SECONDS, Plan, PlannedStep, When
from lifecycle_agent.transition.progress import Teller
from lifecycle_agent.transition.worker import StepWork, Stop
from lifecycle_agent.transition.worker import run as run_bounded

# Seconds that an essential step gets when there are none left. They come out of the completion's reserve,
# a quarter of it each: there are four such steps, and one call of the completion takes well under a second.
LAST_TRY = (5.0, 0.25)

# Seconds, and share of what is left, that the answer leaves where the machine itself goes.
REPORT_SECONDS, REPORT_SHARE = 3.0, 0.25

Make = Callable[[PlannedStep], StepRun]
Complete = Callable[[ActionResult, Work], str]


class Runner:
    """One transition's way through its plan.

    Steps raise; what a failure means for the rest is known here alone: the rest goes on, and the
    answer to the group is what the configuration says for a failure.

    Args:
        ended: steps that came to an end before a crash; they are not run again.
        make: makes the step that is planned.
        complete: answers the group in the time of its `Work`; None where no answer is owed.
        failure: the answer when a step has failed, `success`: when none has.
        gone: when the machine itself is gone; None where it waits for us.
    """

    def __init__(
        self,
        plan: Plan,
        deadline: Deadline,
        journal: Journal,
        teller: Teller,
        stop: Stop,
        ended: Mapping[str, StepReport],
        make: Make,
        complete: Complete | None,
        failure: ActionResult,
        gone: Deadline | None = None,
        success: ActionResult = ActionResult.CONTINUE,
    ) -> None:
        self._plan = plan
        self._deadline = deadline
        self._journal = journal
        self._teller = teller
        self._stop = stop
        self._before = dict(ended)
        self._make = make
        self._complete = complete
        self._failure = failure
        self._gone = gone
        self._success = success
        self.reports: list[StepReport] = []
        self._from = deadline.at - plan.total

    def earlier(self, name: str) -> Mapping[str, Any]:
        """The data of a step that has ended, empty for one that has not."""
        return next((report.data for report in self.reports if report.name == name), {})

    def earlier_outcome(self, name: str) -> Outcome | None:
        """How a step ended, None for one that has not."""
        return next((report.outcome for report in self.reports if report.name == name), None)

    @property
    def outcome(self) -> Outcome:
        """How it went so far: failed if a step has, warned if one has warned, else done."""
        outcomes = {report.outcome for report in self.reports}
        for worst in (Outcome.FAILED, Outcome.SKIPPED, Outcome.WARNED):
            if worst in outcomes:
                return Outcome.FAILED if worst is Outcome.SKIPPED else worst
        return Outcome.DONE

    def run(self) -> None:
        """Carry the plan out.

        Raises:
            Interrupted: the agent was told to stop; the journal says where to go on, and the group is
                answered then.
            ImportError: the installation is being replaced, or broken; a new process goes on, with what is
                there then.
        """
        interrupted = False
        try:
            for step in self._plan.steps:
                self._stop.check()
                if self._is_due(step):
                    self._step(step)
                if self._is_enough():
                    self._complete = None
                    break
            self._stop.check()
        except (Interrupted, ImportError):
            interrupted = True
            raise
        finally:
            if not interrupted:
                self._answer()

    def _is_due(self, step: PlannedStep) -> bool:
        """Whether what came before leaves anything for it to do; that it does not is put on record."""
        failed = self.outcome is Outcome.FAILED
        if step.when is When.FAILED:
            return failed or step.name in self._before
        if step.when is When.WELL and failed and step.name not in self._before:
            first = next(
                each.name for each in self.reports if each.outcome in (Outcome.FAILED, Outcome.SKIPPED)
            )
            self._record(StepReport(step.name, Outcome.SKIPPED, f"skipped: after {first}"))
            return False
        return True

    def _is_enough(self) -> bool:
        """Whether the last step has found that nothing else is to be done, and nobody is owed an answer."""
        data = self.reports[-1].data if self.reports else {}
        return bool(data.get(ENOUGH) or data.get(UNKNOWN))

    def _step(self, step: PlannedStep) -> None:
        """Run one step, unless it ended before a crash or there is no time for it."""
        if step.name in self._before:
            self.reports.append(self._before[step.name])
            return
        if step in self._plan.left_out:
            self._record(StepReport(step.name, Outcome.SKIPPED, "skipped: the transition died too often"))
            return
        # The group may have brought the deadline forward since the plan was made.
        reserve = self._plan.reserve_after(step, self._deadline.at - self._from)
        left = self._deadline.remaining() - reserve
        if left <= 0 and not step.essential:
            detail = f"skipped: {reserve:.0f} s are kept for what matters more"
            self._record(StepReport(step.name, Outcome.SKIPPED, detail))
            return
        timeout = step.timeout if step.timeout is not None else self._deadline.remaining()
        deadline = self._deadline.within(timeout, reserve)
        if step.essential and deadline.remaining() < self._last_try():
            deadline = Deadline.after(self._last_try(), self._deadline.now)
        self._run(step.name, deadline, lambda work: self._make(step).run(work))

    def _last_try(self) -> float:
        seconds, share = LAST_TRY
        kept = self._plan.completion_reserve
        return min(seconds, kept * share) if kept else seconds

    def _run(self, name: str, deadline: Deadline, step: Callable[[Work], Done]) -> None:
        """Run `step` between two lines of the journal."""
        self._journal.step_started(name)
        self._teller.step_started(name)
        began = deadline.now()

        def ended(outcome: Outcome, detail: str, done: Done | None = None) -> StepReport:
            seconds = round(deadline.now() - began, 3)
            if done is None:
                return StepReport(name, outcome, detail, seconds)
            # As it comes back from the journal: later steps see the same whether there was a crash or not.
            data = json.loads(json.dumps(dict(done.data), default=str))
            return StepReport(name, outcome, detail, seconds, tuple(done.warnings), data)

        try:
            done = run_bounded(name, step, StepWork(deadline, self._teller, self._stop), self._stop)
            report = ended(Outcome.WARNED if done.warnings else Outcome.DONE, done.detail, done)
        except (Interrupted, ImportError):
            raise
        except LifecycleAgentError as error:
            report = ended(Outcome.FAILED, f"{error.message}; {error.hint}")
        except Exception as error:  # a defect of ours must not keep the machine from its end
            logger.exception("step %s", name)
            report = ended(Outcome.FAILED, f"unexpected {type(error).__name__}: {error}")
        self._record(report)

    def _record(self, report: StepReport) -> None:
        self.reports.append(report)
        self._journal.step_ended(report)
        self._teller.step_ended(report)
        took = "" if report.seconds is None else f" ({report.seconds:.1f} s)"
        fields = {"fields": {"step": report.name, "outcome": report.outcome.value, "seconds": report.seconds}}
        log = logger.error if report.outcome is Outcome.FAILED else logger.info
        log("%s: %s%s", report.name, report.detail, took, extra=fields)
        for warning in report.warnings:
            logger.warning("%s: %s", report.name, warning, extra=fields)

    def _answer(self) -> None:
        """Answer the group, on the time that was kept for it."""
        if self._complete is None:
            return
        if COMPLETE in self._before:
            self.reports.append(self._before[COMPLETE])
            return
        complete = self._complete
        result = self._failure if self.outcome is Outcome.FAILED else self._success
        # The deadline is ours, not the group's: as long as that may still want the answer, it gets it.
        seconds = max(self._deadline.remaining(), ANSWER_SECONDS)
        deadline = Deadline.after(seconds, self._deadline.now)
        if self._gone is not None:
            # The report and the status are to be written while there is still a machine.
            left = self._gone.remaining()
            deadline = self._gone.within(left, min(REPORT_SECONDS, left * REPORT_SHARE))

        def answered(work: Work) -> Done:
            told = complete(result, work)
            return Done(told, {UNASKED: True} if told == NOT_ASKED else {})

        self._run(COMPLETE, deadline, answered)

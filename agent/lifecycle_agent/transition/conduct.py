"""One transition from its notice to its report: new, or where the journal says to go on."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline, boottime
from lifecycle_agent.errors import Interrupted
from lifecycle_agent.files import StatusFile, runtime_dir, state_dir
from lifecycle_agent.logline import logger, utc
from lifecycle_agent.model import ActionResult, Machine, Notice, NoticeKind, Outcome, Report
from lifecycle_agent.transition import report as reports
from lifecycle_agent.transition.journal import Journal, Recorded, boot_id
from lifecycle_agent.transition.parts import Parts
from lifecycle_agent.transition.plan import COMPLETE, Plan, make_plan
from lifecycle_agent.transition.progress import Progress, Teller
from lifecycle_agent.transition.runner import Runner
from lifecycle_agent.transition.worker import Stop

NOTICES_SECONDS = 3.0  # the result's notices get this much once everything else is done


@dataclass(frozen=True)
class Transition:
    """What is to be done, for whom, and what was already done of it.

    Args:
        started: wall clock of the notice, for people and for the place of the logs.
        recorded: what the journal knows of it; None for a new one.
    """

    transition_id: str
    notice: Notice
    deadline: Deadline
    started: str
    recorded: Recorded | None

    @classmethod
    def take_up(cls, notice: Notice, config: Config, journal: Journal) -> Transition:
        """Go on with the last transition of this kind if it is not over, else begin a new one."""
        last = journal.last()
        total = config.drain.timeout
        if last is not None and _goes_on(last, notice):
            journal.resume(last)
            # Whether to answer the group is for this call to say, whatever the one before it said.
            taken = replace(last.notice, completes=notice.completes)
            deadline = Deadline(min(last.ends, boottime() + total))
            if last.boot != boot_id():
                # The boot clock began anew: what was left is not known, and the whole is the most.
                taken = replace(taken, seen_at=boottime())
                deadline = Deadline.after(total)
                journal.deadline(deadline.at, taken.seen_at)
            return cls(last.transition_id, taken, deadline, last.started, last)
        started = utc()
        # Commands get their names from it, which are unique on the machine: two agents may start at once.
        at, mark = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), secrets.token_hex(2)
        transition_id = f"{notice.kind.value}-{at}-{mark}"
        deadline = Deadline(notice.seen_at + total)
        journal.begin(transition_id, notice, deadline.at)
        return cls(transition_id, notice, deadline, started, None)


def _goes_on(last: Recorded, notice: Notice) -> bool:
    """Whether `notice` goes on with the `last` transition.

    An instance is terminated once. What is done by hand can be done again: when the time of one that was
    cut off is up, the app may long be back, and the next one is another.
    """
    if last.notice.kind is not notice.kind or last.outcome is not None:
        return False
    if notice.kind is NoticeKind.TERMINATE:
        return True
    return last.boot == boot_id() and not Deadline(last.ends).passed


def already_over(notice: Notice, journal: Journal) -> Outcome | None:
    """How this instance's termination ended, if it has: there is only one, and it is not done twice."""
    last = journal.last()
    if notice.kind is NoticeKind.TERMINATE and last is not None and last.notice.kind is notice.kind:
        return last.outcome
    return None


def conduct(
    notice: Notice,
    machine: Machine,
    config: Config,
    deaths: int = 0,
    watch: Callable[[Progress], None] | None = None,
) -> Report | None:
    """Carry out the transition for `notice`. The caller holds the lock.

    Args:
        deaths: times in a row that a process died over this notice, as far as the caller knows.
        watch: is handed each change of the progress.

    Returns:
        The report; None when this instance's termination is over already.

    Raises:
        Interrupted: the agent was told to stop; the journal says where to go on.
    """
    directory = state_dir(config.agent.state_dir)
    journal = Journal(directory, machine.instance_id)
    if already_over(notice, journal) is not None:
        logger.info("this instance's termination is over already")
        return None
    transition = Transition.take_up(notice, config, journal)
    recorded = transition.recorded
    died = max(deaths, recorded.deaths if recorded else 0)
    plan = make_plan(transition.notice, config, died)
    journal.attempt()
    _say_how_it_starts(transition, plan, died)
    teller = Teller(
        transition.transition_id,
        transition.notice,
        transition.deadline,
        tuple(step.name for step in plan.steps) + ((COMPLETE,) if transition.notice.completes else ()),
        StatusFile(runtime_dir()),
        watch,
    )
    return _carry_out(transition, plan, machine, config, journal, teller, directory)


def _carry_out(
    transition: Transition,
    plan: Plan,
    machine: Machine,
    config: Config,
    journal: Journal,
    teller: Teller,
    directory: Path,
) -> Report:
    def report() -> Report:
        completion = next((each.detail for each in runner.reports if each.name == COMPLETE), "")
        return Report(
            transition.transition_id,
            machine.instance_id,
            transition.notice,
            transition.started,
            runner.outcome,
            round(transition.deadline.now() - transition.notice.seen_at, 3),
            tuple(runner.reports),
            completion,
            transition.recorded.attempts + 1 if transition.recorded else 1,
        )

    stop = Stop()
    parts = Parts(
        config,
        machine,
        transition.notice,
        transition.transition_id,
        transition.started,
        directory,
        transition.deadline,
        lambda ends: journal.deadline(ends, transition.notice.seen_at),
        lambda name: runner.earlier(name),
        report,
    )
    runner = Runner(
        plan,
        transition.deadline,
        journal,
        teller,
        stop,
        transition.recorded.ended if transition.recorded else {},
        parts.make,
        parts.complete if parts.group is not None else None,
        ActionResult[config.hooks.on_failure.upper()],
    )
    with _told_to_stop(stop):
        try:
            runner.run()
        except Interrupted:
            journal.interrupted()
            teller.over("stopped; it goes on when the agent starts again, or with the same command")
            raise
        finally:
            parts.close()
    final = report()
    reports.write(final, directory)
    journal.over(final.outcome, final.completion)
    teller.over(final.outcome.value)
    _log_the_end(final)
    for problem in parts.notifier.finish(Deadline.after(NOTICES_SECONDS)):
        logger.warning(problem)
    return final


def _say_how_it_starts(transition: Transition, plan: Plan, died: int) -> None:
    about = {"fields": {"transition": transition.transition_id, "kind": transition.notice.kind.value}}
    how = "going on with" if transition.recorded else "starting"
    logger.info(
        "%s %s: %s; %.0f s for it",
        how,
        transition.transition_id,
        transition.notice.reason,
        transition.deadline.remaining(),
        extra=about,
    )
    if plan.left_out:
        left = [step.name for step in plan.steps if step not in plan.left_out]
        left += [COMPLETE] if transition.notice.completes else []
        logger.error("it died %d times in a row: straight to %s", died, ", ".join(left) or "the end")


def _log_the_end(report: Report) -> None:
    fields = {"transition": report.transition_id, "outcome": report.outcome.value, "seconds": report.seconds}
    log = logger.error if report.outcome is Outcome.FAILED else logger.info
    answer = f": {report.completion}" if report.completion else ""
    log("%s after %.1f s%s", report.outcome.value, report.seconds, answer, extra={"fields": fields})


@contextmanager
def _told_to_stop(stop: Stop) -> Iterator[None]:
    """SIGTERM stops now; SIGINT after the running step, and now when it comes again."""

    def interrupt(*_: object) -> None:
        (stop.now if stop.after_step.is_set() else stop.after_step).set()

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: stop.now.set()),
        signal.SIGINT: signal.signal(signal.SIGINT, interrupt),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

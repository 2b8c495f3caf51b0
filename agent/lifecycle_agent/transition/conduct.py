"""One transition from its notice to its report: new, or where the journal says to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted
from lifecycle_agent.files import StatusFile, runtime_dir, state_dir
from lifecycle_agent.journal import Journal
from lifecycle_agent.logline import logger
from lifecycle_agent.model import (
    COMPLETE,
    ActionResult,
    LifecycleTransition,
    Machine,
    Notice,
    NoticeKind,
    Outcome,
    Report,
)
from lifecycle_agent.steps.notify import Event
from lifecycle_agent.transition import report as reports
from lifecycle_agent.transition.parts import Parts
from lifecycle_agent.transition.plan import Plan, make_plan
from lifecycle_agent.transition.progress import Progress, Teller
from lifecycle_agent.transition.runner import Runner
from lifecycle_agent.transition.take_up import Transition, already_over
from lifecycle_agent.transition.worker import Stop

NOTICES_SECONDS = 3.0  # the result's notices get this much once everything else is done


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
        The report; None when there is nothing to do: this instance's termination is over already, or a
        machine that reboots could not be brought back into service.

    Raises:
        Interrupted: the agent was told to stop; the journal says where to go on.
    """
    directory = state_dir(config.agent.state_dir)
    journal = Journal(directory, machine.instance_id)
    if already_over(notice, journal) is not None:
        logger.info("%s is over already", notice.kind.value)
        return None
    transition = Transition.take_up(notice, config, journal)
    if notice.kind is NoticeKind.REBOOT and journal.broken:
        # It is what tells the next boot to bring the app back.
        logger.error("so the app stays in service while the machine reboots")
        return None
    recorded = transition.recorded
    died = max(deaths, recorded.deaths, recorded.reboots) if recorded else deaths
    left = transition.deadline.remaining() if transition.notice.ends is not None else None
    plan = make_plan(transition.notice, config, died, left)
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
        transition,
        directory,
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
        transition.ended,
        parts.make,
        parts.complete if parts.group is not None else None,
        _answer_to_failure(transition.notice, config),
        Deadline(transition.notice.ends) if transition.notice.ends is not None else None,
        _answer_to_success(transition.notice),
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
        if runner.earlier_outcome(COMPLETE) is Outcome.FAILED:
            # People have been told the result before the answer was tried: now they are told the other one.
            parts.notifier.send(Event.result(final, parts.group_name() or ""))
        reports.write(final, directory)
        journal.over(final.outcome, final.completion)
        teller.over(final.outcome.value)
    _log_the_end(final)
    for problem in parts.notifier.finish(Deadline.after(NOTICES_SECONDS)):
        logger.warning(problem)
    return final


def _answer_to_failure(notice: Notice, config: Config) -> ActionResult:
    """An instance that could not be launched is always replaced."""
    if notice.completes is LifecycleTransition.LAUNCHING:
        return ActionResult.ABANDON
    return ActionResult[config.hooks.on_failure.upper()]


def _answer_to_success(notice: Notice) -> ActionResult:
    """One that is interrupted in its launch is not put into service, however well it was drained."""
    interrupted = notice.kind is NoticeKind.SPOT and notice.completes is LifecycleTransition.LAUNCHING
    return ActionResult.ABANDON if interrupted else ActionResult.CONTINUE


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
        logger.error("%d deaths or reboots in the middle: straight to %s", died, ", ".join(left) or "the end")


def _log_the_end(report: Report) -> None:
    fields = {"transition": report.transition_id, "outcome": report.outcome.value, "seconds": report.seconds}
    log = logger.error if report.outcome is Outcome.FAILED else logger.info
    answer = f": {report.completion}" if report.completion else ""
    log("%s after %.1f s%s", report.outcome.value, report.seconds, answer, extra={"fields": fields})


@contextmanager
def _told_to_stop(stop: Stop) -> Iterator[None]:
    """SIGTERM stops now; SIGINT after the running step, and now when it comes again."""
    told: list[threading.Event] = []  # a second signal may come while the first one's event is being set

    def tell(event: threading.Event) -> None:
        if event not in told:
            told.append(event)
            event.set()

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: tell(stop.now)),
        signal.SIGINT: signal.signal(
            signal.SIGINT, lambda *_: tell(stop.now if stop.after_step in told else stop.after_step)
        ),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

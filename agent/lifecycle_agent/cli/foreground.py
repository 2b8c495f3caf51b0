"""What `drain` and `undrain` share: a transition in this very process, or following the one that runs."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from lifecycle_agent import config, logline
from lifecycle_agent.cli import Settings
from lifecycle_agent.cli.screen import Screen
from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline, boottime
from lifecycle_agent.errors import Interrupted, LifecycleAgentError, LockedError, UsageError
from lifecycle_agent.files import StatusFile, runtime_dir
from lifecycle_agent.logline import logger
from lifecycle_agent.model import LifecycleTransition, Machine, Notice, NoticeKind, Outcome, Report
from lifecycle_agent.toml import Document
from lifecycle_agent.transition.conduct import conduct
from lifecycle_agent.transition.lock import TransitionLock
from lifecycle_agent.transition.parts import keeping_alive
from lifecycle_agent.transition.plan import Plan, make_plan
from lifecycle_agent.transition.progress import Progress
from lifecycle_agent.watch.imds import MetadataClient
from lifecycle_agent.watch.supervisor import DONE_WITH_FAILURES, INTERRUPTED

FOLLOW_SECONDS = 0.2  # between two looks at the lock of the transition that is followed


def carry_out(
    settings: Settings, kind: NoticeKind, reason: str, completes: LifecycleTransition | None, wait: bool
) -> None:
    """One transition by hand, drawn on a terminal. Ends the process with its exit code."""
    loaded = config.load(settings.path)
    with Screen() as screen:
        logline.set_up(settings.verbose)
        if screen.live:
            logger.setLevel(logging.CRITICAL)  # the picture says it; the journal and the report keep it
        machine = MetadataClient().machine()
        lock = _lock()
        if not lock.acquire():
            if not wait:
                raise LockedError(
                    f"another transition is running (process {lock.holder()})",
                    "leave out --no-wait to follow it",
                )
            code = _follow(lock, screen)
        else:
            notice = Notice(kind, reason, boottime(), completes)
            code = _conduct(notice, machine, loaded, 0, lambda now: screen.show(asdict(now)))
    sys.exit(code)


def carry_out_seen(settings: Settings, told: str) -> None:
    """The transition for a notice that the watcher saw. Ends the process as the supervisor understands it."""
    logline.set_up(settings.verbose)
    try:
        document = json.loads(told)
        notice = Notice.from_json(document["notice"])
        machine = Machine.from_json(document["machine"])
        deaths, kept = int(document["deaths"]), document.get("config")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--notice: {error!r}", "leave it out: it is how the watcher calls this") from error
    loaded = _in_force(settings, Path(kept) if kept else None)
    _wait_for_the_lock(notice, machine, loaded)
    code = _conduct(notice, machine, loaded, deaths, None)
    sys.exit(DONE_WITH_FAILURES if code == 1 else code)


def _in_force(settings: Settings, kept: Path | None) -> Config:
    """The configuration that the watcher started with, else the one in the files, else an answer and no more.

    Somebody may be writing to the files just now. The group must have its answer all the same.
    """
    try:
        if kept is not None:
            return config.make(Document.from_json(json.loads(kept.read_bytes()), os.environ))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LifecycleAgentError) as error:
        logger.error("the configuration that the service started with cannot be used: %s", error)
    try:
        return config.load(settings.path)
    except LifecycleAgentError as error:
        logger.error("%s; %s; the group is answered, and that is all", error.message, error.hint)
        return Config()


def _wait_for_the_lock(notice: Notice, machine: Machine, loaded: Config) -> None:
    """Wait until no other transition runs, with the group's action kept alive meanwhile.

    One that hangs, or a lock that cannot be had at all, must not keep the group from its answer: when only
    the time is left that is kept for what matters most, it goes on without. The lock is let go of by the
    end of the process.
    """
    try:
        lock = _lock()
        if lock.acquire():
            return
    except LifecycleAgentError as error:
        logger.error("%s; going on without the lock", error.message)
        return
    logger.info("another transition is running (process %s): waiting for its end", lock.holder())
    deadline = Deadline(notice.seen_at + loaded.drain.timeout)
    patience = deadline.within(loaded.drain.timeout, make_plan(notice, loaded).reserve)
    with keeping_alive(notice, machine, loaded, deadline):
        while not lock.acquire():
            if patience.passed:
                logger.error("process %s does not come to its end: going on without the lock", lock.holder())
                return
            time.sleep(FOLLOW_SECONDS)


def show_plan(
    settings: Settings, kind: NoticeKind, reason: str, completes: LifecycleTransition | None
) -> None:
    """Print what would be done, and on whose time."""
    plan = make_plan(Notice(kind, reason, boottime(), completes), config.load(settings.path))
    click.echo("\n".join(_plan_lines(plan)))


def _plan_lines(plan: Plan) -> list[str]:
    rows = [(step.name, f"{budget:.0f} s", step.what) for step, budget in plan.budgets()]
    if plan.completion_reserve:
        rows.append(("complete", f"{plan.completion_reserve:.0f} s", "answer the group's lifecycle hook"))
    column = max((len(row[0]) for row in rows), default=4)
    lines = [f"{'step':<{column}}  {'at most':>8}  what"]
    lines += [f"{name:<{column}}  {most:>8}  {what}" for name, most, what in rows]
    lines.append(f"{plan.total:.0f} s for all of it ([drain] timeout); a step gets what is left of that,")
    kept = [f"{step.reserve:.0f} s for {step.name}" for step in plan.steps if step.reserve]
    kept += [f"{plan.completion_reserve:.0f} s for complete"] if plan.completion_reserve else []
    lines.append("less what is kept for later: " + (", ".join(kept) or "nothing") + ".")
    return lines


def _conduct(
    notice: Notice, machine: Machine, loaded: Config, deaths: int, watch: Callable[[Progress], None] | None
) -> int:
    """The transition's exit code."""
    try:
        report = conduct(notice, machine, loaded, deaths, watch)
    except Interrupted:
        logger.warning("stopped before the end; the journal knows where to go on")
        return INTERRUPTED
    return 0 if report is None else _exit_code(report)


def _exit_code(report: Report) -> int:
    return 1 if report.outcome is Outcome.FAILED else 0


def _follow(lock: TransitionLock, screen: Screen) -> int:
    """Show the running transition until its process ends; its result is ours."""
    status = StatusFile(runtime_dir())
    click.echo(f"following the transition that is running (process {lock.holder()})", err=True)
    while not lock.acquire():
        shown = status.read().get("transition")
        if shown:
            screen.show(shown)
        time.sleep(FOLLOW_SECONDS)
    shown = status.read().get("transition") or {}
    outcome = shown.get("outcome", "")
    if outcome not in [each.value for each in Outcome]:
        raise LifecycleAgentError(
            f"the transition that was followed ended early: {outcome or 'its process died'}",
            "the service starts it again; without the service, run the same command once more",
        )
    screen.show(shown)
    click.echo(f"{shown['transition_id']}: {outcome}", err=True)
    return 1 if outcome == Outcome.FAILED.value else 0


def _lock() -> TransitionLock:
    """The lock, in a directory that can be written.

    Raises:
        LifecycleAgentError: it cannot.
    """
    lock = TransitionLock(runtime_dir())
    try:
        lock.path.parent.mkdir(parents=True, exist_ok=True)
        lock.path.touch(mode=0o600)
    except OSError as error:
        raise LifecycleAgentError(
            f"{lock.path}: {error.strerror}",
            "run this as root, or set RUNTIME_DIRECTORY to a directory of yours",
        ) from error
    return lock

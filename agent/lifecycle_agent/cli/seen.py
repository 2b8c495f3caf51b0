"""The transition for a notice that the watcher saw: what `drain` is when the supervisor calls it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from lifecycle_agent import config, logline
from lifecycle_agent.cli import Settings
from lifecycle_agent.cli.foreground import FOLLOW_SECONDS, conducted, take_lock
from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError, UsageError
from lifecycle_agent.files import read_regular, state_dir
from lifecycle_agent.journal import Journal, boot_id
from lifecycle_agent.logline import logger
from lifecycle_agent.model import Machine, Notice, NoticeKind
from lifecycle_agent.toml import Document
from lifecycle_agent.transition.lock import Holder
from lifecycle_agent.transition.parts import keeping_alive
from lifecycle_agent.transition.plan import make_plan
from lifecycle_agent.transition.take_up import deadline_of
from lifecycle_agent.watch.supervisor import DONE_WITH_FAILURES, GAVE_WAY

# What another process on the same notice gets beyond its deadline, for the last tries of its last steps.
SAME_SECONDS = 30.0

MOST_KEPT = 4 * 1024 * 1024  # bytes of config.json: many times the most that one file of it may have

_WRONG = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def carry_out_seen(settings: Settings, told: str) -> None:
    """Carry it out. Ends the process with an exit code that the supervisor understands."""
    logline.set_up(settings.verbose)
    try:
        document = json.loads(told)
        notice = Notice.from_json(document["notice"])
        machine = Machine.from_json(document["machine"])
        deaths, kept = int(document["deaths"]), document.get("config")
    except _WRONG as error:
        raise UsageError(f"--notice: {error!r}", "leave it out: it is how the watcher calls this") from error
    loaded = _in_force(settings, Path(kept) if kept else None)
    wait_for_the_lock(notice, machine, loaded)
    _give_way_to_what_came_since(notice, Journal(state_dir(loaded.agent.state_dir), machine.instance_id))
    code = conducted(notice, machine, loaded, deaths, None)
    sys.exit(DONE_WITH_FAILURES if code == 1 else code)


def _in_force(settings: Settings, kept: Path | None) -> Config:
    """The configuration that the watcher started with, else the one in the files, else an answer and no more.

    Somebody may be writing to the files just now. The group must have its answer all the same. A secret
    that is gone costs what needs it: that step fails, and says so.
    """
    try:
        if kept is not None:
            document = Document.from_json(json.loads(read_regular(kept, MOST_KEPT)), os.environ)
            try:
                return config.make(document)
            except LifecycleAgentError as error:
                logger.error("%s; going on without it", error.message)
                return config.make(document.forgiving())
    except (*_WRONG, LifecycleAgentError) as error:
        logger.error("the configuration that the service started with cannot be used: %s", error)
    try:
        return config.load(settings.path)
    except LifecycleAgentError as error:
        logger.error("%s; %s; the group is answered, and that is all", error.message, error.hint)
        return Config()


def wait_for_the_lock(notice: Notice, machine: Machine, loaded: Config) -> None:
    """Wait until no other transition runs, with the group's action kept alive meanwhile.

    What was begun by hand is told to stop: the group's notice goes before it, and goes on from what it
    did. Only a termination, by an event, is not: there is nothing that goes before it. One that hangs, or a
    lock that cannot be had at all, must not keep the group from its answer: when only the time is left that
    is kept for what matters most, it goes on without. The end of the process lets go of the lock.
    """
    kind = notice.kind.value
    try:
        lock = take_lock()
        if lock.acquire(kind):
            return
    except (LifecycleAgentError, OSError) as error:
        logger.error("%s; going on without the lock", error)
        return
    holder = lock.holder()
    if _can_give_way(notice):
        logger.warning("another transition is running (%s): that one goes first", holder)
        sys.exit(GAVE_WAY)
    logger.info("another transition is running (%s): waiting for its end", holder)
    if holder is not None and holder.kind not in (kind, NoticeKind.TERMINATE.value):
        _tell_to_stop(holder)
    deadline = deadline_of(notice, loaded)
    plan = make_plan(notice, loaded, total=deadline.remaining())
    patience = deadline.within(plan.total, plan.reserve)
    if holder is not None and holder.kind == kind:
        patience = Deadline(deadline.at + SAME_SECONDS)  # it is about this very notice, and may be at its end
    with keeping_alive(notice, machine, loaded, deadline):
        while not lock.acquire(kind):
            if patience.passed:
                logger.error("%s does not come to its end: going on without the lock", lock.holder())
                return
            time.sleep(FOLLOW_SECONDS)


def _give_way_to_what_came_since(notice: Notice, journal: Journal) -> None:
    """Leave where somebody has done something else since the notice was seen: it is to be decided anew."""
    last = journal.last()
    if last is None or last.boot != boot_id() or last.notice.kind is notice.kind:
        return
    if _can_give_way(notice) and last.notice.seen_at > notice.seen_at:
        logger.warning("%s has been begun since: %s gives way", last.transition_id, notice.kind.value)
        sys.exit(GAVE_WAY)


def _can_give_way(notice: Notice) -> bool:
    """Whether the group waits for no answer, and the machine stays."""
    return notice.completes is None and notice.kind not in (NoticeKind.SHUTDOWN, NoticeKind.REBOOT)


def _tell_to_stop(holder: Holder) -> None:
    """SIGTERM: it writes to the journal how far it came, and leaves."""
    with contextlib.suppress(OSError):
        os.kill(holder.pid, signal.SIGTERM)

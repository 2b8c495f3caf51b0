"""What `ship` does, once everything else goes before it."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from lifecycle_agent import files, logline, toml
from lifecycle_agent.cli import Settings
from lifecycle_agent.config import AgentSection, LogsSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError, UsageError
from lifecycle_agent.logline import logger
from lifecycle_agent.model import Machine
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.saved import printable
from lifecycle_agent.steps.logs.ship import Shipping

MOST_KEPT = 64 * toml.MOST_BYTES  # of config.json: many times the most that one file of it may have
GROUP_SECONDS = 10.0  # for one call; the next look asks again


def carry_out(settings: Settings, seen: str | None) -> None:
    """One look for what is closed, and its upload. What goes wrong is a line in the watcher's log."""
    logline.set_up(settings.verbose)
    try:
        _carry_out(settings, seen)
    except LifecycleAgentError as error:
        logger.warning("closed logs are not shipped: %s; %s", error.message, error.hint)
        sys.exit(1)


def _carry_out(settings: Settings, seen: str | None) -> None:
    document, machine = _told(settings, seen)
    section = document.part("logs", LogsSection)
    state_dir = files.state_dir(document.part("agent", AgentSection).state_dir)
    if not _alone(state_dir):
        return
    connect = cache(partial(_bucket, section, machine.region))
    entries = Shipping(section, machine.instance_id, state_dir, partial(_group, machine), connect).run()
    if entries:
        logger.info(_sentence(entries))


def _told(settings: Settings, seen: str | None) -> tuple[toml.Document, Machine]:
    """The watcher's configuration and what it knows of the machine; by hand, the files and the machine."""
    if seen is None:
        from lifecycle_agent.watch.imds import MetadataClient

        return toml.Document.read(settings.path, os.environ), MetadataClient().machine()
    try:
        told = json.loads(seen)
        machine = Machine.from_json(told["machine"])
        if told["config"] is None:  # it could not be kept
            return toml.Document.read(settings.path, os.environ), machine
        kept = json.loads(files.read_regular(Path(told["config"]), MOST_KEPT))
        return toml.Document.from_json(kept, os.environ), machine
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"--seen: {error!r}", "leave it out: it is how the watcher calls this") from error


def _alone(state_dir: Path) -> bool:
    """Whether no other one is at work, that a watcher before left behind: two would write over each other."""
    path = state_dir / "shipped.lock"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = files.regular_only(str(path), os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise LifecycleAgentError(
            f"{path}: {error.strerror}", "make [agent] state_dir a directory that the agent can write"
        ) from error
    return True  # never closed: the end of the process lets go of it


def _group(machine: Machine) -> str:
    """As a transition finds it, so that its manifest may name what was shipped."""
    if machine.group is not None:
        return machine.group
    from lifecycle_agent.clients.autoscaling import AutoScaling, GroupError, Refusal

    try:
        found = AutoScaling(machine.region, machine.instance_id).membership(Deadline.after(GROUP_SECONDS))
    except GroupError as error:
        if error.refusal is Refusal.TRANSIENT:
            raise
        found = None
    return found.group if found is not None else "no-group"


def _bucket(section: LogsSection, region: str) -> Any:
    from lifecycle_agent.clients.pace import Pace
    from lifecycle_agent.clients.s3 import Storage, later

    return later(section.bucket, region, Storage.of(section), Pace(section.ship_rate * 1e6 / 8))()


def _sentence(entries: Sequence[Entry]) -> str:
    sent = [entry for entry in entries if entry.complete]
    size, stored = sum(entry.bytes for entry in sent), sum(entry.stored_bytes for entry in sent)
    left = [f"{printable(entry.source)}: {entry.why}" for entry in entries if not entry.complete]
    others = f"; {len(left)} not, {left[0]}" if left else ""
    return f"shipped {len(sent)} closed log files, {size} bytes as {stored}{others}"

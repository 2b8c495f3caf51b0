"""`logs upload`: the step that saves the logs, by hand and in the foreground."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from lifecycle_agent import config, files
from lifecycle_agent.cli import Settings
from lifecycle_agent.cli.transfer import Transfer
from lifecycle_agent.clients.aws import prepare
from lifecycle_agent.clients.s3 import Storage, later
from lifecycle_agent.config import AgentSection, LogsSection
from lifecycle_agent.errors import Interrupted, LifecycleAgentError, LockedError
from lifecycle_agent.logline import utc
from lifecycle_agent.model import Machine
from lifecycle_agent.steps import Done
from lifecycle_agent.steps.logs import RESERVE, Extra, Logs
from lifecycle_agent.steps.logs.shipped import RECORD
from lifecycle_agent.watch.imds import MetadataClient

NAME = "upload-by-hand"
# After that, what the earlier one saved is another day's: it is left as it is.
MOST_AGE = 24 * 3600.0
MOST_BYTES = 4096  # of what is remembered; ours is a tenth of that


def carry_out(settings: Settings, seconds: float, as_json: bool) -> int:
    """Save the logs. Returns the exit code."""
    section = config.part(settings.path, "logs", LogsSection)
    state_dir = files.state_dir(config.part(settings.path, "agent", AgentSection).state_dir)
    prepare()
    machine = MetadataClient().machine()
    with _alone(state_dir), Transfer(seconds) as work:
        earlier = _Earlier(state_dir, machine.instance_id)
        step = _step(section, machine, earlier.time, state_dir)
        try:
            done = step.run(work)
        except Interrupted:
            click.echo("stopped before the end; run it again to go on where it was", err=True)
            return 128 + work.signal
        written = done.data["manifest_written"]
        # What was left behind for another reason than time would be left behind again.
        if written and not (done.data["incomplete"] and work.deadline.remaining() <= RESERVE):
            earlier.forget()
    whole = written and not done.data["incomplete"]
    _show(done, whole, as_json)
    return 0 if whole else 1


def _step(section: LogsSection, machine: Machine, started: str, state_dir: Path) -> Logs:
    values = {"group": machine.group or "no-group", "instance_id": machine.instance_id, "time": started}
    own = [state_dir / name for name in ("report.json", "journal.jsonl")]
    extras = [Extra(path.name, path) for path in own if path.exists()]
    connect = later(section.bucket, machine.region, Storage.of(section))
    return Logs(
        section, connect, values, extras, state_dir / f"{NAME}.jsonl", state_dir / RECORD, most_warnings=20
    )


class _Earlier:
    """When the upload began that this one is, or goes on with: it is a part of the logs' place.

    Args:
        instance_id: what an image that was made of another instance remembers is not ours.
    """

    def __init__(self, state_dir: Path, instance_id: str) -> None:
        self._path = state_dir / f"{NAME}.json"
        now = time.time()
        self.time = _remembered(self._path, instance_id, now)
        if self.time:
            return
        self.time = utc(now).split(".")[0].replace(":", "") + "Z"  # as a transition's
        known = {"instance_id": instance_id, "time": self.time, "started": now}
        with suppress(OSError):  # a full disk: then it can't be gone on with, and no more
            files.replace(self._path, json.dumps(known).encode(), durable=True)

    def forget(self) -> None:
        """It has come to its end."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _remembered(path: Path, instance_id: str, now: float) -> str:
    """The time of an earlier upload that did not come to its end, empty where there is none."""
    try:
        known = json.loads(files.read_regular(path, MOST_BYTES))
        ours = known["instance_id"] == instance_id and 0 <= now - known["started"] < MOST_AGE
        return str(known["time"]) if ours else ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


@contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """One at a time on a machine: two would remember the same things.

    Raises:
        LockedError: another one is running.
    """
    path = state_dir / f"{NAME}.lock"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        file = open(path, "r+", opener=_made)  # noqa: SIM115 - below
    except OSError as error:
        raise LifecycleAgentError(
            f"{path}: {error.strerror}", "run this as root, or set [agent] state_dir to a directory of yours"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(
                f"another `logs upload` is running (process {file.read(20).strip() or '?'})",
                "wait for its end, or stop it: the next one goes on where it was",
            ) from error
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _made(name: str, flags: int) -> int:
    return files.regular_only(name, flags | os.O_CREAT)


def _show(done: Done, whole: bool, as_json: bool) -> None:
    url = f"s3://{done.data['bucket']}/{done.data['prefix']}"
    if as_json:
        told: dict[str, Any] = {"url": url, "whole": whole, "warnings": list(done.warnings), **done.data}
        click.echo(json.dumps(told))
        return
    for warning in done.warnings:
        click.echo(f"warning: {warning}")
    if done.data["incomplete"]:
        click.echo(f"left behind: {done.data['incomplete']} files; the manifest says why")
    click.echo(f"saved: {done.detail}")

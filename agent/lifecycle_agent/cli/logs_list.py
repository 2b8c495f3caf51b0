"""`logs list`: what would go, read from this machine's files alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from lifecycle_agent import config
from lifecycle_agent.cli import Settings
from lifecycle_agent.cli.transfer import Transfer, amount
from lifecycle_agent.config import LogsSection
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.steps.logs.items import Item, Items
from lifecycle_agent.steps.logs.manifest import named
from lifecycle_agent.steps.logs.pack import CODECS
from lifecycle_agent.steps.logs.saved import JOURNAL_OF, printable
from lifecycle_agent.steps.logs.select import Found, Selection, select
from lifecycle_agent.steps.logs.threads import bounded

SECONDS = 60.0  # for looking: somebody sits before it


def show(settings: Settings, as_json: bool) -> None:
    """Print it."""
    section = config.part(settings.path, "logs", LogsSection)
    with Transfer(SECONDS) as work:
        try:
            selection = bounded(lambda: _select(section, work), work, work.deadline)
        except TimeoutError:
            raise LifecycleAgentError(
                f"looking for logs did not end in {SECONDS:.0f} s",
                "look for a file system that hangs, or narrow [logs] paths",
            ) from None
        items = Items("", CODECS[section.compression], work.deadline)
    items.files(selection.files)
    found = list(zip(selection.files, items.all, strict=True))
    if as_json:
        click.echo(json.dumps(_as_json(section, selection, found)))
        return
    for line in _lines(section, selection, found):
        click.echo(line)


def _select(section: LogsSection, work: Transfer) -> Selection:
    until = work.deadline.within(SECONDS, reserve=SECONDS / 10)
    return select(section.paths, section.exclude, section.first, section.last, until)


def _lines(section: LogsSection, selection: Selection, found: Sequence[tuple[Found, Item]]) -> Iterator[str]:
    now = time.time_ns()
    for unit in section.journal_units:
        yield f"{'':>10} {'':>8}  {JOURNAL_OF}{unit}"
    for file, item in found:
        same = f" (the same file as {printable(item.same_as)})" if item.same_as else ""
        yield f"{amount(file.size):>10} {_age(now - file.mtime_ns):>8}  {printable(file.path)}{same}"
    for path, what in selection.ignored.items():
        yield f"ignored: {printable(path)}: {what}"
    for path, why in selection.unreadable.items():
        yield f"cannot be listed: {printable(path)}: {why}"
    for pattern in selection.unmatched:
        yield f"nothing matches {pattern!r}"
    total = sum(item.size for _, item in found)
    units = len(section.journal_units)
    journal = f", and the journal of {units} unit{'s' if units != 1 else ''}" if units else ""
    yield f"{len(found)} files, {total} bytes ({amount(total)}){journal}, to bucket {section.bucket}"


def _as_json(
    section: LogsSection, selection: Selection, found: Sequence[tuple[Found, Item]]
) -> dict[str, Any]:
    now = time.time_ns()
    return {
        "bucket": section.bucket,
        "journal_units": list(section.journal_units),
        "files": [
            {
                **named("path", file.path),
                "bytes": file.size,
                "age_seconds": max(0, now - file.mtime_ns) // 10**9,
                **(named("same_as", item.same_as) if item.same_as else {}),
            }
            for file, item in found
        ],
        "bytes": sum(item.size for _, item in found),
        "ignored": [{**named("path", path), "why": why} for path, why in selection.ignored.items()],
        "unreadable": [{**named("path", path), "why": why} for path, why in selection.unreadable.items()],
        "unmatched": selection.unmatched,
    }


def _age(nanoseconds: int) -> str:
    """The largest unit that fits."""
    seconds = max(0, nanoseconds) // 10**9
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"

"""The step that saves the logs: select, send in a few threads, write the manifest last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from lifecycle_agent.clients.s3_errors import S3Error
from lifecycle_agent.config import LogsSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError, StepFailed
from lifecycle_agent.steps import Done, Work
from lifecycle_agent.steps.logs import keys
from lifecycle_agent.steps.logs.items import Extra, Item, Items
from lifecycle_agent.steps.logs.manifest import Entry, document, totals
from lifecycle_agent.steps.logs.pack import CODECS
from lifecycle_agent.steps.logs.progress import Progress
from lifecycle_agent.steps.logs.select import Selection, select
from lifecycle_agent.steps.logs.threads import bounded, each
from lifecycle_agent.steps.logs.upload import PART, Store, Uploader

# Requests under way at once: four kept a link of 1 Gbit/s busy in a trial; each holds a part in memory.
THREADS = 4
# Of the step's time, for wrapping up what was sent and for the manifest: two requests, one after the other,
# with room for a try that fails. A step that has little time sets aside a quarter of it.
RESERVE = 5.0
# Warnings said one by one; the manifest has them all.
MOST_WARNINGS = 5


class Logs:
    """Save what `[logs]` names, and the agent's own.

    Run again with the same `values` it goes on where it was: same keys, and what is there is not sent again.

    Args:
        connect: gives the bucket when the step runs (`clients.s3.later` has begun to make it by then).
        values: for the placeholders of the prefix: `group`, `instance_id` and `time` (of the notice, so
            that it is the same after a crash).
        extras: sent before everything else: they are small, and tell what happened if the rest is lost.
        progress: a file that remembers what was sent; None to remember nothing.
        part: bytes of a part as it is stored.
    """

    def __init__(
        self,
        section: LogsSection,
        connect: Callable[[], Store],
        values: Mapping[str, str],
        extras: Sequence[Extra] = (),
        progress: Path | None = None,
        part: int = PART,
    ) -> None:
        self._section = section
        self._connect = connect
        self._values = values
        self._extras = extras
        self._progress = progress
        self._part = part
        self.prefix = keys.prefix(section.prefix, values)
        self.manifest_key = f"{self.prefix}/manifest.json"

    def run(self, work: Work) -> Done:
        """Upload, as much as there is time for, and say in the manifest what was left behind.

        Raises:
            StepFailed: nothing could be saved.
            Interrupted: the agent was told to stop; what is under way is dropped, the progress file knows.
        """
        left = work.deadline.remaining()
        reserve = min(RESERVE, left / 4)
        until = work.deadline.within(left, reserve=reserve)
        finish = work.deadline.within(left, reserve=reserve / 2)
        try:
            return self._run(work, until, finish)
        finally:
            for deadline in (until, finish):  # threads that were left behind stop at their next block
                deadline.tighten(deadline.now())

    def _run(self, work: Work, until: Deadline, finish: Deadline) -> Done:
        started = _now()
        selection, store = self._prepare(work, until)
        items = self._items(selection, until)
        place = f"{self._section.bucket}/{self.prefix} {self._section.compression}"
        progress = Progress(self._progress, place)
        uploader = Uploader(store, progress, until, finish, self._part)
        sent = self._send(items, uploader, work)
        entries = [Entry(path, why=f"cannot be listed: {why}") for path, why in selection.unreadable.items()]
        entries += [
            sent.get(item.key) or Entry(item.source, why="time ran out while it was on its way")
            for item in items
        ]
        if uploader.hopeless is not None and not sum(bool(entry.key) for entry in entries):
            raise StepFailed(f"no logs saved: {uploader.hopeless.message}", uploader.hopeless.hint)
        head = {
            "instance_id": self._values["instance_id"],
            "group": self._values["group"],
            "bucket": self._section.bucket,
            "prefix": self.prefix,
            "started": started,
            "finished": _now(),
        }
        manifest = document(head, entries, selection.ignored)
        problem = self._write_manifest(manifest, store, work)
        return self._result(entries, selection, problem)

    def _prepare(self, work: Work, until: Deadline) -> tuple[Selection, Store]:
        """What is to be sent, and where to."""
        work.say("looking for logs")
        try:
            selection = bounded(lambda: select(self._section.paths), work, until)
        except TimeoutError:
            raise StepFailed(
                "no logs saved: listing them did not end in time",
                "look for a file system that hangs, or narrow [logs] paths",
            ) from None
        try:
            return selection, bounded(self._connect, work, until)
        except TimeoutError:
            raise StepFailed(
                f"no logs saved: no client for bucket {self._section.bucket!r} in time",
                "check that the instance metadata service answers with credentials",
            ) from None
        except S3Error as error:
            raise StepFailed(f"no logs saved: {error.message}", error.hint) from error

    def _items(self, selection: Selection, until: Deadline) -> list[Item]:
        """In the order in which they go; the next ones start as threads become free."""
        items = Items(self.prefix, CODECS[self._section.compression], until)
        items.extras(self._extras)
        items.journal(self._section.journal_units)
        items.files(selection.files)
        return items.all

    def _send(self, items: Sequence[Item], uploader: Uploader, work: Work) -> dict[str, Entry]:
        """What came of each item, by its key; those still on their way at the end are not in it."""
        total = sum(item.size for item in items)
        sent: dict[str, Entry] = {}

        def say() -> None:
            work.say(f"{len(sent)} of {len(items)} files", min(uploader.done, total), total)

        def send(item: Item) -> None:
            entry = uploader.send(item)
            sent[item.key] = entry

        jobs: list[Callable[[], None]] = [uploader.clean_up, *(partial(send, item) for item in items)]
        for _ in each(jobs, THREADS, work, uploader.finish, say):
            pass
        say()
        return dict(sent)  # a thread that was left behind may still write to the other one

    def _write_manifest(self, manifest: bytes, store: Store, work: Work) -> str:
        """Returns what went wrong, empty if nothing did."""
        work.say("writing the manifest")

        def put() -> None:
            store.put(self.manifest_key, manifest, work.deadline, "application/json", {})

        try:
            bounded(put, work, work.deadline)
        except TimeoutError:
            return "the manifest was not written: no answer in time"
        except LifecycleAgentError as error:
            return f"the manifest was not written: {error.message}"
        return ""

    def _result(self, entries: Sequence[Entry], selection: Selection, problem: str) -> Done:
        sums = totals(entries)
        lost = [f"{_printable(entry.source)}: {entry.why}" for entry in entries if not entry.complete]
        if (entries and not sums["files"]) or (problem and not entries):
            raise StepFailed(
                f"no logs saved: {lost[0] if lost else problem}", "look at the step's log for the others"
            )
        warnings = [problem] if problem else []
        warnings += [f"nothing matches {pattern!r}" for pattern in selection.unmatched]
        warnings += lost[:MOST_WARNINGS]
        if len(lost) > MOST_WARNINGS:
            warnings.append(f"{len(lost) - MOST_WARNINGS} more are not complete, the manifest has them")
        detail = f"{sums['files']} files, {sums['bytes']} bytes as {sums['stored_bytes']}"
        data = {
            "bucket": self._section.bucket,
            "prefix": self.prefix,
            "manifest_key": self.manifest_key,
            **sums,
        }
        return Done(f"{detail} in s3://{self._section.bucket}/{self.prefix}", data, tuple(warnings))


def _printable(name: str) -> str:
    """A name that may hold anything, on one line of text."""
    return name.encode("unicode_escape", "surrogateescape").decode("ascii", "backslashreplace")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


__all__ = ["Extra", "Logs"]

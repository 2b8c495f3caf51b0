"""The step that saves the logs: select, send in a few threads, write the manifest last."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lifecycle_agent.config import LogsSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError, StepFailed
from lifecycle_agent.steps import Done, Work
from lifecycle_agent.steps.logs import keys, shipped
from lifecycle_agent.steps.logs.items import Extra, Item, Items
from lifecycle_agent.steps.logs.manifest import Entry, document, totals
from lifecycle_agent.steps.logs.means import PART, Means, Store
from lifecycle_agent.steps.logs.pack import CODECS
from lifecycle_agent.steps.logs.record import Record
from lifecycle_agent.steps.logs.saved import printable
from lifecycle_agent.steps.logs.select import Selection, select
from lifecycle_agent.steps.logs.send import send
from lifecycle_agent.steps.logs.threads import bounded, spare_memory
from lifecycle_agent.steps.logs.upload import now

# Of the step's time, for wrapping up what was sent and for the manifest: two requests, one after the other,
# with room for a try that fails. A step that has little time sets aside a quarter of it.
RESERVE = 5.0


class Logs:
    """Save what `[logs]` names, and the agent's own.

    Run again with the same `values` it goes on where it was: same keys, and what is there is not sent again.

    Args:
        connect: gives the bucket when the step runs (`clients.s3.later` has begun to make it by then).
        values: for the placeholders of the prefix: `group`, `instance_id` and `time` (of the notice, so
            that it is the same after a crash).
        extras: sent before everything else: they are small, and tell what happened if the rest is lost.
        record: a file that remembers what was sent; None to remember nothing.
        earlier: the record of what was shipped before the end; None where nothing was.
        part: bytes of a part as it is stored.
        most_warnings: said one by one; the manifest has them all.
    """

    def __init__(
        self,
        section: LogsSection,
        connect: Callable[[], Store],
        values: Mapping[str, str],
        extras: Sequence[Extra] = (),
        record: Path | None = None,
        earlier: Path | None = None,
        part: int = PART,
        most_warnings: int = 5,
    ) -> None:
        self._section = section
        self._connect = connect
        self._values = values
        self._extras = extras
        self._record = record
        self._earlier = earlier
        self._part = part
        self._most_warnings = most_warnings
        self.prefix = keys.prefix(section.prefix, values)
        self.manifest_key = f"{self.prefix}/manifest.json"

    def run(self, work: Work) -> Done:
        """Upload, as much as there is time for, and say in the manifest what was left behind.

        Raises:
            StepFailed: nothing could be saved.
            Interrupted: the agent was told to stop; what is under way is dropped, the record knows.
        """
        left = work.deadline.remaining()
        reserve = min(RESERVE, left / 4)
        until = work.deadline.within(left, reserve=reserve)
        finish = work.deadline.within(left, reserve=reserve / 2)
        try:
            return self._run(work, until, finish)
        finally:
            for deadline in (finish, until):  # threads that were left behind stop at their next block
                deadline.tighten(deadline.now())

    def _run(self, work: Work, until: Deadline, finish: Deadline) -> Done:
        started = now()
        selection = self._select(work, until)
        items = self._items(selection, until)
        means = self._means(until, finish)
        entries = [Entry(path, why=f"cannot be listed: {why}") for path, why in selection.unreadable.items()]
        entries += send(items, means, work)
        self._check(entries, means)
        head = {
            "instance_id": self._values["instance_id"],
            "group": self._values["group"],
            "bucket": self._section.bucket,
            "prefix": self.prefix,
            "started": started,
            "finished": now(),
        }
        manifest = document(head, entries, selection.ignored)
        problem = self._write_manifest(manifest, means, work)
        return self._result(entries, selection, problem, means.record.lost)

    def _means(self, until: Deadline, finish: Deadline) -> Means:
        section, went = self._section, {}
        record = Record(self._record, f"{section.bucket}/{self.prefix} {section.compression}")
        if self._earlier is not None:
            earlier = Record.look(self._earlier, shipped.place(section, self._values["instance_id"]))
            went = shipped.usable(earlier, self.prefix)
            record.begun = {**earlier.begun, **record.begun}  # of these, what nobody goes on with is aborted
        return Means(self._connect, record, until, finish, self._part, shipped=went)

    def _select(self, work: Work, until: Deadline) -> Selection:
        spare_memory()
        work.say("looking for logs")
        try:
            return bounded(lambda: self._selected(until), work, until)
        except TimeoutError:
            raise StepFailed(
                "no logs saved: listing them did not end in time",
                "look for a file system that hangs, or narrow [logs] paths",
            ) from None

    def _selected(self, until: Deadline) -> Selection:
        section = self._section
        listing = until.within(until.remaining() / 2)  # a tree without end costs no more
        return select(section.paths, section.exclude, section.first, section.last, listing)

    def _check(self, entries: Sequence[Entry], means: Means) -> None:
        """Fail where nothing was saved, for the one reason that there is."""
        if any(entry.key for entry in entries):
            return
        if means.hopeless is not None:
            raise StepFailed(f"no logs saved: {means.hopeless.message}", means.hopeless.hint)
        if entries and not means.connected:
            raise StepFailed(
                f"no logs saved: no client for bucket {self._section.bucket!r} in time",
                "check that the instance metadata service answers with credentials",
            )

    def _items(self, selection: Selection, until: Deadline) -> list[Item]:
        """In the order in which they go; the next ones start as threads become free."""
        section = self._section
        codec = CODECS[section.compression]
        items = Items(self.prefix, codec, until, section.journal_since, section.journal_format)
        items.extras(self._extras)
        items.journal(section.journal_units)
        items.files(selection.files)
        return items.all

    def _write_manifest(self, manifest: bytes, means: Means, work: Work) -> LifecycleAgentError | None:
        """Returns what went wrong, None if nothing did."""
        work.say("writing the manifest")

        def put() -> None:
            crc = zlib.crc32(manifest)
            means.store.put(self.manifest_key, manifest, crc, work.deadline, "application/json", {})

        try:
            bounded(put, work, work.deadline)
        except TimeoutError:
            return StepFailed("no answer in time", "check the route to S3, or give the logs more time")
        except LifecycleAgentError as error:
            return error
        return None

    def _result(
        self, entries: Sequence[Entry], selection: Selection, problem: LifecycleAgentError | None, forgot: str
    ) -> Done:
        sums = totals(entries)
        lost = [f"{printable(entry.source)}: {entry.why}" for entry in entries if not entry.complete]
        if entries and not sums["files"]:
            raise StepFailed(f"no logs saved: {lost[0]}", "the step's log has the others")
        if problem is not None and not entries:
            raise StepFailed(f"no logs saved: {problem.message}", problem.hint)
        warnings = [f"the manifest was not written: {problem.message}"] if problem is not None else []
        warnings += [f"nothing matches {pattern!r}" for pattern in selection.unmatched]
        if forgot:
            warnings.append(f"what was sent cannot be remembered, killed now it would go again: {forgot}")
        warnings += lost[: self._most_warnings]
        if len(lost) > self._most_warnings:
            warnings.append(f"{len(lost) - self._most_warnings} more are not complete, the manifest has them")
        detail = f"{sums['files']} files, {sums['bytes']} bytes as {sums['stored_bytes']}"
        data = {
            "bucket": self._section.bucket,
            "prefix": self.prefix,
            "manifest_key": self.manifest_key,
            "manifest_written": problem is None,
            **sums,
        }
        return Done(f"{detail} in s3://{self._section.bucket}/{self.prefix}", data, tuple(warnings))


__all__ = ["Extra", "Logs"]

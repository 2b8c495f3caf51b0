"""All files of a manifest, proven one by one, several at once; and kept, where somebody wants them kept."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from lifecycle_agent.clients.s3_errors import S3Error
from lifecycle_agent.steps import Work
from lifecycle_agent.steps.logs.manifest import Entry, named
from lifecycle_agent.steps.logs.prove import prove
from lifecycle_agent.steps.logs.saved import Bucket, Saved, Unproven, printable
from lifecycle_agent.steps.logs.threads import each

THREADS = 4  # objects read at once; each has some blocks and a decoder's window in memory


class Landing(Protocol):
    """Where a file goes while it is read."""

    def write(self, block: bytes) -> object:
        """So much more of it."""

    def done(self) -> None:
        """It is proven."""

    def drop(self) -> None:
        """It is not."""


class Keep(Protocol):
    """Where files go. Unproven is about the one file, every other error ends it for all."""

    def begin(self, entry: Entry) -> Landing | None:
        """Make room for a file; None where it is there already, whole."""

    def link(self, entry: Entry, other: Entry) -> None:
        """`entry` is another name of `other`, which is there."""


@dataclass(frozen=True)
class Result:
    """What came of it.

    Args:
        proven: files that are whole, and as the manifest says; those that were there already among them.
        kept: of these, those that were there already.
        partial: files of which the manifest has a part, and that part is proven.
        missing: files of which the manifest has nothing, and says so.
        wrong: files that are not as the manifest says, and why not.
    """

    saved: Saved
    proven: list[Entry] = field(default_factory=list)
    kept: list[Entry] = field(default_factory=list)
    partial: list[Entry] = field(default_factory=list)
    missing: list[Entry] = field(default_factory=list)
    wrong: list[tuple[Entry, str]] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether all that there was to save is saved, and proven."""
        return not (self.wrong or self.partial or self.missing)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "manifest": self.saved.url,
            **self.saved.head,
            "whole": self.whole,
            "proven": {"files": len(self.proven), "bytes": sum(entry.bytes for entry in self.proven)},
            "already_there": len(self.kept),
            "notes": [
                {**named("source", entry.source), "note": entry.note} for entry in self.proven if entry.note
            ],
            "wrong": [{**named("source", entry.source), "why": why} for entry, why in self.wrong],
            "left_behind": [
                {**named("source", entry.source), "bytes": entry.bytes, "why": entry.why}
                for entry in (*self.partial, *self.missing)
            ],
        }


class Check:
    """Reads every object that the manifest names.

    Args:
        keep: None to prove them and no more.
    """

    def __init__(self, saved: Saved, bucket: Bucket, keep: Keep | None = None) -> None:
        self._saved = saved
        self._bucket = bucket
        self._keep = keep or _Nothing()
        self._found: dict[int, str] = {}  # why not, by the entry's place in the manifest; empty if proven
        self._kept: list[Entry] = []
        self._bytes = 0
        self._lock = threading.Lock()

    def run(self, work: Work) -> Result:
        """Prove them, as many as there is time for.

        Raises:
            Interrupted: told to stop.
            LifecycleAgentError: no other file would fare better.
        """
        entries = self._saved.entries
        own = {at: entry for at, entry in enumerate(entries) if entry.key and not entry.same_as}
        total = sum(entry.stored_bytes for entry in own.values())

        def say() -> None:
            work.say(f"{len(self._found)} of {len(own)} files", min(self._bytes, total), total)

        jobs = [partial(self._one, at, entry, work) for at, entry in own.items()]
        try:
            for _ in each(jobs, THREADS, work, work.deadline, say):
                pass
            say()
        finally:  # threads that were left behind stop at their next block
            work.deadline.tighten(work.deadline.now())
        found = dict(self._found)
        return self._result({at: found.get(at, "time ran out before it was read") for at in own})

    def _one(self, at: int, entry: Entry, work: Work) -> None:
        try:
            self._prove(entry, work)
            why = ""
        except Unproven as error:
            why = str(error)
        except S3Error as error:
            if error.hopeless:
                raise
            why = printable(error.message)
        self._found[at] = why

    def _prove(self, entry: Entry, work: Work) -> None:
        landing = self._keep.begin(entry)
        if landing is None:
            self._kept.append(entry)
            self._count(entry.stored_bytes)
            return
        try:
            prove(entry, self._bucket, work.deadline, self._count, landing.write)
            landing.done()
        finally:
            landing.drop()

    def _count(self, read: int) -> None:
        with self._lock:
            self._bytes += read

    def _result(self, found: Mapping[int, str]) -> Result:
        result = Result(self._saved, kept=list(self._kept))
        entries = self._saved.entries
        by_name = {entries[at].source: at for at in found}
        for at, entry in enumerate(entries):
            if entry.same_as:
                why = self._same(entry, by_name.get(entry.same_as), found)
            elif entry.key:
                why = found[at]
            else:
                why = "the manifest calls it complete and names no object" if entry.complete else ""
            if why:
                result.wrong.append((entry, why))
            elif entry.complete:
                result.proven.append(entry)
            else:
                (result.partial if entry.key else result.missing).append(entry)
        return result

    def _same(self, entry: Entry, at: int | None, found: Mapping[int, str]) -> str:
        """What is wrong with a second name of a file that has been read."""
        if at is None:
            return f"it should be the same file as {printable(entry.same_as)}, which was not saved"
        other = self._saved.entries[at]
        if found[at]:
            return f"it is the same file as {printable(entry.same_as)}: {found[at]}"
        if (entry.key, entry.bytes, entry.sha256) != (other.key, other.bytes, other.sha256):
            return f"it should be the same file as {printable(entry.same_as)}, and is another one"
        try:
            self._keep.link(entry, other)
        except Unproven as error:
            return str(error)
        return ""


class _Nothing:
    """Nobody wants the files: where they go they are gone."""

    def begin(self, entry: Entry) -> Landing:
        return self

    def link(self, entry: Entry, other: Entry) -> None:
        """Two names are one object."""

    def write(self, block: bytes) -> None:
        """Gone."""

    def done(self) -> None:
        """It was worth reading."""

    def drop(self) -> None:
        """Nothing was kept."""

"""What the journal has of this instance, read again when somebody has written to it."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from lifecycle_agent.deadline import boottime
from lifecycle_agent.journal import Journal, boot_id
from lifecycle_agent.model import Notice, Outcome
from lifecycle_agent.standing import Standing, standing


class Record:
    """The instance's own record: where it stands, and what is only put on record.

    What could not be written to the disk is remembered as long as this process lives.
    """

    def __init__(self, directory: Path, instance_id: str) -> None:
        self._directory = directory
        self._instance_id = instance_id
        self._read_at: tuple[int, ...] | None = None
        self._since = (0, Standing())  # so many transitions have led there
        self._standing = Standing()
        self.standing()

    def standing(self) -> Standing:
        """Where the instance stands. Costs a look at the file's times while nobody writes."""
        written_at = self._written_at()
        if written_at != self._read_at:
            self._read_at = written_at
            count, since = self._since
            self._standing = standing(self._journal().history()[count:], boot_id(), since)
        return self._standing

    def ended(self, notice: Notice, outcome: Outcome) -> Standing:
        """The same, once a transition has ended; its process may have failed to write that down."""
        boot, history, (count, since) = boot_id(), self._journal().history(), self._since
        mine = [place for place in range(count, len(history)) if history[place].notice.kind is notice.kind]
        last = history[mine[-1]] if mine else None
        if last is None or last.outcome is None or last.boot != boot or last.over_at < notice.seen_at:
            # What somebody has begun by hand since comes after it.
            place = mine[-1] if last is not None and last.outcome is None else len(history)
            before = standing(history[count:place], boot, since)
            self._since = (min(place + 1, len(history)), before.after(notice, outcome))
            self._read_at = None
        return self.standing()

    def put(self, notice: Notice) -> Standing:
        """Put a notice on record for which nothing is done."""
        journal = self._journal()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        journal.begin(f"{notice.kind.value}-{stamp}-{secrets.token_hex(2)}", notice, boottime())
        journal.over(Outcome.DONE, "")
        return self.ended(notice, Outcome.DONE)

    def _journal(self) -> Journal:
        return Journal(self._directory, self._instance_id)

    def _written_at(self) -> tuple[int, ...]:
        try:
            found = (self._directory / "journal.jsonl").stat()
        except OSError:
            return ()
        return (found.st_mtime_ns, found.st_size, found.st_ino)

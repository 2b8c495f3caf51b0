"""journald's own export of a unit's messages, read from journalctl as it writes."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError

# For a process that was killed or has closed its output to be gone: milliseconds, unless the disk hangs.
GONE_SECONDS = 5.0
MOST_POLL = 24 * 3600.0  # seconds that poll(2) can count in milliseconds, and more than any upload has


class JournalExport:
    """The messages of `unit`, oldest first.

    Args:
        since: how far back, in seconds; None is the boot.
        format: `export` (the Journal Export Format, which `systemd-journal-remote` reads) or `json` (an
            object a line).
        command: what journalctl is called as; tests hand in their own.

    Raises:
        LifecycleAgentError: journalctl is not there, failed, or said nothing until the deadline.
    """

    identity = inode = note = ""  # messages may have come in since
    size: int | None = None

    def __init__(
        self,
        unit: str,
        deadline: Deadline,
        since: float | None = None,
        format: str = "export",
        command: Sequence[str] = ("journalctl",),
    ) -> None:
        self._unit = unit
        self._deadline = deadline
        # journalctl(1): JSON has null for what is longer than 4096 bytes unless --all is given;
        # systemd.time(7): @ and the seconds since the epoch.
        begin = "--boot" if since is None else f"--since=@{time.time() - since:.0f}"
        argv = [*command, f"--output={format}", begin, "--all", "--no-pager", "--quiet", f"--unit={unit}"]
        # A file, not a second pipe: nobody has to read it while the messages come.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors
            )
        except OSError as error:
            self._errors.close()
            raise LifecycleAgentError(
                f"the journal of {unit} cannot be read: {argv[0]}: {error.strerror}",
                "install systemd's journalctl, or leave [logs] journal_units empty",
            ) from error
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        self._pipe = self._process.stdout.fileno()
        self._ready = select.poll()
        self._ready.register(self._pipe, select.POLLIN)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, empty at the end."""
        if not self._ready.poll(self._deadline.timeout(MOST_POLL) * 1000):
            raise LifecycleAgentError(
                f"time ran out while journalctl read the journal of {self._unit}",
                "give the transition more time (drain.timeout)",
            )
        data = os.read(self._pipe, size)
        if not data:
            self._check()
        return data

    def close(self) -> None:
        """End journalctl if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel, and ends when that does
                self._process.wait(timeout=GONE_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _check(self) -> None:
        try:
            status = self._process.wait(timeout=self._deadline.timeout(GONE_SECONDS))
        except subprocess.TimeoutExpired:
            status = -1
        if status != 0:
            self._errors.seek(0)
            said = self._errors.read(500).decode(errors="replace").strip().splitlines()
            raise LifecycleAgentError(
                f"journalctl for {self._unit} ended with {status}: {said[0] if said else 'no message'}",
                "the agent has to be in the group systemd-journal to read other units' messages",
            )

"""journald's own export of a unit's messages, read from journalctl as it writes."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Sequence
from typing import IO

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError


class JournalExport:
    """The messages of `unit` since boot, in the Journal Export Format (`systemd-journal-remote` reads it).

    Args:
        command: journalctl and what comes before the unit; tests hand in their own.

    Raises:
        LifecycleAgentError: journalctl is not there, failed, or said nothing until the deadline.
    """

    identity = ""  # messages may have come in since

    def __init__(
        self,
        unit: str,
        deadline: Deadline,
        command: Sequence[str] = ("journalctl", "--output=export", "--boot", "--no-pager", "--quiet"),
    ) -> None:
        self._unit = unit
        self._deadline = deadline
        # A file, not a second pipe: nobody has to read it while the messages come.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [*command, f"--unit={unit}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        except OSError as error:
            self._errors.close()
            raise LifecycleAgentError(
                f"the journal of {unit} cannot be read: {command[0]}: {error.strerror}",
                "install systemd's journalctl, or leave [logs] journal_units empty",
            ) from error

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, empty at the end."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        pipe = self._process.stdout.fileno()
        ready, _, _ = select.select([pipe], [], [], self._deadline.remaining())
        if not ready:
            raise LifecycleAgentError(
                f"time ran out while journalctl read the journal of {self._unit}",
                "give the transition more time (drain.timeout)",
            )
        data = os.read(pipe, size)
        if not data:
            self._check()
        return data

    def close(self) -> None:
        """End journalctl if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _check(self) -> None:
        try:
            status = self._process.wait(timeout=self._deadline.timeout(5.0))  # it has closed its output
        except subprocess.TimeoutExpired:
            status = -1
        if status != 0:
            self._errors.seek(0)
            said = self._errors.read(500).decode(errors="replace").strip().splitlines()
            raise LifecycleAgentError(
                f"journalctl for {self._unit} ended with {status}: {said[0] if said else 'no message'}",
                "the agent has to be in the group systemd-journal to read other units' messages",
            )

"""One run of a program: how long, how much processor, how much memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lifecycle_agent.errors import LifecycleAgentError

LAUNCH = Path(__file__).with_name("launch.py")


class Failed(LifecycleAgentError):
    """A program did not do what it is here for."""

    def __init__(
        self, message: str, hint: str = "try it alone: --only NAME --links unshaped --no-memory"
    ) -> None:
        super().__init__(message, hint)


@dataclass(frozen=True)
class Run:
    """What a program took.

    Args:
        seconds: from its start to its end.
        processor: seconds, user and system, with everything that it started.
        memory: MiB that the largest of its processes had resident at its peak.
        sent: bytes that it stored.
    """

    seconds: float
    processor: float
    memory: float
    sent: int = 0


def measure(argv: Sequence[str], environ: Mapping[str, str], limit: int) -> Run:
    """Run it to its end.

    Args:
        limit: seconds, after which it is killed.

    Raises:
        Failed: it did not end with 0.
    """
    with tempfile.NamedTemporaryFile() as answer, tempfile.TemporaryFile() as said:
        launcher = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LAUNCH), answer.name, str(limit), *argv],
            env=dict(environ), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            launcher.wait(limit + 30)
        except BaseException:
            launcher.terminate()
            launcher.wait()
            raise
        took = json.loads(Path(answer.name).read_text() or "{}")
        if took.pop("code", 1) != 0:
            said.seek(0)
            words = said.read()[-2000:].decode(errors="replace").strip()
            raise Failed(f"{' '.join(argv)} failed:\n{words or 'and said nothing'}")
    return Run(**took)

"""What the shows have in common: where they write, what they look at, and names short enough to read."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import IO, Protocol

from lifecycle_agent.rehearsal.callers import Tally


class Seen(Protocol):
    """What a show looks at while the world turns."""

    def names(self) -> Mapping[str, str]:
        """Names in events, and how people read them."""
        ...

    def agent_does(self) -> str:
        """What the agent says it does just now; empty while it does nothing."""
        ...

    def tally(self) -> Tally:
        """What the callers counted so far."""
        ...

    def seconds(self) -> float:
        """Since the beginning."""
        ...


class Writer:
    """Writes to an output that may be closed from the other side, which ends the writing and nothing else."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        if hasattr(out, "reconfigure"):
            out.reconfigure(errors="replace")  # a terminal that is not UTF-8 gets question marks

    def write(self, text: str) -> None:
        """Write at once."""
        try:
            self._out.write(text)
            self._out.flush()
        except BrokenPipeError:
            with contextlib.suppress(OSError, ValueError):  # what is still buffered goes nowhere
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())


def for_people(text: str, seen: Seen | None) -> str:
    """With short names, but for places that people look up, and arrows that are arrows."""
    names = seen.names() if seen else {}
    text = " ".join(word if word.startswith("s3://") else _short(word, names) for word in text.split(" "))
    return text.replace("->", "→" if (sys.stdout.encoding or "").lower().startswith("utf") else "->")


def _short(word: str, names: Mapping[str, str]) -> str:
    for name, short in names.items():
        word = word.replace(name, short)
    return word

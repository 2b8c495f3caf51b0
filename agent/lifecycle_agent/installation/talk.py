"""What an installation says while it works."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

_COLORS = {"+": "32", "-": "31", "@": "36"}


@dataclass(frozen=True)
class Talk:
    """Where what is said goes.

    Args:
        say: one line for each thing done.
        warn: what may go wrong later.
        progress: what is waited for just now; said again and again.
        color: whether a diff is coloured.
    """

    say: Callable[[str], None]
    warn: Callable[[str], None]
    progress: Callable[[str], None]
    color: bool = False

    def show(self, diff: Iterable[str]) -> None:
        """Say the lines of a diff."""
        for line in diff:
            code = _COLORS.get(line[:1]) if self.color else None
            self.say(f"\033[{code}m{line}\033[0m" if code else line)

"""What the watcher remembers, and what it may decide to do."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle_agent.model import Notice, NoticeKind
from lifecycle_agent.standing import Standing

NOTHING_ON_RECORD = Standing()


@dataclass(frozen=True)
class Memory:
    """What the watcher remembers between two cycles.

    Args:
        running: what the running transition is about; None while there is none.
        by_hand: what somebody is at by hand, one sentence; empty while nobody is.
        told: what the running or ended transition says of itself, one sentence.
        not_before: when what failed, or had to give way, is tried again, seconds on the boot clock.
        again: what that was; nothing else waits for it.
    """

    standing: Standing = NOTHING_ON_RECORD
    running: Notice | None = None
    told: str = ""
    not_before: float = 0.0
    by_hand: str = ""
    again: NoticeKind | None = None


@dataclass(frozen=True)
class Stay:
    """Change nothing; the sentence says what for."""

    sentence: str


@dataclass(frozen=True)
class Start:
    """Start a transition for the notice, in place of the one that runs."""

    notice: Notice
    sentence: str


@dataclass(frozen=True)
class Record:
    """Put the notice on record; nothing else is done about it."""

    notice: Notice
    sentence: str


@dataclass(frozen=True)
class Leave:
    """End the service."""

    sentence: str


Decision = Stay | Start | Record | Leave


def start(notice: Notice, because: str = "") -> Start:
    """Start a transition; the sentence gives the notice's reason, or another one."""
    return Start(notice, f"starting: {because or notice.reason}")

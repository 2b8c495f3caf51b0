"""What happened when, and who did it: everybody in the rehearsal writes here, `show` reads along."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lifecycle_agent.deadline import Clock, boottime


class Lane(str, Enum):
    """Who did something; the order is the order of the columns."""

    GROUP = "group"
    REGISTRY = "registry"
    APP = "app"
    CALLERS = "callers"
    AGENT = "agent"
    NOTICES = "notices"
    MACHINE = "machine"
    EC2 = "EC2"


class Mood(str, Enum):
    """How to take an event: what a colour stands for."""

    PLAIN = "plain"
    QUIET = "quiet"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True)
class Event:
    """One thing that happened, `at` seconds after the rehearsal's beginning."""

    at: float
    lane: Lane
    text: str
    mood: Mood = Mood.PLAIN
    data: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


class Timeline:
    """Collects events from all threads, in order, and hands each to the listener.

    Args:
        clock: seconds; the rehearsal begins when the timeline is made.
        listener: called with each event, one at a time; must not take long.
    """

    def __init__(self, clock: Clock = boottime, listener: Listener = lambda event: None) -> None:
        self._clock = clock
        self._listener = listener
        self._lock = threading.Lock()
        self.began = clock()
        self._events: list[Event] = []

    def now(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self.began

    def add(self, lane: Lane, text: str, mood: Mood = Mood.PLAIN, **data: Any) -> Event:
        """Write down that something happened just now."""
        with self._lock:
            event = Event(self.now(), lane, text, mood, data)
            self._events.append(event)
            self._listener(event)
        return event

    def events(self) -> list[Event]:
        """All events so far."""
        with self._lock:
            return list(self._events)

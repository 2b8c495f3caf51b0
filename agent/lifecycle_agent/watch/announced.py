"""What EC2 announces of this machine: interruptions, recommendations, scheduled events, as IMDS has them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime  # http.client has imported it already
from typing import Any

from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Clock, boottime
from lifecycle_agent.errors import MetadataUnavailableError
from lifecycle_agent.logline import logger
from lifecycle_agent.model import Announced

# How often each is asked for: AWS advises every 5 s for what leaves two minutes; the other is known for days
# before. Not less often than every so many polls: who polls faster wants to know sooner.
INTERRUPTION_SECONDS, MAINTENANCE_SECONDS = 5.0, 60.0
INTERRUPTION_POLLS, MAINTENANCE_POLLS = 5, 60

SPOT_ACTIONS = ("terminate", "stop", "hibernate")
MOST_EVENTS = 20  # of scheduled ones: an instance has one or two

MOST_LETTERS = 100  # of what EC2 calls something: its ids have some thirty

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)

Ask = Callable[[str], str | None]


class Announcements:
    """Asks for what is configured to be acted on, each in its own time, and keeps the last answer.

    Only a spot instance is asked for interruptions and recommendations.

    Args:
        ask: the text at a path below `latest/meta-data/`, None for 404; raises `MetadataUnavailableError`.
        wall: the wall clock in seconds, for times in notices are on it.
    """

    def __init__(self, config: Config, ask: Ask, clock: Clock = boottime, wall: Clock = time.time) -> None:
        self._ask = ask
        self._clock = clock
        self._wall = wall
        self._wanted = {
            "spot": config.spot.action != "ignore",
            "rebalance": config.rebalance.action != "ignore",
            "maintenance": config.maintenance.action != "ignore",
        }
        poll = config.agent.poll_interval
        often = min(INTERRUPTION_SECONDS, INTERRUPTION_POLLS * poll)
        self._every = {
            "spot": often,
            "rebalance": often,
            "maintenance": min(MAINTENANCE_SECONDS, MAINTENANCE_POLLS * poll),
        }
        self._is_spot: bool | None = None
        self._next = dict.fromkeys(self._wanted, 0.0)
        self._strange: set[str] = set()
        self.spot: Announced | None = None
        self.rebalance: Announced | None = None
        self.maintenance: tuple[Announced, ...] | None = None

    def look(self) -> None:
        """Ask for what is due. What cannot be had now stays what it was."""
        if self._due("spot") and self._may_be_spot():
            self._keep("spot", "spot/instance-action", self._interruption)
        if self._due("rebalance") and self._may_be_spot():
            self._keep("rebalance", "events/recommendations/rebalance", self._recommendation)
        if self._due("maintenance"):
            self._keep("maintenance", "events/maintenance/scheduled", self._scheduled)

    def _due(self, name: str) -> bool:
        if not self._wanted[name] or self._clock() < self._next[name]:
            return False
        self._next[name] = self._clock() + self._every[name]
        return True

    def _may_be_spot(self) -> bool:
        """Not knowing is no reason not to ask."""
        if self._is_spot is None:
            try:
                life_cycle = self._ask("instance-life-cycle")
            except MetadataUnavailableError:
                return True
            self._is_spot = life_cycle is None or life_cycle.strip() == "spot"
        return self._is_spot

    def _keep(self, name: str, path: str, read: Callable[[str | None], Any]) -> None:
        try:
            text = self._ask(path)
        except MetadataUnavailableError:
            return
        try:
            setattr(self, name, read(text))
        except _UNREADABLE:
            self._say_once(name, path, text)

    def _say_once(self, name: str, what: str, text: str | None) -> None:
        if name not in self._strange:
            self._strange.add(name)
            logger.warning("%s in the metadata cannot be read: %.200r", what, text)

    def _interruption(self, text: str | None) -> Announced | None:
        """`{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`."""
        if text is None:
            return None
        said = json.loads(text)
        action = _word(said["action"]).lower()
        if action not in SPOT_ACTIONS:
            raise ValueError(action)
        try:
            at = self._moment(said["time"])
        except (ValueError, KeyError, TypeError):
            at = self._clock()  # it makes nothing sensible, and the machine goes all the same
        return Announced(f"{action} {said.get('time')}"[:MOST_LETTERS], action, at)

    def _recommendation(self, text: str | None) -> Announced | None:
        """`{"noticeTime": "2020-10-27T08:22:00Z"}`."""
        if text is None:
            return None
        at = json.loads(text)["noticeTime"]
        return Announced(_word(at), "rebalance", self._moment(at))

    def _scheduled(self, text: str | None) -> tuple[Announced, ...]:
        """A list of `{"Code": ..., "State": "active", "EventId": ..., "NotBefore": ...}`.

        The time is one like `21 Jan 2019 09:00:43 GMT`.
        """
        listed = json.loads(text or "[]")
        if not isinstance(listed, list):
            raise TypeError(listed)
        found, strange = [], None
        for event in listed:
            try:
                if event["State"] == "active":
                    at = self._boot_clock(parsedate_to_datetime(event["NotBefore"]).timestamp())
                    found.append(Announced(_word(event["EventId"]), _word(event["Code"]), at))
            except _UNREADABLE as error:
                strange = error
        if strange is not None and not found:
            raise strange
        if strange is not None:
            self._say_once("maintenance", "one of the scheduled events", text)
        return tuple(found[:MOST_EVENTS])

    def _moment(self, text: str) -> float:
        """A time like `2017-09-18T08:22:00Z` on the boot clock, in seconds."""
        at = datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
        return self._boot_clock(at.timestamp())

    def _boot_clock(self, wall: float) -> float:
        return self._clock() + wall - self._wall()


def _word(value: object) -> str:
    """What EC2 calls something, as long as it may be."""
    if not isinstance(value, str):
        raise TypeError(value)
    return value[:MOST_LETTERS]

"""What EC2 does with our instance, and what it announces in its metadata."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

from lifecycle_agent.rehearsal.timeline import Lane
from lifecycle_agent.rehearsal.world import OURS, World

INTERRUPTION, RECOMMENDATION, SCHEDULED = (
    "spot/instance-action",
    "events/recommendations/rebalance",
    "events/maintenance/scheduled",
)


class Ec2:
    """EC2, as our instance gets to know it.

    Args:
        world: with our instance in it.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def interrupt(self, seconds: float) -> float:
        """A spot interruption notice: the instance is to be terminated about `seconds` from now.

        Returns:
            When that is, in seconds since the beginning: the notice has whole seconds only.
        """
        when, at = self._in(seconds)
        self._say(f"interrupts the spot instance {OURS}: it is terminated in {seconds:.1f} s")
        notice = {"action": "terminate", "time": f"{when:%Y-%m-%dT%H:%M:%SZ}"}
        self._world.imds.set(INTERRUPTION, json.dumps(notice))
        return at

    def reclaim(self, at: float) -> None:
        """What was announced happens: at that moment the instance is gone."""
        self._world.pause(at - self._world.seconds())
        self._say(f"takes {OURS} back")
        self._world.take_away(OURS)

    def recommend(self) -> None:
        """A rebalance recommendation: the risk of an interruption is elevated."""
        self._say(f"recommends to replace {OURS}, a spot instance: an interruption becomes likely")
        now = datetime.now(timezone.utc)
        self._world.imds.set(RECOMMENDATION, json.dumps({"noticeTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"}))

    def schedule(self, seconds: float, event: str, code: str = "instance-retirement") -> float:
        """A scheduled event about `seconds` from now.

        Returns:
            When that is, in seconds since the beginning.
        """
        when, at = self._in(seconds)
        self._say(f"schedules {code} of {OURS}, in {seconds:.1f} s ({event})")
        self._world.imds.set(
            SCHEDULED,
            json.dumps(
                [
                    {
                        "NotBefore": f"{when:%d %b %Y %H:%M:%S} GMT",
                        "Code": code,
                        "Description": "The instance is running on degraded hardware",
                        "EventId": event,
                        "NotAfter": f"{when + timedelta(hours=2):%d %b %Y %H:%M:%S} GMT",
                        "State": "active",
                    }
                ]
            ),
        )
        return at

    def switch_off(self) -> None:
        """The instance is stopped, as the warm pool has it; its disk stays."""
        self._say(f"stops {OURS}")
        self._world.ours.switch_off()

    def boot(self) -> None:
        """The instance is started again, and systemd starts what is enabled: the app."""
        self._say(f"starts {OURS} again: it boots")
        self._world.start_app(self._world.ours)

    def _in(self, seconds: float) -> tuple[datetime, float]:
        now = datetime.now(timezone.utc)
        when = (now + timedelta(seconds=seconds)).replace(microsecond=0)
        return when, self._world.seconds() + (when - now).total_seconds()

    def _say(self, text: str) -> None:
        self._world.timeline.add(Lane.EC2, text)

"""What a script has in hand: the world, the people in it, EC2; and how it waits."""

from __future__ import annotations

from collections.abc import Callable

from lifecycle_agent.config import Config
from lifecycle_agent.rehearsal.ec2 import Ec2
from lifecycle_agent.rehearsal.machine import Process
from lifecycle_agent.rehearsal.outcome import Moment
from lifecycle_agent.rehearsal.pace import Pace
from lifecycle_agent.rehearsal.people import People
from lifecycle_agent.rehearsal.timeline import Lane
from lifecycle_agent.rehearsal.world import OURS, START_SECONDS, InVain, World

CALM_SECONDS = 1.5  # of traffic before anything happens: enough to see that all is well
AFTERMATH = 60.0  # of real life: the registry's cache and the callers' own, for losses that come late
SLACK = 30.0  # seconds that a busy machine may need beyond what was configured
POLLS = 5  # of the metadata service: an agent that has something to do about it has begun by then


class Play:
    """A world that turns.

    Args:
        config: what was configured, at the rehearsal's speed.
        speed: how much faster than in real life.
    """

    def __init__(self, world: World, config: Config, pace: Pace, speed: float, with_agent: bool) -> None:
        self.world = world
        self.config = config
        self.pace = pace
        self.speed = speed
        self.with_agent = with_agent
        self.group = world.group
        self.people = People(world)
        self.ec2 = Ec2(world)

    # -- telling

    def group_does(self, text: str) -> None:
        """Say what the group is about to do, in words."""
        self.world.timeline.add(Lane.GROUP, text)

    def mark(self, name: str) -> Moment:
        """Give the moment a name, for the judge."""
        return self.world.watching.mark(name)

    def taken_away(self, how: str = f"scales in: takes {OURS} away") -> None:
        """The group takes our instance away, to the end and beyond."""
        self.group_does(how)
        self.group.terminate(OURS)
        self.gone()
        self.aftermath()

    # -- waiting

    def wait(self, what: str, condition: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait until something is so.

        Args:
            seconds: how long at most; None for what a whole transition may take.

        Raises:
            InVain: it never was, or our instance is gone.
        """
        # The group never waits longer than its heartbeats make it, the agent never longer than it may.
        launch = self.config.launch.timeout if self.world.scene.arrives else 0.0
        most = self.pace.balancer + max(self.config.drain.timeout, launch) + self.pace.heartbeat

        def so() -> bool:
            if condition():
                return True
            if self.world.ours.dead.is_set():
                raise InVain(f"the instance is gone, and so it is in vain: {what}", "the timeline has why")
            return False

        self.world.wait(what, so, most + SLACK if seconds is None else seconds)

    def calm(self) -> None:
        """Let callers be served for a moment, by everybody who is there."""
        answered = self.world.tally().ok
        self.world.pause(CALM_SECONDS)
        self.wait("callers are served", lambda: self.world.tally().ok > answered, START_SECONDS)

    def aftermath(self) -> None:
        """Losses that come late come from callers who still hold the instance for one to call."""
        self.world.pause(AFTERMATH / self.speed if self.world.followed else CALM_SECONDS)

    def looked(self, times: int = 2) -> None:
        """Wait until every caller has asked the registry so often."""
        looks = self.world.callers.looks()
        self.wait("callers look at the registry", lambda: self.world.callers.looks() >= looks + times)

    def polled(self, times: int = POLLS) -> None:
        """Wait until the agent has asked the metadata service so often: it has seen what there is to see."""
        polls = self.world.polls
        self.wait("the agent looks at the metadata", lambda: self.world.polls >= polls + times)

    def state(self, word: str) -> None:
        """Wait until the group says so of our instance."""
        self.wait(f"the group says {word}", lambda: self.group.state(OURS) == word)

    def called(self, requests: int = 10) -> None:
        """Wait until callers have sent our instance some more requests."""
        before = self.world.called
        self.wait("callers call our instance", lambda: self.world.called >= before + requests)

    def left(self) -> None:
        """Wait until nobody calls our instance any more."""
        self.wait("nobody calls our instance any more", lambda: not self.world.followed)

    def asked(self, path: str, times: int = 1) -> None:
        """Wait until the agent has asked for something in the metadata so often."""
        before = self.world.imds.requests[path]
        self.wait(f"the agent asks for {path}", lambda: self.world.imds.requests[path] >= before + times)

    def reported(self, kind: str, until: float | None = None) -> None:
        """Wait until the agent has reported the end of a transition of this kind.

        Args:
            until: when that is given up without a word, in seconds since the beginning.
        """

        def there() -> bool:
            late = until is not None and self.world.seconds() >= until
            return late or any(kind == one["notice"]["kind"] for one in self.world.watching.reports())

        self.wait(f"the agent reports: {kind}", there)

    def restarted(self) -> None:
        """Have the agent's service restarted, as by an upgrade."""
        self.people.stop_service()
        self.people.start_service()

    def gone(self) -> None:
        """Wait until our instance is no more."""
        self.wait("the instance is gone", self.world.ours.dead.is_set)

    def ended(self, process: Process) -> None:
        """Wait until a command that somebody has typed is over.

        Raises:
            InVain: it never ended, or it failed.
        """
        self.wait("the command ends", lambda: process.exit_code is not None)
        if process.exit_code:
            raise InVain(
                f"the command that was typed ended with exit code {process.exit_code}",
                "the timeline has what it said",
            )

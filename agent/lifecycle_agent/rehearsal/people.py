"""What people do on our instance: by hand, or through a package's script."""

from __future__ import annotations

from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.rehearsal.machine import Process
from lifecycle_agent.rehearsal.timeline import Lane
from lifecycle_agent.rehearsal.world import START_SECONDS, World

STOP_SECONDS = 20.0  # an agent that is told to stop needs a moment; its unit gives it 90 s


class People:
    """The operators of the app.

    Args:
        world: with our instance in it.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._service: Process | None = None

    def start_service(self) -> None:
        """`systemctl start lifecycle-agent`: returns when it watches.

        Raises:
            LifecycleAgentError: it ended at once, or never watched.
        """
        world = self._world
        world.timeline.add(Lane.AGENT, "starts")
        before = world.polls
        service = self._service = world.agent("run")
        world.wait(
            "the agent watches the metadata service",
            lambda: world.polls > before or service.exit_code is not None,
            START_SECONDS,
        )
        if service.exit_code is not None:
            raise LifecycleAgentError(
                f"the agent ended at once, with exit code {service.exit_code}",
                "the timeline has what it said",
            )

    def stop_service(self) -> None:
        """`systemctl stop lifecycle-agent`."""
        service = self._service
        if service is not None:
            self._world.timeline.add(Lane.MACHINE, "somebody stops the agent's service")
            service.terminate()
            self._world.wait("the agent has ended", lambda: service.exit_code is not None, STOP_SECONDS)

    def type(self, *arguments: str, said: str | None = None) -> Process:
        """`lifecycle-agent ...` on a terminal of our instance; does not wait for its end.

        Args:
            said: what is piped into it.
        """
        command = " ".join(["lifecycle-agent", *arguments])
        self._world.timeline.add(Lane.MACHINE, f"somebody types: {command}")
        return self._world.agent(*arguments, said=said)

    def start_app(self) -> None:
        """The app is started again, by whoever does that on this machine."""
        self._world.timeline.add(Lane.MACHINE, "the app is started again")
        self._world.start_app(self._world.ours)

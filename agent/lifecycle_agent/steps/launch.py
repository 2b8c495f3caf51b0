"""Prepare a new instance: let the units go that were held back, and wait until the app is ready for callers.

The warm-up commands before that are `drain.RunCommand`. Nothing here remembers anything: one cut off in the
middle begins anew, starts what does not run yet, and looks once more.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lifecycle_agent import files
from lifecycle_agent.clients.commands import CommandResult, Commands
from lifecycle_agent.clients.eureka import RegistryError
from lifecycle_agent.clients.registration import UP, Key
from lifecycle_agent.config import ReadySection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError, StepFailed
from lifecycle_agent.steps import Done, StepRun, Work
from lifecycle_agent.steps.ask import ask, plain
from lifecycle_agent.steps.discovery import LOOK, Own, as_data
from lifecycle_agent.steps.drain import Starting

# Seconds between two rounds, at first and at most, less up to half of it: soon for an app that is there at
# once, and little work for one that takes minutes.
PAUSE = (0.2, 2.0)
# Seconds for one try of a request: health checks answer in milliseconds, one that hangs is not ready.
TRY_URL = 5.0
# Seconds for one try of a command: as for the users' other commands, unless they say otherwise.
TRY_COMMAND = 30.0

_log = logging.getLogger(__name__)


class Watching(Protocol):
    """What `Ready` asks of systemd."""

    def active_state(self, unit: str, deadline: Deadline) -> str:
        """What systemd calls a unit's state, or `not-found`."""
        ...


class ThenStart:
    """Starts the units that were held back until the instance was prepared.

    Args:
        units: in this order; each is up before the next one is started.
        marker: the file without which systemd skips them (`ConditionPathExists=` in their drop-ins).
    """

    def __init__(self, units: Sequence[str], manager: Starting, marker: Path) -> None:
        self._units = units
        self._manager = manager
        self._marker = marker

    def run(self, work: Work) -> Done:
        """Let them go, and start them; see `StepRun.run`."""
        try:
            files.replace(self._marker, b"")
        except OSError as error:
            raise StepFailed(
                f"{self._marker}: cannot be written: {error.strerror}",
                f"systemd skips {', '.join(self._units)} without it: is /run full, or read-only?",
            ) from error
        for unit in self._units:
            work.say(f"starting {unit}")
            try:
                self._manager.start(unit, work.deadline, work)
            except LifecycleAgentError as error:
                raise StepFailed(error.message, error.hint) from error
        return Done(f"started {', '.join(self._units)}")


class Ready:
    """Waits until the app is ready, and keeps callers away from it until then.

    An app may register as UP as soon as it runs. Until it is ready its registrations are put out of service
    as often as they are UP; `BackInService` removes what that leaves.

    Done's data: `registrations`, those that were held back, a list of {app, id}.

    Args:
        name: of this step of this transition, and no other on this machine.
        own: None where there is no registry.
        look: seconds between two looks at the own registrations.
    """

    def __init__(
        self,
        section: ReadySection,
        name: str,
        commands: Commands,
        units: Watching,
        own: Own | None,
        look: float = LOOK,
    ) -> None:
        self._section = section
        self._name = name
        self._commands = commands
        self._units = units
        self._hold = _Hold(own, look)
        self._tries = 0
        self._output = ""

    def run(self, work: Work) -> Done:
        """Wait.

        Raises:
            StepFailed: it was not ready in time; names what was missing at the last look.
        """
        deadline = work.deadline.within(self._section.timeout)
        holding = _Holding(work, self._hold, deadline)
        began, (pause, most) = deadline.now(), PAUSE
        while True:
            holding.look()
            missing = self._missing(holding)
            waited = deadline.now() - began
            if not missing:
                return Done(f"ready after {waited:.0f} s", as_data(self._hold.held))
            seconds = pause * random.uniform(0.5, 1.0)  # noqa: S311
            pause = min(most, pause * 1.5)
            if deadline.remaining() <= seconds:  # one more try would have no time to say what is missing
                raise StepFailed(
                    f"not ready after {waited:.0f} s: {'; '.join(missing)}",
                    "look at the app's own log; launch.ready.timeout is the time it gets",
                )
            work.say(f"waiting: {'; '.join([*missing, *self._hold.trouble])}")
            holding.wait(seconds)

    def _missing(self, work: _Holding) -> list[str]:
        """What is not as it is to be, a few words each."""
        section = self._section
        found = [self._look_at(unit, work.deadline) for unit in section.units]
        if section.url:
            found.append(self._ask(section.url, work))
        if section.argv:
            found.append(self._run(section.argv, work))
        return [each for each in found if each]

    def _look_at(self, unit: str, deadline: Deadline) -> str:
        try:
            state = self._units.active_state(unit, deadline)
        except LifecycleAgentError as error:
            return error.message
        # A failed one may be started again, by systemd or by whoever brings the app.
        return "" if state in ("active", "reloading") else f"{unit} is {state}"

    def _ask(self, url: str, work: _Holding) -> str:
        answer = ask("GET", url, work.deadline.within(min(TRY_URL, work.deadline.remaining())), work)
        return "" if answer.good else answer.sentence(f"GET {plain(url)}")

    def _run(self, argv: Sequence[str], work: _Holding) -> str:
        self._tries += 1
        name, user = f"{self._name}.{self._tries}", self._section.user or None
        try:
            result = self._commands.run(name, argv, user, work.deadline.within(TRY_COMMAND), work)
        except LifecycleAgentError as error:
            return error.message
        if result.resumed:
            # Of a try before the agent was started again: how it was then says nothing of now.
            return f"{argv[0]} is run once more"
        if result.succeeded:
            return ""
        if result.output_tail != self._output:  # a line of it says why, and is not said with every try
            self._output = result.output_tail
            for line in self._output.splitlines():
                _log.info("%s: %s", argv[0], line)
        return f"{argv[0]} {_how_it_ended(result)}"


class HeldBack:
    """Another step of a launch, with the app held back meanwhile as `Ready` does it."""

    def __init__(self, step: StepRun, own: Own | None, look: float = LOOK) -> None:
        self._step = step
        self._hold = _Hold(own, look)

    def run(self, work: Work) -> Done:
        """Run it; see `StepRun.run`."""
        holding = _Holding(work, self._hold, work.deadline)
        holding.look()
        return self._step.run(holding)


class _Hold:
    """The own registrations, put out of service whenever callers would find one.

    Args:
        held: those that were.
        trouble: why the registry could not be asked at the last look, one sentence if any. Callers that it
            does not answer do not hear of us either: no reason to fail.
    """

    def __init__(self, own: Own | None, look: float) -> None:
        self.every = look
        self.held: list[Key] = []
        self.trouble: list[str] = []
        self._own = own
        self._known: list[Key] = []

    def look(self, deadline: Deadline) -> None:
        """Look once."""
        if self._own is None:
            return
        try:
            found = self._own.now(deadline, self._known)
            self._known = [each.key for each in found]
            for key in (each.key for each in found if each.status == UP):
                if self._own.registry.out_of_service(key, deadline) and key not in self.held:
                    self.held.append(key)
                    _log.info("%s is UP already: out of service until it is ready", key)
            self.trouble = []
        except RegistryError as error:
            self.trouble = [f"the registry does not answer: {error}"]


class _Holding:
    """A step's time, in which the app is held back, whatever is waited for just then."""

    def __init__(self, work: Work, hold: _Hold, deadline: Deadline) -> None:
        self.deadline = deadline
        self._work = work
        self._hold = hold
        self._next_look = deadline.now()

    def look(self) -> None:
        """Look at the registrations, if it is time to."""
        if self.deadline.now() >= self._next_look:
            # Not longer than until the next one: a registry that hangs must not keep us from seeing the app.
            self._hold.look(self.deadline.within(self._hold.every))
            self._next_look = self.deadline.now() + self._hold.every

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Say what the step says."""
        self._work.say(text, done, total)

    def wait(self, seconds: float) -> None:
        """Sleep as the step does, and look."""
        self._work.wait(seconds)
        self.look()


def _how_it_ended(result: CommandResult) -> str:
    if result.timed_out:
        return f"did not end within {TRY_COMMAND:g} s"
    if result.signal is not None:
        return f"ended with signal {result.signal}"
    return f"ended with exit code {result.exit_code}"

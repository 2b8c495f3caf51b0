"""Bring the app to rest: its own commands and HTTP hooks, then wait until it is idle, then stop its units.

Each command, each hook, the wait and the units are steps of their own, so that each is in the journal
when it is done. One cut off in the middle is run again: a command under systemd is then waited for, one
in a process group begins anew, an HTTP hook is called once more.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from lifecycle_agent.clients.commands import CommandResult, Commands, Waiter
from lifecycle_agent.clients.connections import Connection
from lifecycle_agent.clients.units import Stopped
from lifecycle_agent.config import CommandSection, HttpSection, IdleSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError, StepFailed
from lifecycle_agent.steps import Done, Work
from lifecycle_agent.steps.ask import ask, plain

_IDLE_TICK = 0.2  # seconds; a connection that comes and goes in between would be over in any case
_NAMED = 3  # peers named in a sentence that people read

_log = logging.getLogger(__name__)


class Connecting(Protocol):
    """Who is connected: what `WaitIdle` asks."""

    def count(self, ports: Collection[int]) -> Counter[Connection]:
        """The established connections to the local `ports`."""
        ...


class Stopping(Protocol):
    """What `StopUnits` asks."""

    def stop(self, unit: str, deadline: Deadline, waiter: Waiter) -> Stopped:
        """Stop a unit and wait until it has."""
        ...


class Starting(Protocol):
    """What `StartUnits` asks."""

    def start(self, unit: str, deadline: Deadline, waiter: Waiter) -> None:
        """Start a unit and wait until it is up."""
        ...


class RunCommand:
    """Run one of the users' own commands.

    Args:
        name: of this step of this transition, no other on this machine, and the same when it is resumed.
    """

    def __init__(self, section: CommandSection, name: str, commands: Commands) -> None:
        self._section = section
        self._name = name
        self._commands = commands

    def run(self, work: Work) -> Done:
        """Run it and log the end of its output; see `StepRun.run`."""
        section = self._section
        program = section.argv[0]
        work.say(f"running {program}")
        try:
            result = self._commands.run(
                self._name, section.argv, section.user or None, work.deadline.within(section.timeout), work
            )
        except LifecycleAgentError as error:
            return _missed(section.on_failure, error.message, error.hint)
        for line in result.output_tail.splitlines():
            _log.info("%s: %s", program, line)
        data = {"exit_code": result.exit_code, "signal": result.signal, "resumed": result.resumed}
        if result.succeeded:
            return Done(f"{program} is done", data)
        return _missed(
            section.on_failure,
            f"{program} {_how_it_ended(result)}",
            "its time is `timeout` of the command"
            if result.timed_out
            else "its output is in the agent's log",
            data,
        )


class CallApp:
    """One HTTP request to the app. Redirects are not followed, and no proxy is asked."""

    def __init__(self, section: HttpSection) -> None:
        self._section = section

    def run(self, work: Work) -> Done:
        """Ask, and take a 2xx for an answer; see `StepRun.run`."""
        section = self._section
        what = f"{section.method} {plain(section.url)}"
        work.say(f"calling {what}")
        answer = ask(section.method, section.url, work.deadline.within(section.timeout), work)
        said = answer.sentence(what)
        if answer.good:
            return Done(said, {"status": answer.status})
        if answer.body:
            _log.info("%s: %s", said, answer.body.decode(errors="replace"))
        return _missed(section.on_failure, said, "look at the app's own log", {"status": answer.status})


class WaitIdle:
    """Wait until nobody is connected to the app's ports any more, and stays so for `quiet` seconds."""

    def __init__(self, section: IdleSection, connections: Connecting) -> None:
        self._section = section
        self._connections = connections

    def run(self, work: Work) -> Done:
        """Wait; connections left at the timeout are a warning, draining goes on. See `StepRun.run`."""
        section = self._section
        deadline = work.deadline.within(section.timeout)
        started = deadline.now()
        idle_since: float | None = None
        said = ""
        while True:
            left = self._count()
            now = deadline.now()
            idle_since = None if left else now if idle_since is None else idle_since
            if idle_since is not None and now - idle_since >= section.quiet:
                return Done(f"idle after {idle_since - started:.1f} s, and for {section.quiet:g} s since")
            if deadline.passed:
                break
            text = _describe(left) if left else f"idle; to stay so for {section.quiet:g} s"
            if text != said:
                work.say(said := text)
            quiet_left = section.quiet if idle_since is None else idle_since + section.quiet - now
            # A millisecond at least: what rounding leaves over must not keep us busy.
            work.wait(max(0.001, min(_IDLE_TICK, quiet_left or _IDLE_TICK, deadline.remaining())))
        warning = f"{_describe(left) if left else 'never idle long enough'} after {now - started:.1f} s"
        return Done("went on before the app was idle", {"connections": left.total()}, (warning,))

    def _count(self) -> Counter[Connection]:
        try:
            return self._connections.count(self._section.ports)
        except LifecycleAgentError as error:
            raise StepFailed(error.message, error.hint) from error


class StopUnits:
    """Stop the app's units, one after the other in the order of the configuration.

    Args:
        stop_timeout: seconds for each of them; what is left then is killed.
    """

    def __init__(self, units: Sequence[str], manager: Stopping, stop_timeout: float) -> None:
        self._units = units
        self._manager = manager
        self._stop_timeout = stop_timeout

    def run(self, work: Work) -> Done:
        """Stop them all, also when one of them fails; see `StepRun.run`."""
        failures: list[LifecycleAgentError] = []
        warnings = []
        for unit in self._units:
            work.say(f"stopping {unit}")
            try:
                stopped = self._manager.stop(unit, work.deadline.within(self._stop_timeout), work)
            except LifecycleAgentError as error:
                failures.append(error)
                continue
            if stopped.killed:
                warnings.append(f"{unit} did not stop within {self._stop_timeout:g} s and was killed")
            elif not stopped.was_active:
                warnings.append(f"{unit} was not running")
        if failures:
            raise StepFailed("; ".join(error.message for error in failures), failures[0].hint)
        return Done(f"stopped {', '.join(self._units)}", warnings=tuple(warnings))


class StartUnits:
    """Start the app's units again, the one that was stopped last first."""

    def __init__(self, units: Sequence[str], manager: Starting) -> None:
        self._units = units
        self._manager = manager

    def run(self, work: Work) -> Done:
        """Start them; see `StepRun.run`."""
        for unit in reversed(self._units):
            work.say(f"starting {unit}")
            try:
                self._manager.start(unit, work.deadline, work)
            except LifecycleAgentError as error:
                raise StepFailed(error.message, error.hint) from error
        return Done(f"started {', '.join(reversed(self._units))}")


def _missed(on_failure: str, problem: str, hint: str, data: Mapping[str, Any] | None = None) -> Done:
    """What `on_failure` makes of a problem: a warning, or the step's failure."""
    if on_failure == "fail":
        raise StepFailed(problem, hint)
    return Done("went on with a warning", data or {}, (problem,))


def _how_it_ended(result: CommandResult) -> str:
    how = f"exit code {result.exit_code}" if result.signal is None else f"signal {result.signal}"
    return f"was killed when its time was up ({how})" if result.timed_out else f"ended with {how}"


def _describe(left: Counter[Connection]) -> str:
    """`3 connections left: 2 from 10.0.0.5 to port 8080, 1 from ...`."""
    parts = [f"{number} from {one.peer} to port {one.local_port}" for one, number in left.most_common(_NAMED)]
    if len(left) > _NAMED:
        parts.append("...")
    total = left.total()
    return f"{total} connection{'' if total == 1 else 's'} left: {', '.join(parts)}"

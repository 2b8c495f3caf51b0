"""The real parts that a planned step runs on, made when they are needed."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_agent.clients.autoscaling import AutoScaling
from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.files import LAUNCHED, runtime_dir
from lifecycle_agent.logline import JsonLine, logger
from lifecycle_agent.model import (
    ActionResult,
    LifecycleTransition,
    Machine,
    Notice,
    NoticeKind,
    Report,
)
from lifecycle_agent.steps import StepRun, Work
from lifecycle_agent.steps.discovery import (
    BackInService,
    Deregister,
    OutOfService,
    Own,
    Settle,
    Verify,
)
from lifecycle_agent.steps.notify import Event, Notifier, Notify
from lifecycle_agent.transition import plan as names
from lifecycle_agent.transition.heartbeat import GroupSide
from lifecycle_agent.transition.plan import PlannedStep
from lifecycle_agent.transition.report import as_json
from lifecycle_agent.transition.take_up import Transition

if TYPE_CHECKING:
    from lifecycle_agent.clients.eureka import EurekaClient

# Steps that people feel: nothing is imported or asked beside them. Everything else starts after.
FIRST = (names.NOTIFY_START, names.OUT_OF_SERVICE)

# For the logs' place: after a crash the name may not be known yet, and the place must be the same one.
GROUP_SECONDS = 5.0

MOST_LOG_LINES = 5000  # of the transition's own log, the newest, some 1 MB, kept for the upload


class OwnLog(logging.Handler):
    """Keeps the log of this process, to be uploaded with the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLine())
        self._lines: deque[str] = deque(maxlen=MOST_LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self._lines.append(self.format(record))

    def content(self) -> bytes:
        """The lines so far."""
        return ("\n".join(tuple(self._lines)) + "\n").encode()


class Parts:
    """Makes steps, and the group's side.

    Args:
        tightened: told where to the group's side brings the deadline forward.
        earlier: data of a step that has ended, by its name; empty for one that has not, or failed.
        report: the report as it stands.
    """

    def __init__(
        self,
        config: Config,
        machine: Machine,
        transition: Transition,
        state_dir: Path,
        tightened: Callable[[float], None],
        earlier: Callable[[str], Mapping[str, Any]],
        report: Callable[[], Report],
    ) -> None:
        self._config = config
        self._machine = machine
        self._notice = transition.notice
        self._transition_id = transition.transition_id
        self._commands = transition.commands
        self._started = transition.started
        self._deadline = transition.deadline
        self._deleted = transition.deleted
        self._state_dir = state_dir
        self._tightened = tightened
        self._earlier = earlier
        self._report = report
        self._log = OwnLog()
        logger.addHandler(self._log)
        self.notifier = Notifier(config.notify)
        self.group = group_side(self._notice, machine, config, self._deadline, tightened)
        self._connect_s3: Callable[[], Any] | None = None

    def make(self, step: PlannedStep) -> StepRun:
        """The step that is planned."""
        if step.name not in FIRST:
            self._start_the_rest()
        if step.name.startswith("discovery."):
            return self._discovery(step)
        if step.name in (names.NOTIFY_START, names.NOTIFY_RESULT):
            return Notify(self.notifier, lambda: self._event(step.name == names.NOTIFY_START))
        if step.name == names.LOGS:
            return self._logs()
        if step.name.startswith("launch."):
            return self._launch(step)
        return self._drain(step)

    def complete(self, result: ActionResult, work: Work) -> str:
        """Answer the group."""
        group = self.group
        if group is None:
            raise AssertionError("asked to complete without a lifecycle action")
        with contextlib.suppress(RuntimeError):  # no thread to be had: then it is answered without one
            self._start_the_rest()
        deadline = work.deadline.within(max(self._deadline.remaining(), names.COMPLETE_RESERVE[0]))
        try:
            return group.complete(result, deadline, work.deadline, work.wait, work.say)
        finally:
            group.stop()

    def close(self) -> None:
        """Let go of the process's log."""
        logger.removeHandler(self._log)

    def _start_the_rest(self) -> None:
        """Import boto3 and connect in the background, now that nobody is kept waiting by it."""
        if self.group is not None and self.group.ident is None:
            self.group.start()
        if self._connect_s3 is None and self._config.logs is not None:
            from lifecycle_agent.clients.s3 import Storage, later

            logs = self._config.logs
            self._connect_s3 = later(logs.bucket, self._machine.region, Storage.of(logs))

    @cached_property
    def _registry(self) -> EurekaClient | None:
        eureka = self._config.eureka
        if not eureka.urls:
            return None
        from lifecycle_agent.clients.eureka import EurekaClient

        password = eureka.password_file.value if eureka.password_file else ""
        auth = (eureka.username, password) if eureka.username else None
        return EurekaClient(eureka.urls, auth, str(eureka.ca_file) if eureka.ca_file else None)

    def _discovery(self, step: PlannedStep) -> StepRun:
        registry, machine, app = self._registry, self._machine, self._config.eureka.app or None
        if step.name == names.SETTLE:
            settle = self._config.eureka.settle
            group = _NoGroup() if self.group is None or self._notice.if_asked else self.group
            return Settle(self._own(), settle, group, self._earlier(names.OUT_OF_SERVICE))
        if registry is None:
            raise AssertionError(f"{step.name} is planned without a registry")
        known = self._earlier(names.SETTLE) or self._earlier(names.OUT_OF_SERVICE)
        match step.name:
            case names.OUT_OF_SERVICE:
                into_pool = self._notice.kind is NoticeKind.LAUNCH
                return OutOfService(
                    registry, machine, app, into_pool, self._earlier(names.READY), self._deleted
                )
            case names.DEREGISTER:
                return Deregister(registry, machine, app, known)
            case names.VERIFY:
                return Verify(registry, machine, app, self._earlier(names.DEREGISTER) or known)
            case names.BACK_IN_SERVICE:
                return BackInService(registry, machine, app, earlier=self._earlier(names.REGISTER))
            case names.REGISTER:
                from lifecycle_agent.steps.register import Register

                return Register(registry, machine, self._config.eureka)
        raise AssertionError(f"no such step: {step.name}")

    def _own(self) -> Own | None:
        app = self._config.eureka.app or None
        return Own(self._registry, self._machine, app) if self._registry is not None else None

    def _launch(self, step: PlannedStep) -> StepRun:
        from lifecycle_agent.clients.here import commands_here
        from lifecycle_agent.clients.units import Units
        from lifecycle_agent.steps.arrival import Arrival
        from lifecycle_agent.steps.drain import RunCommand
        from lifecycle_agent.steps.launch import HeldBack, Ready, ThenStart

        launch, name = self._config.launch, f"{self._commands}-{step.name}"
        marker = runtime_dir() / LAUNCHED
        own = self._own()
        if step.name.startswith(names.WARM_UP):
            return HeldBack(RunCommand(launch.command[step.index], name, commands_here()), own)
        match step.name:
            case names.ARRIVAL:
                group = AutoScaling(self._machine.region, self._machine.instance_id)
                held_back = bool(launch.then_start) and not marker.exists()
                if self._notice.kind is NoticeKind.LEAVE_POOL:
                    return HeldBack(Arrival(group, held_back, leaving=True), own)
                return Arrival(group, held_back)
            case names.THEN_START:
                return HeldBack(ThenStart(launch.then_start, Units(), marker), own)
            case names.READY:
                return Ready(launch.ready, name, commands_here(), Units(), own)
        raise AssertionError(f"no such step: {step.name}")

    def _drain(self, step: PlannedStep) -> StepRun:
        from lifecycle_agent.clients.connections import Connections
        from lifecycle_agent.clients.here import commands_here
        from lifecycle_agent.clients.units import Units
        from lifecycle_agent.steps.drain import CallApp, RunCommand, StartUnits, StopUnits, WaitIdle
        from lifecycle_agent.steps.launch import HeldBack

        drain = self._config.drain
        if step.name.startswith(names.COMMAND):
            name = f"{self._commands}-{step.name}"
            return RunCommand(drain.command[step.index], name, commands_here())
        if step.name.startswith(names.HTTP):
            return CallApp(drain.http[step.index])
        match step.name:
            case names.IDLE:
                return WaitIdle(drain.idle, Connections())
            case names.UNITS:
                return StopUnits(drain.units, Units(), drain.stop_timeout)
            case names.START_UNITS:
                start = StartUnits(names.units_to_start(self._config), Units())
                return HeldBack(start, self._own()) if self._config.launch.ready.asked else start
        raise AssertionError(f"no such step: {step.name}")

    def _logs(self) -> StepRun:
        from lifecycle_agent.steps.logs import Extra, Logs
        from lifecycle_agent.steps.logs.shipped import RECORD

        section = self._config.logs
        if section is None or self._connect_s3 is None:
            raise AssertionError("logs are planned without a [logs] section")
        values = {
            "group": self.group_name(GROUP_SECONDS) or "no-group",
            "instance_id": self._machine.instance_id,
            "time": self._started.split(".")[0].replace(":", "") + "Z",  # no colons: people copy these
        }
        extras = [
            Extra("agent.log", self._log.content),
            Extra("report.json", lambda: as_json(self._report())),
            Extra("journal.jsonl", self._state_dir / "journal.jsonl"),
        ]
        record, earlier = self._state_dir / "upload.jsonl", self._state_dir / RECORD
        return Logs(section, self._connect_s3, values, extras, record, earlier)

    def _event(self, start: bool) -> Event:
        group = self.group_name() or ""
        if not start:
            return Event.result(self._report(), group)
        return Event("start", self._transition_id, self._machine.instance_id, group, self._notice)

    def group_name(self, seconds: float = 0.0) -> str | None:
        """The group's name, waited for `seconds` at most."""
        return self.group.group(seconds) if self.group is not None else self._machine.group


def group_side(
    notice: Notice,
    machine: Machine,
    config: Config,
    deadline: Deadline,
    tightened: Callable[[float], None],
) -> GroupSide | None:
    """The group's side of a transition, not started yet; None for one that answers no lifecycle action."""
    if notice.completes is None:
        return None
    hooks = config.hooks
    terminating = notice.completes is LifecycleTransition.TERMINATING
    return GroupSide(
        lambda: AutoScaling(machine.region, machine.instance_id),
        notice.completes,
        hooks.terminate if terminating else hooks.launch,
        machine.group,
        deadline,
        tightened,
        if_asked=notice.if_asked,
        action=notice.action,
        machine_goes=notice.ends is not None,
    )


@contextlib.contextmanager
def keeping_alive(notice: Notice, machine: Machine, config: Config, deadline: Deadline) -> Iterator[None]:
    """Heartbeats for the notice's lifecycle action while something else holds its transition up."""
    side = group_side(notice, machine, config, deadline, lambda ends: None)
    if side is not None:
        side.start()
    try:
        yield
    finally:
        if side is not None:
            side.stop()


class _NoGroup:
    """Nobody to wait for."""

    def waiting(self) -> None:
        return None

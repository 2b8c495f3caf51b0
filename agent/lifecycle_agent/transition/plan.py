"""What a transition will do, in which order, on whose time. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from lifecycle_agent.clients.units import whole_name
from lifecycle_agent.config import Config
from lifecycle_agent.model import COMPLETE, INTO_SERVICE, LAUNCHES, Notice, NoticeKind

# The names of the steps: in the journal, in the report, in the log, and on the screen.
NOTIFY_START = "notify.start"
ARRIVAL = "launch.arrival"
WARM_UP = "launch.command"
THEN_START = "launch.then_start"
READY = "launch.ready"
REGISTER = "discovery.register"
OUT_OF_SERVICE = "discovery.out_of_service"
SETTLE = "discovery.settle"
COMMAND = "drain.command"
HTTP = "drain.http"
IDLE = "drain.idle"
UNITS = "drain.units"
DEREGISTER = "discovery.deregister"
LOGS = "logs"
VERIFY = "discovery.verify"
NOTIFY_RESULT = "notify.result"
START_UNITS = "undrain.units"
BACK_IN_SERVICE = "discovery.back_in_service"

# Seconds that earlier steps may not touch, and the share of a short transition (a spot notice's two
# minutes) that they shrink to.
UNITS_RESERVE = (
    10.0,
    0.05,
)  # a stop signal, then SIGKILL: an app deregistered alive registers again, and is UP
DEREGISTER_RESERVE = (5.0, 0.05)  # two requests to a registry, and a second try for each
LOGS_RESERVE = (60.0, 0.15)  # what matters of the logs, at a gigabit, several times over
COMPLETE_RESERVE = (20.0, 0.10)  # three tries of a call with `clients.autoscaling.CALL_SECONDS`

TOO_MANY_DEATHS = 3  # in a row: see `make_plan`

SHARES = {
    UNITS: UNITS_RESERVE[1],
    DEREGISTER: DEREGISTER_RESERVE[1],
    LOGS: LOGS_RESERVE[1],
    COMPLETE: COMPLETE_RESERVE[1],
}

OUT_OF_SERVICE_SECONDS = 15.0  # a registry that is down is tried again while settling
ANSWER_SECONDS = 3600.0  # the longest deregistration delay of a load balancer (ELB target groups: 0..3600 s)
SETTLE_SLACK = 5.0  # the last look at the registry, which may answer slowly
# Where the machine itself goes, settling is cut first, and to this part of the time: of a spot notice's two
# minutes it is the one for which callers hold an old registry. What the app's draining may take at most, it
# seldom takes; callers that still come when it has stopped are lost for sure.
SETTLE_SHARE = 0.5
DRAIN_SHARE = 3.0  # the app's own draining may keep this part of the time from a slow load balancer: a third
REGISTER_SECONDS = 60.0  # a registry that is down or starts with us is tried again
LISTED_SECONDS = 60.0  # an app that has just come up: its registration, and the registry's response cache
NOTIFY_SECONDS = 1.0  # it only hands the message over
VERIFY_SECONDS = 5.0


class When(Enum):
    """After what a step is run."""

    ALWAYS = "whatever came before"
    WELL = "only as long as nothing has failed"
    FAILED = "only once something has failed"


@dataclass(frozen=True)
class PlannedStep:
    """One step of the plan.

    Args:
        what: a few words for people.
        timeout: seconds it may take at most, None for whatever is left.
        reserve: seconds that earlier steps leave for it.
        essential: whether it is still done when time has run out or the transition keeps dying.
        index: which of several of its kind (commands, HTTP hooks) it is, from 0.
        when: after what it is run.
    """

    name: str
    what: str
    timeout: float | None = None
    reserve: float = 0.0
    essential: bool = False
    index: int = 0
    when: When = When.ALWAYS


@dataclass(frozen=True)
class Plan:
    """The steps in order, and the seconds set aside for the answer to the group.

    Args:
        left_out: steps that are skipped from the start: the transition has died too often.
    """

    steps: tuple[PlannedStep, ...]
    total: float
    completion_reserve: float
    left_out: tuple[PlannedStep, ...] = ()

    @property
    def reserve(self) -> float:
        """Seconds that are kept for what matters most."""
        return sum(step.reserve for step in self.steps) + self.completion_reserve

    def reserve_after(self, step: PlannedStep, total: float | None = None) -> float:
        """Seconds that `step` must leave for the steps after it and for the completion.

        Args:
            total: how long the transition may take now, where that is less than was planned.
        """
        after = self.steps[self.steps.index(step) + 1 :]
        kept = [*((later.reserve, later.name) for later in after), (self.completion_reserve, COMPLETE)]
        if total is None or total >= self.total:
            return sum(seconds for seconds, _ in kept)
        return sum(min(seconds, total * SHARES.get(name, 1.0)) for seconds, name in kept)

    def budgets(self) -> Iterator[tuple[PlannedStep, float]]:
        """Each step with the seconds it gets at most if every step before it takes no time at all."""
        for step in self.steps:
            left = self.total - self.reserve_after(step)
            yield step, left if step.timeout is None else min(step.timeout, left)


def make_plan(notice: Notice, config: Config, deaths: int = 0, total: float | None = None) -> Plan:
    """The plan for a notice.

    Args:
        total: seconds it may take; None for what the configuration gives.
        deaths: times in a row that a process died over it. From `TOO_MANY_DEATHS` on it goes straight to
            stopping the units, deregister, logs and completion; from twice as many on to the completion
            alone, for then it is one of these that it dies of.
    """
    most = time_for(notice, config)
    total = most if total is None else min(total, most)
    steps = tuple(_steps(notice, config, total))
    reserve = _share(COMPLETE_RESERVE, total) if notice.completes is not None else 0.0
    left_out: tuple[PlannedStep, ...] = ()
    if deaths >= TOO_MANY_DEATHS:
        last_resort = deaths >= 2 * TOO_MANY_DEATHS
        left_out = tuple(step for step in steps if last_resort or not step.essential)
    return Plan(steps, total, reserve, left_out)


def time_for(notice: Notice, config: Config) -> float:
    """Seconds that a transition for the notice may take at most."""
    if notice.kind in LAUNCHES:
        return config.launch.timeout
    ready = config.launch.ready
    back = notice.kind in INTO_SERVICE and ready.asked  # the app may take as long as in a launch
    return config.drain.timeout + (ready.timeout if back else 0.0)


def time_key(notice: Notice, config: Config) -> str:
    """Where that is configured."""
    if notice.kind in LAUNCHES:
        return "[launch] timeout"
    back = notice.kind in INTO_SERVICE and config.launch.ready.asked
    return "[drain] timeout and [launch.ready] timeout" if back else "[drain] timeout"


def _steps(notice: Notice, config: Config, total: float) -> list[PlannedStep]:
    if notice.only_told:
        return _told_start(config)
    match notice.kind:
        case NoticeKind.LAUNCH | NoticeKind.LEAVE_POOL:
            return _launch(notice, config, total)
        case NoticeKind.STANDBY:
            return _standby(notice, config, total)
        case NoticeKind.UNDRAIN:
            return [*_start_units(config), *_then_start(config), *_back(config), *_told_result(config)]
        case NoticeKind.REBOOT:
            return [*_told_start(config), *_quiet(notice, config, total)]
        case NoticeKind.RETURN:
            # Its units are not started: systemd has started those that are to run after a boot.
            return [*_then_start(config), *_back(config), *_told_result(config)]
    return _drain(notice, config, total)


def _launch(notice: Notice, config: Config, total: float) -> list[PlannedStep]:
    """A new instance, or one out of the warm pool; of one that failed, the logs are all that is left."""
    # First, and nobody is told before: what is in service already is only put on record. It takes what time
    # there is, for without it nothing else makes sense.
    what = "ask the group where it has this instance"
    arrival = [PlannedStep(ARRIVAL, what)] if _group_is_awaited(notice) else []
    steps: list[PlannedStep] = []
    if notice.kind is NoticeKind.LEAVE_POOL or notice.if_asked:  # a drain may have stopped them
        steps += _start_units(config)
    for index, command in enumerate(config.launch.command):
        what = f"run {command.argv[0]}"
        steps.append(PlannedStep(f"{WARM_UP}.{index + 1}", what, command.timeout, index=index))
    steps += _then_start(config)
    if notice.into_pool:
        steps += _ready(config)
        out = _out_of_the_way(notice, config, total)
        steps += [
            replace(step, timeout=LISTED_SECONDS) if step.name == OUT_OF_SERVICE else step for step in out
        ]
    else:
        steps += _back(config, config.launch.ready.timeout)
    steps = [replace(step, when=When.WELL) for step in steps]
    if config.logs is not None:
        what, reserve = f"save the logs to s3://{config.logs.bucket}", _share(LOGS_RESERVE, total)
        steps.append(PlannedStep(LOGS, what, None, reserve, essential=True, when=When.FAILED))
    return [*arrival, *_told_start(config), *steps, *_told_result(config)]


def _standby(notice: Notice, config: Config, total: float) -> list[PlannedStep]:
    """The app is to come back: its registration stays, out of service."""
    steps = _out_of_the_way(notice, config, total)
    if config.standby.action == "out-of-service":
        steps = [step for step in steps if step.name in (OUT_OF_SERVICE, SETTLE)]
    return [*_told_start(config), *steps, *_told_result(config)]


def _out_of_the_way(notice: Notice, config: Config, total: float) -> list[PlannedStep]:
    """Nobody calls the app any more, and then it stops."""
    return [*_quiet(notice, config, total), *_stop_units(config, total)]


def _drain(notice: Notice, config: Config, total: float) -> list[PlannedStep]:
    """The order of a termination; why it is this one is in the design."""
    # On its way into the warm pool an app that runs on would only register again: it stays out of service.
    deregister = bool(config.eureka.urls) and (
        notice.kind is not NoticeKind.ENTER_POOL or bool(config.drain.units)
    )
    steps = [*_told_start(config), *_out_of_the_way(notice, config, total)]
    if deregister:
        what, reserve = "delete the registration, verify it is gone", _share(DEREGISTER_RESERVE, total)
        steps.append(PlannedStep(DEREGISTER, what, 30.0, reserve, essential=True))
    if config.logs is not None:
        what, reserve = f"save the logs to s3://{config.logs.bucket}", _share(LOGS_RESERVE, total)
        steps.append(PlannedStep(LOGS, what, None, reserve, essential=True))
    if deregister:
        steps.append(PlannedStep(VERIFY, "see that nothing registered again", VERIFY_SECONDS, essential=True))
    return [*steps, *_told_result(config)]


def _stop_units(config: Config, total: float) -> list[PlannedStep]:
    drain = config.drain
    if not drain.units:
        return []
    timeout, reserve = drain.stop_timeout * len(drain.units), _share(UNITS_RESERVE, total)
    return [PlannedStep(UNITS, f"stop {', '.join(drain.units)}", timeout, reserve, essential=True)]


def _told_start(config: Config) -> list[PlannedStep]:
    if not config.notify:
        return []
    return [PlannedStep(NOTIFY_START, "tell people that it starts", NOTIFY_SECONDS)]


def _told_result(config: Config) -> list[PlannedStep]:
    if not config.notify:
        return []
    return [PlannedStep(NOTIFY_RESULT, "tell people the result", NOTIFY_SECONDS, essential=True)]


def _quiet(notice: Notice, config: Config, total: float) -> list[PlannedStep]:
    """Until nobody calls the app any more; it still runs. All there is to do before a reboot."""
    eureka, drain = bool(config.eureka.urls), config.drain
    steps: list[PlannedStep] = []
    if eureka:
        steps.append(
            PlannedStep(OUT_OF_SERVICE, "take the app out of service in Eureka", OUT_OF_SERVICE_SECONDS)
        )
    if eureka or _group_is_awaited(notice):
        steps.append(_settle(notice, config, total))
    for index, command in enumerate(drain.command):
        what = f"run {command.argv[0]}"
        steps.append(PlannedStep(f"{COMMAND}.{index + 1}", what, command.timeout, index=index))
    for index, hook in enumerate(drain.http):
        what = f"{hook.method} {hook.url.partition('?')[0]}"
        steps.append(PlannedStep(f"{HTTP}.{index + 1}", what, hook.timeout, index=index))
    if drain.idle.ports:
        ports = ", ".join(str(port) for port in drain.idle.ports)
        steps.append(PlannedStep(IDLE, f"wait until nobody is connected to port {ports}", drain.idle.timeout))
    return steps


def _settle(notice: Notice, config: Config, total: float) -> PlannedStep:
    """Waiting out the callers' caches, beside it the load balancer of a group that we answer to.

    The caches get what they need. A load balancer gets no more than leaves the app its time to drain: one
    that is slower sends no new requests by then, and the answer waits for it in any case.

    Where the machine itself goes the caches get what the app's own draining leaves of the time, and half
    of it in any case.
    """
    waits = ["until no caller can still hold the old registry"] if config.eureka.urls else []
    timeout = (config.eureka.settle if config.eureka.urls else 0.0) + SETTLE_SLACK
    if notice.ends is not None:
        kept = [UNITS] if config.drain.units else []
        kept += [LOGS] if config.logs is not None else []
        spare = total * (1 - sum(SHARES[name] for name in (*kept, DEREGISTER, COMPLETE))) - _wanted(config)
        timeout = min(timeout, max(spare, total * SETTLE_SHARE))
    if _group_is_awaited(notice):
        waits.append("until the group is past its load balancer")
        if notice.ends is None:
            timeout = max(timeout, total - min(_wanted(config), total / DRAIN_SHARE))
    return PlannedStep(SETTLE, "wait " + ", and ".join(waits), timeout)


def _group_is_awaited(notice: Notice) -> bool:
    return notice.completes is not None and not notice.if_asked


def _wanted(config: Config) -> float:
    """Seconds that the app's own draining may take."""
    drain = config.drain
    wanted = sum((each.timeout for each in drain.command), 0.0)
    wanted += sum(each.timeout for each in drain.http)
    wanted += drain.idle.timeout if drain.idle.ports else 0.0
    return wanted + drain.stop_timeout * len(drain.units)


def units_to_start(config: Config) -> tuple[str, ...]:
    """The app's units that `START_UNITS` starts; those that wait for the launch are `THEN_START`'s."""
    held_back = {whole_name(unit) for unit in config.launch.then_start}
    return tuple(unit for unit in config.drain.units if whole_name(unit) not in held_back)


def _start_units(config: Config) -> list[PlannedStep]:
    units = units_to_start(config)
    if not units:
        return []
    timeout = config.drain.stop_timeout * len(units)
    return [PlannedStep(START_UNITS, f"start {', '.join(reversed(units))}", timeout)]


def _then_start(config: Config) -> list[PlannedStep]:
    if not config.launch.then_start:
        return []
    return [PlannedStep(THEN_START, f"start {', '.join(config.launch.then_start)}")]


def _ready(config: Config) -> list[PlannedStep]:
    ready = config.launch.ready
    if not ready.asked:
        return []
    return [PlannedStep(READY, "wait until the app is ready", ready.timeout, when=When.WELL)]


def _back(config: Config, timeout: float | None = None) -> list[PlannedStep]:
    """Into service, but not before the app is ready."""
    steps = _ready(config)
    if config.eureka.urls and config.eureka.register is not None:
        what = "register the app in Eureka"
        steps.append(PlannedStep(REGISTER, what, REGISTER_SECONDS, when=When.WELL))
    if config.eureka.urls:
        what = "take the app into service in Eureka"
        steps.append(PlannedStep(BACK_IN_SERVICE, what, timeout, when=When.WELL))
    return steps


def _share(reserve: tuple[float, float], total: float) -> float:
    seconds, share = reserve
    return min(seconds, total * share)

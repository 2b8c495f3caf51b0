"""What is wanted of the instance: one row for each notice, in the order of precedence. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lifecycle_agent.config import Config
from lifecycle_agent.model import (
    LAUNCHES,
    POOL,
    LifecycleTransition,
    Notice,
    NoticeKind,
    Observation,
    TargetState,
)
from lifecycle_agent.standing import Phase, Standing

# Seconds between a spot interruption notice and the interruption ("Spot Instance interruption notices" in the
# EC2 user guide): what is assumed where this machine's clock makes nothing sensible of the notice's time.
SPOT_SECONDS = 120.0

# Seconds after which a spot interruption that did not come, or has been slept through, is over once its
# notice has gone, too.
INTERRUPTED_SECONDS = 30.0

_LAUNCHING, _TERMINATING = LifecycleTransition.LAUNCHING, LifecycleTransition.TERMINATING
TAKEN_AWAY = (TargetState.TERMINATED, TargetState.WARMED_TERMINATED)
SERVING = (Phase.NEW, Phase.IN_SERVICE, Phase.OUT, Phase.DETACHED)


# Each function gives the notice of its row, or None where it does not apply.


def _terminate(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    if seen.target not in TAKEN_AWAY or (standing.phase is Phase.GONE and standing.finished):
        return None
    return replace(termination(now), ends=interruption(seen, now, config))


def termination(now: float) -> Notice:
    """The notice of an instance that is taken away."""
    return Notice(NoticeKind.TERMINATE, "the group takes this instance away", now, _TERMINATING)


def _spot(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    spot, action = seen.spot, config.spot.action
    if spot is None or action == "ignore" or standing.phase is Phase.GONE:
        return None
    done = standing.phase is Phase.INTERRUPTED and standing.finished and standing.this_boot
    if done or (NoticeKind.SPOT, spot.event) in standing.handled:
        return None
    notice = Notice(NoticeKind.SPOT, f"EC2 is to {spot.what} this spot instance", now, event=spot.event)
    if action == "notify":
        return replace(notice, only_told=True)
    leaves_pool = standing.phase is Phase.POOLED and seen.target is TargetState.IN_SERVICE
    launching = config.launches and (_is_new(standing) or leaves_pool or standing.launching)
    completes = _LAUNCHING if launching else _TERMINATING
    if standing.phase is Phase.INTERRUPTED and standing.by is not None:
        completes = standing.by.completes or completes  # it goes on, and the same hook waits
    return replace(notice, completes=completes, if_asked=True, ends=interruption(seen, now, config))


def _enter_pool(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    if seen.target not in POOL or standing.phase in (Phase.NEW, Phase.GONE):
        return None
    reason, ends = "the group takes this instance into its warm pool", interruption(seen, now, config)
    notice = Notice(NoticeKind.ENTER_POOL, reason, now, _TERMINATING, ends=ends, target=seen.target)
    if standing.phase is Phase.POOLED:
        if standing.this_boot and standing.finished:
            return None
        if standing.finished:
            return replace(notice, reason="in the warm pool, and the machine was booted", completes=None)
    return notice


def _standby(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    if seen.target is not TargetState.STANDBY or config.standby.action == "ignore":
        return None
    again = standing.phase is Phase.STANDBY and not (standing.finished and standing.this_boot)
    if standing.phase not in SERVING and not again:
        return None
    return Notice(NoticeKind.STANDBY, "the group puts this instance on standby", now)


def _detach(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    if seen.target is not TargetState.DETACHED or standing.phase not in (Phase.NEW, Phase.IN_SERVICE):
        return None
    return Notice(NoticeKind.DETACH, "detached from its group: the app is left as it is", now)


def _attach(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    if seen.target is not TargetState.IN_SERVICE or standing.phase is not Phase.DETACHED:
        return None
    return Notice(NoticeKind.ATTACH, "attached to a group again", now)


def _launch(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    if not _is_new(standing):
        return None
    completes = _LAUNCHING if config.launches else None
    if seen.target in POOL:
        return Notice(
            NoticeKind.LAUNCH, "a new instance for the warm pool", now, completes, target=seen.target
        )
    if seen.target is TargetState.IN_SERVICE and config.launches:
        return Notice(NoticeKind.LAUNCH, "a new instance", now, completes, target=seen.target)
    return None


def _found(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    """What tells it later from a new instance, should the group take it into its warm pool."""
    if not _is_new(standing) or seen.target is not TargetState.IN_SERVICE:
        return None
    return Notice(NoticeKind.FOUND, "the group has this instance in service", now)


def _leave_pool(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    if seen.target is not TargetState.IN_SERVICE or standing.phase is not Phase.POOLED:
        return None
    completes = _LAUNCHING if config.launches else None
    reason = "the group takes this instance out of its warm pool"
    return Notice(NoticeKind.LEAVE_POOL, reason, now, completes, target=seen.target)


def _back(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    """Back into service once the reason to be out of it has gone."""
    phase = standing.phase
    if interruption(seen, now, config) is not None:
        return None  # it would have to go again at once
    detached = seen.target is TargetState.DETACHED and phase in (Phase.OUT, Phase.DETACHED)
    if not _wanted_in_service(seen) and not detached:
        return None
    undrain, again = NoticeKind.UNDRAIN, NoticeKind.RETURN
    if not standing.this_boot:
        undrain = again  # systemd has started what is to run
    match phase:
        case Phase.STANDBY if seen.target is TargetState.IN_SERVICE:
            return Notice(NoticeKind.UNDRAIN, "the group takes this instance back from standby", now)
        case Phase.INTERRUPTED if seen.spot is not None or not _interruption_is_over(standing, now):
            return None
        case Phase.INTERRUPTED if standing.by is not None and standing.by.completes is _LAUNCHING:
            # The group may wait still, or may have gone by the hook's default.
            reason = "the spot interruption is over"
            return Notice(NoticeKind.LAUNCH, reason, now, _LAUNCHING, if_asked=True, target=seen.target)
        case Phase.INTERRUPTED:
            return Notice(undrain, "the spot interruption is over", now)
        case Phase.ADVISED if _maintenance_is_over(seen, standing, now):
            return Notice(undrain, "the scheduled maintenance is over", now)
        case Phase.OUT if standing.by is not None and standing.kind in LAUNCHES:
            # The warm-up has to succeed first; the group has had its answer, or goes by its default.
            reason, completes = "the launch has failed, and is tried again", None
            if not standing.finished:
                reason, completes = "the launch goes on", standing.by.completes
            return replace(standing.by, reason=reason, seen_at=now, completes=completes, action=None)
        case Phase.OUT if standing.this_boot and standing.kind is NoticeKind.UNDRAIN:
            return Notice(undrain, "the way back into service", now)
        case Phase.OUT:
            reason = "the way back into service" if standing.this_boot and standing.kind is not again else ""
            return Notice(again, reason or "the machine is up again", now)
        case Phase.IN_SERVICE | Phase.DETACHED if not standing.this_boot and _must_be_brought_up(config):
            return Notice(again, "the machine is up again", now)
    return None


def _stay_drained(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    """What a boot has started again, of an instance that is to stay out of service."""
    if standing.by is None:
        return None
    cut_off = standing.kind is NoticeKind.STAY_DRAINED and not standing.finished
    if standing.phase is Phase.DRAINED and (cut_off or not standing.this_boot):
        return Notice(NoticeKind.STAY_DRAINED, "drained by hand before the machine was booted", now)
    if standing.this_boot:
        return None
    # A boot may be the maintenance itself, or not: its list says so, once it is known.
    maintained = standing.kind is NoticeKind.MAINTENANCE and (
        seen.maintenance is None or _maintenance_is_over(seen, standing, now)
    )
    advice = (NoticeKind.REBALANCE, NoticeKind.MAINTENANCE)
    if standing.phase is Phase.ADVISED and standing.kind in advice and not (maintained or seen.problem):
        reason = f"{standing.by.reason.partition(';')[0]}; the machine was booted since"
        return Notice(standing.by.kind, reason, now, event=standing.by.event)
    return None


def _maintenance(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    action = config.maintenance.action
    if action == "ignore" or standing.phase is Phase.GONE:
        return None
    for event in sorted(seen.maintenance or (), key=lambda each: each.at):
        reason = f"EC2 has scheduled {event.what} for this instance"
        notice = Notice(NoticeKind.MAINTENANCE, reason, now, event=event.event)
        if (notice.kind, event.event) in standing.handled:
            continue
        if action == "notify":
            return replace(notice, only_told=True)
        if now >= event.at - config.maintenance.lead and _can_be_advised(standing, event.event):
            return notice
    return None


def _rebalance(seen: Observation, standing: Standing, now: float, config: Config) -> Notice | None:
    advice, action = seen.rebalance, config.rebalance.action
    if advice is None or action == "ignore" or standing.phase is Phase.GONE:
        return None
    if (NoticeKind.REBALANCE, advice.event) in standing.handled:
        return None
    reason = "EC2 recommends to rebalance: a spot interruption is likely"
    notice = Notice(NoticeKind.REBALANCE, reason, now, event=advice.event)
    if action == "notify":
        return replace(notice, only_told=True)
    return notice if _can_be_advised(standing, advice.event) else None


def interruption(seen: Observation, now: float, config: Config) -> float | None:
    """When the machine is gone by its spot notice; None without one, or where it is not to be acted on."""
    if seen.spot is None or config.spot.action != "drain":
        return None
    at = seen.spot.at
    return at if now < at < now + SPOT_SECONDS else now + SPOT_SECONDS


def _wanted_in_service(seen: Observation) -> bool:
    """The group says so, or there is no group."""
    return seen.target is TargetState.IN_SERVICE or (seen.target is None and not seen.problem)


def _is_new(standing: Standing) -> bool:
    """Whether nothing is on record, or nothing that has survived: it has booted from a new root volume."""
    return standing.phase is Phase.NEW or (standing.phase is Phase.REPLACED and not standing.this_boot)


def _can_be_advised(standing: Standing, event: str) -> bool:
    """In service, or in the middle of the drain for this very event."""
    if standing.phase is Phase.ADVISED and standing.by is not None:
        return not standing.finished and standing.by.event == event
    return standing.phase in SERVING


def _interruption_is_over(standing: Standing, now: float) -> bool:
    ends = standing.by.ends if standing.by is not None else None
    return not standing.this_boot or ends is None or now > ends + INTERRUPTED_SECONDS


def _maintenance_is_over(seen: Observation, standing: Standing, now: float) -> bool:
    """It is not listed any more, or its time has come and the machine was booted since."""
    if standing.by is None or standing.kind is not NoticeKind.MAINTENANCE or seen.maintenance is None:
        return False
    listed = [each for each in seen.maintenance if each.event == standing.by.event]
    return not listed or (not standing.this_boot and now >= listed[0].at)


def _must_be_brought_up(config: Config) -> bool:
    """Whether there is something that a boot leaves undone, and the agent alone does."""
    return bool(config.launch.then_start or config.launch.ready.asked)


@dataclass(frozen=True)
class Row:
    """One row of the table; `docs/decisions.md` is printed from these words."""

    name: str
    when: str
    does: str
    notice: Callable[[Observation, Standing, float, Config], Notice | None]


# The order of precedence: where several are true at once, the first one is acted on.
PRECEDENCE = (
    Row(
        "terminate",
        "target `Terminated` or `Warmed:Terminated`",
        "the eight steps; answers the terminating hook. With a spot notice, within its time",
        _terminate,
    ),
    Row(
        "spot",
        "`spot/instance-action`",
        "the eight steps within the notice's time; answers the terminating hook if the group asks. "
        'With `[spot] action = "notify"` people are told',
        _spot,
    ),
    Row(
        "enter-pool",
        "target `Warmed:Stopped`, `Warmed:Running` or `Warmed:Hibernated`, and it was in service",
        "the eight steps, the app stopped but enabled; answers the terminating hook. "
        "Where no units are stopped the registration stays, out of service",
        _enter_pool,
    ),
    Row(
        "launch",
        "target `InService` or `Warmed:*`, and nothing is on record, or it has booted from a new root volume",
        "warm-up, readiness, UP in the registry (for the pool: out of service); answers the launching hook. "
        "One that the group has in service already is put on record",
        _launch,
    ),
    Row(
        "leave-pool",
        "target `InService`, of an instance in the warm pool",
        "units started, readiness, UP in the registry; answers the launching hook",
        _leave_pool,
    ),
    Row(
        "found",
        "target `InService`, nothing is on record, and the launching hook is not ours",
        "put on record; no hook",
        _found,
    ),
    Row("standby", "target `Standby`", "out of service, drained; no hook", _standby),
    Row("detach", "target `Detached`", "put on record, the app is left as it is; no hook", _detach),
    Row("attach", "target `InService`, of a detached instance", "put on record; no hook", _attach),
    Row(
        "stay-drained",
        "the machine was booted, and was drained by hand or on advice before",
        "the same drain again: a boot has started the app",
        _stay_drained,
    ),
    Row(
        "maintenance",
        "`events/maintenance/scheduled`, once for each event",
        "people are told; or the drain, a lead time before the event",
        _maintenance,
    ),
    Row(
        "rebalance",
        "`events/recommendations/rebalance`, once for each recommendation",
        "people are told; or the drain",
        _rebalance,
    ),
    Row(
        "return",
        "target `InService` or none, and what it was out of service for has gone: back from standby, "
        "booted again (detached, too), a spot interruption or maintenance over, a way back or a launch that "
        "failed",
        "readiness, UP in the registry; no hook. As `undrain` where the agent has stopped the app's units "
        "and no boot has started them since: those first. A launch that was interrupted is done anew, and "
        "answers the launching hook if the group asks still",
        _back,
    ),
)

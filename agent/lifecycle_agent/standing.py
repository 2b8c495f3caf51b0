"""Where the instance stands in its life, by what its journal has of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from lifecycle_agent.journal import Recorded
from lifecycle_agent.model import LAUNCHES, LifecycleTransition, Notice, NoticeKind, Outcome


class Phase(Enum):
    """Where it stands: what the last transition that changed it has made of it."""

    NEW = "new"  # nothing is on record
    IN_SERVICE = "in service"
    OUT = "out of service"  # although it is wanted there: the machine went down, or the way back failed
    DRAINED = "drained by hand"
    STANDBY = "on standby"
    POOLED = "in the warm pool"
    DETACHED = "detached"
    INTERRUPTED = "interrupted"  # drained for a spot interruption
    ADVISED = "drained on advice"  # a rebalance recommendation, scheduled maintenance
    REPLACED = "replaced"  # drained for a new root volume; what comes after that is a new launch
    GONE = "gone"  # the group takes it away, and nothing brings it back


# Out of service for a reason that outlives what happens to the machine, a spot interruption included.
_HELD = (
    *(Phase.DRAINED, Phase.STANDBY, Phase.POOLED, Phase.INTERRUPTED, Phase.ADVISED),
    Phase.REPLACED,
)

# What each kind makes of an instance, however it went: a drain with a failed step is a drain all the same.
_PHASES = {
    NoticeKind.TERMINATE: Phase.GONE,
    NoticeKind.ENTER_POOL: Phase.POOLED,
    NoticeKind.STANDBY: Phase.STANDBY,
    NoticeKind.REPLACE_ROOT: Phase.REPLACED,
    NoticeKind.DETACH: Phase.DETACHED,
    NoticeKind.ATTACH: Phase.IN_SERVICE,
    NoticeKind.FOUND: Phase.IN_SERVICE,
    NoticeKind.SPOT: Phase.INTERRUPTED,
    NoticeKind.REBALANCE: Phase.ADVISED,
    NoticeKind.MAINTENANCE: Phase.ADVISED,
    NoticeKind.DRAIN: Phase.DRAINED,
    NoticeKind.STAY_DRAINED: Phase.DRAINED,
}


@dataclass(frozen=True)
class Standing:
    """Where it stands.

    Args:
        by: the notice whose transition brought it there.
        finished: whether that transition came to its end; one that did not goes on.
        this_boot: whether it began in this boot of the machine: in another one the app was started anew.
        handled: announcements that have been acted on, by kind and by what EC2 calls them.
        down: whether all is done that there is to do before the machine goes down.
    """

    phase: Phase = Phase.NEW
    by: Notice | None = None
    finished: bool = True
    this_boot: bool = True
    handled: frozenset[tuple[NoticeKind, str]] = frozenset()
    down: bool = False

    @property
    def kind(self) -> NoticeKind | None:
        """Of the transition that brought it there."""
        return self.by.kind if self.by is not None else None

    @property
    def launching(self) -> bool:
        """Whether it is in the middle of a launch that the group may wait for."""
        unfinished = self.kind in LAUNCHES and not self.finished
        return unfinished and self.by is not None and self.by.completes is LifecycleTransition.LAUNCHING

    def after(self, notice: Notice, outcome: Outcome | None, this_boot: bool = True) -> Standing:
        """Where it stands after one more transition.

        Args:
            outcome: None for one that was cut off.
        """
        handled = self.handled | ({(notice.kind, notice.event)} if notice.event and outcome else set())
        gone = self.phase is Phase.GONE and notice.kind is not NoticeKind.TERMINATE
        if notice.only_told or gone or (notice.kind is NoticeKind.SPOT and self.phase in _HELD):
            return replace(self, handled=handled)
        down = notice.kind in (NoticeKind.SHUTDOWN, NoticeKind.REBOOT)
        if down and self.phase in _HELD:
            # It is still what it was held for that has to be over.
            return replace(self, this_boot=this_boot, handled=handled, down=outcome is not None)
        phase = self._phase_after(notice, outcome, this_boot)
        return Standing(phase, notice, outcome is not None, this_boot, handled, down and outcome is not None)

    def _phase_after(self, notice: Notice, outcome: Outcome | None, this_boot: bool) -> Phase:
        well = outcome is not None and outcome.well
        match notice.kind:
            case NoticeKind.LAUNCH if outcome is None:
                # Tried again; the group may have an interrupted one in service.
                return Phase.OUT if self.phase in (Phase.OUT, Phase.INTERRUPTED) else Phase.NEW
            case NoticeKind.LAUNCH if notice.into_pool:
                return Phase.POOLED
            case NoticeKind.LEAVE_POOL if outcome is None:
                return Phase.OUT if self.phase is Phase.OUT else Phase.POOLED
            case NoticeKind.LAUNCH | NoticeKind.LEAVE_POOL | NoticeKind.UNDRAIN | NoticeKind.RETURN:
                return Phase.IN_SERVICE if well else Phase.OUT
            case NoticeKind.SHUTDOWN | NoticeKind.REBOOT:
                return Phase.OUT
            case NoticeKind.DRAIN if outcome is None and not this_boot and self.phase is not Phase.DRAINED:
                return Phase.OUT  # whoever was at it has gone with the machine
        return _PHASES[notice.kind]


def standing(history: Iterable[Recorded], boot: str, since: Standing = Standing()) -> Standing:
    """Where the instance stands by its transitions.

    Args:
        history: of this instance, the newest last.
        boot: the one that runs (`journal.boot_id`).
        since: where it stood before them.
    """
    now = since
    for each in history:
        if each.unknown:
            continue
        if each.found:
            # Put on record, and nothing else was done: whatever stood there before stands.
            found = replace(each.notice, kind=NoticeKind.FOUND)
            now = now.after(found, Outcome.DONE, each.boot == boot) if now.phase is Phase.NEW else now
        else:
            outcome = each.outcome if each.settled else None
            # Cut off before it could say so, and nobody goes on with it any more: that is over, too.
            over = each.outcome is not None or (each.answered and each.followed)
            if over and each.notice.kind in LAUNCHES and each.went_well:
                outcome = Outcome.WARNED  # it serves, whatever became of the answer
            now = now.after(each.notice, outcome, each.boot == boot)
    return now

"""What must hold: in each state, with each step, and wherever the agent has come to rest."""

from __future__ import annotations

from collections.abc import Callable

from lifecycle_agent.model import (
    INTO_SERVICE,
    ActionResult,
    LifecycleTransition,
    Notice,
    NoticeKind,
    Outcome,
    TargetState,
)
from lifecycle_agent.standing import Phase
from lifecycle_agent.transition import plan
from tests.explore import agent
from tests.explore.rules import Rules
from tests.explore.search import Edge
from tests.explore.world import POOL, SINCE, Ended, Proc, Rec, World

_HOLDS = (plan.READY, plan.OUT_OF_SERVICE)
_UP = (plan.BACK_IN_SERVICE, plan.REGISTER)
_WRONG = (Outcome.FAILED, Outcome.SKIPPED)


def _failed(record: Rec, *steps: str) -> bool:
    """Whether one of these steps, or any at all, could not be done."""
    return any(each.outcome in _WRONG and (not steps or each.name in steps) for each in record.ended)


class Invariants:
    """All of them, by name.

    Args:
        ours: the hooks that are the agent's to answer.
    """

    def __init__(self, rules: Rules, ours: frozenset[str]) -> None:
        self._rules = rules
        self._ours = ours
        self._launching = {
            hook.name for hook in rules.hooks if hook.transition is LifecycleTransition.LAUNCHING
        }
        self.states: dict[str, Callable[[World], str]] = {
            "at most one transition at a time": self._one,
            "a waiting action is kept alive": self._kept_alive,
        }
        self.edges: dict[str, Callable[[World, Edge[World]], str]] = {
            "only our own hook": self._our_hook,
            "the right answer": self._right_answer,
            "an app in service is never deregistered": self._deregistered,
            "an app that serves is left to serve": self._left_to_serve,
            "nothing without a reason": self._has_reason,
            "a finished step is never repeated": self._repeated,
            "UP only after ready": self._up,
            "drained stays drained": self._stays_drained,
            "out of the registry before it goes": self._goes,
        }
        self.rests: dict[str, Callable[[World], str]] = {
            "a waiting action is answered": self._answered,
            "drained is out of service": self._out,
            "wanted in service is in service": self._back,
        }

    # -- states

    def _one(self, world: World) -> str:
        working = [proc.asked.kind.value for proc in world.procs if proc.place == "working"]
        return " and ".join(working) + " run at once" if len(working) > 1 else ""

    def _kept_alive(self, world: World) -> str:
        """Nothing that takes long runs while the group waits and nobody sends heartbeats."""
        waits = world.group.asks & self._ours
        if not waits or not world.able or world.shown is not world.group.target:
            return ""
        running = [proc for proc in world.procs if proc.place == "working" and self._is_long(world, proc)]
        if not running or agent.cycle(world, self._rules) != world:
            return ""
        launching = bool(waits & self._launching)
        for proc in (world.child, world.hand):
            completes = proc.asked.completes if proc is not None else None
            if completes is not None and (completes is LifecycleTransition.LAUNCHING) is launching:
                return ""
        return f"{', '.join(waits)} waits, and {running[0].asked.kind.value} sends no heartbeats"

    def _is_long(self, world: World, proc: Proc) -> bool:
        """Whether it has any step to go."""
        record = world.journal.records[proc.page]
        following = self._rules.next(proc.notice or proc.asked, record.ended, proc.died, record.late)
        return bool(following.step) and following.result is None

    # -- steps

    def _our_hook(self, world: World, edge: Edge[World]) -> str:
        match edge.did:
            case ("answer", _, _, _, str(hook), _) if hook and hook not in self._ours:
                return f"{hook} is answered, which is not ours"
        return ""

    def _right_answer(self, world: World, edge: Edge[World]) -> str:
        match edge.did:
            case ("answer", _, _, Rec() as record, str(hook), result) if hook:
                app, failed = world.app, _failed(record)
                if hook in self._launching and record.notice.kind is NoticeKind.SPOT:
                    return "" if result is ActionResult.ABANDON else f"{result} of an interrupted launch"
                if hook in self._launching:
                    if failed != (result is ActionResult.ABANDON):
                        return f"{result} of a launch"
                    up = app.listed == "UP" and app.ready
                    pooled = (
                        world.group.target is not TargetState.IN_SERVICE
                        and app.listed != "UP"
                        and not app.alive
                    )
                    return "" if failed or up or pooled else f"CONTINUE of a launch, and the app is {app}"
                if not failed and app.listed == "UP":
                    return "the group takes it away, and it is UP still"
        return ""

    def _deregistered(self, world: World, edge: Edge[World]) -> str:
        match edge.did:
            case ("step", _, _, Rec() as record, plan.DEREGISTER, Outcome.DONE):
                if world.app.alive and not _failed(record, plan.UNITS):
                    return "the app runs still"
                if world.app.listed == "UP" and not _failed(
                    record, plan.OUT_OF_SERVICE, plan.SETTLE, plan.UNITS
                ):
                    return "it is UP still"
        return ""

    def _left_to_serve(self, world: World, edge: Edge[World]) -> str:
        """No way into service takes an app out of it that is there, but one that a person has begun."""
        match edge.did:
            case ("step", "child", Proc() as proc, _, str(step), Outcome.DONE) if step in _HOLDS:
                into = proc.asked.kind in INTO_SERVICE and not proc.asked.into_pool
                serves = world.group.word == "InService" and world.app.ready and world.app.listed == "UP"
                if into and serves and not self._begun_by_hand(world, proc):
                    return f"{proc.asked.kind.value} takes it out of service"
        return ""

    def _begun_by_hand(self, world: World, proc: Proc) -> bool:
        """Whether a person has begun what the service goes on with or tries again: it begins none there."""
        before = self._rules.standing((*world.journal.records[: proc.page], SINCE), world.journal.before)
        again = before.phase is Phase.OUT and before.kind is NoticeKind.UNDRAIN
        serves = before.phase in (Phase.NEW, Phase.IN_SERVICE, Phase.DETACHED)
        return proc.asked.kind is NoticeKind.UNDRAIN and (serves or again)

    def _has_reason(self, world: World, edge: Edge[World]) -> str:
        begun, before = edge.to.child, world.child
        if (
            begun is None
            or begun.place != "waiting"
            or (before is not None and before.asked.kind is begun.asked.kind)
        ):
            return ""
        return "" if self._reason(world, begun.asked) else f"{begun.asked.kind.value}, and nobody wants it"

    def _reason(self, world: World, notice: Notice) -> bool:
        """Whether there is one: to take it out of service, or back into it."""
        told, shown = world.told, world.shown
        match notice.kind:
            case NoticeKind.TERMINATE:
                return shown in (TargetState.TERMINATED, TargetState.WARMED_TERMINATED)
            case NoticeKind.ENTER_POOL:
                return shown in POOL
            case NoticeKind.STANDBY:
                return shown is TargetState.STANDBY
            case NoticeKind.DRAIN:
                return world.drained
            case NoticeKind.SHUTDOWN | NoticeKind.REBOOT:
                return world.machine.ending is not None
            case NoticeKind.SPOT | NoticeKind.REBALANCE | NoticeKind.MAINTENANCE:
                return bool(told.spot or told.rebalance or told.maintenance)
            case NoticeKind.UNDRAIN | NoticeKind.RETURN:
                return not told.spot or self._rules.config.spot.action != "drain"
        return True

    def _repeated(self, world: World, edge: Edge[World]) -> str:
        match edge.did:
            case ("step", str(name), Proc() as proc, Rec() as record, str(step), Outcome()):
                ended: tuple[Ended, ...] = record.ended
                if any(each.name == step for each in ended):
                    return f"{step} is run again"
                by_hand = name == "hand"  # a person may do it again
                if step.startswith(plan.COMMAND) and world.app.commanded and not by_hand:
                    return f"{step} is run again by {proc.asked.kind.value}"
        return ""

    def _up(self, world: World, edge: Edge[World]) -> str:
        match edge.did:
            case ("step", _, _, _, str(step), Outcome.DONE) if step in _UP:
                asked = self._rules.config.launch.ready.asked
                return "it has not been ready yet" if asked and not world.app.ready else ""
        return ""

    def _stays_drained(self, world: World, edge: Edge[World]) -> str:
        match edge.did:
            case ("step", "child", Proc() as proc, _, str(step), Outcome.DONE) if (
                step in _UP and world.drained
            ):
                return f"a person took it out of service, and {proc.asked.kind.value} takes it back"
        return ""

    def _goes(self, world: World, edge: Edge[World]) -> str:
        if edge.did != ("arrives",) or edge.to.group.word != "Terminated" or not world.able:
            return ""
        if world.group.answer != ActionResult.CONTINUE.value or world.app.listed != "UP":
            return ""
        records, over = world.journal.records, world.journal.over
        failed = over is Outcome.FAILED or any(
            _failed(each) or each.outcome is Outcome.FAILED for each in records
        )
        return "" if failed else "the machine goes, and it is UP still"

    # -- at rest

    def _answered(self, world: World) -> str:
        waits = world.group.asks & self._ours
        standing = agent.stands(world, self._rules)
        if world.told.spot and standing.by is not None and standing.finished:
            # It began to wait after the drain for that: EC2 takes the machine, or it is launched again.
            spot, launching = standing.kind is NoticeKind.SPOT, LifecycleTransition.LAUNCHING
            waits -= self._launching if spot and standing.by.completes is launching else set()
        return f"{', '.join(sorted(waits))} waits, and nothing is done" if waits and world.able else ""

    def _out(self, world: World) -> str:
        if world.group.word.startswith("Terminat"):
            return ""  # it goes, and has been drained for that
        if not world.drained or not world.able or world.app.listed != "UP" or self._left_by_hand(world):
            return ""
        return "drained by hand, and UP"

    def _left_by_hand(self, world: World) -> bool:
        """Whether a person is in the middle of a drain, or has left one there: theirs to go on with."""
        standing = agent.stands(world, self._rules)
        return world.hand is not None or (standing.kind is NoticeKind.DRAIN and not standing.finished)

    def _back(self, world: World) -> str:
        wanted = world.group.word == "InService" and world.able and not world.drained
        if not wanted or world.told != world.told._replace(spot="", rebalance=False, maintenance=False):
            return ""
        if world.app.listed == "UP" or self._left_by_hand(world):
            return ""
        return f"in service by the group's word, and the app is {world.app}"

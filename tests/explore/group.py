"""What the group does: a small model of its own, of one instance, on the ways of `rehearsal.lifecycle`."""

from __future__ import annotations

from collections.abc import Iterator

from lifecycle_agent.model import ActionResult, Ending, LifecycleTransition, TargetState
from tests.explore.rules import Rules
from tests.explore.search import Edge
from tests.explore.world import WAYS, Group, Machine, World

_GROWING = ("Pending", "Pending:Wait", "Pending:Proceed")
_RESTS = ("Warmed:Stopped", "Warmed:Running", "Warmed:Hibernated")
_TO_POOL = ("Warmed:Pending", "Warmed:Pending:Wait", "Warmed:Pending:Proceed")
# CONTINUE of a transition after which the instance may be taken back before its metadata say that it goes:
# one for a spot notice, or by hand. See "What is known to be missing" in docs/architecture.md.
NOT_FOR_GOOD = "CONTINUE, not for good"

# From where each way can be begun.
BEGINS: dict[str, tuple[str, ...]] = {
    "terminate": ("InService", "Standby", *_GROWING),
    "terminate in the pool": (*_RESTS, *_TO_POOL),
    "leave pool": _RESTS,
    "enter standby": ("InService",),
    "exit standby": ("Standby",),
    "detach": ("InService", "Standby"),
    "attach": ("Detached",),
    **{f"return to {rest}": ("InService",) for rest in _RESTS},
}


def answered(group: Group, hook: str, result: ActionResult, by: str = "", retains: bool = False) -> Group:
    """The group once a hook has been answered, or once its time is up."""
    asks, way = group.asks - {hook}, WAYS[group.way]
    answer = by or result.value
    if result is ActionResult.CONTINUE:
        return Group(way.proceeds if not asks else group.word, group.way, asks, answer)
    if way.asks is LifecycleTransition.LAUNCHING:
        pool = way.enters.startswith("Warmed:")
        return Group(
            "Warmed:Terminating" if pool else "Terminating", "terminate in the pool" if pool else "terminate"
        )
    return Group(way.retained if retains else way.proceeds, group.way, frozenset(), answer)


def moves(world: World, rules: Rules, ours: frozenset[str], ways: tuple[str, ...]) -> Iterator[Edge[World]]:
    """What the group may do.

    Args:
        ours: the hooks that the agent answers.
        ways: those that it may begin.
    """
    group, machine = world.group, world.machine
    caught_up = world.shown is group.target
    if not caught_up:
        yield Edge("the metadata catch up", world._replace(shown=group.target), own=True)
    if caught_up and world.budget.moves:
        for way in ways:
            if group.word in BEGINS[way] and machine.ending is None:
                budget = world.budget._replace(moves=world.budget.moves - (world.budget.moves < 99))
                yield Edge(
                    f"the group: {way}", world._replace(group=Group(WAYS[way].enters, way), budget=budget)
                )
    if not group.way:
        return
    way_ = WAYS[group.way]
    # A machine out of the pool is asked once it runs.
    ready = machine.state == "up" or way_.asks is not LifecycleTransition.LAUNCHING
    if group.word == way_.enters and ready:
        asks = frozenset(hook.name for hook in rules.hooks if hook.transition is way_.asks)
        if asks:
            names = ", ".join(sorted(asks))
            yield Edge(f"the group asks {names}", world._replace(group=Group(way_.waits, group.way, asks)))
        else:
            yield from _arrives(world)
    elif group.word == way_.proceeds:
        yield from _arrives(world)
    for hook in sorted(group.asks - ours):
        after = answered(group, hook, ActionResult.CONTINUE)._replace(answer=group.answer)
        yield Edge(f"somebody answers {hook}", world._replace(group=after))
    for hook in sorted(group.asks & ours):
        if not world.able:  # nobody is there to ask for more time
            default = next(each.default_result for each in rules.hooks if each.name == hook)
            after = answered(group, hook, default, "timeout", rules.retains)
            yield Edge(f"the time of {hook} is up", world._replace(group=after))


def _arrives(world: World) -> Iterator[Edge[World]]:
    group = world.group
    way = WAYS[group.way]
    machine = world.machine
    if machine.state == "up" and machine.ending is None:
        if way.final:
            machine = Machine("up", Ending.POWEROFF, "gone")
        elif way.target is TargetState.WARMED_STOPPED:
            machine = Machine("up", Ending.POWEROFF, "off")
        elif way.target is TargetState.WARMED_HIBERNATED:
            machine = Machine("frozen")
    elif way.final:
        machine = Machine("gone") if machine.state != "up" else machine._replace(then="gone")
    after = world._replace(group=group._replace(word=way.arrives), machine=machine)
    yield Edge(f"the group: {way.arrives}", after, did=("arrives",))

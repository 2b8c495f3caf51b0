"""What else happens: EC2, the machine, crashes, people, and time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lifecycle_agent.model import Ending, LifecycleTransition, Notice, NoticeKind, TargetState
from lifecycle_agent.standing import Standing
from tests.explore import agent
from tests.explore.rules import Rules
from tests.explore.search import Edge
from tests.explore.world import (
    GONE,
    NOW,
    PAST,
    SOON,
    Announcements,
    App,
    Machine,
    Proc,
    Watcher,
    World,
    forgotten,
)

Moved = Edge[World]


def booted(world: World, rules: Rules) -> World:
    """The machine is up anew: systemd has started the app and the agent."""
    journal = world.journal
    records = tuple(each._replace(this_boot=False) for each in journal.records)
    records = tuple(forgotten(each, last=index == len(records) - 1) for index, each in enumerate(records))
    before = replace(journal.before, this_boot=False) if journal.before.by is not None else journal.before
    world = world._replace(
        group=world.group._replace(answer=""),
        shown=world.group.target,  # a boot takes longer than the metadata lag
        machine=Machine(),
        app=App().started(),
        journal=journal._replace(records=records, before=before),
        watcher=Watcher(),
        child=None,
        hand=None,
        strays=(),
    )
    return agent.compact(world, rules)


def went_off(world: World) -> World:
    """The machine does not run; its lease in the registry ends."""
    return world._replace(
        machine=Machine("off"),
        app=App(False, False, False, ""),
        watcher=Watcher(False),
        child=None,
        hand=None,
        strays=(),
    )


def elapsed(world: World) -> World:
    """What was still to come has been: no transition has any time left."""

    def past(notice: Notice) -> Notice:
        return replace(notice, ends=PAST) if notice.ends == SOON else notice

    def stood(standing: Standing | None) -> Standing | None:
        return (
            replace(standing, by=past(standing.by))
            if standing is not None and standing.by is not None
            else standing
        )

    def gone_by(proc: Proc | None) -> Proc | None:
        if proc is None:
            return None
        return proc._replace(
            asked=past(proc.asked), notice=past(proc.notice) if proc.notice is not None else None
        )

    working = [proc.page for proc in world.procs if proc.place == "working"]
    records = tuple(
        each._replace(notice=past(each.notice), late=each.late or index in working)
        for index, each in enumerate(world.journal.records)
    )
    before = stood(world.journal.before) or Standing()
    return world._replace(
        shown=world.group.target,
        told=world.told._replace(overdue=bool(world.told.spot)),
        journal=world.journal._replace(before=before, records=records),
        watcher=world.watcher._replace(since=stood(world.watcher.since), held=stood(world.watcher.held)),
        child=gone_by(world.child),
        hand=gone_by(world.hand),
    )


def moves(
    world: World, rules: Rules, hands: tuple[str, ...], announces: tuple[str, ...], times: bool
) -> Iterator[Moved]:
    """What may happen.

    Args:
        hands: what a person may do.
        announces: what EC2 may announce.
        times: whether a transition's time may run out.
    """
    yield from _machine(world, rules)
    if world.machine.state != "up":
        return
    if world.watcher.paused:
        later = world._replace(watcher=world.watcher._replace(paused=False))
        yield Edge("the pause is over", later, own=True, pause=True)
    later = elapsed(world)
    if later != world and (not world.told.spot or world.told.overdue) and _awaits(world):
        yield Edge("the time is up", later, own=True, pause=True)
    elif later != world and times:
        yield Edge("the time is up", later)
    if world.able:
        yield from _crashes(world, rules)
        yield from _people(world, rules, hands)
        yield from _announced(world, announces)


def _awaits(world: World) -> bool:
    """Whether it waits for nothing but the end of a time that is on record."""
    journal, since = world.journal, world.watcher.since
    stood = [each.by for each in (journal.before, since) if each is not None]
    notices = [*stood, *(each.notice for each in journal.records)]
    return not world.procs and any(each is not None and each.ends == SOON for each in notices)


def _machine(world: World, rules: Rules) -> Iterator[Moved]:
    machine, budget = world.machine, world.budget
    if machine.state == "frozen":
        told = world.told._replace(spot="", overdue=False)
        yield Edge("the machine is resumed", elapsed(world)._replace(machine=Machine(), told=told))
    elif machine.state == "off":
        if world.group.target not in (
            TargetState.WARMED_STOPPED,
            TargetState.TERMINATED,
            TargetState.WARMED_TERMINATED,
        ):
            yield Edge("the machine is started", booted(world, rules), own=True)
    elif machine.ending is not None:
        # It waits for the agent; a machine that is in a hurry is one that crashes.
        if not world.watcher.alive:
            if machine.then == "gone":
                yield Edge("the machine is gone", GONE, own=True)
            elif machine.then == "off":
                yield Edge("the machine is off", went_off(world), own=True)
            else:
                yield Edge("the machine boots", booted(world, rules), own=True)
        elif machine.then == "gone":
            yield Edge("the machine is gone in the middle", GONE)
    elif machine.state == "up" and budget.boots:
        less = world._replace(budget=budget._replace(boots=budget.boots - 1))
        yield Edge("the machine reboots", less._replace(machine=Machine("up", Ending.REBOOT, "up")))
        yield Edge(
            "the machine is switched off", less._replace(machine=Machine("up", Ending.POWEROFF, "off"))
        )
        yield Edge("the machine crashes, and boots", booted(less, rules))


def _crashes(world: World, rules: Rules) -> Iterator[Moved]:
    budget = world.budget
    if not budget.kills:
        return
    less = world._replace(budget=budget._replace(kills=budget.kills - 1))
    child = world.child
    if child is not None and child.place == "working":
        dead = child._replace(place="dead", page=-1, notice=None, died=0)
        yield Edge(f"{child.asked.kind.value} is killed", less._replace(child=dead))
    if child is not None or world.watcher != Watcher():
        fresh = less._replace(watcher=Watcher(), child=None)
        yield Edge("the agent is killed, and started again", agent.compact(fresh, rules))
        again = agent.stopped(less)._replace(watcher=Watcher())
        yield Edge("the service is restarted", agent.compact(again, rules))
    if world.hand is not None:
        gone = agent.laid_down(less, world.hand)._replace(hand=None)
        yield Edge("what is done by hand is interrupted", agent.compact(gone, rules))


_BY_HAND = {
    "drain": Notice(NoticeKind.DRAIN, "", NOW),
    "drain --complete": Notice(NoticeKind.DRAIN, "", NOW, LifecycleTransition.TERMINATING),
    "undrain": Notice(NoticeKind.UNDRAIN, "", NOW),
}


def _people(world: World, rules: Rules, hands: tuple[str, ...]) -> Iterator[Moved]:
    if not world.budget.hands or world.hand is not None:
        return
    busy = any(proc.place == "working" for proc in world.procs)
    less = world._replace(budget=world.budget._replace(hands=world.budget.hands - 1))
    for name in hands:
        if agent.refused(world, rules, _BY_HAND[name].kind):
            continue
        if name != "undrain" and busy:
            continue  # it follows what runs
        yield Edge(f"a person: {name}", less._replace(hand=Proc(_BY_HAND[name])))


def _announced(world: World, announces: tuple[str, ...]) -> Iterator[Moved]:
    told, budget = world.told, world.budget
    if told.spot:
        yield from _interrupted(world)
    if told.maintenance:
        cleared = world._replace(told=told._replace(maintenance=False))
        yield Edge("EC2: the maintenance is over", cleared)
    if not budget.announcements:
        return
    less = world._replace(budget=budget._replace(announcements=budget.announcements - 1))
    for name in announces:
        if name == "rebalance" and not told.rebalance:
            yield Edge("EC2: rebalance", less._replace(told=told._replace(rebalance=True)))
        elif name == "maintenance" and not told.maintenance:
            yield Edge("EC2: maintenance", less._replace(told=told._replace(maintenance=True)))
        elif name in ("terminate", "stop", "hibernate") and not told.spot:
            yield Edge(f"EC2: spot, {name}", less._replace(told=told._replace(spot=name)))


def _interrupted(world: World) -> Iterator[Moved]:
    told = world.told
    match told.spot:
        case "terminate":
            yield Edge("EC2 interrupts: gone", GONE)
            yield Edge(
                "EC2 interrupts: shut down", world._replace(machine=Machine("up", Ending.POWEROFF, "gone"))
            )
        case "stop":
            after = world._replace(
                machine=Machine("up", Ending.POWEROFF, "off"),
                told=Announcements("", False, told.rebalance, told.maintenance),
            )
            yield Edge("EC2 interrupts: stopped", after)
        case "hibernate":
            yield Edge("EC2 interrupts: hibernated", world._replace(machine=Machine("frozen")))
    # The agent believes that only a while after the end, when no transition for it works any more.
    working = any(proc.asked.kind is NoticeKind.SPOT for proc in world.procs)
    if told.overdue and world.shown is world.group.target and not working:
        yield Edge("EC2 has not interrupted it", world._replace(told=told._replace(spot="", overdue=False)))

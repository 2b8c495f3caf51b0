"""What the agent does in a state of the world: a cycle of the watcher, one move of a transition's process.

The cycle is that of `watch/daemon.py`, the lock's rules are those of `cli/seen.py`, in a few lines each; what
decides in them is the real code (`rules.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lifecycle_agent.model import (
    COMPLETE,
    ActionResult,
    LifecycleState,
    LifecycleTransition,
    NoticeKind,
    Outcome,
    TargetState,
)
from lifecycle_agent.standing import Phase, Standing
from lifecycle_agent.transition import plan
from lifecycle_agent.watch.decision import Leave, Memory, Record, Start
from lifecycle_agent.watch.supervisor import DONE, DONE_WITH_FAILURES, GAVE_WAY
from tests.explore.group import NOT_FOR_GOOD, answered
from tests.explore.rules import Next, Rules
from tests.explore.search import Edge
from tests.explore.world import (
    NOW,
    PAST,
    SINCE,
    Ended,
    Proc,
    Rec,
    Watcher,
    World,
    forgotten,
    looked_past,
)

Moved = Edge[World]

# These take longer than the metadata lag behind the group.
_LONG = (plan.SETTLE, plan.READY, plan.START_UNITS)
# An app that is taken back into service can be drained anew.
_BACK = (NoticeKind.UNDRAIN, NoticeKind.RETURN, NoticeKind.LEAVE_POOL)

# -- the watcher


def stands(world: World, rules: Rules) -> Standing:
    """Where the instance stands, as `watch/record.py` has it."""
    watcher, journal = world.watcher, world.journal
    if watcher.since is not None:
        return rules.standing(journal.records[watcher.included :], watcher.since)
    return rules.standing(journal.records, journal.before)


def cycle(world: World, rules: Rules, silent: bool = False) -> World:
    """The world after one cycle of the watcher; `silent` where the metadata do not answer."""
    seen = world.observation(silent)
    if world.child is not None and world.child.place == "ended":
        world = _let_go(world, rules, world.child)
    watcher, child = world.watcher, world.child
    standing = watcher.held if child is not None and watcher.held is not None else stands(world, rules)
    running = child.asked if child is not None else None
    hand = world.hand
    at_it = child is None and hand is not None and hand.place == "working" and not standing.finished
    memory = Memory(standing, running, "", NOW + 1 if watcher.paused else 0.0, "at it" if at_it else "")
    decision = rules.decision(seen, memory)
    if isinstance(decision, Record):
        world = _put(world, rules, decision)
        standing = stands(world, rules)
        decision = rules.decision(seen, Memory(standing, None, "", 0.0))
    match decision:
        case Start(notice):
            strays = world.strays if rules.stops or child is None else (*world.strays, child)
            world = stopped(world) if rules.stops else world
            watcher = world.watcher._replace(held=standing)
            world = world._replace(watcher=watcher, child=Proc(notice), strays=strays)
        case Leave():
            world = stopped(world)._replace(watcher=Watcher(alive=False))
    return compact(world, rules)


def stopped(world: World) -> World:
    """The child told to stop: it writes that down, and leaves."""
    child = world.child
    if child is None:
        return world
    return laid_down(world, child)._replace(child=None, watcher=world.watcher._replace(held=None))


def laid_down(world: World, proc: Proc) -> World:
    """The journal has the process's word that it was told to stop."""
    if proc.place != "working":
        return world
    record = world.journal.records[proc.page]._replace(deaths=0, taken=False)
    return world._replace(journal=world.journal.with_record(proc.page, record))


def _let_go(world: World, rules: Rules, child: Proc) -> World:
    """The transition has ended; `Watcher._after` and `Record.ended`."""
    watcher = world.watcher._replace(held=None)
    if child.code == GAVE_WAY:
        return world._replace(child=None, watcher=watcher._replace(paused=True))
    well = child.code == DONE
    records, included = world.journal.records, watcher.included
    world = world._replace(child=None, watcher=watcher)
    mine = [
        place for place in range(included, len(records)) if records[place].notice.kind is child.asked.kind
    ]
    last = records[mine[-1]] if mine else None
    before_it = child.page < 0  # what it was to do had been done already
    if last is None or last.outcome is None or not last.this_boot or before_it:
        # What somebody has begun by hand since comes after it.
        place = mine[-1] if last is not None and last.outcome is None else len(records)
        more = (SINCE,) if place < len(records) else ()
        before = rules.standing((*records[included:place], *more), watcher.since or world.journal.before)
        since = before.after(child.asked, Outcome.DONE if well else Outcome.FAILED)
        watcher = watcher._replace(since=since, included=min(place + 1, len(records)))
        world = world._replace(watcher=watcher)
    failed = stands(world, rules).phase is Phase.OUT and not well
    return world._replace(watcher=watcher._replace(paused=failed))


def _put(world: World, rules: Rules, decision: Record) -> World:
    records = (*world.journal.records, Rec(decision.notice, (), Outcome.DONE))
    watcher = world.watcher._replace(paused=False)
    return world._replace(journal=world.journal._replace(records=records), watcher=watcher)


def compact(world: World, rules: Rules) -> World:
    """The same world, without what makes no difference any more."""
    journal, watcher = world.journal, world.watcher
    records, before, over = list(journal.records), journal.before, journal.over
    since, count = watcher.since, watcher.included
    dropped = 0
    in_use = {proc.page for proc in world.procs}
    while len(records) > 1 and dropped not in in_use and not all(map(looked_past, records[1:])):
        first = records[0]
        unsettled = not first.settled
        if unsettled and (
            first.notice.kind is NoticeKind.TERMINATE
            or (first.notice.kind is NoticeKind.DRAIN and first.this_boot)
        ):
            break
        before = rules.standing((first, SINCE), before)
        if first.notice.kind is NoticeKind.TERMINATE:
            over = first.outcome
        if since is not None:
            since, count = (since, count - 1) if count else (rules.standing((first, SINCE), since), 0)
        del records[0]
        dropped += 1
    for index, record in enumerate(records):
        if index + dropped not in in_use:
            records[index] = forgotten(record, all(map(looked_past, records[index + 1 :])))
    pages = list(range(dropped, dropped + len(records)))  # where each was
    for place in reversed(range(len(records) - 1)):
        # One that came to the same end as the next one, and has done as little.
        if records[place] == records[place + 1] and records[place].settled and pages[place] not in in_use:
            del records[place], pages[place]
            count -= place < count
    if since is not None and rules.standing(tuple(records[count:]), since) == rules.standing(
        tuple(records), before
    ):
        since, count = None, 0
    if len(pages) < len(journal.records):
        moved = {was: now for now, was in enumerate(pages)}
        world = world._replace(
            child=_moved(world.child, moved),
            hand=_moved(world.hand, moved),
            strays=tuple(each for each in (_moved(each, moved) for each in world.strays) if each),
        )
    journal = journal._replace(before=before, over=over, records=tuple(records))
    return world._replace(journal=journal, watcher=watcher._replace(since=since, included=count))


def _moved(proc: Proc | None, pages: Mapping[int, int]) -> Proc | None:
    return proc._replace(page=pages[proc.page]) if proc is not None and proc.page >= 0 else proc


# -- a transition's process


def moves(world: World, rules: Rules, name: str) -> Iterator[Moved]:
    """What the process may do next; `name` is its place in the world (`child`, `hand`)."""
    proc: Proc | None = getattr(world, name)
    if proc is None:
        return
    kind = proc.asked.kind.value
    who = f"{kind} by hand" if name == "hand" else kind
    match proc.place:
        case "dead":
            yield Edge(
                f"{who} is started again", _with(world, name, proc._replace(place="waiting")), own=True
            )
        case "waiting":
            yield from _lock(world, rules, name, proc, who)
        case "working":
            yield from _work(world, rules, name, proc, who)


def _gives_way(proc: Proc) -> bool:
    """Whether it does not wait for others; see `cli/seen.py`."""
    return proc.asked.completes is None and proc.asked.kind not in (NoticeKind.SHUTDOWN, NoticeKind.REBOOT)


def refused(world: World, rules: Rules, kind: NoticeKind) -> bool:
    """Whether `drain` or `undrain` by hand is; see `cli/foreground.py`."""
    records, phase = world.journal.records, stands(world, rules).phase
    last = records[-1] if records else None
    launching = last is not None and last.notice.completes is LifecycleTransition.LAUNCHING
    if (launching and last is not None and not last.settled) or phase is Phase.POOLED:
        return True
    arrives = world.group.word.removeprefix("Warmed:").startswith("Pending")  # the group is asked
    if phase is Phase.NEW and rules.config.launches and arrives:
        return True
    if kind is not NoticeKind.UNDRAIN:
        return False
    back = (None, TargetState.IN_SERVICE, TargetState.DETACHED)
    interrupted = bool(world.told.spot) and rules.config.spot.action == "drain"
    return phase is Phase.GONE or world.shown not in back or interrupted


def _with(world: World, name: str, proc: Proc | None) -> World:
    return world._replace(child=proc) if name == "child" else world._replace(hand=proc)


def _lock(world: World, rules: Rules, name: str, proc: Proc, who: str) -> Iterator[Moved]:
    holder = next((each for each in world.procs if each.place == "working"), None)
    if holder is None and name == "hand" and refused(world, rules, proc.asked.kind):
        yield Edge(f"{who} is refused", world._replace(hand=None), own=True)
    elif holder is None or not rules.locks:
        taken = rules.take_up(proc.asked, world.journal)
        if taken.notice is None:
            over = None if name == "hand" else proc._replace(place="ended", code=DONE)
            yield Edge(f"{who}: it is over already", _with(world, name, over), own=True)
            return
        working = Proc(proc.asked, "working", taken.page, taken.notice, taken.died)
        began = _with(world._replace(journal=taken.journal), name, working)
        if name == "hand" and proc.asked.kind is NoticeKind.UNDRAIN:
            began = began._replace(drained=False)
        child = began.child
        if name == "hand" and child is not None and child.place != "ended" and _gives_way(child):
            # Whoever comes to the lock after it finds that it was begun since.
            began = began._replace(child=child._replace(place="ended", code=GAVE_WAY))
        if proc.asked.kind in _BACK and world.app.alive:
            began = began._replace(app=world.app._replace(commanded=False))
        resumed = "goes on" if taken.page < len(world.journal.records) else "begins"
        yield Edge(f"{who} {resumed}", compact(began, rules), own=True, did=("begins", name, proc.asked))
    elif name == "hand":
        return  # it follows the one that runs
    elif _gives_way(proc):
        gave = proc._replace(place="ended", code=GAVE_WAY)
        yield Edge(f"{who} gives way to what is done by hand", _with(world, name, gave), own=True)
    elif holder is world.hand and holder.asked.kind is not proc.asked.kind:
        told = laid_down(world, holder)._replace(hand=None)
        yield Edge(f"{who} tells what is done by hand to stop", told, own=True)


def _work(world: World, rules: Rules, name: str, proc: Proc, who: str) -> Iterator[Moved]:
    record = world.journal.records[proc.page]
    if proc.notice is None:
        raise AssertionError("a process that works has a notice")
    following = rules.next(proc.notice, record.ended, proc.died, record.late)
    record = record._replace(ended=(*record.ended, *following.skipped))
    skipped = "".join(f", {each.name} left out" for each in following.skipped)
    if not following.step:
        over = record._replace(outcome=following.outcome, deaths=0, taken=False)
        code = DONE_WITH_FAILURES if following.outcome is Outcome.FAILED else DONE
        after = world._replace(journal=world.journal.with_record(proc.page, over))
        after = _with(after, name, None if name == "hand" else proc._replace(place="ended", code=code))
        if name == "hand" and proc.asked.kind is NoticeKind.DRAIN:
            after = after._replace(drained=True)
        yield Edge(f"{who} is over: {following.outcome.value}{skipped}", compact(after, rules), own=True)
    elif following.result is not None:
        yield from _answer(world, rules, name, proc, record, following, who)
    else:
        yield from _step(world, rules, name, proc, record, following, who + skipped)


def _step(
    world: World, rules: Rules, name: str, proc: Proc, record: Rec, following: Next, who: str
) -> Iterator[Moved]:
    step = following.step
    if step.startswith(_LONG) and world.shown is not world.group.target:
        return

    def ended(
        outcome: Outcome, after: World, enough: bool = False, unknown: bool = False, own: bool = True
    ) -> Moved:
        done = record._replace(ended=(*record.ended, Ended(step, outcome, enough, unknown)))
        after = after._replace(journal=world.journal.with_record(proc.page, done))
        did = ("step", name, proc, record, step, outcome)
        return Edge(f"{who}: {step} {outcome.value}", after, own=own, did=did)

    if step == plan.ARRIVAL:
        new = rules.arrives(world.group.word, proc.asked.kind is NoticeKind.LEAVE_POOL)
        yield ended(Outcome.DONE, world, enough=not new)
    else:
        outcome, after = effect(world, step)
        yield ended(outcome, after)
        if outcome is Outcome.FAILED:
            return
    if world.budget.faults:
        budget, app = world.budget._replace(faults=world.budget.faults - 1), world.app
        if step == plan.ARRIVAL:  # it does not fail, and may not find out
            yield ended(Outcome.WARNED, world._replace(budget=budget), unknown=True, own=False)
            return
        if step == plan.START_UNITS or step.startswith(plan.COMMAND):
            app = app._replace(commanded=False)  # nobody knows how far it came
        yield ended(Outcome.FAILED, world._replace(budget=budget, app=app), own=False)


def effect(world: World, step: str) -> tuple[Outcome, World]:
    """What a step that goes well makes of the app and its registration; some cannot go well."""
    app, done = world.app, Outcome.DONE
    if step in (plan.OUT_OF_SERVICE, plan.SETTLE):
        app = app._replace(listed="OUT" if app.listed else "")
    elif step.startswith((plan.COMMAND, plan.HTTP)):
        app = app._replace(commanded=True)
    elif step == plan.UNITS:
        app = app._replace(alive=False, ready=False)
    elif step == plan.DEREGISTER:
        app = app._replace(listed="UP" if app.alive else "")
    elif step == plan.VERIFY and app.listed:
        app, done = app._replace(listed="OUT"), Outcome.FAILED
    elif step == plan.START_UNITS and not app.alive:
        app = app.started()
    elif step == plan.READY:
        # It is held back until then; it can only be ready while it runs.
        done = Outcome.DONE if app.alive else Outcome.FAILED
        app = app._replace(ready=True, listed="OUT" if app.listed else "") if app.alive else app
    elif step in (plan.BACK_IN_SERVICE, plan.REGISTER):
        done = Outcome.DONE if app.alive else Outcome.FAILED
        app = app._replace(listed="UP") if app.alive else app
    return done, world._replace(app=app)


def _answer(
    world: World, rules: Rules, name: str, proc: Proc, record: Rec, following: Next, who: str
) -> Iterator[Moved]:
    group, result = world.group, following.result
    if proc.notice is None or result is None:
        raise AssertionError("an answer to a notice")
    came, hook = rules.answer(proc.notice, result, group.word, group.asks, proc.notice.ends == PAST)
    if came == "again":
        # It waits for longer than any group takes until it asks.
        late, _ = rules.answer(proc.notice, result, group.word, group.asks, late=True)
        if late == "failed" and not LifecycleState(group.word).arriving:
            yield _answered(
                world, name, proc, record, Outcome.FAILED, f"{who}: the time for the answer is up", False
            )
        return
    by = NOT_FOR_GOOD if proc.notice.kind in (NoticeKind.SPOT, NoticeKind.DRAIN) else ""
    after = world._replace(group=answered(group, hook, result, by, rules.retains)) if hook else world
    outcome = Outcome.FAILED if came == "failed" else Outcome.DONE
    what = f"{result.value} to {hook}" if hook else came
    unasked = came == "not asked"
    yield _answered(after, name, proc, record, outcome, f"{who}: {what}", True, hook, result, unasked)
    if hook and world.budget.lost:
        budget = world.budget._replace(lost=world.budget.lost - 1)
        dead = None if name == "hand" else proc._replace(place="dead", page=-1)
        # What was left out before the answer is on record.
        after = after._replace(budget=budget, journal=world.journal.with_record(proc.page, record))
        yield Edge(f"{who}: {what}, and is killed", _with(after, name, dead))


def _answered(
    world: World,
    name: str,
    proc: Proc,
    record: Rec,
    outcome: Outcome,
    label: str,
    own: bool,
    hook: str = "",
    result: ActionResult | None = None,
    unasked: bool = False,
) -> Moved:
    ended = record._replace(ended=(*record.ended, Ended(COMPLETE, outcome, unasked=unasked)))
    after = world._replace(journal=world.journal.with_record(proc.page, ended))
    return Edge(label, after, own=own, did=("answer", name, proc, record, hook, result))

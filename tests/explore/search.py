"""Breadth-first search of every state that can be reached, with the shortest way to whatever is wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


@dataclass(slots=True)
class Edge(Generic[S]):
    """One step from a state to the next.

    Args:
        label: what happens, for people.
        to: the state after it.
        own: whether it happens by itself, sooner or later, if nobody does anything: the agent's moves, and
            what it waits for.
        pause: whether it is the end of a long pause.
        did: what was done, for invariants about it.
    """

    label: str
    to: S
    own: bool = False
    pause: bool = False
    did: tuple[object, ...] = ()


Moves = Callable[[S], Iterable[Edge[S]]]
StateRule = Callable[[S], str]
EdgeRule = Callable[[S, Edge[S]], str]
RestRule = Callable[[S], str]


@dataclass(frozen=True)
class Violation(Generic[S]):
    """What was found, and the shortest way there."""

    rule: str
    what: str
    trace: tuple[str, ...]
    state: S

    def __str__(self) -> str:
        steps = "\n".join(f"  {number:2d}. {label}" for number, label in enumerate(self.trace, 1))
        return f"{self.rule}: {self.what}, after {len(self.trace)} events:\n{steps}"


@dataclass(frozen=True)
class Found(Generic[S]):
    """How many there are; `complete` when the search came to its end, and what is wrong, if anything is."""

    states: int
    edges: int
    depth: int
    rests: int
    violation: Violation[S] | None
    complete: bool = True


def explore(
    starts: Iterable[S],
    moves: Moves[S],
    states: dict[str, StateRule[S]],
    edges: dict[str, EdgeRule[S]],
    rests: dict[str, RestRule[S]],
    most: int = 5_000_000,
) -> Found[S]:
    """Visit every state.

    Args:
        states: what must hold in each state: each rule gives a sentence on what is wrong, or an empty one.
        edges: the same for each step.
        rests: the same for states in which nothing happens by itself.
        most: states after which the search gives up.
    """
    parents: dict[S, tuple[S, str] | None] = {}
    queue: deque[tuple[S, int]] = deque()
    own: dict[S, list[S]] = {}
    count = deepest = resting = 0

    def wrong(rule: str, what: str, state: S, *more: str) -> Found[S]:
        violation = Violation(rule, what, (*_way(parents, state), *more), state)
        return Found(len(parents), count, deepest, resting, violation)

    for start in starts:
        if start not in parents:
            parents[start] = None
            queue.append((start, 0))
    while queue:
        state, depth = queue.popleft()
        deepest = max(deepest, depth)
        for rule, judge in states.items():
            if what := judge(state):
                return wrong(rule, what, state)
        following: list[S] = []
        at_rest = True
        for edge in moves(state):
            if edge.to == state:
                continue
            count += 1
            for edge_rule, judge_edge in edges.items():
                if what := judge_edge(state, edge):
                    return wrong(edge_rule, what, state, edge.label)
            if edge.own:
                at_rest = False
                if not edge.pause:
                    following.append(edge.to)
            if edge.to not in parents:
                parents[edge.to] = (state, edge.label)
                queue.append((edge.to, depth + 1))
        if following:
            own[state] = following
        if at_rest:
            resting += 1
            for rule, judge in rests.items():
                if what := judge(state):
                    return wrong(rule, what, state)
        if len(parents) > most:
            return Found(len(parents), count, deepest, resting, None, complete=False)
    circle = _circle(own, parents)
    if circle is not None:
        return wrong("comes to rest", "it goes round in a circle by itself", circle)
    return Found(len(parents), count, deepest, resting, None)


def _way(parents: dict[S, tuple[S, str] | None], state: S) -> tuple[str, ...]:
    labels: list[str] = []
    before = parents[state]
    while before is not None:
        state, label = before
        labels.append(label)
        before = parents[state]
    return tuple(reversed(labels))


def _circle(own: dict[S, list[S]], order: Iterable[S]) -> S | None:
    """The first state that was found of those that lie on a circle of moves that happen by themselves."""
    before: dict[S, list[S]] = {}
    left = {state: len(following) for state, following in own.items()}
    for state, following in own.items():
        for each in following:
            before.setdefault(each, []).append(state)
    # What leads nowhere else is peeled off, from the states at rest backwards; a circle is what stays.
    ends = [each for each in before if each not in own]
    while ends:
        for state in before.get(ends.pop(), ()):
            left[state] -= 1
            if not left[state]:
                ends.append(state)
    stay = {state for state, count in left.items() if count}
    return next((state for state in order if state in stay and _returns(state, own, stay)), None)


def _returns(start: S, own: dict[S, list[S]], within: set[S]) -> bool:
    """Whether a way leads from the state back to it."""
    seen: set[S] = set()
    todo = list(own[start])
    while todo:
        state = todo.pop()
        if state == start:
            return True
        if state in within and state not in seen:
            seen.add(state)
            todo.extend(own[state])
    return False

"""Every state that can be reached in each bounded world: what must hold does, and the count is printed."""

from __future__ import annotations

import time

import pytest

from tests.explore import figures
from tests.explore.scopes import SCOPES, Scope
from tests.explore.search import Edge, explore

pytestmark = pytest.mark.once


@pytest.mark.parametrize("scope", SCOPES, ids=lambda scope: scope.name.replace(", ", "-").replace(" ", "-"))
def test_what_must_hold_holds_in_every_state(scope: Scope) -> None:
    began = time.monotonic()
    found = scope.explore()
    line = figures.line(scope.name, found, time.monotonic() - began)
    figures.LINES.append(line)
    print(line)
    assert found.violation is None, f"\n{found.violation}"
    assert found.complete
    # A world in which nothing happens would prove nothing.
    assert found.states > 50
    assert found.rests > 5


# -- the search itself


def _count(most: int) -> list[Edge[int]]:
    return [Edge(f"to {most + 1}", most + 1, own=True), Edge("twice", most * 2)] if most < 20 else []


def test_the_shortest_way_is_shown() -> None:
    found = explore([1], _count, {"not ten": lambda state: "ten" if state == 10 else ""}, {}, {})
    assert found.violation is not None
    assert found.violation.trace == ("to 2", "twice", "to 5", "twice")
    assert str(found.violation).startswith("not ten: ten, after 4 events:\n   1. to 2")


def test_a_rest_is_where_nothing_happens_by_itself() -> None:
    found = explore([1], _count, {}, {}, {"never": lambda state: f"at {state}"})
    assert found.violation is not None
    assert found.violation.what.startswith("at 2") or found.violation.what == "at 20"
    assert found.violation.state >= 20


def test_a_circle_is_found() -> None:
    def moves(state: int) -> list[Edge[int]]:
        following = {0: 1, 1: 2, 2: 3, 3: 1}
        return [Edge(f"to {following[state]}", following[state], own=True)]

    found = explore([0], moves, {}, {}, {})
    assert found.violation is not None
    assert (found.violation.rule, found.violation.state) == ("comes to rest", 1)


def test_a_circle_with_a_long_pause_in_it_is_none() -> None:
    def moves(state: int) -> list[Edge[int]]:
        return [Edge("on", (state + 1) % 3, own=True, pause=state == 2)]

    found = explore([0], moves, {}, {}, {})
    assert found.violation is None
    assert (found.states, found.edges) == (3, 3)

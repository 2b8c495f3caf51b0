"""The watcher's table, every row of it."""

from __future__ import annotations

import itertools

import pytest

from lifecycle_agent.config import ShutdownSection
from lifecycle_agent.model import LifecycleTransition, Notice, NoticeKind, Observation, TargetState
from lifecycle_agent.watch.decide import Memory, Phase, Start, Stay, decide

NOW = 1234.5
SHUTDOWN = ShutdownSection()

PROBLEM = Observation(None, "the instance metadata service does not answer")
SILENCE = Observation(None)
SEEN = [*(Observation(target) for target in TargetState), SILENCE, PROBLEM]

WAITING = {
    TargetState.IN_SERVICE: "waiting: the group wants this instance InService",
    TargetState.STANDBY: "waiting: on standby: the app keeps running and keeps its registration",
    TargetState.DETACHED: (
        "waiting: detached from its group: the app keeps running and keeps its registration"
    ),
    TargetState.WARMED_STOPPED: "waiting: in the warm pool, to be stopped: the app is left alone",
    TargetState.WARMED_RUNNING: "waiting: in the warm pool, running: the app is left alone",
    TargetState.WARMED_HIBERNATED: "waiting: in the warm pool, to be hibernated: the app is left alone",
    TargetState.WARMED_TERMINATED: "waiting: to be terminated in the warm pool: the app is left alone",
}


def test_the_group_takes_the_instance_away() -> None:
    decision = decide(Observation(TargetState.TERMINATED), Memory(), NOW, SHUTDOWN)

    reason = "the group takes this instance away"
    notice = Notice(NoticeKind.TERMINATE, reason, NOW, LifecycleTransition.TERMINATING)
    assert decision == Start(notice, "starting: the group takes this instance away")


@pytest.mark.parametrize(("target", "sentence"), WAITING.items())
def test_whatever_else_it_wants_is_said_and_changes_nothing(target: TargetState, sentence: str) -> None:
    assert decide(Observation(target), Memory(), NOW, SHUTDOWN) == Stay(sentence)


def test_every_word_has_its_row() -> None:
    assert {*WAITING, TargetState.TERMINATED} == set(TargetState)


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (SILENCE, "waiting: no group has said yet what it wants of this instance"),
        (PROBLEM, "waiting: the instance metadata service does not answer"),
    ],
)
def test_without_an_answer_nothing_starts(seen: Observation, sentence: str) -> None:
    assert decide(seen, Memory(), NOW, SHUTDOWN) == Stay(sentence)


@pytest.mark.parametrize(
    ("phase", "seen"), [*itertools.product([Phase.IN_TRANSITION, Phase.OVER], SEEN)], ids=str
)
def test_one_transition_is_enough(phase: Phase, seen: Observation) -> None:
    assert decide(seen, Memory(phase, "terminate since 41 s: step logs"), NOW, SHUTDOWN) == Stay(
        "terminate since 41 s: step logs"
    )

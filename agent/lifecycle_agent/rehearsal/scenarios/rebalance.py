"""A rebalance recommendation: people are told once, or the instance is drained ahead of the interruption."""

from __future__ import annotations

from dataclasses import replace

from lifecycle_agent.config import RebalanceSection
from lifecycle_agent.rehearsal import checks
from lifecycle_agent.rehearsal.ec2 import RECOMMENDATION
from lifecycle_agent.rehearsal.outcome import Outcome
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scenario import Act, Scenario, acted_on
from lifecycle_agent.rehearsal.scenarios import terminate
from lifecycle_agent.rehearsal.scene import Scene
from lifecycle_agent.rehearsal.verdict import Check
from lifecycle_agent.rehearsal.world import OURS

BEGIN, END, DRAINED, STILL = "begin", "end", "drained", "still drained"


def told(play: Play) -> None:
    """It is recommended, seen again and again, and once more by a service that was restarted."""
    play.calm()
    play.mark(BEGIN)
    play.ec2.recommend()
    play.asked(RECOMMENDATION)
    if any(play.config.notify):
        play.wait("people are told", lambda: bool(play.world.told))
    play.restarted()
    play.asked(RECOMMENDATION)
    play.polled()
    play.called()
    play.mark(END)


def drained(play: Play) -> None:
    """The instance goes ahead of the interruption; the group replaces it then."""
    play.calm()
    play.ec2.recommend()
    play.reported("rebalance")
    play.mark(DRAINED)
    play.looked()
    play.mark(STILL)
    play.taken_away(f"has launched another one, and takes {OURS} away")


def judge_told(outcome: Outcome) -> list[Check]:
    """Told once; nothing else happens."""
    return [
        checks.requests(outcome.tally, outcome.seconds),
        checks.told_once(outcome, "rebalance"),
        checks.serves(outcome, BEGIN, END),
        checks.unasked(outcome.actions),
    ]


def judge_drained(outcome: Outcome) -> list[Check]:
    """Drained before anybody asks, answered when the group does."""
    away = checks.held_back(outcome.between(DRAINED, STILL), "drained on advice", "drained")
    return [*terminate.judge(outcome), away]


SCENARIO = Scenario(
    "rebalance",
    (
        Act('action = "notify"', told, judge_told, Scene(spot=True), fits=acted_on("rebalance", "notify")),
        Act(
            'action = "drain"',
            drained,
            judge_drained,
            Scene(spot=True),
            lambda config: replace(config, rebalance=RebalanceSection("drain")),
            acted_on("rebalance", "drain"),
        ),
    ),
)

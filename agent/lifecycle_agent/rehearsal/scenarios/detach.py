"""Detached, the app serves on; attached to another group, it is that group's to take away."""

from __future__ import annotations

from dataclasses import replace

from lifecycle_agent.rehearsal import checks
from lifecycle_agent.rehearsal.outcome import Outcome
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scenario import Act, Scenario
from lifecycle_agent.rehearsal.scenarios import terminate
from lifecycle_agent.rehearsal.verdict import Check
from lifecycle_agent.rehearsal.world import OURS

ANOTHER = "orders-blue"
DETACHED, ALONE, ATTACHED, SERVED = "detached", "alone", "attached", "served"


def script(play: Play) -> None:
    """Out of one group, into another, and away."""
    play.calm()
    play.group_does(f"detaches {OURS}")
    play.group.detach(OURS)
    play.state("Detached")
    play.polled()
    play.mark(DETACHED)
    play.looked()
    play.called()
    play.mark(ALONE)
    hook = play.config.hooks.terminate or f"{ANOTHER}-drain"
    play.world.found_group(ANOTHER, hook)
    play.group_does(f"is now {ANOTHER}, and attaches {OURS}")
    play.group.attach(OURS)
    play.state("InService")
    play.polled()
    play.mark(ATTACHED)
    play.called()
    play.mark(SERVED)
    play.taken_away()


def judge(outcome: Outcome) -> list[Check]:
    """Nothing is done to it but by the group that takes it away."""
    return [
        *terminate.judge(outcome),
        checks.serves(outcome, DETACHED, ALONE, "alone"),
        checks.serves(outcome, ATTACHED, SERVED, "attached"),
        checks.nothing_but(outcome.reports, "terminate"),
    ]


SCENARIO = Scenario(
    "detach",
    (
        Act(
            "",
            script,
            judge,
            # The two groups call their hooks differently: each is found.
            prepare=lambda config: replace(config, hooks=replace(config.hooks, terminate="")),
        ),
    ),
)

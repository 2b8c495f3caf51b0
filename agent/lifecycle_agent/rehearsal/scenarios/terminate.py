"""The main one: the group takes an instance away that is serving."""

from __future__ import annotations

from lifecycle_agent.rehearsal import checks
from lifecycle_agent.rehearsal.outcome import Outcome
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scenario import Act, Scenario
from lifecycle_agent.rehearsal.verdict import Check


def script(play: Play) -> None:
    """Scale-in."""
    play.calm()
    play.taken_away()


def judge(outcome: Outcome) -> list[Check]:
    """Nothing is lost, nothing is late."""
    found = [
        checks.requests(outcome.tally, outcome.seconds),
        checks.logs(outcome.logs),
        checks.hook(outcome.action),
        checks.app(outcome.app_stopped),
        checks.registry(outcome.registered),
    ]
    if outcome.with_agent:
        found += [checks.notices(outcome), checks.agent(outcome.reports)]
    return found


SCENARIO = Scenario("terminate", (Act("", script, judge, without_agent=True),))

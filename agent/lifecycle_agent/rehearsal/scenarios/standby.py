"""On standby, and back: no hook asks, but callers must not notice either."""

from __future__ import annotations

from lifecycle_agent.rehearsal import checks, settings
from lifecycle_agent.rehearsal.outcome import Outcome
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scenario import Act, Scenario
from lifecycle_agent.rehearsal.verdict import Check
from lifecycle_agent.rehearsal.world import OURS

AWAY, RETURNS, BACK, SERVED = "away", "returns", "back", "served"


def script(play: Play) -> None:
    """Somebody has to look at the machine."""
    play.calm()
    play.group_does(f"puts {OURS} on standby")
    play.group.enter_standby(OURS)
    play.reported("standby")
    play.state("Standby")
    play.mark(AWAY)
    play.looked()
    play.mark(RETURNS)
    play.group_does(f"takes {OURS} back from standby")
    play.group.exit_standby(OURS)
    play.people.start_app()
    play.reported("undrain")
    play.mark(BACK)
    play.called()
    play.mark(SERVED)


def judge(outcome: Outcome) -> list[Check]:
    """Away it is not called, back it is; the group is never answered."""
    return [
        checks.requests(outcome.tally, outcome.seconds),
        checks.held_back(outcome.between(AWAY, RETURNS), "on standby", "standby"),
        checks.serves(outcome, BACK, SERVED, "back"),
        checks.unasked(outcome.actions),
        checks.agent(outcome.reports),
    ]


SCENARIO = Scenario(
    "standby",
    (
        Act(
            "",
            script,
            judge,
            prepare=settings.ready,
            fits=lambda config: "" if config.standby.action != "ignore" else '[standby] action is "ignore"',
        ),
    ),
)

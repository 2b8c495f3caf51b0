"""By hand while the service runs: drained, still drained after a restart, back, and then taken away."""

from __future__ import annotations

from lifecycle_agent.rehearsal import checks, settings
from lifecycle_agent.rehearsal.outcome import Outcome
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scenario import Act, Scenario
from lifecycle_agent.rehearsal.scenarios import terminate
from lifecycle_agent.rehearsal.verdict import Check

DRAINED, STILL, BACK, SERVED = "drained", "still drained", "back", "served"


def script(play: Play) -> None:
    """Somebody has to mend something."""
    play.calm()
    play.ended(play.people.type("drain", "--reason", "a disk is to be changed"))
    play.mark(DRAINED)
    play.restarted()
    play.polled()
    play.looked()
    play.mark(STILL)
    play.people.start_app()
    play.ended(play.people.type("undrain"))
    play.mark(BACK)
    play.called()
    play.polled()
    play.mark(SERVED)
    play.taken_away()


def judge(outcome: Outcome) -> list[Check]:
    """What people do is left alone, until the group decides."""
    return [
        *terminate.judge(outcome),
        checks.held_back(outcome.between(DRAINED, STILL), "drained by hand", "drained"),
        checks.serves(outcome, BACK, SERVED, "back"),
        checks.nothing_but(outcome.reports, "drain", "undrain", "terminate"),
    ]


SCENARIO = Scenario("manual", (Act("", script, judge, prepare=settings.ready),))

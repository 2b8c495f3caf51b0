"""The metadata have no target lifecycle state; the group's event comes through EventBridge and SSM."""

from __future__ import annotations

import json

from lifecycle_agent.rehearsal.outcome import Outcome
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scenario import Act, Scenario
from lifecycle_agent.rehearsal.scenarios import terminate
from lifecycle_agent.rehearsal.scene import Scene
from lifecycle_agent.rehearsal.verdict import Check
from lifecycle_agent.rehearsal.world import OURS


def script(play: Play) -> None:
    """Scale-in, and an event of it."""
    play.calm()
    play.group_does(f"scales in: takes {OURS} away")
    play.group.terminate(OURS)
    play.state("Terminating:Wait")
    play.people.type("drain", "--event", "-", said=json.dumps(play.group.event(OURS)))
    play.gone()
    play.aftermath()


def judge(outcome: Outcome) -> list[Check]:
    """As if it had been seen in the metadata; and the event's token is what names the action."""
    return [*terminate.judge(outcome), by_token(outcome)]


def by_token(outcome: Outcome) -> Check:
    """The event has a token, which needs no looking up."""
    by = outcome.action.answered_by if outcome.action else ""
    return Check("token", by == "token", f"the action was named by its {by or '(no answer)'}", {"by": by})


SCENARIO = Scenario("event", (Act("", script, judge, Scene(asks_at_once=True, told_by_imds=False)),))

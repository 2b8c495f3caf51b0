"""Scheduled maintenance: people are told once an event, or the instance is drained a lead time before."""

from __future__ import annotations

from dataclasses import replace

from lifecycle_agent.rehearsal import checks
from lifecycle_agent.rehearsal.ec2 import SCHEDULED
from lifecycle_agent.rehearsal.outcome import Outcome
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scenario import Act, Scenario, acted_on
from lifecycle_agent.rehearsal.verdict import Check

EVENT = "instance-event-0d59937288b749b32"
FAR_AWAY = 7 * 86400.0  # seconds: EC2 announces most events two weeks before
SOON = 4.0  # seconds until the lead time begins
BEGIN, END, DUE, DRAINED, STILL = "begin", "end", "due", "drained", "still drained"


def told(play: Play) -> None:
    """It is scheduled, seen, and seen once more by a service that was restarted."""
    play.calm()
    play.mark(BEGIN)
    play.ec2.schedule(FAR_AWAY, EVENT)
    play.restarted()  # it looks at once; otherwise it looks once a minute
    play.asked(SCHEDULED, 0)
    if any(play.config.notify):
        play.wait("people are told", lambda: bool(play.world.told))
    play.restarted()
    play.polled()
    play.called()
    play.mark(END)


def drained(play: Play) -> None:
    """It is left in service until the lead time begins."""
    play.calm()
    play.mark(BEGIN)
    at = play.ec2.schedule(play.config.maintenance.lead + SOON, EVENT)
    play.restarted()
    due = at - play.config.maintenance.lead
    play.wait("the lead time begins", lambda: play.world.seconds() >= due - play.config.agent.poll_interval)
    play.mark(DUE)
    play.reported("maintenance")
    play.mark(DRAINED)
    play.looked()
    play.mark(STILL)


def judge_told(outcome: Outcome) -> list[Check]:
    """Told once; nothing else happens."""
    return [
        checks.requests(outcome.tally, outcome.seconds),
        checks.told_once(outcome, "maintenance"),
        checks.serves(outcome, BEGIN, END),
        checks.unasked(outcome.actions),
    ]


def judge_drained(outcome: Outcome) -> list[Check]:
    """In service until its time, and nobody's afterwards."""
    return [
        checks.requests(outcome.tally, outcome.seconds),
        checks.serves(outcome, BEGIN, DUE, "until then"),
        checks.held_back(outcome.between(DRAINED, STILL), "drained on advice", "drained"),
        checks.logs(outcome.logs),
        checks.app(outcome.app_stopped),
        checks.registry(outcome.registered),
        checks.unasked(outcome.actions),
        checks.agent(outcome.reports),
    ]


SCENARIO = Scenario(
    "maintenance",
    (
        Act('action = "notify"', told, judge_told, fits=acted_on("maintenance", "notify")),
        Act(
            'action = "drain"',
            drained,
            judge_drained,
            prepare=lambda config: replace(config, maintenance=replace(config.maintenance, action="drain")),
            fits=acted_on("maintenance", "drain"),
        ),
    ),
)

"""A spot interruption: in the middle of service, and in the middle of an ordinary termination."""

from __future__ import annotations

from lifecycle_agent.rehearsal import checks
from lifecycle_agent.rehearsal.outcome import Outcome
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scenario import Act, Scenario, acted_on
from lifecycle_agent.rehearsal.scene import Scene
from lifecycle_agent.rehearsal.verdict import Check
from lifecycle_agent.rehearsal.world import OURS

NOTICE = 120.0  # seconds of real life, as EC2 documents it
LEAST_NOTICE = 10.0  # seconds: the machine that rehearses does not get faster, and processes have to start
SLOW_BALANCER = 900.0  # seconds of real life: a group that would ask long after the machine is gone
DONE, GONE = "done", "gone"


def interrupted(play: Play) -> None:
    """EC2 needs the capacity."""
    play.calm()
    taken_back(play, "spot")


def in_the_middle(play: Play) -> None:
    """The group has begun to take it away, at its leisure."""
    play.calm()
    play.group_does(f"scales in: takes {OURS} away, behind a slow load balancer")
    play.group.terminate(OURS)
    play.wait("the drain has begun", lambda: play.world.status == "OUT_OF_SERVICE")
    taken_back(play, "terminate")


def taken_back(play: Play, kind: str) -> None:
    """Two minutes, and not one more."""
    at = play.ec2.interrupt(max(LEAST_NOTICE, NOTICE / play.speed))
    if play.with_agent:
        play.reported(kind, until=at)
    play.mark(DONE)
    play.ec2.reclaim(at)
    play.mark(GONE)
    play.aftermath()


def judge(outcome: Outcome) -> list[Check]:
    """All that is done for a termination, before the machine is gone."""
    found = [
        checks.requests(outcome.tally, outcome.seconds),
        in_time(outcome),
        checks.logs(outcome.logs),
        checks.app(outcome.app_stopped),
        checks.registry(outcome.registered),
    ]
    if outcome.with_agent:
        found += [checks.notices(outcome), checks.agent(outcome.reports)]
    return found


def in_time(outcome: Outcome) -> Check:
    """The last step must end while the machine is still there."""
    done, gone = outcome.moment(DONE), outcome.moment(GONE)
    if done is None or gone is None or not outcome.reports:
        return Check("in time", False, "the machine went before it was done", {"left": None})
    left = gone.at - done.at
    return Check("in time", True, f"done {left:.1f} s before the machine was gone", {"left": round(left, 3)})


SCENARIO = Scenario(
    "spot",
    (
        Act(
            "in service",
            interrupted,
            judge,
            Scene(spot=True),
            fits=acted_on("spot", "drain"),
            without_agent=True,
        ),
        Act(
            "in the middle of a termination",
            in_the_middle,
            judge,
            Scene(spot=True, balancer=SLOW_BALANCER),
            fits=acted_on("spot", "drain"),
        ),
    ),
)

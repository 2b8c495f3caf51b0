"""Into the warm pool, out of it, back on scale-in; and terminated in it."""

from __future__ import annotations

from lifecycle_agent.model import LifecycleTransition, TargetState
from lifecycle_agent.rehearsal import checks, settings
from lifecycle_agent.rehearsal.outcome import Moment, Outcome
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scenario import Act, Scenario
from lifecycle_agent.rehearsal.scenarios.launch import launches
from lifecycle_agent.rehearsal.scene import Scene
from lifecycle_agent.rehearsal.verdict import Check
from lifecycle_agent.rehearsal.world import OURS

LAUNCHING, TERMINATING = LifecycleTransition.LAUNCHING, LifecycleTransition.TERMINATING
POOLED, LEAVES, IN_SERVICE, SERVED, BACK, END = "pooled", "leaves", "in service", "served", "back", "end"


def begin(play: Play, rests: TargetState) -> None:
    """A new instance, for the pool."""
    play.calm()
    play.group_does(f"launches {OURS} for the warm pool")
    play.group.launch_into_pool(OURS)
    play.people.start_service()
    play.state(rests.value)
    play.mark(POOLED)


def in_and_out(play: Play) -> None:
    """Instances rest stopped: each way out of the pool begins with a boot."""
    begin(play, TargetState.WARMED_STOPPED)
    play.ec2.switch_off()
    play.looked()
    play.mark(LEAVES)
    play.group_does(f"scales out: takes {OURS} out of the warm pool")
    play.group.leave_pool(OURS)
    play.ec2.boot()
    play.people.start_service()
    play.state("InService")
    play.mark(IN_SERVICE)
    play.called()
    play.mark(SERVED)
    play.group_does(f"scales in: {OURS} goes back into the warm pool")
    play.group.return_to_pool(OURS)
    play.state("Warmed:Stopped")
    play.left()
    play.mark(BACK)
    play.ec2.switch_off()
    play.looked()
    play.mark(END)


def terminated(play: Play) -> None:
    """Instances rest running, and the group needs this one no more."""
    begin(play, TargetState.WARMED_RUNNING)
    play.looked()
    play.mark(END)
    play.taken_away(f"takes {OURS} away, out of the warm pool")


def judge_in_and_out(outcome: Outcome) -> list[Check]:
    """In service it serves, in the pool nobody calls it, and all hooks are answered."""
    return [
        checks.requests(outcome.tally, outcome.seconds),
        checks.held_back(outcome.between(POOLED, LEAVES), "resting in the pool", "in pool"),
        checks.held_back(starting(outcome), "before it was healthy"),
        checks.serves(outcome, IN_SERVICE, SERVED),
        checks.held_back(outcome.between(BACK, END), "back in the pool", "back"),
        checks.logs(outcome.logs),
        checks.hooks(outcome.actions, (LAUNCHING, LAUNCHING, TERMINATING)),
        checks.app(outcome.app_stopped),
        checks.agent(outcome.reports),
    ]


def judge_terminated(outcome: Outcome) -> list[Check]:
    """Nobody ever called it."""
    return [
        checks.requests(outcome.tally, outcome.seconds),
        checks.held_back(outcome.between(POOLED, END), "resting in the pool", "in pool"),
        checks.logs(outcome.logs),
        checks.hooks(outcome.actions, (LAUNCHING, TERMINATING)),
        checks.registry(outcome.registered),
        checks.agent(outcome.reports),
    ]


def starting(outcome: Outcome) -> list[Moment]:
    """From the way out of the pool until the app was healthy."""
    way = outcome.between(LEAVES, IN_SERVICE)
    return [moment for moment in way if moment.app != "up"]


SCENARIO = Scenario(
    "warm-pool",
    (
        Act(
            "into the pool, out of it, and back",
            in_and_out,
            judge_in_and_out,
            Scene(arrives=True, asks_at_once=True),
            settings.launching,
            launches,
        ),
        Act(
            "terminated in the pool",
            terminated,
            judge_terminated,
            Scene(arrives=True, asks_at_once=True, pool=TargetState.WARMED_RUNNING),
            settings.launching,
            launches,
        ),
    ),
)

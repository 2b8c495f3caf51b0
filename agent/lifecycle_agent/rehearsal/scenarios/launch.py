"""The group launches an instance: one that becomes ready, and one that never does."""

from __future__ import annotations

from itertools import takewhile

from lifecycle_agent.config import Config
from lifecycle_agent.model import ActionResult
from lifecycle_agent.rehearsal import checks, settings
from lifecycle_agent.rehearsal.outcome import Outcome
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scenario import Act, Scenario
from lifecycle_agent.rehearsal.scene import Scene
from lifecycle_agent.rehearsal.verdict import Check
from lifecycle_agent.rehearsal.world import OURS

IN_SERVICE, SERVED = "in service", "served"


def launches(config: Config) -> str:
    """Why nothing of this happens with a configuration."""
    return "" if config.launches else "it prepares no new instance: [launch] is empty"


def begin(play: Play) -> None:
    """Scale-out: the machine boots, and systemd starts the agent."""
    play.calm()
    play.group_does(f"scales out: launches {OURS}")
    play.group.launch(OURS)
    play.people.start_service()


def becomes_ready(play: Play) -> None:
    """Its app takes its time, and is healthy then."""
    begin(play)
    play.state("InService")
    play.mark(IN_SERVICE)
    play.called()
    play.mark(SERVED)


def never_ready(play: Play) -> None:
    """Its app never gets healthy: the group takes the instance away again."""
    begin(play)
    play.gone()
    play.aftermath()


def judge_ready(outcome: Outcome) -> list[Check]:
    """Nobody is sent to it before it is ready, everybody afterwards."""
    before = takewhile(lambda moment: moment.app != "up", outcome.course)
    return [
        checks.requests(outcome.tally, outcome.seconds),
        checks.held_back(before, "before it was healthy"),
        up_first(outcome),
        checks.hook(outcome.action),
        checks.serves(outcome, IN_SERVICE, SERVED),
        checks.notices(outcome),
        checks.agent(outcome.reports),
    ]


def judge_never(outcome: Outcome) -> list[Check]:
    """The group has the truth, people have the logs, and callers never knew."""
    return [
        checks.requests(outcome.tally, outcome.seconds),
        checks.held_back(outcome.course, "which never became healthy"),
        checks.hook(outcome.action, ActionResult.ABANDON),
        checks.logs(outcome.logs),
        checks.notices(outcome),
        reason(outcome),
    ]


def up_first(outcome: Outcome) -> Check:
    """The registry must offer it before the group has its answer: it counts on the instance from then on."""
    answered = next((one for one in outcome.course if one.state in ("Pending:Proceed", "InService")), None)
    if answered is None:
        return Check("up first", False, "the group never went on", {"status": None})
    text = f"{answered.status or 'not registered'} in the registry when the group went on"
    return Check("up first", answered.status == "UP", text, {"status": answered.status})


def reason(outcome: Outcome) -> Check:
    """The agent must own up to the failure, and say what failed."""
    failed = [step for step in outcome.report.get("steps", ()) if step["outcome"] == "failed"]
    said = str(outcome.report.get("outcome", ""))
    if said != "failed" or not failed:
        return Check("agent", False, f"says {said or 'nothing'}, and no step that failed", {"outcome": said})
    text = f"says failed: {failed[0]['name']}: {failed[0]['detail']}"
    return Check("agent", True, text, {"outcome": said, "step": failed[0]["name"]})


SCENARIO = Scenario(
    "launch",
    (
        Act(
            "it becomes ready",
            becomes_ready,
            judge_ready,
            Scene(arrives=True, asks_at_once=True),
            settings.launching,
            launches,
        ),
        Act(
            "it never becomes ready",
            never_ready,
            judge_never,
            Scene(arrives=True, asks_at_once=True, healthy=False, leaves=False),
            settings.launching,
            lambda config: (
                launches(config)
                or ("" if config.launch.ready.asked else "it awaits no readiness: [launch.ready] is empty")
            ),
        ),
    ),
)

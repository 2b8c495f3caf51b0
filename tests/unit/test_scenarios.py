"""What each scenario thinks of what came to light: it passes what is well, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from lifecycle_agent.cli.rehearse import SCENARIOS as NAMES
from lifecycle_agent.config import (
    Config,
    MaintenanceSection,
    RebalanceSection,
    SpotSection,
    StandbySection,
)
from lifecycle_agent.errors import UsageError
from lifecycle_agent.model import ActionResult, Hook, LifecycleTransition
from lifecycle_agent.rehearsal import lifecycle, play_through, settings
from lifecycle_agent.rehearsal.callers import Lost, Tally
from lifecycle_agent.rehearsal.lifecycle import LifecycleAction
from lifecycle_agent.rehearsal.outcome import Moment, Outcome
from lifecycle_agent.rehearsal.proof import LogProof
from lifecycle_agent.rehearsal.scenario import Act
from lifecycle_agent.rehearsal.scenarios import SCENARIOS
from lifecycle_agent.rehearsal.verdict import judged
from lifecycle_agent.rehearsal.webhook import Told

LAUNCHING, TERMINATING = LifecycleTransition.LAUNCHING, LifecycleTransition.TERMINATING
CONTINUE, ABANDON = ActionResult.CONTINUE, ActionResult.ABANDON


def answered(
    transition: LifecycleTransition, result: ActionResult = CONTINUE, by: str = "instance ID"
) -> LifecycleAction:
    hook = Hook(f"hook-{transition.name}", transition, 20, 2000, ABANDON)
    action = LifecycleAction(hook, "i-1", lifecycle.TERMINATE, 0.0, 20.0, 2000.0)
    action.result, action.answered_by, action.answered_at, action.seconds_left = result, by, 8.0, 12.0
    return action


def report(kind: str, outcome: str = "done") -> dict[str, Any]:
    about = {"seconds": 1.0, "detail": "answered 503"}
    steps = [{"name": "launch.ready", "outcome": outcome, **about}]
    steps += [{"name": name, "outcome": "done", **about} for name in ("notify.start", "notify.result")]
    return {"notice": {"kind": kind}, "outcome": outcome, "seconds": 9.0, "steps": steps}


def told(kind: str, *events: str) -> tuple[Told, ...]:
    return tuple(Told("webhook", event, kind, "") for event in events)


def course(*moments: tuple[str, str, str, int] | tuple[str, str, str, int, str]) -> tuple[Moment, ...]:
    """State, status, app, requests so far, and the moment's name if it has one; a second apart."""
    return tuple(
        Moment(float(at), state, status, app, called, name=name[0] if name else "")
        for at, (state, status, app, called, *name) in enumerate(moments)
    )


BASE = Outcome(
    tally=Tally(ok=500, by_instance=Counter(a=500)),
    logs=LogProof(6, 1000, (), 300, "asg/manifest.json"),
    actions=(),
    course=(),
    reports=(),
    told=(),
    wanted=(("start", "success", "failure"),),
    app_stopped=True,
    registered=False,
    with_agent=True,
    seconds=15.0,
    speed=6.0,
)
IN = "InService"
TERMINATED = {
    "actions": (answered(TERMINATING),),
    "reports": (report("terminate"),),
    "told": told("terminate", "start", "success"),
}
LAUNCHED = course(
    ("Pending", "", "down", 0),
    ("Pending:Wait", "STARTING", "starting", 0),
    ("Pending:Wait", "UP", "up", 0),
    ("Pending:Proceed", "UP", "up", 3),
    (IN, "UP", "up", 5, "in service"),
    (IN, "UP", "up", 15, "served"),
)
NEVER = course(("Pending:Wait", "STARTING", "starting", 0), ("Terminating", "STARTING", "starting", 0))
POOL = course(
    ("Warmed:Stopped", "OUT_OF_SERVICE", "down", 0, "pooled"),
    ("Warmed:Stopped", "", "down", 0, "leaves"),
    ("Pending:Wait", "STARTING", "starting", 0),
    ("Pending:Wait", "UP", "up", 0),
    (IN, "UP", "up", 2, "in service"),
    (IN, "UP", "up", 12, "served"),
    ("Warmed:Stopped", "OUT_OF_SERVICE", "down", 20, "back"),
    ("Warmed:Stopped", "", "down", 20, "end"),
)
RESTED = course(
    ("Warmed:Running", "OUT_OF_SERVICE", "down", 0, "pooled"),
    ("Warmed:Running", "", "down", 0, "end"),
)
AWAY = course(
    ("Standby", "OUT_OF_SERVICE", "down", 50, "away"),
    ("Standby", "", "down", 50, "returns"),
    (IN, "UP", "up", 50, "back"),
    (IN, "UP", "up", 60, "served"),
)
TOLD = course((IN, "UP", "up", 10, "begin"), (IN, "UP", "up", 50, "end"))
DUE = course(
    (IN, "UP", "up", 10, "begin"),
    (IN, "UP", "up", 50, "due"),
    (IN, "", "down", 60, "drained"),
    (IN, "", "down", 60, "still drained"),
)
DRAINED = course((IN, "", "down", 60, "drained"), (IN, "", "down", 60, "still drained"))
ELSEWHERE = course(
    ("Detached", "UP", "up", 10, "detached"),
    ("Detached", "UP", "up", 20, "alone"),
    (IN, "UP", "up", 30, "attached"),
    (IN, "UP", "up", 40, "served"),
)
BY_HAND = (*DRAINED, *course((IN, "UP", "up", 60, "back"), (IN, "UP", "up", 70, "served")))
TAKEN_BACK = course((IN, "", "down", 50, "done"), (IN, "", "down", 50, "gone"))
SPOT = {"course": TAKEN_BACK, "told": told("spot", "start", "success"), "reports": (report("spot"),)}

# What came to light where an act goes well: scenario, number of the act.
WELL: dict[tuple[str, int], dict[str, Any]] = {
    ("launch", 0): {
        "actions": (answered(LAUNCHING),),
        "course": LAUNCHED,
        "reports": (report("launch"),),
        "told": told("launch", "start", "success"),
    },
    ("launch", 1): {
        "actions": (answered(LAUNCHING, ABANDON),),
        "course": NEVER,
        "reports": (report("launch", "failed"),),
        "told": told("launch", "start", "failure"),
    },
    ("terminate", 0): TERMINATED,
    ("warm-pool", 0): {
        "actions": (answered(LAUNCHING), answered(LAUNCHING), answered(TERMINATING)),
        "course": POOL,
        "reports": (report("launch"), report("leave-pool"), report("enter-pool")),
    },
    ("warm-pool", 1): {
        "actions": (answered(LAUNCHING), answered(TERMINATING)),
        "course": RESTED,
        "reports": (report("launch"), report("terminate")),
    },
    ("standby", 0): {"course": AWAY, "reports": (report("standby"), report("undrain"))},
    ("spot", 0): SPOT,
    ("spot", 1): SPOT,
    ("rebalance", 0): {"course": TOLD, "told": told("rebalance", "start")},
    ("rebalance", 1): {**TERMINATED, "course": DRAINED},
    ("maintenance", 0): {"course": TOLD, "told": told("maintenance", "start")},
    ("maintenance", 1): {"course": DUE, "reports": (report("maintenance"),)},
    ("detach", 0): {**TERMINATED, "course": ELSEWHERE},
    ("event", 0): {**TERMINATED, "actions": (answered(TERMINATING, by="token"),)},
    ("manual", 0): {
        **TERMINATED,
        "course": BY_HAND,
        "reports": (report("drain"), report("undrain"), report("terminate")),
        "told": sum((told(kind, "start", "success") for kind in ("drain", "undrain", "terminate")), ()),
    },
}


def at(moments: tuple[Moment, ...], number: int, **change: Any) -> tuple[Moment, ...]:
    """The same course with one moment changed."""
    return tuple(replace(one, **change) if n == number else one for n, one in enumerate(moments))


def but_for(moments: tuple[Moment, ...], name: str) -> tuple[Moment, ...]:
    """The same course of a script that never came to a moment."""
    return tuple(one for one in moments if one.name != name)


BAD: list[tuple[tuple[str, int], dict[str, Any], str]] = [
    # everywhere: a request is lost, the script came to no end
    *((act, {"tally": Tally(ok=5, lost=[Lost(3.0, "a", "refused")])}, "requests") for act in WELL),
    *((act, {"in_vain": "it waited in vain"}, "course") for act in WELL),
    # new
    (("launch", 0), {"course": at(LAUNCHED, 1, status="UP")}, "held back"),
    (("launch", 0), {"course": at(LAUNCHED, 1, called=2)}, "held back"),
    (("launch", 0), {"course": at(LAUNCHED, 3, status="STARTING")}, "up first"),
    (("launch", 0), {"course": at(LAUNCHED, 5, called=5)}, "serves"),
    (("launch", 0), {"course": but_for(LAUNCHED, "served")}, "serves"),
    (("launch", 0), {"actions": (answered(LAUNCHING, ABANDON),)}, "hook"),
    (("launch", 0), {"actions": (answered(LAUNCHING, ABANDON, "heartbeat timeout"),)}, "hook"),
    (("launch", 0), {"told": ()}, "notices"),
    (("launch", 0), {"reports": (report("launch", "failed"),)}, "agent"),
    (("launch", 1), {"course": at(NEVER, 1, status="UP")}, "held back"),
    (("launch", 1), {"course": at(NEVER, 1, called=1)}, "held back"),
    (("launch", 1), {"actions": (answered(LAUNCHING),)}, "hook"),
    (("launch", 1), {"actions": (answered(LAUNCHING, ABANDON, "heartbeat timeout"),)}, "hook"),
    (("launch", 1), {"logs": LogProof(6, 1000, (), 0, "")}, "logs"),
    (("launch", 1), {"told": told("launch", "start")}, "notices"),
    (("launch", 1), {"reports": (report("launch"),)}, "agent"),
    (("launch", 1), {"reports": ()}, "agent"),
    # in the pool
    (("warm-pool", 0), {"course": at(POOL, 0, status="UP")}, "in pool"),
    (("warm-pool", 0), {"course": at(POOL, 1, status="UP")}, "in pool"),
    (("warm-pool", 0), {"course": at(POOL, 2, status="UP")}, "held back"),
    (("warm-pool", 0), {"course": at(POOL, 5, called=2)}, "serves"),
    (("warm-pool", 0), {"course": at(POOL, 7, called=21)}, "back"),
    (("warm-pool", 0), {"actions": (answered(LAUNCHING), answered(TERMINATING))}, "hook"),
    (
        ("warm-pool", 0),
        {
            "actions": (
                answered(LAUNCHING),
                answered(LAUNCHING, by="heartbeat timeout"),
                answered(TERMINATING),
            )
        },
        "hook",
    ),
    (("warm-pool", 0), {"logs": LogProof(6, 1000, ("app.log: gone",), 0, "m")}, "logs"),
    (("warm-pool", 0), {"reports": (report("launch"), report("enter-pool", "failed"))}, "agent"),
    (("warm-pool", 1), {"course": at(RESTED, 1, status="UP")}, "in pool"),
    (("warm-pool", 1), {"registered": True}, "registry"),
    (("warm-pool", 1), {"actions": (answered(LAUNCHING), answered(TERMINATING, ABANDON))}, "hook"),
    # on standby
    (("standby", 0), {"course": at(AWAY, 0, status="UP")}, "standby"),
    (("standby", 0), {"course": at(AWAY, 1, called=52)}, "standby"),
    (("standby", 0), {"course": at(AWAY, 3, status="OUT_OF_SERVICE")}, "back"),
    (("standby", 0), {"course": at(AWAY, 3, app="down")}, "back"),
    (("standby", 0), {"actions": (answered(TERMINATING),)}, "hook"),
    (("standby", 0), {"reports": (report("standby"), report("undrain", "failed"))}, "agent"),
    # what EC2 announces
    (("spot", 0), {"course": but_for(TAKEN_BACK, "done")}, "in time"),
    (("spot", 0), {"logs": LogProof(6, 1000, (), 0, "")}, "logs"),
    (("spot", 0), {"registered": True}, "registry"),
    (("spot", 1), {"reports": (report("terminate", "failed"),), "told": ()}, "agent"),
    (("rebalance", 0), {"told": ()}, "notices"),
    (("rebalance", 0), {"told": told("rebalance", "start", "start")}, "notices"),
    (("rebalance", 0), {"course": at(TOLD, 1, status="OUT_OF_SERVICE")}, "serves"),
    (("rebalance", 0), {"actions": (answered(TERMINATING),)}, "hook"),
    (("rebalance", 1), {"course": at(DRAINED, 1, called=61)}, "drained"),
    (("rebalance", 1), {"actions": ()}, "hook"),
    (("maintenance", 0), {"told": told("maintenance", "start", "start")}, "notices"),
    (("maintenance", 0), {"course": at(TOLD, 1, app="down")}, "serves"),
    (("maintenance", 1), {"course": at(DUE, 1, status="OUT_OF_SERVICE")}, "until then"),
    (("maintenance", 1), {"course": at(DUE, 3, status="UP")}, "drained"),
    (("maintenance", 1), {"reports": ()}, "agent"),
    # out of the group, and others than the metadata
    (("detach", 0), {"course": at(ELSEWHERE, 1, status="OUT_OF_SERVICE")}, "alone"),
    (("detach", 0), {"course": at(ELSEWHERE, 3, app="down")}, "attached"),
    (("detach", 0), {"actions": ()}, "hook"),
    (("detach", 0), {"reports": (report("detach"), report("terminate"))}, "nothing else"),
    (("event", 0), {"actions": (answered(TERMINATING),)}, "token"),
    (("manual", 0), {"course": at(BY_HAND, 1, status="UP")}, "drained"),
    (("manual", 0), {"course": at(BY_HAND, 3, status="")}, "back"),
    (("manual", 0), {"actions": ()}, "hook"),
    (("manual", 0), {"reports": (report("drain"), report("return"), report("terminate"))}, "nothing else"),
]


def act_of(which: tuple[str, int]) -> Act:
    name, number = which
    return SCENARIOS[name].acts[number]


def failed(which: tuple[str, int], outcome: Outcome) -> set[str]:
    act = act_of(which)
    return set(judged(act.title, act.judge(outcome), outcome).failed)


def test_every_act_has_an_example_here() -> None:
    assert set(WELL) == {(one.name, n) for one in SCENARIOS.values() for n in range(len(one.acts))}


def test_the_command_line_knows_every_scenario_and_in_the_same_order() -> None:
    assert list(NAMES) == list(SCENARIOS)


@pytest.mark.parametrize("which", list(WELL), ids=str)
def test_what_is_well_passes(which: tuple[str, int]) -> None:
    assert failed(which, replace(BASE, **WELL[which])) == set()


@pytest.mark.parametrize(("which", "change", "what"), BAD)
def test_what_went_wrong_fails_and_is_named(which: tuple[str, int], change: Any, what: str) -> None:
    assert what in failed(which, replace(BASE, **{**WELL[which], **change}))


# -- which acts make sense


def titles(name: str, config: Config | None = None, with_agent: bool = True) -> list[str]:
    options = play_through.Options(6.0, config, with_agent)
    return [act.title for act, _ in play_through.acts(SCENARIOS[name], options)]


def test_without_a_configuration_all_acts_are_played_each_with_what_it_needs() -> None:
    for name, scenario in SCENARIOS.items():
        assert titles(name) == [act.title for act in scenario.acts]
        for act in scenario.acts:
            assert act.fits(act.prepare(settings.default())) == ""


def test_of_a_users_configuration_what_is_configured_is_played() -> None:
    mine = replace(settings.default(), rebalance=RebalanceSection("drain"))
    assert titles("rebalance", mine) == ['action = "drain"']
    assert titles("maintenance", mine) == ['action = "notify"']


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("launch", {}),
        ("warm-pool", {}),
        ("spot", {"spot": SpotSection("notify")}),
        ("standby", {"standby": StandbySection("ignore")}),
        ("rebalance", {"rebalance": RebalanceSection("ignore")}),
        ("maintenance", {"maintenance": MaintenanceSection("ignore")}),
    ],
)
def test_what_a_configuration_leaves_nothing_of_is_said(name: str, change: Any) -> None:
    with pytest.raises(UsageError, match=f"'{name}' cannot be rehearsed with this configuration") as caught:
        titles(name, replace(settings.default(), **change))
    assert "another --scenario" in caught.value.hint


def test_without_the_agent_there_are_two() -> None:
    assert titles("terminate", with_agent=False) == [""]
    assert titles("spot", with_agent=False) == ["in service"]
    for name in set(SCENARIOS) - {"terminate", "spot"}:
        with pytest.raises(UsageError, match="without the agent"):
            titles(name, with_agent=False)

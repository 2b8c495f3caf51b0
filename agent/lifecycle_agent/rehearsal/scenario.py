"""The scenario: what happens in a rehearsal, and in which order.

There is one so far, the main one: the group takes an instance away that is serving.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifecycle_agent.config import Config
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.rehearsal import proof, settings
from lifecycle_agent.rehearsal.callers import Tally
from lifecycle_agent.rehearsal.lifecycle import LifecycleAction
from lifecycle_agent.rehearsal.pace import Pace
from lifecycle_agent.rehearsal.proof import LogProof
from lifecycle_agent.rehearsal.timeline import Lane, Mood, Timeline
from lifecycle_agent.rehearsal.world import OURS, START_SECONDS, World

CALM_SECONDS = 1.5  # of traffic before anything happens: enough to see that all is well
AFTERMATH = 60.0  # of real life: the registry's cache and the callers' own, for losses that come late
MOST_REPORT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Outcome:
    """What a rehearsal brought to light.

    Args:
        tally: what the callers counted.
        logs: None where the configuration saves none.
        action: the group's question and its answer; None if it never asked.
        state: where the group says the instance is at the end.
        app_stopped: whether the app stopped by itself; otherwise it was killed with the machine.
        report: the agent's own, empty if there is none.
        registered: whether the registry still has the instance.
        notices: how many were received.
        told: the events that each `[[notify]]` asked for.
        speed: how much faster than in real life it was.
        where: the files, where they were to be kept.
    """

    tally: Tally
    logs: LogProof | None
    action: LifecycleAction | None
    state: str
    app_stopped: bool
    registered: bool
    report: dict[str, Any]
    with_agent: bool
    notices: int
    told: tuple[tuple[str, ...], ...]
    seconds: float
    speed: float
    where: Path | None


@dataclass(frozen=True)
class Options:
    """How to rehearse.

    Args:
        speed: how much faster than in real life.
        config: real life's numbers; None for the rehearsal's own.
    """

    speed: float
    config: Config | None = None
    with_agent: bool = True
    real_commands: bool = False
    keep: bool = False


def terminate(options: Options, timeline: Timeline, look_at: Callable[[World], None]) -> Outcome:
    """An instance that serves is taken away.

    Args:
        look_at: given the world before it begins to turn.

    Raises:
        LifecycleAgentError: the world itself did not work.
    """
    config = settings.compress(options.config or settings.default(), options.speed)
    pace = Pace.of(options.speed)
    real_commands = options.real_commands or options.config is None  # our own are harmless
    world = World(config, pace, timeline, real_commands=real_commands, keep=options.keep)
    look_at(world)
    with world:
        for note in world.notes:
            timeline.add(Lane.MACHINE, note, Mood.QUIET)
        if options.with_agent:
            _start_agent(world)
        answered = world.callers.tally().ok
        world.pause(CALM_SECONDS)
        world.wait("callers are served", lambda: world.callers.tally().ok > answered, START_SECONDS)

        timeline.add(Lane.GROUP, f"scales in: takes {OURS} away")
        world.group.terminate(OURS)
        # The group never waits longer than its heartbeats make it, and the agent never longer than it may.
        most = pace.balancer + config.drain.timeout + pace.heartbeat + 30.0
        world.wait("the instance is gone", world.ours.dead.is_set, most)
        # Losses that come late come from callers who still hold the instance for one to call.
        world.pause(AFTERMATH / options.speed if world.followed else CALM_SECONDS)
        tally = world.callers.stop()
        logs = None
        if config.logs is not None:
            logs = proof.prove(world.bucket, world.ours.where(world.ours.logs), world.ours.logs)
            if options.keep:
                world.bucket.save(world.root / "bucket")
        return Outcome(
            tally=tally,
            logs=logs,
            action=world.group.action(OURS),
            state=world.group.state(OURS),
            app_stopped=world.app_stopped,
            registered=world.registered,
            report=_report(world),
            with_agent=options.with_agent,
            notices=world.notices,
            told=tuple(section.events for section in config.notify),
            seconds=timeline.now(),
            speed=options.speed,
            where=world.root if options.keep else None,
        )


def _start_agent(world: World) -> None:
    agent = world.start_agent()
    world.wait(
        "the agent watches the metadata service",
        lambda: world.watched or agent.exit_code is not None,
        START_SECONDS,
    )
    if agent.exit_code is not None:
        raise LifecycleAgentError(
            f"the agent ended at once, with exit code {agent.exit_code}", "the timeline has what it said"
        )


def _report(world: World) -> dict[str, Any]:
    """The agent's report, as it was on the machine's disk; empty when there is none."""
    try:
        with world.ours.where(world.ours.state / "report.json").open("rb") as file:
            report = json.loads(file.read(MOST_REPORT_BYTES))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}

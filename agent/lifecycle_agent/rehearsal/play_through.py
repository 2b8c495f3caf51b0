"""Plays a scenario act by act, each in a world of its own, and hands over what came to light."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lifecycle_agent.config import Config
from lifecycle_agent.errors import UsageError
from lifecycle_agent.rehearsal import proof, settings
from lifecycle_agent.rehearsal.outcome import Outcome
from lifecycle_agent.rehearsal.pace import Pace
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scenario import Act, Scenario
from lifecycle_agent.rehearsal.timeline import Lane, Mood, Timeline
from lifecycle_agent.rehearsal.verdict import Judged, Verdict, judged
from lifecycle_agent.rehearsal.world import InVain, World

LEAST_HEARTBEAT = 2  # seconds of a hook, however fast a rehearsal is: it has whole seconds
PROCESSES_SECONDS = (
    12  # for a watcher and its first transition to start, on a machine that is busy with others
)


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


def acts(scenario: Scenario, options: Options) -> tuple[tuple[Act, Config], ...]:
    """The acts that make sense with these options, each with its configuration of real life.

    Raises:
        UsageError: none of them does.
    """
    if not options.with_agent and not any(act.without_agent for act in scenario.acts):
        raise UsageError(
            f"there is nothing to see of {scenario.name!r} without the agent: nobody would do anything",
            "leave out --without-agent, or choose --scenario terminate or spot",
        )
    found, reasons = [], []
    for act in scenario.acts:
        config = options.config or act.prepare(settings.default())
        reason = act.fits(config)
        if reason:
            reasons.append(reason)
        elif options.with_agent or act.without_agent:
            found.append((act, config))
    if not found:
        raise UsageError(
            f"{scenario.name!r} cannot be rehearsed with this configuration: {reasons[0]}",
            "change the configuration, or choose another --scenario",
        )
    return tuple(found)


def rehearse(
    scenario: Scenario,
    options: Options,
    begin: Callable[[Act], Timeline],
    look_at: Callable[[World], None],
) -> Verdict:
    """Play a scenario, and judge it.

    Args:
        begin: told each act before it begins; the timeline that it is to be written on.
        look_at: given each world before it begins to turn.

    Raises:
        UsageError: none of its acts makes sense with these options.
        LifecycleAgentError: the world itself did not work.
    """
    return Verdict(scenario.name, tuple(_judged(scenario, options, begin, look_at)), options.with_agent)


def _judged(
    scenario: Scenario, options: Options, begin: Callable[[Act], Timeline], look_at: Callable[[World], None]
) -> Iterator[Judged]:
    for act, config in acts(scenario, options):
        outcome = perform(act, config, options, begin(act), look_at)
        yield judged(act.title, act.judge(outcome), outcome)


def perform(
    act: Act, config: Config, options: Options, timeline: Timeline, look_at: Callable[[World], None]
) -> Outcome:
    """Play one act.

    Args:
        config: of real life.

    Raises:
        LifecycleAgentError: the world itself did not work.
    """
    config = settings.compress(config, options.speed)
    least = PROCESSES_SECONDS if act.scene.asks_at_once else LEAST_HEARTBEAT
    pace = Pace.of(options.speed, act.scene.balancer, least)
    real_commands = options.real_commands or options.config is None  # our own are harmless
    world = World(config, pace, timeline, act.scene, real_commands=real_commands, keep=options.keep)
    look_at(world)
    in_vain = ""
    with world:
        for note in world.notes:
            timeline.add(Lane.MACHINE, note, Mood.QUIET)
        play = Play(world, config, pace, options.speed, options.with_agent)
        if options.with_agent and not act.scene.arrives:
            play.people.start_service()
        try:
            act.script(play)
        except InVain as error:
            in_vain = error.message
            timeline.add(Lane.MACHINE, in_vain, Mood.BAD)
        return _outcome(world, config, options, in_vain)


def _outcome(world: World, config: Config, options: Options, in_vain: str) -> Outcome:
    tally = world.callers.stop()
    world.watching.stop()
    logs = None
    if config.logs is not None:
        logs = proof.prove(world.bucket, world.ours.where(world.ours.logs), world.ours.logs)
        if options.keep:
            world.bucket.save(world.root / "bucket")
    return Outcome(
        tally=tally,
        logs=logs,
        actions=world.asked(),
        course=world.watching.course(),
        reports=world.watching.reports(),
        told=tuple(world.told),
        wanted=tuple(section.events for section in config.notify),
        app_stopped=world.app_stopped,
        registered=world.registered,
        with_agent=options.with_agent,
        seconds=world.seconds(),
        speed=options.speed,
        in_vain=in_vain,
        where=world.root if options.keep else None,
    )

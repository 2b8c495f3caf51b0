"""`lifecycle-agent rehearse`: the real agent in an emulated world, on this machine's loopback."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

# Settle is 60 s in real life and the longest wait there is: at six times the speed a show lasts about 20 s.
SPEED = 6.0
# The world's shortest timer is the hook's: 120 s of real life, in whole seconds, and 2 s at this speed.
MOST_SPEED = 60.0


# What is played, in the order in which `all` plays it; and what a person reads while the rest is imported.
SCENARIOS = {
    "launch": "An instance is launched",
    "terminate": "An instance is taken away",
    "warm-pool": "An instance goes into the warm pool and out of it",
    "standby": "An instance goes on standby and comes back",
    "spot": "A spot instance is interrupted",
    "rebalance": "A spot instance is recommended to be replaced",
    "maintenance": "An instance has maintenance scheduled",
    "detach": "An instance is detached, and attached to another group",
    "event": "An instance is taken away, and only an event tells it so",
    "manual": "An instance is drained by hand, and taken back",
}
ALL = "all"


@click.command()
@click.option(
    "--scenario",
    "name",
    type=click.Choice([*SCENARIOS, ALL]),
    default="terminate",
    show_default=True,
    help="What happens to the instance.",
)
@click.option(
    "--without-agent", is_flag=True, help="The same world without the agent, to see the difference."
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Rehearse these settings; what they name outside is replaced by the emulated world's.",
)
@click.option("--real-commands", is_flag=True, help="Run the commands of --config instead of echoing them.")
@click.option(
    "--speed",
    type=click.FloatRange(1.0, MOST_SPEED),
    default=SPEED,
    show_default=True,
    metavar="N",
    help="How many times faster than in real life all waits are.",
)
@click.option("--json", "as_json", is_flag=True, help="An object a line for each event, the verdict last.")
@click.option("--keep", is_flag=True, help="Leave the files and say where they are.")
@click.pass_context
def rehearse(
    ctx: click.Context,
    name: str,
    without_agent: bool,
    config_path: Path | None,
    real_commands: bool,
    speed: float,
    as_json: bool,
    keep: bool,
) -> None:
    """Let an instance come and go in an emulated group, with callers that count what they lose.

    A group, a registry, an app with callers and the real agent run on this machine, on loopback alone.
    Exits with 1 when anything was lost or late.
    """
    import json
    import os
    import signal
    import sys
    from types import FrameType

    from lifecycle_agent.errors import UsageError

    config_path = config_path or _given_before(ctx)
    several = name == ALL
    if not as_json and not several:  # before the imports below, which take a second or two
        click.echo(_heading(name, without_agent, speed))
    try:
        from lifecycle_agent.rehearsal import drawing, play_through, settings, show
        from lifecycle_agent.rehearsal.scenario import Act
        from lifecycle_agent.rehearsal.scenarios import SCENARIOS as PLAYED
        from lifecycle_agent.rehearsal.timeline import Timeline
        from lifecycle_agent.rehearsal.verdict import Verdict, document_of_all
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "lifecycle_agent":
            raise
        raise UsageError(
            f"the emulated world cannot be built: the Python package {missing!r} is not installed",
            "pip install '.[rehearsal]' in the project's checkout installs it",
        ) from error

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt  # the world is cleared away on its way up

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    config = settings.load(config_path) if config_path else None
    options = play_through.Options(speed, config, not without_agent, real_commands, keep)

    def played(scenario: str) -> Verdict:
        with show.choose(as_json, sys.stdout) as shown:

            def begin(act: Act) -> Timeline:
                shown.begin(scenario, act.title)
                return Timeline(listener=shown.event)

            verdict = play_through.rehearse(PLAYED[scenario], options, begin, shown.look_at)
            shown.verdict(verdict)
        for act in verdict.acts:
            if act.where is not None:
                click.echo(f"the files are in {act.where}", err=as_json)
        return verdict

    if not several:
        ctx.exit(0 if played(name).passed else 1)

    verdicts, left_out = [], {}
    for each in SCENARIOS:
        try:
            play_through.acts(PLAYED[each], options)
        except UsageError as error:
            left_out[each] = error.message
            continue
        if not as_json:
            click.echo(_heading(each, without_agent, speed))
        verdicts.append(played(each))
    if as_json:
        click.echo(json.dumps(document_of_all(verdicts, left_out)))
    else:
        pen = drawing.Pen(sys.stdout.isatty() and "NO_COLOR" not in os.environ)
        click.echo("\n".join(drawing.table_lines(verdicts, left_out, 100, pen)))
    ctx.exit(0 if all(verdict.passed for verdict in verdicts) else 1)


def _heading(name: str, without_agent: bool, speed: float) -> str:
    who = "nobody looks after it" if without_agent else "the agent looks after it"
    return f"{SCENARIOS[name]} and {who}, {speed:g} times faster than in real life."


def _given_before(ctx: click.Context) -> Path | None:
    """The `--config` before the command, if somebody wrote one there; its default is for the service."""
    before = ctx.parent
    if before is None or before.get_parameter_source("config_path") is not ParameterSource.COMMANDLINE:
        return None
    path: Path = before.params["config_path"]
    return path

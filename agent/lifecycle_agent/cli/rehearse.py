"""`lifecycle-agent rehearse`: the real agent in an emulated world, on this machine's loopback."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

# Settle is 60 s in real life and the longest wait there is: at six times the speed a show lasts about 20 s.
SPEED = 6.0
# The world's shortest timer is the hook's: 120 s of real life, in whole seconds, and 2 s at this speed.
MOST_SPEED = 60.0


@click.command()
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
    without_agent: bool,
    config_path: Path | None,
    real_commands: bool,
    speed: float,
    as_json: bool,
    keep: bool,
) -> None:
    """Take an instance away in an emulated group, with callers that count what they lose.

    A group, a registry, an app with callers and the real agent run on this machine, on loopback alone.
    Exits with 1 when anything was lost or late.
    """
    import signal
    import sys
    from types import FrameType

    from lifecycle_agent.errors import UsageError

    config_path = config_path or _given_before(ctx)
    if not as_json:  # before the imports below, which take a second or two
        who = "nobody looks after it" if without_agent else "the agent looks after it"
        click.echo(f"An instance is taken away and {who}, {speed:g} times faster than in real life.")
    try:
        from lifecycle_agent.rehearsal import scenario, settings, show
        from lifecycle_agent.rehearsal.timeline import Timeline
        from lifecycle_agent.rehearsal.verdict import judge
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
    options = scenario.Options(speed, config, not without_agent, real_commands, keep)
    with show.choose(as_json, sys.stdout) as shown:
        outcome = scenario.terminate(options, Timeline(listener=shown.event), shown.look_at)
        verdict = judge(outcome)
        shown.verdict(verdict)
    if outcome.where is not None:
        click.echo(f"the files are in {outcome.where}", err=as_json)
    ctx.exit(0 if verdict.passed else 1)


def _given_before(ctx: click.Context) -> Path | None:
    """The `--config` before the command, if somebody wrote one there; its default is for the service."""
    before = ctx.parent
    if before is None or before.get_parameter_source("config_path") is not ParameterSource.COMMANDLINE:
        return None
    path: Path = before.params["config_path"]
    return path

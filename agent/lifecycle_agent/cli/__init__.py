"""The command line, one file a command; each imports what it needs inside, so that `--help` stays fast."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from pathlib import Path

import click

from lifecycle_agent import __version__
from lifecycle_agent.errors import Interrupted, LifecycleAgentError

# Name and module of each command, in the order of the help.
COMMANDS = {
    "run": "run",
    "drain": "drain",
    "undrain": "undrain",
    "status": "status",
    "logs": "logs",
    "complete": "complete",
    "heartbeat": "heartbeat",
    "install": "install",
    "uninstall": "uninstall",
    "rehearse": "rehearse",
}

# Not for people: the watcher starts them.
HIDDEN = {"ship": "ship"}

DEFAULT_CONFIG = "/etc/lifecycle-agent/config.toml"


class Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name them in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one."""
        name = {**COMMANDS, **HIDDEN}.get(cmd_name)
        if name is None:
            return None
        module = importlib.import_module(f"lifecycle_agent.cli.{name}")
        command = getattr(module, name)
        assert isinstance(command, click.Command)  # noqa: S101 - for the type checker
        return command


@click.command(cls=Commands, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, readable=False),
    default=DEFAULT_CONFIG,
    show_default=True,
    metavar="PATH",
    help="The configuration; config.d/*.toml beside it is laid over it.",
)
@click.version_option(__version__, message="%(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.pass_context
def cli(ctx: click.Context, config_path: Path, verbose: bool) -> None:
    """Take this instance out of service before its Auto Scaling group takes it away.

    Exit codes: 0 done; 1 a step failed; 2 wrong usage or configuration; 3 another transition is
    running and --no-wait was given; 4 not on EC2.
    """
    ctx.obj = Settings(config_path, verbose)


class Settings:
    """The options that come before the command.

    Args:
        path: of the configuration.
        verbose: whether to log more.
    """

    def __init__(self, path: Path, verbose: bool) -> None:
        self.path = path
        self.verbose = verbose


def main() -> None:
    """Run the command line; errors are two lines, what is wrong and what to do."""
    _have_streams()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # see __main__.py
    try:
        code = cli.main(standalone_mode=False, prog_name="lifecycle-agent")
    except LifecycleAgentError as error:
        code = _wrong(error.message, error.hint, error.exit_code)
    except click.UsageError as error:
        code = _wrong(" ".join(error.format_message().split()), _usage_hint(error), 2)
    except click.ClickException as error:
        code = _wrong(error.format_message(), "see `lifecycle-agent --help`", 2)
    except (click.Abort, KeyboardInterrupt, Interrupted):
        code = 130
    except BrokenPipeError:
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _have_streams() -> None:
    """Closed standard streams, or an encoding that a name does not fit, must not stop anything."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for the life of the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _usage_hint(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption) and error.option_name in ("--config", "--verbose", "-v"):
        return (
            f"write {error.option_name} before the command: `lifecycle-agent {error.option_name} ... COMMAND`"
        )
    return f"see `{error.ctx.command_path if error.ctx else 'lifecycle-agent'} --help`"


def _wrong(message: str, hint: str, code: int) -> int:
    click.echo(f"error: {_line(message)}", err=True)
    click.echo(f"  do: {_line(hint)}", err=True)
    return code


def _line(text: str) -> str:
    """One line that a terminal shows as it is: there may be a file's name in it."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)

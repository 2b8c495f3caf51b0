"""`lifecycle-agent logs`: what would be saved, save it now, prove what was saved, bring it back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lifecycle_agent.cli import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


def _seconds(_: click.Context, __: click.Parameter, value: str) -> float:
    """A duration, written as in the configuration."""
    from lifecycle_agent.values import parse_duration

    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f'{error}; write it like "90s", "10m" or "1h30m"') from error
    if not 1 <= seconds <= 30 * 24 * 3600:
        raise click.BadParameter(f"{value} is out of range; use 1s to 720h")
    return seconds


def _timeout(default: str, what: str) -> Callable[[Command], Command]:
    return click.option(
        "--timeout", callback=_seconds, default=default, show_default=True, metavar="DURATION", help=what
    )


_json = click.option("--json", "as_json", is_flag=True, help="As JSON, for machines.")


@click.group()
def logs() -> None:
    """What would be saved, save it now, prove what was saved, bring it back."""


@logs.command("list")
@_json
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """Show what [logs] selects just now, in the order in which it would go.

    Looks at this machine alone, and sends nothing.
    """
    from lifecycle_agent.cli.logs_list import show

    show(settings, as_json)


@logs.command()
@_timeout("1h", "For all of it; what is not sent by then is left behind.")
@_json
@click.pass_obj
def upload(settings: Settings, timeout: float, as_json: bool) -> None:
    """Save what [logs] selects now, as at the end of the instance.

    Killed, and run again within a day, it goes on where it was. Exit code 1 where something was left
    behind, 3 where another one is running.
    """
    from lifecycle_agent.cli.logs_upload import carry_out

    sys.exit(carry_out(settings, timeout, as_json))


@logs.command()
@click.argument("url", metavar="s3://BUCKET/PREFIX")
@_timeout("24h", "For all of it.")
@_json
def verify(url: str, timeout: float, as_json: bool) -> None:
    """Download everything an upload saved and prove it against its manifest.

    Needs no configuration. Sizes, S3's checksums, CRC32 of what is stored, SHA-256 of what is in it.
    Exit code 0 only where every file that the manifest names was saved whole and is proven.
    """
    from lifecycle_agent.cli.logs_read import read

    sys.exit(read(url, None, timeout, as_json))


@logs.command()
@click.argument("url", metavar="s3://BUCKET/PREFIX")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@_timeout("24h", "For all of it.")
@_json
def fetch(url: str, directory: Path, timeout: float, as_json: bool) -> None:
    """Bring an upload back as files, each proven as by `logs verify` before it gets its name.

    DIR/files has each file at its own path, DIR/agent and DIR/journal the rest. What is there already
    is kept if it is the same, and never written over: run again, it goes on. Exit codes as of `logs verify`.
    """
    from lifecycle_agent.cli.logs_read import read

    sys.exit(read(url, directory, timeout, as_json))

"""How `install` and `uninstall` speak: a line for each thing done, and what is waited for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from lifecycle_agent.cli import Settings
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.installation import Launcher, Place, Talk


def this_place(settings: Settings) -> Place:
    """The machine we are on, with the installation that runs just now."""
    return Place(Launcher.of_this_interpreter(), settings.path.absolute())


@contextmanager
def checked_talk(command: str, dry_run: bool) -> Iterator[Talk]:
    """The talk of a command that only root may run for more than a look.

    Raises:
        LifecycleAgentError: we are not root.
    """
    if os.geteuid() != 0 and not dry_run:
        raise LifecycleAgentError(
            f"`lifecycle-agent {command}` needs root",
            "run it with sudo; --dry-run needs no root",
        )
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    clean = "\r\033[K" if terminal else ""

    def say(line: str) -> None:
        click.echo(clean + line)

    def warn(line: str) -> None:
        # A name in it may have anything in it; it is a line all the same.
        click.echo(f"{clean}warning: " + "".join(c if c.isprintable() else "?" for c in line), err=True)

    def progress(line: str) -> None:
        if terminal:
            click.echo(clean + line, nl=False)

    try:
        yield Talk(say, warn, progress, color=terminal and "NO_COLOR" not in os.environ)
    finally:
        if terminal:
            click.echo(clean, nl=False)

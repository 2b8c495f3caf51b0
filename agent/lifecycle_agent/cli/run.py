"""`lifecycle-agent run`: the watcher, as systemd starts it."""

from __future__ import annotations

import click

from lifecycle_agent.cli import Settings


@click.command()
@click.pass_obj
def run(settings: Settings) -> None:
    """Watch what the group wants of this instance, and act on it. Started by systemd."""
    import os
    import sys

    # The same process goes on as another program: the watcher imports the standard library and
    # ec2_metadata alone, and is as small as those.
    verbose = ["-v"] if settings.verbose else []
    program = [sys.executable, "-m", "lifecycle_agent.watch", *verbose, str(settings.path.absolute())]
    os.chdir("/")  # `python -m` looks for modules in the working directory first
    os.execv(sys.executable, program)  # noqa: S606

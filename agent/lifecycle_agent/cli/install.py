"""`lifecycle-agent install`: makes the agent a service of this machine."""

from __future__ import annotations

import click

from lifecycle_agent.cli import Settings


@click.command()
@click.option("--dry-run", is_flag=True, help="Show the files as a diff, and the commands; change nothing.")
@click.option("--no-start", is_flag=True, help="Enable the service, and leave it for the next boot.")
@click.pass_obj
def install(settings: Settings, dry_run: bool, no_start: bool) -> None:
    """Make the agent a service of this machine: unit, drop-in, example configuration.

    Run it again after a change of the configuration, or a new version: it does what is left to do.
    """
    from lifecycle_agent import installation
    from lifecycle_agent.cli.talk import checked_talk, this_place

    with checked_talk("install", dry_run) as talk:
        installation.install(this_place(settings), installation.ThisSystemd(), talk, dry_run, not no_start)

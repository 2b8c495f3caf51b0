"""`lifecycle-agent uninstall`: takes back what `install` did."""

from __future__ import annotations

import click

from lifecycle_agent.cli import Settings


@click.command()
@click.option("--dry-run", is_flag=True, help="Show the files as a diff, and the commands; change nothing.")
@click.pass_obj
def uninstall(settings: Settings, dry_run: bool) -> None:
    """Stop the service and take back what `install` did. State and your configuration stay."""
    from lifecycle_agent import installation
    from lifecycle_agent.cli.talk import checked_talk, this_place

    with checked_talk("uninstall", dry_run) as talk:
        installation.uninstall(this_place(settings), installation.ThisSystemd(), talk, dry_run)

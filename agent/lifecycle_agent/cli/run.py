"""`lifecycle-agent run`: the watcher, as systemd starts it."""

from __future__ import annotations

import click

from lifecycle_agent.cli import Settings


@click.command()
@click.pass_obj
def run(settings: Settings) -> None:
    """Watch what the group wants of this instance, and act on it. Started by systemd."""
    from lifecycle_agent import config, logline
    from lifecycle_agent.watch import daemon

    logline.set_up(settings.verbose)
    daemon.run(config.load(settings.path), settings.path)

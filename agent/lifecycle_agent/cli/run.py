"""`lifecycle-agent run`: the watcher, as systemd starts it."""

from __future__ import annotations

import click

from lifecycle_agent.cli import Settings


@click.command()
@click.pass_obj
def run(settings: Settings) -> None:
    """Watch what the group wants of this instance, and act on it. Started by systemd."""
    from lifecycle_agent import config, logline
    from lifecycle_agent.logline import logger
    from lifecycle_agent.watch import daemon

    logline.set_up(settings.verbose)
    loaded = config.load(settings.path)
    for section in config.not_acted_on(loaded):
        logger.warning("[%s] is read, but this version does not act on it yet", section)
    daemon.run(loaded, settings.path)

"""`lifecycle-agent heartbeat`: more time from the group, by hand."""

from __future__ import annotations

import click

from lifecycle_agent.cli import Settings


@click.command()
@click.pass_obj
def heartbeat(settings: Settings) -> None:
    """Restart the heartbeat timeout of this instance's lifecycle action."""
    from lifecycle_agent.cli.hand import Hand

    hand = Hand(settings)
    hand.client.heartbeat(hand.group, hand.hook.name, hand.deadline)
    timeout = hand.hook.heartbeat_timeout
    click.echo(f"heartbeat: group {hand.group}, hook {hand.hook.name}, {timeout:.0f} s from now")

"""`lifecycle-agent complete`: answer the group by hand."""

from __future__ import annotations

import click

from lifecycle_agent.cli import Settings


@click.command()
@click.option(
    "--result",
    required=True,
    type=click.Choice(["CONTINUE", "ABANDON"]),
    help="The answer.",
)
@click.pass_obj
def complete(settings: Settings, result: str) -> None:
    """Complete this instance's lifecycle action: CompleteLifecycleAction, once."""
    from lifecycle_agent.cli.hand import Hand
    from lifecycle_agent.model import ActionResult

    hand = Hand(settings)
    hand.client.complete(hand.group, hand.hook.name, ActionResult(result), hand.deadline)
    click.echo(f"completed: group {hand.group}, hook {hand.hook.name}, {result}")

"""`lifecycle-agent undrain`: back into service after a drain by hand."""

from __future__ import annotations

import click

from lifecycle_agent.cli import Settings


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the plan with its budgets and do nothing.")
@click.option("--reason", default="taken back into service by hand", metavar="TEXT", help="For the log.")
@click.option("--no-wait", is_flag=True, help="Exit with 3 if another transition is running.")
@click.pass_obj
def undrain(settings: Settings, dry_run: bool, reason: str, no_wait: bool) -> None:
    """Start the app's units again and take it back into service in Eureka."""
    from lifecycle_agent.cli.foreground import carry_out, show_plan
    from lifecycle_agent.model import NoticeKind

    if dry_run:
        show_plan(settings, NoticeKind.UNDRAIN, reason, None)
        return
    carry_out(settings, NoticeKind.UNDRAIN, reason, None, wait=not no_wait)

"""`lifecycle-agent drain`: one transition in the foreground; the watcher starts the same process."""

from __future__ import annotations

import click

from lifecycle_agent.cli import Settings


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the plan with its budgets and do nothing.")
@click.option("--complete", is_flag=True, help="Answer the group's terminating lifecycle hook at the end.")
@click.option("--reason", default="drained by hand", metavar="TEXT", help="For the log and the notices.")
@click.option("--no-wait", is_flag=True, help="Exit with 3 if another transition is running.")
@click.option("--notice", hidden=True, help="A notice already seen, as JSON: how the watcher calls this.")
@click.pass_obj
def drain(
    settings: Settings, dry_run: bool, complete: bool, reason: str, no_wait: bool, notice: str | None
) -> None:
    """Take the app out of service, drain and stop it, delete its registration, save its logs.

    If a transition is running already, it is followed to its end. The lifecycle action is left
    unanswered unless --complete is given.
    """
    from lifecycle_agent.cli.foreground import carry_out, show_plan
    from lifecycle_agent.model import LifecycleTransition, NoticeKind

    if notice is not None:
        from lifecycle_agent.cli.seen import carry_out_seen

        carry_out_seen(settings, notice)
        return
    completes = LifecycleTransition.TERMINATING if complete else None
    if dry_run:
        show_plan(settings, NoticeKind.DRAIN, reason, completes)
        return
    carry_out(settings, NoticeKind.DRAIN, reason, completes, wait=not no_wait)

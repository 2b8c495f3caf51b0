"""`lifecycle-agent drain`: one transition in the foreground; the watcher starts the same process."""

from __future__ import annotations

import click

from lifecycle_agent.cli import Settings

BY_HAND = "drained by hand"


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the plan with its budgets and do nothing.")
@click.option("--complete", is_flag=True, help="Answer the group's terminating lifecycle hook at the end.")
@click.option(
    "--event",
    metavar="FILE",
    help="Do what the group asks for in this EventBridge event (- for standard input), and answer it.",
)
@click.option("--reason", metavar="TEXT", help=f"For the log and the notices.  [default: {BY_HAND}]")
@click.option("--no-wait", is_flag=True, help="Exit with 3 if another transition is running.")
@click.option("--notice", hidden=True, help="A notice already seen, as JSON: how the watcher calls this.")
@click.pass_obj
def drain(
    settings: Settings,
    dry_run: bool,
    complete: bool,
    event: str | None,
    reason: str | None,
    no_wait: bool,
    notice: str | None,
) -> None:
    """Take the app out of service, drain and stop it, delete its registration, save its logs.

    If a transition is running already, it is followed to its end. The lifecycle action is left
    unanswered unless --complete or --event is given.
    """
    from lifecycle_agent.model import LifecycleTransition, NoticeKind

    if notice is not None:
        from lifecycle_agent.cli.seen import carry_out_seen

        carry_out_seen(settings, notice)
        return
    if event is not None:
        if complete:
            raise click.UsageError("--complete and --event: an event's lifecycle action is answered anyhow")
        from lifecycle_agent.cli.event import carry_out_event

        carry_out_event(settings, event, reason, dry_run, wait=not no_wait)
        return
    from lifecycle_agent.cli.foreground import carry_out, show_plan

    completes = LifecycleTransition.TERMINATING if complete else None
    if dry_run:
        show_plan(settings, NoticeKind.DRAIN, reason or BY_HAND, completes)
        return
    carry_out(settings, NoticeKind.DRAIN, reason or BY_HAND, completes, wait=not no_wait)

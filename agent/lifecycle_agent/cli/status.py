"""`lifecycle-agent status`: what the agent on this machine does. Reads one file, imports nothing heavy."""

from __future__ import annotations

import click

from lifecycle_agent.cli import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for machines.")
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """Show what the agent does now, and how the last transition went."""
    import json
    import os
    from typing import Any

    from lifecycle_agent.cli.screen import lines
    from lifecycle_agent.deadline import boottime
    from lifecycle_agent.files import StatusFile, runtime_dir

    def alive(pid: object) -> bool:
        return isinstance(pid, int) and pid > 0 and os.path.exists(f"/proc/{pid}")

    shown: dict[str, Any] = StatusFile(runtime_dir()).read()
    watcher, transition = shown.get("watcher") or {}, shown.get("transition") or {}
    for section in (watcher, transition):
        section["running"] = alive(section.get("pid"))
    if as_json:
        click.echo(json.dumps({"watcher": watcher, "transition": transition}))
        return
    if watcher["running"]:
        click.echo(f"agent: running (process {watcher['pid']}) on {watcher.get('instance_id', '?')}")
        click.echo(f"       {watcher['sentence']}")
    else:
        click.echo(f"agent: not running ({watcher.get('sentence', 'no status in ' + str(runtime_dir()))})")
    if not transition.get("steps"):
        return
    if transition["running"]:
        click.echo("\n".join(lines(transition, boottime(), 100, color=False)))
        return
    last = transition.get("outcome") or "its process died in the middle"
    click.echo(f"last transition: {transition['transition_id']} ({transition['reason']}): {last}")
    click.echo("\n".join(lines(transition, transition["ends"], 100, color=False)[1:]))

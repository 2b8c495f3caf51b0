"""`lifecycle-agent status`: what the agent on this machine does. Reads one file, imports nothing heavy."""

from __future__ import annotations

from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for machines.")
def status(as_json: bool) -> None:
    """Show what the agent does now, and how the last transition went.

    The exit code is 0 whatever there is to show.
    """
    import json

    from lifecycle_agent.files import StatusFile, runtime_dir

    shown: dict[str, Any] = StatusFile(runtime_dir()).read()
    watcher, transition = shown.get("watcher") or {}, shown.get("transition") or {}
    for section in (watcher, transition):
        section["running"] = _alive(section.get("pid"))
    if as_json:
        click.echo(json.dumps({"watcher": watcher, "transition": transition}))
        return
    if watcher["running"]:
        click.echo(f"agent: running (process {watcher['pid']}) on {watcher.get('instance_id', '?')}")
        click.echo(f"       {watcher['sentence']}, since {watcher['since']}")
    else:
        why, what_to_do = _why_not(watcher.get("sentence", f"no status in {runtime_dir()}"))
        click.echo(f"agent: {why}")
        if what_to_do:
            click.echo(f"  do: {what_to_do}")
    if transition.get("steps"):
        _show(transition)


def _why_not(sentence: str) -> tuple[str, str]:
    """Why the service does not run, and what to do about it; empty where there is nothing to do.

    Args:
        sentence: the last one that it wrote down itself; it may have died since.
    """
    from pathlib import Path

    from lifecycle_agent.clients.units import show
    from lifecycle_agent.errors import LifecycleAgentError

    if not Path("/run/systemd/system").is_dir():
        return f"not running ({sentence})", ""
    try:
        names = ("LoadState", "ActiveState", "StatusText", "ExecMainStatus")
        state = show("lifecycle-agent.service", names, limit=3.0)
    except LifecycleAgentError as error:
        return f"not running ({sentence}); {error.message}", ""
    match state["LoadState"], state["ActiveState"]:
        case "not-found", _:
            return "not a service of this machine", "`lifecycle-agent install` makes it one"
        case _, "failed" if state["ExecMainStatus"] == "243":
            missing = "failed: a file that systemd is to load a credential from is missing"
            return missing, "`systemctl cat lifecycle-agent` names them (LoadCredential=)"
        case _, "failed":
            why = state["StatusText"] or f"exit status {state['ExecMainStatus']}"
            return f"failed: {why}", "mend that, then `lifecycle-agent install`"
        case _, "activating":
            return "not running: systemd starts it again", ""
    return f"not running ({sentence})", ""


def _show(transition: dict[str, Any]) -> None:
    """The transition that runs, or the last one."""
    import shutil
    import sys

    from lifecycle_agent.cli.screen import lines, step_lines
    from lifecycle_agent.deadline import boottime

    # What is piped somewhere is read by a program, or later: it is not cut.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if transition["running"]:
        click.echo("\n".join(lines(transition, boottime(), width, color=False)))
        return
    transition = {"transition_id": "?", "reason": "?", **transition}
    last = transition.get("outcome") or "its process died in the middle"
    ended = f", ended {transition['updated']}" if "updated" in transition else ""
    click.echo(f"last transition: {transition['transition_id']} ({transition['reason']}): {last}{ended}")
    click.echo("\n".join(step_lines(transition, 0.0, width, color=False)))


def _alive(pid: object) -> bool:
    import os

    return isinstance(pid, int) and pid > 0 and os.path.exists(f"/proc/{pid}")

"""Which of systemd's commands an installation needs, and whether the service came up by them."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from lifecycle_agent import __version__
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.files import RUNTIME_DIR, StatusFile, read_regular
from lifecycle_agent.installation.configured import Configured
from lifecycle_agent.installation.place import SERVICE, Place
from lifecycle_agent.installation.systemd import State, Systemd
from lifecycle_agent.installation.talk import Talk

# The agent is up within a second; on a machine that boots, and is busy with everything else, within a few.
UP_SECONDS = 30.0
# Behind another unit's start job it may take minutes, or until we have ended ourselves: not to be waited for.
QUEUED_SECONDS = 5.0
# The service is up before its first look at the metadata service (2 s at most), and its status comes after.
STATUS_SECONDS = 4.0
LOOK_SECONDS = 0.1  # between two looks, each a process of some milliseconds

MOST_KEPT_BYTES = 1024 * 1024  # of config.json; the files it is made of may have 64 KiB each


def run(systemd: Systemd, talk: Talk, dry_run: bool, *words: str) -> bool:
    """Run a command of systemctl, or say that it would be; whether it was run."""
    if dry_run:
        talk.say(f"would run: systemctl {' '.join(words)}")
        return False
    systemd.do(*words)
    return True


def why_restart(place: Place, configured: Configured) -> str:
    """Why the service that runs is not the one on disk, in a few words; empty if it is."""
    directory = place.at(RUNTIME_DIR)
    version = _watcher(directory).get("version")
    if version != __version__:
        return f"it runs version {version or 'unknown'}, and {__version__} is installed"
    try:
        kept = json.loads(read_regular(directory / "config.json", MOST_KEPT_BYTES))
    except (OSError, ValueError, RecursionError):
        kept = None
    if kept != json.loads(json.dumps(configured.document.as_json(), default=str)):
        return "the configuration has changed"
    return ""


def bring_up(systemd: Systemd, talk: Talk, state: State, reason: str, dry_run: bool) -> None:
    """Start the service, or restart it where there is a reason to; wait a bounded time until it is up.

    Raises:
        LifecycleAgentError: systemd refused, or the service failed; says the agent's own reason.
    """
    if state.active == "active" and not reason:
        talk.say(f"left {SERVICE} running: it has this version and configuration")
        return
    fresh = state.active in ("inactive", "failed")
    if not run(systemd, talk, dry_run, "start" if fresh else "restart", "--no-block", SERVICE):
        return
    not_yet = _wait_until_up(systemd, talk)
    why = reason or f"it was {state.active} ({state.sub})"
    talk.say(not_yet or (f"started {SERVICE}" if fresh else f"restarted {SERVICE}: {why}"))


def stop(systemd: Systemd, talk: Talk, dry_run: bool) -> None:
    """Stop the service, and wait a bounded time until it has."""
    if not run(systemd, talk, dry_run, "stop", "--no-block", SERVICE):
        return
    began = time.monotonic()
    while not systemd.state().at_rest:
        waited = time.monotonic() - began
        if waited > UP_SECONDS:
            talk.say(f"{SERVICE} still stops after {UP_SECONDS:.0f} s; systemd sees to the rest")
            return
        talk.progress(f"waiting for {SERVICE} to stop ({waited:.0f} s)")
        time.sleep(LOOK_SECONDS)
    talk.say(f"stopped {SERVICE}")


def in_transition(place: Place) -> bool:
    """Whether the service works on a transition just now, as far as its status says."""
    pid = StatusFile(place.at(RUNTIME_DIR)).read().get("transition", {}).get("pid")
    if not isinstance(pid, int):
        return False
    try:
        # One that was started by hand is in another control group: it does not end with the service.
        return SERVICE in place.at(Path(f"/proc/{pid}/cgroup")).read_text()
    except OSError:
        return False


def _watcher(directory: Path) -> dict[str, Any]:
    """What the service that runs says of itself; one that has just started says nothing yet."""
    began = time.monotonic()
    while True:
        told = StatusFile(directory).read().get("watcher", {})
        if told.get("pid") or time.monotonic() - began > STATUS_SECONDS:
            return told
        time.sleep(LOOK_SECONDS)


def _wait_until_up(systemd: Systemd, talk: Talk) -> str:
    """Wait until the service is up; a sentence if it is not yet, and that is no failure."""
    began = time.monotonic()
    while True:
        state, waited = systemd.state(), time.monotonic() - began
        if not state.job and state.active == "active":
            return ""
        if not state.job and (state.active in ("inactive", "failed") or state.sub == "auto-restart"):
            raise _failed(systemd, state)
        if state.active in ("inactive", "failed") and waited > QUEUED_SECONDS:
            ahead = systemd.waits_for()
            if ahead:
                return f"{SERVICE} is queued behind {', '.join(ahead)}: it starts after that"
        if waited > UP_SECONDS:
            return (
                f"{SERVICE} is not up after {UP_SECONDS:.0f} s ({state.active}, {state.sub}): "
                f"`systemctl status {SERVICE}` shows what becomes of it"
            )
        talk.progress(f"waiting for {SERVICE}: {state.active} ({waited:.0f} s)")
        time.sleep(LOOK_SECONDS)


def _failed(systemd: Systemd, state: State) -> LifecycleAgentError:
    """The error for a service that does not come up: what it said itself, if it did."""
    lines = [line for line in systemd.last_words(state.invocation) if line.strip()]
    for error, do in pairwise(lines):
        if error.startswith("error: ") and do.startswith("  do: "):
            return LifecycleAgentError(f"{SERVICE} failed: {error[7:]}", do[6:])
    why = state.said or "; ".join(lines[-2:]) or f"result {state.result}"
    return LifecycleAgentError(f"{SERVICE} failed: {why}", f"look at `journalctl -u {SERVICE} -n 20`")

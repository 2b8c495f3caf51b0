"""`lifecycle-agent uninstall`: takes back what `install` did, and nothing else.

A package's unit stays for the package to remove. So do the state directory, a configuration that is not the
example any more, and a unit or drop-in at our place that we did not write; the service of such a unit
is not ours to stop either.
"""

from __future__ import annotations

import os
from pathlib import Path

from lifecycle_agent import toml
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.files import STATE_DIR
from lifecycle_agent.installation import configured, held_back, unit
from lifecycle_agent.installation.changes import Change, current, remove_if_empty
from lifecycle_agent.installation.place import DROP_IN, EXAMPLE, SERVICE, UNIT, Place
from lifecycle_agent.installation.service import in_transition, run, stop
from lifecycle_agent.installation.systemd import Systemd
from lifecycle_agent.installation.talk import Talk


def uninstall(place: Place, systemd: Systemd, talk: Talk, dry_run: bool = False) -> None:
    """Stop the service and remove what `install` wrote.

    Raises:
        LifecycleAgentError: systemd refused, or a file cannot be removed.
    """
    state_dir = _state_dir(place)  # read before its configuration goes
    changes, left = _find(place)
    running = systemd.present() and systemd.running()
    if unit.vendor_unit(place) or not unit.is_somebodys(place, UNIT):
        if running and not systemd.state().at_rest:
            if in_transition(place):
                talk.warn("a lifecycle transition is in progress: it stops with the service, unanswered")
            stop(systemd, talk, dry_run)
        # An offline systemctl, and one without its unit, can disable, too.
        if systemd.present() and systemd.enabled() and run(systemd, talk, dry_run, "disable", SERVICE):
            talk.say(f"disabled {SERVICE}")
    for change in changes:
        if dry_run:
            talk.show(change.diff())
        else:
            talk.say(change.apply(place))
    if not changes:
        talk.say("nothing is here that `lifecycle-agent install` wrote")
    for change in changes:
        if not dry_run and change.path.name == held_back.NAME and remove_if_empty(change.path.parent, place):
            talk.say(f"removed {change.path.parent}")
    for directory in (DROP_IN.parent, EXAMPLE.parent):
        if not dry_run and remove_if_empty(directory, place):
            talk.say(f"removed {directory}")
        elif not dry_run and place.at(directory).exists():
            left.append(f"left {directory} as it is: there are other files in it")
    if running and changes:
        run(systemd, talk, dry_run, "daemon-reload")
    if running and systemd.state().active == "failed":
        run(systemd, talk, dry_run, "reset-failed", SERVICE)
    for line in left:
        talk.say(line)
    if place.at(state_dir).exists():
        talk.say(f"left {state_dir} as it is: the journal and the last report")


def _find(place: Place) -> tuple[list[Change], list[str]]:
    """What is to be removed, and what is to stay and why."""
    changes, left = [], []
    for path in (UNIT, DROP_IN, *held_back.written(place)):
        if unit.is_somebodys(place, path):
            left.append(f"left {path} as it is: it was not written by `lifecycle-agent install`")
        elif (content := current(place.at(path))) is not None:
            changes.append(Change(path, content, None))
    vendor = unit.vendor_unit(place)
    if vendor is not None:
        left.append(f"left {vendor} as it is: it belongs to a package")
    if os.path.lexists(place.at(EXAMPLE)):
        if unit.content(place, EXAMPLE) == configured.example():
            changes.append(Change(EXAMPLE, configured.example(), None))
        else:
            left.append(f"left {EXAMPLE} as it is: it is not the example any more")
    return changes, left


def _state_dir(place: Place) -> Path:
    """Where the state is, by what can still be read of the configuration."""
    try:
        agent = toml.Document.read(place.at(place.config), {}).values["agent"]
        return Path("/", agent["state_dir"])
    except (LifecycleAgentError, KeyError, TypeError):
        return STATE_DIR

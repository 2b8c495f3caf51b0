"""`lifecycle-agent install`: everything that makes it a service of this machine.

A unit or drop-in at our place that we did not write is not touched: it is somebody's work, and there is no
way to tell what it is for. It is an error that names it, since something else than this agent would run. Only
beside a package's unit for the same launcher it is left with a line that says so: nothing of ours has to be
there then (`systemctl edit --full` makes such a file). An existing configuration is never touched.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from lifecycle_agent.config import Config
from lifecycle_agent.errors import LifecycleAgentError, UsageError
from lifecycle_agent.files import STATE_DIR
from lifecycle_agent.installation import configured, held_back, unit
from lifecycle_agent.installation.changes import Change, current, make_directory, remove_if_empty
from lifecycle_agent.installation.configured import Configured
from lifecycle_agent.installation.credentials import credentials, differ
from lifecycle_agent.installation.drop_in import app_units, drop_in_text
from lifecycle_agent.installation.place import DROP_IN, EXAMPLE, SERVICE, UNIT, Place
from lifecycle_agent.installation.service import bring_up, run, why_restart
from lifecycle_agent.installation.systemd import Systemd
from lifecycle_agent.installation.talk import Talk


@dataclass(frozen=True)
class Found:
    """What an installation would be, and what of it is there.

    Args:
        left: what stays as it is, a sentence each.
        new_secrets: whether a service that runs has other secrets than there are now.
    """

    configured: Configured
    changes: tuple[Change, ...]
    left: tuple[str, ...]
    warnings: tuple[str, ...]
    new_secrets: bool


def install(place: Place, systemd: Systemd, talk: Talk, dry_run: bool = False, start: bool = True) -> None:
    """Make the agent a service of this machine, as far as it is not one already.

    Raises:
        UsageError: the configuration cannot be used, or a service that runs could not be started with it
            again; nothing was changed.
        LifecycleAgentError: there is no systemd, or something is in the way, and nothing was changed; or
            systemd refused, or the service does not come up.
    """
    if not systemd.present():
        raise LifecycleAgentError(
            "there is no systemctl on this machine",
            "the agent is a service of systemd; elsewhere let your own init start `lifecycle-agent run`",
        )
    found = find(place)
    before = systemd.state() if systemd.running() else None
    if start and before is not None and before.active == "active":
        _spare_what_runs(found.configured)
    for warning in found.warnings:
        talk.warn(warning)
    if before is not None:
        held_back.release_what_runs(found.configured.config, place, systemd, talk, dry_run)
    for change in found.changes:
        if dry_run:
            talk.show(change.diff())
        else:
            talk.say(change.apply(place))
            if change.path.name == held_back.NAME and remove_if_empty(change.path.parent, place):
                talk.say(f"removed {change.path.parent}")
    for line in found.left:
        talk.say(line)
    _make_state_directory(place, found.configured.config.agent.state_dir, talk, dry_run)
    if before is not None and (found.changes or before.stale or _holds_stale(found, systemd)):
        run(systemd, talk, dry_run, "daemon-reload")
    if systemd.enabled():
        talk.say(f"left {SERVICE} enabled")
    elif run(systemd, talk, dry_run, "enable", SERVICE):
        talk.say(f"enabled {SERVICE}")
    if before is None:
        talk.say(f"systemd does not run here: {SERVICE} starts with the next boot")
    elif not start:
        talk.say(f"left {SERVICE} {before.active}: --no-start")
    else:
        reason = ""
        if before.active == "active":
            reason = _why_restart(place, found, before.stale)
            ahead = systemd.starting().intersection(app_units(found.configured.config))
            if reason and ahead:
                talk.say(
                    f"left {SERVICE} running: it would have to wait until {', '.join(sorted(ahead))} "
                    f"has started; install again then ({reason})"
                )
                return
        bring_up(systemd, talk, before, reason, dry_run)


def find(place: Place) -> Found:
    """What is to be written, and whether it can be. Changes nothing.

    Raises:
        UsageError: the configuration cannot be used.
        LifecycleAgentError: something that is not ours is in the way.
    """
    conf = configured.read(place)
    before = _ours(place, DROP_IN)
    secrets, warnings = credentials(conf.document.values, place, before)
    changes = [Change(DROP_IN, before, drop_in_text(conf.config, secrets, place).encode())]
    left = []
    holding = {
        held_back.drop_in(name): held_back.text(place).encode() for name in held_back.units(conf.config)
    }
    for path in dict.fromkeys((*holding, *held_back.written(place))):
        changes.append(Change(path, _ours(place, path), holding.get(path)))
    if not unit.vendor_runs_us(place):
        changes.insert(0, Change(UNIT, _ours(place, UNIT), unit.unit_text(place).encode()))
    else:
        left.append(f"left {unit.vendor_unit(place)} as it is: it runs this installation")
        if unit.is_somebodys(place, UNIT):
            left.append(f"left {UNIT} as it is: it was not written by `lifecycle-agent install`")
        else:
            changes.insert(0, Change(UNIT, _ours(place, UNIT), None))
    if conf.is_missing:
        changes.append(Change(EXAMPLE, None, configured.example()))
    else:
        left.append(f"left {place.config} as it is")
    left += [f"left {change.path} as it is" for change in changes if not change.needed and change.new]
    needed = tuple(change for change in changes if change.needed)
    if conf.unreadable is not None:
        warnings = [f"{conf.unreadable.message}: {conf.unreadable.hint}", *warnings]
    if conf.config == replace(Config(), document=conf.config.document):
        warnings = [*warnings, f"nothing is configured: the group is answered at once; edit {place.config}"]
    return Found(conf, needed, tuple(left), tuple(warnings), differ(secrets, place))


def _spare_what_runs(conf: Configured) -> None:
    """Leave a service alone that runs, and would not start again.

    Raises:
        UsageError: a secret cannot be read.
    """
    if conf.unreadable is not None:
        hint = f"{conf.unreadable.hint}; {SERVICE} runs on with the configuration that it has"
        raise UsageError(conf.unreadable.message, hint)


def _holds_stale(found: Found, systemd: Systemd) -> bool:
    """Whether systemd has not read a drop-in yet that holds a unit back: an installation was cut off."""
    return any(systemd.state(name).stale for name in held_back.units(found.configured.config))


def _why_restart(place: Place, found: Found, stale: bool) -> str:
    # What holds others back is none of the service's files.
    if stale or any(change.path in (UNIT, DROP_IN) for change in found.changes):
        return "its files have changed"
    return "a secret has changed" if found.new_secrets else why_restart(place, found.configured)


def _ours(place: Place, path: Path) -> bytes | None:
    """What we have written to `path`, None where there is nothing.

    Raises:
        LifecycleAgentError: something that we did not write is there.
    """
    file = place.at(path)
    if file.is_symlink():
        raise LifecycleAgentError(
            f"{path} is a link to {os.readlink(file)}, not written by `lifecycle-agent install`",
            f"remove it if it is not needed (`systemctl unmask {SERVICE}` for /dev/null), and install again",
        )
    if unit.is_somebodys(place, path):
        raise LifecycleAgentError(
            f"{path} is there, and was not written by `lifecycle-agent install`",
            "move it away and install again; changes of yours go into a drop-in of another name",
        )
    return current(file)


def _make_state_directory(place: Place, directory: Path | None, talk: Talk, dry_run: bool) -> None:
    """One of the operator's own: in its sandbox the service can't. systemd makes the usual one."""
    if directory is None or directory == STATE_DIR or place.at(directory).exists():
        return
    if dry_run:
        talk.say(f"would make {directory}")
        return
    try:
        make_directory(place.at(directory))
    except OSError as error:
        raise LifecycleAgentError(
            f"{directory}: cannot be made: {error.strerror}", "mend that, or agent.state_dir"
        ) from error
    talk.say(f"made {directory}")

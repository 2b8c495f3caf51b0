"""The units that wait for the agent (`[launch] then_start`): a drop-in beside each one holds it back.

systemd skips such a unit at once, and for it that is no failure: nothing that waits for the unit hangs. Once
the instance is prepared the agent writes the file that the condition names, and starts the unit. The file is
in /run, so each boot begins without it.

The service is not ordered after these units, unless they are the app's, too: what they start may take
minutes, and an agent that has to be started again meanwhile must not wait for that, or nobody would tell the
group that it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lifecycle_agent import files
from lifecycle_agent.clients.units import whole_name
from lifecycle_agent.config import Config
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.files import LAUNCHED, RUNTIME_DIR
from lifecycle_agent.installation import unit
from lifecycle_agent.installation.changes import make_directory
from lifecycle_agent.installation.place import UNIT, Place
from lifecycle_agent.installation.systemd import Systemd
from lifecycle_agent.installation.talk import Talk

MARKER_FILE = RUNTIME_DIR / LAUNCHED
NAME = "50-lifecycle-agent.conf"

_RUNS = ("active", "activating", "reloading")


def units(config: Config) -> list[str]:
    """Their whole names, each once."""
    return list(dict.fromkeys(map(whole_name, config.launch.then_start)))


def drop_in(name: str) -> Path:
    """Where the drop-in of a unit is."""
    return UNIT.parent / f"{name}.d" / NAME


def text(place: Place) -> str:
    """What is in each of them."""
    return f"""{unit.MARKER}, from {place.config}: launch.then_start
# Skipped at boot. `lifecycle-agent` starts it once the instance is prepared.
[Unit]
ConditionPathExists={MARKER_FILE}
"""


def written(place: Place) -> Iterator[Path]:
    """The drop-ins that an installation has written, whatever is configured by now."""
    for file in sorted(place.at(UNIT.parent).glob(f"*.d/{NAME}")):
        path = UNIT.parent / file.parent.name / NAME
        if (unit.content(place, path) or b"").startswith(unit.MARKER.encode()):
            yield path


def release_what_runs(config: Config, place: Place, systemd: Systemd, talk: Talk, dry_run: bool) -> None:
    """Write the file where one of them runs already, on a machine that is up.

    No drop-in stops what runs, but a restart of it would be skipped, and in this boot nobody else writes the
    file. While the machine boots it may be a new one, whose preparation does.

    Raises:
        LifecycleAgentError: it cannot be written.
    """
    names = ", ".join(name for name in units(config) if systemd.state(name).active in _RUNS)
    marker, held = place.at(MARKER_FILE), f"{names}: runs already, and is held back from the next boot on"
    if not names or marker.exists():
        return
    if systemd.booting():
        talk.warn(held)
    elif dry_run:
        talk.say(f"would write {MARKER_FILE}: {names} runs already")
    else:
        try:
            make_directory(marker.parent)
            files.replace(marker, b"")
        except OSError as error:
            raise LifecycleAgentError(
                f"{MARKER_FILE}: cannot be written: {error.strerror}", "mend that, and install again"
            ) from error
        talk.say(f"wrote {MARKER_FILE}; {held}")

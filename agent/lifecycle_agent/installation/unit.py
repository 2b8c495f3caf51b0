"""The unit as it is written for this installation, and the one that a package may have brought."""

from __future__ import annotations

import os
import re
from pathlib import Path

import lifecycle_agent
from lifecycle_agent.installation.place import SERVICE, VENDOR_UNITS, Place

MARKER = "# Written by `lifecycle-agent install`"

_HEAD = f"""{MARKER}, and written anew by the next one. What you would change
# belongs into a drop-in of yours: `systemctl edit {SERVICE}`.
"""

_EXEC_START = re.compile(r"^ExecStart=(.*)$", re.MULTILINE)


def shipped() -> str:
    """The unit that comes with the agent."""
    return Path(lifecycle_agent.__file__).with_name("systemd").joinpath(SERVICE).read_text()


def unit_text(place: Place) -> str:
    """The shipped unit, running this installation's launcher."""
    line = f"ExecStart={place.exec_start}"
    return _HEAD + _EXEC_START.sub(lambda _: line, shipped(), count=1)


def content(place: Place, path: Path) -> bytes | None:
    """What is in a file of ours, or None: there is none, or it is a link or something else."""
    file = place.at(path)
    return file.read_bytes() if file.is_file() and not file.is_symlink() else None


def is_somebodys(place: Place, path: Path) -> bool:
    """Whether something is there that `lifecycle-agent install` did not write."""
    found = content(place, path)
    return os.path.lexists(place.at(path)) and not (found or b"").startswith(MARKER.encode())


def vendor_unit(place: Place) -> Path | None:
    """The unit that a package has put on this machine."""
    return next((path for path in VENDOR_UNITS if place.at(path).is_file()), None)


def vendor_runs_us(place: Place) -> bool:
    """Whether the package's unit starts the same launcher with the same configuration."""
    path = vendor_unit(place)
    if path is None or not place.default_config:
        return False
    lines = _EXEC_START.findall(place.at(path).read_text(errors="replace"))
    return len(lines) == 1 and place.launcher.same_as(lines[0], ["run"])

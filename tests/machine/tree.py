"""The system that machines are booted on: a small Debian, made once and kept outside the repository."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from tests.kept import made_once

BOOKWORM, TRIXIE = "bookworm", "trixie"
# With the oldest systemd that the agent is for (249); asked for by name: few Debians have Ubuntu's keys.
JAMMY = "jammy"
PYTHON = {BOOKWORM: "3.11", TRIXIE: "3.13", JAMMY: "3.10"}  # what `python3` is there
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "iproute2", "python3", "python3-venv", "cloud-init", "openssh-client",
    # debootstrap knows no virtual packages, and one is needed by something that cloud-init needs
    "python3-cffi-backend",
)  # fmt: skip


def suites() -> list[str]:
    """The releases to test on: `LIFECYCLE_AGENT_MACHINES` names them, or says `all`."""
    asked = os.environ.get("LIFECYCLE_AGENT_MACHINES") or BOOKWORM
    return [BOOKWORM, TRIXIE] if asked == "all" else asked.split(",")


def tree(suite: str) -> Path:
    """A tree of the release; made in about a minute, if it is not there."""
    what = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    return made_once(f"machine-{suite}-{what}", lambda directory: _debootstrap(suite, directory))


def _debootstrap(suite: str, directory: Path) -> None:
    include = f"--include={','.join(PACKAGES)}"
    where = [suite, str(directory)]
    if suite == JAMMY:  # the mirror, where debootstrap has no keys to check its own
        mirror = os.environ.get("UBUNTU_MIRROR")
        where = ["--components=main,universe", *where, *([mirror] if mirror else [])]
    command = ["debootstrap", "--variant=minbase", include, *where]
    made = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr

"""What a machine in a box installs with pip: this checkout as a wheel, and everything that it needs."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.kept import made_once
from tests.machine.tree import PYTHON

CHECKOUT = Path(__file__).parent.parent.parent
SOURCES = ("agent", "systemd", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
VERSION = Path("agent/lifecycle_agent/__init__.py")


def _pip(*argv: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def dependencies(suite: str) -> Path:
    """Wheels of what the agent needs, for the release's own Python; fetched once for each setup.cfg."""
    python = PYTHON[suite]
    what = hashlib.sha256(f"{python} {(CHECKOUT / 'setup.cfg').read_text()}".encode()).hexdigest()[:16]
    return made_once(f"wheels-{what}", lambda directory: _download(python, directory))


def _download(python: str, directory: Path) -> None:
    machine = platform.machine()
    platforms = [f"--platform=manylinux{each}_{machine}" for each in ("2014", "_2_17", "_2_28")]
    tags = [f"--python-version={python}", "--implementation=cp", f"--abi=cp{python.replace('.', '')}"]
    tags += ["--abi=abi3", "--abi=none"]
    _pip("download", "--only-binary=:all:", *tags, *platforms, f"--dest={directory}", *_required())


def _required() -> list[str]:
    section = (CHECKOUT / "setup.cfg").read_text().partition("install_requires =")[2].partition("\n[")[0]
    # pip would ask what stands behind a semicolon of the Python that runs it.
    return [line.partition(";")[0].strip() for line in section.splitlines() if line.strip()]


def agent(directory: Path, version: str | None = None) -> Path:
    """Build a wheel of this checkout into `directory`.

    Args:
        version: another one than the checkout's own, for an upgrade.
    """
    with tempfile.TemporaryDirectory() as name:
        sources = Path(name)
        for each in SOURCES:
            if (CHECKOUT / each).is_dir():
                left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(CHECKOUT / each, sources / each, symlinks=True, ignore=left_out)
            else:
                shutil.copy(CHECKOUT / each, sources / each)
        if version:
            text = (sources / VERSION).read_text()
            changed = re.sub(r'__version__ = ".*?"', f'__version__ = "{version}"', text)
            assert changed != text, f"{VERSION} has no version that could be changed"
            (sources / VERSION).write_text(changed)
        before = set(directory.glob("*.whl"))
        _pip("wheel", "--no-deps", f"--wheel-dir={directory}", str(sources))
    (made,) = set(directory.glob("*.whl")) - before
    return made


def wheels(directory: Path, suite: str, version: str | None = None) -> Path:
    """A directory in which pip finds the agent and everything it needs; returns `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    for wheel in dependencies(suite).iterdir():
        os.link(wheel, directory / wheel.name) if _same_disk(wheel, directory) else shutil.copy(
            wheel, directory
        )
    agent(directory, version)
    return directory


def _same_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev

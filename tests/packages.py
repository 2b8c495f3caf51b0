"""The deb and the rpm of this checkout, as `packaging/build` makes them; kept until the checkout changes."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kept import cache, made_once

ROOT = Path(__file__).parents[1]
SOURCES = (
    *(
        "packaging/build",
        "packaging/nfpm.yaml",
        "packaging/opt",
        "packaging/scripts",
        "packaging/iam-policy.json",
    ),
    *("agent/lifecycle_agent", "systemd", "docs", "setup.cfg", "pyproject.toml", "tests/setup"),
    *("README.md", "LICENSE", "CHANGELOG.md"),
)
BUILD_SECONDS = 400  # 20 on an idle machine; nfpm has to be built first where it never was
STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Packages:
    """Both of them."""

    deb: Path
    rpm: Path


@functools.cache  # a run tests one build, whatever is edited meanwhile
def packages(version: str | None = None) -> Packages:
    """Build them, unless that was done for the same sources.

    Args:
        version: another one than the agent's own, for an upgrade.
    """
    missing = [tool for tool in ("dpkg-deb", "rpm") if shutil.which(tool) is None]
    nfpm = subprocess.run([ROOT / "tests/setup", "nfpm"], capture_output=True, text=True, check=False)
    if missing or nfpm.returncode != 0:
        pytest.skip(f"needs nfpm, dpkg-deb and rpm, without {missing}: {nfpm.stderr.strip()}")
    directory = made_once(f"packages-{_fingerprint(version)}", lambda directory: _build(version, directory))
    os.utime(directory)
    (deb,), (rpm,) = directory.glob("*.deb"), directory.glob("*.rpm")
    return Packages(deb, rpm)


def _build(version: str | None, directory: Path) -> None:
    _forget_old_ones()
    build = [str(ROOT / "packaging/build"), "--output", str(directory)]
    build += ["--version", version] if version else []
    environ = {k: v for k, v in os.environ.items() if k not in ("ARCH", "VERSION", "OUTPUT")}
    environ["PYTHON"] = sys.executable
    made = subprocess.run(
        build, env=environ, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert made.stdout.split() == sorted(map(str, directory.iterdir()), key=lambda name: name[-3:])


def _fingerprint(version: str | None) -> str:
    digest = hashlib.sha256(repr(version).encode())
    for path in _sources():
        digest.update(f"{path} {path.stat().st_mode}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> Iterator[Path]:
    for source in (ROOT / name for name in SOURCES):
        below = [source] if source.is_file() else sorted(source.rglob("*"))
        yield from (path for path in below if path.is_file() and "__pycache__" not in path.parts)


def _forget_old_ones() -> None:
    for directory in cache().glob("packages-*"):
        if time.time() - directory.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(directory, ignore_errors=True)


def carried_rpm(directory: Path, inside: str) -> list[str]:
    """This machine's rpm, made to run on one that has none.

    Args:
        directory: gets the program and everything that it loads.
        inside: the path of that directory where it is to run.

    Returns:
        The command line's beginning.
    """
    program = shutil.which("rpm")
    assert program is not None
    loads = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [word for word in loads.split() if word.startswith("/")]
    directory.mkdir(parents=True)
    for file in (program, *libraries):
        shutil.copy(file, directory)
    shutil.copytree("/usr/lib/rpm", directory / "config", ignore=shutil.ignore_patterns("*.sh", "*.py"))
    loader = next(Path(name).name for name in libraries if Path(name).name.startswith("ld-"))
    return ["env", f"RPM_CONFIGDIR={inside}/config", f"{inside}/{loader}", "--library-path", inside,
            f"{inside}/rpm", "--dbpath=/var/lib/rpm", "--nodeps", "--nosignature"]  # fmt: skip

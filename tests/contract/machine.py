"""A machine: a real systemd booted as PID 1 in a container, without a network.

Its tree is made once (about a minute) and kept outside the repository; every boot works on an overlay
over it, so nothing that happens in a test stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lifecycle_agent

AGENT = Path(lifecycle_agent.__file__).parent.parent
CGROUPS = Path("/sys/fs/cgroup")
LIMIT = 60.0  # seconds for what takes one or two, on a machine that is busy with other tests


def wait_for(condition: Callable[[], Any], what: str, limit: float = LIMIT) -> Any:
    until = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < until, f"waited {limit:g} s for {what}"
        time.sleep(0.02)
    return value


def tree() -> Path:
    """A small system with systemd and Python, of the release that this machine runs itself."""
    given, xdg = os.environ.get("LIFECYCLE_AGENT_CACHE"), os.environ.get("XDG_CACHE_HOME")
    cache = Path(given) if given else Path(xdg or Path.home() / ".cache") / "lifecycle-agent"
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().split("\n") if "=" in line
    )
    suite = release.get("VERSION_CODENAME", "").strip('"')
    if not suite:
        pytest.skip("needs Debian or Ubuntu, to make a machine of the same release")
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / f"machine-{suite}"
    with (cache / f"machine-{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            unfinished = root.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            packages = "--include=systemd,systemd-sysv,dbus,python3"
            command = ["debootstrap", "--variant=minbase", packages, suite, str(unfinished)]
            made = subprocess.run(command, capture_output=True, text=True, timeout=350, check=False)
            assert made.returncode == 0, made.stdout[-2000:] + made.stderr
            unfinished.rename(root)
    return root


class Machine:
    """A booted container; `shared` is `/shared` in it."""

    def __init__(self, root: Path, shared: Path) -> None:
        self.shared = shared
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self._console = (shared / "console").open("wb")
        # Machines in one control group would kill each other. Where systemd runs this machine too,
        # it makes a scope for each; where not, each gets a control group of ours.
        booted = Path("/run/systemd/system").is_dir()
        self._cgroups = [] if booted else [p for p in (CGROUPS, CGROUPS / "systemd", CGROUPS / "unified")
                                           if (p / "cgroup.procs").exists()]  # fmt: skip
        enter = "for d; do mkdir $d && echo $$ >$d/cgroup.procs || exit; done; "
        boot = (
            f"exec systemd-nspawn --quiet --directory={root} --machine={self.name} --volatile=overlay --boot"
            f" --private-network --register=no {'' if booted else '--keep-unit'} --console=read-only"
            f" --bind-ro={AGENT}:/agent --bind={shared}:/shared"
        )
        self._process = subprocess.Popen(
            ["sh", "-c", enter + boot, "sh", *(str(p / self.name) for p in self._cgroups)],
            stdin=subprocess.DEVNULL, stdout=self._console, stderr=subprocess.STDOUT, cwd="/",
        )  # fmt: skip

    def wait_until_up(self) -> None:
        def up() -> bool:
            assert self._process.poll() is None, (self.shared / "console").read_text()
            state = self.call("systemctl", "is-system-running").stdout.strip()
            return state in ("running", "degraded")

        wait_for(up, "the machine to boot")

    def argv(self, *argv: str) -> list[str]:
        """What runs `argv` in the machine."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return ["nsenter", "--target", children[0] if children else "none", "--all", *argv]

    def call(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.argv(*argv), capture_output=True, text=True, timeout=LIMIT, check=False)

    def unit(self, name: str, text: str) -> None:
        """Write a unit, as an administrator does."""
        subprocess.run(self.argv("tee", f"/etc/systemd/system/{name}"), input=text, text=True,
                       stdout=subprocess.DEVNULL, timeout=LIMIT, check=True)  # fmt: skip
        self.call("systemctl", "daemon-reload")

    def power_off(self) -> None:
        self.call("systemctl", "poweroff", "--no-block")
        self._process.wait(LIMIT)

    def close(self) -> None:
        """Switch it off and take everything away."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._console.close()
        for mine in (top / self.name for top in self._cgroups):
            for group in sorted(mine.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    group.rmdir()
            with contextlib.suppress(OSError):
                mine.rmdir()


def boot(shared: Path) -> Machine:
    missing = [tool for tool in ("debootstrap", "systemd-nspawn", "nsenter") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root, and the programs {missing or ''}: a machine is booted")
    machine = Machine(tree(), shared)
    try:
        machine.wait_until_up()
    except BaseException:
        machine.close()
        raise
    return machine

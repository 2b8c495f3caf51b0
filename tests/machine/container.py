"""One boot of a machine: systemd as PID 1 in a container of systemd-nspawn."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.machine.network import INTERFACE, Network

CGROUPS = Path("/sys/fs/cgroup")
LIMIT = 60.0  # seconds for what takes one or two, on a machine that is busy with other tests
REBOOT = 133  # how systemd-nspawn ends when the machine wants to be booted again


def wait_for(condition: Callable[[], Any], what: str, limit: float = LIMIT) -> Any:
    until = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < until, f"waited {limit:g} s for {what}"
        time.sleep(0.02)
    return value


def need() -> None:
    """Skip the test where no machine can be booted."""
    tools = ("debootstrap", "systemd-nspawn", "nsenter", "ip", "journalctl")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"boots a machine: needs root{''.join(f', {tool}' for tool in missing)}")


class Container:
    """A machine from the moment it is switched on until it is off.

    Args:
        console: what the machine's console says is appended to this file.
        binds: paths in the machine, and what is there; those that end with `:ro` cannot be written.
    """

    def __init__(
        self, name: str, root: Path, network: Network, console: Path, binds: Mapping[str, Path]
    ) -> None:
        # Machines in one control group would kill each other. Where systemd runs this machine too, it makes
        # a scope for each; where not, each gets a control group of ours.
        booted = Path("/run/systemd/system").is_dir()
        tops = [CGROUPS, CGROUPS / "systemd", CGROUPS / "unified"]
        self._cgroups = [] if booted else [top / name for top in tops if (top / "cgroup.procs").exists()]
        enter = 'for d; do mkdir -p "$d" && echo $$ >"$d/cgroup.procs" || exit; done; '
        scope = "systemd-run --scope --quiet --property=Delegate=yes " if booted else ""
        mounts = " ".join(
            f"--bind{'-ro' if inside.endswith(':ro') else ''}={outside}:{inside.removesuffix(':ro')}"
            for inside, outside in binds.items()
        )
        boot = (
            f"exec {scope}systemd-nspawn --quiet --directory={root} --machine={name} --boot --private-network"
            " --register=no --keep-unit --resolv-conf=off --timezone=off --link-journal=no"
            f" --console=read-only {mounts}"
        )
        network.plug()
        with console.open("ab") as output:
            self._process = subprocess.Popen(
                ["sh", "-c", enter + boot, "sh", *(str(path) for path in self._cgroups)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd="/",
                # control groups as every current system has them, whatever this machine has
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )  # fmt: skip
        try:
            self._init = wait_for(self._find_init, "the container to begin")
            network.ip("link", "set", INTERFACE, "netns", str(self._init))
        except BaseException:
            self._process.kill()
            self._process.wait()
            self.tidy()
            raise

    def _find_init(self) -> int | None:
        """The machine's PID 1, once it is in a network of its own."""
        assert self.running, "systemd-nspawn has ended at once: its console says why"
        pid = self._process.pid
        with contextlib.suppress(OSError):
            ours = os.readlink("/proc/self/ns/net")
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if os.readlink(f"/proc/{child}/ns/net") != ours:
                    return int(child)
        return None

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def argv(self, argv: Sequence[str]) -> list[str]:
        """What runs `argv` in the machine."""
        return ["nsenter", "--target", str(self._init) if self.running else "none", "--all", *argv]

    def wait(self, limit: float | None = None) -> int:
        return self._process.wait(limit)

    def kill(self) -> None:
        """As if its plug were pulled."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tidy(self) -> None:
        """Take its control groups away."""
        for mine in self._cgroups:
            for group in sorted(mine.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    group.rmdir()
            with contextlib.suppress(OSError):
                mine.rmdir()

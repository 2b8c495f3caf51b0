"""The network of a machine in a box: a namespace for the world, and a cable to the machine's own.

In the world's are the metadata service at 169.254.169.254, the group, S3 and the registry; in the machine's
is one interface. Nothing leads out of it, and nothing is left of it when the process that made it is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator

ADDRESS, WORLD, METADATA = "10.0.0.7", "10.0.0.1", "169.254.169.254"
MAC = "0a:00:00:00:00:01"  # as the emulated metadata says
INTERFACE = "host0"

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _own_namespace() -> int:
    """The network namespace that the calling thread is in, as a file descriptor."""
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Namespace:
    """A network namespace that is there as long as this object is open."""

    def __init__(self) -> None:
        before = _own_namespace()
        try:
            _checked(_libc.unshare(_CLONE_NEWNET))
            self._fd = _own_namespace()
            _checked(_libc.setns(before, _CLONE_NEWNET))
        finally:
            os.close(before)
        self.path = f"/proc/{os.getpid()}/fd/{self._fd}"

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """For the calling thread: a socket belongs for good to the namespace in which it was made."""
        before = _own_namespace()
        try:
            _checked(_libc.setns(self._fd, _CLONE_NEWNET))
            yield
        finally:
            _checked(_libc.setns(before, _CLONE_NEWNET))
            os.close(before)

    def ip(self, *argv: str) -> str:
        """Run `ip` in it."""
        command = ["nsenter", f"--net={self.path}", "ip", *argv]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert ran.returncode == 0, f"{' '.join(command)}: {ran.stderr}"
        return ran.stdout

    def close(self) -> None:
        os.close(self._fd)


class Network(Namespace):
    """The world's namespace. The machine's own is made at each boot, and takes the interface with it."""

    def __init__(self) -> None:
        super().__init__()
        self.connected = True
        self.ip("link", "set", "lo", "up")
        for address in (WORLD, METADATA):  # there with or without a machine
            self.ip("address", "add", f"{address}/32", "dev", "lo")

    def plug(self) -> None:
        """A new cable with a new interface at its end, for a machine that is switched on."""
        if self._plugged():
            self.ip("link", "delete", "world")
        self.ip("link", "add", "world", "type", "veth", "peer", "name", INTERFACE, "address", MAC)
        self.ip("address", "add", f"{WORLD}/24", "dev", "world")
        if self.connected:
            self.mend()

    def cut(self) -> None:
        """Nobody is reached any more: the machine's interface loses its carrier."""
        self.connected = False
        if self._plugged():
            self.ip("link", "set", "world", "down")

    def mend(self) -> None:
        self.connected = True
        if self._plugged():
            self.ip("link", "set", "world", "up")

    def _plugged(self) -> bool:
        return "world@" in self.ip("-o", "link")

"""The service's side of systemd: sd_notify(3) and the watchdog, in the few lines they are."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping


class Manager:
    """Tells systemd how the service is; does nothing where NOTIFY_SOCKET is not set.

    The variables are taken out of the environment: they are meant for this process alone, and a child
    that keeps them could speak in its name.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog = _watchdog_seconds(environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._status = ""

    @property
    def watchdog_seconds(self) -> float | None:
        """How often systemd wants to hear from the service at least; None where it does not watch."""
        return self._watchdog

    def ready(self) -> None:
        """The service is up."""
        self._send("READY=1")

    def report(self, sentence: str) -> None:
        """One cycle is done: the sentence for `systemctl status` where it changed, and a watchdog ping."""
        changed = f"STATUS={' '.join(sentence.splitlines())}\n" if sentence != self._status else ""
        self._status = sentence
        self._send(changed + "WATCHDOG=1")

    def stopping(self) -> None:
        """The service goes down because it was asked to."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address:
            # a full or vanished socket is systemd's trouble, not a reason to stop watching
            with contextlib.suppress(OSError):
                self._socket.sendto(message.encode(errors="replace"), self._address)


def _watchdog_seconds(microseconds: str, pid: str) -> float | None:
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000 or None

"""The service's side of systemd: sd_notify(3) and the watchdog, in the few lines they are."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import MutableMapping
from pathlib import Path

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.logline import logger
from lifecycle_agent.model import Ending

# systemctl answers in milliseconds, but while the machine goes down everything stops at once, maybe on a slow
# processor. Nothing else is to be done before it is known, and systemd waits for us meanwhile.
CALL_SECONDS = 10.0
PATIENCE_SECONDS = 30.0

# What is being started while the machine goes down, and not to come back at once (systemd.special(7)).
_REBOOTS = ("reboot.target", "kexec.target", "soft-reboot.target")


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

    def failed(self, reason: str) -> None:
        """The service does not come up, for this reason: what `systemctl status` shows."""
        self._send(f"STATUS={' '.join(reason.splitlines())}\n")

    def stopping(self) -> None:
        """The service goes down because it was asked to."""
        self._send("STOPPING=1")

    def extend(self, seconds: float) -> None:
        """It needs `seconds` more for that, whatever its stop timeout is (EXTEND_TIMEOUT_USEC=)."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def _send(self, message: str) -> None:
        if self._address:
            # a full or vanished socket is systemd's trouble, not a reason to stop watching
            with contextlib.suppress(OSError):
                self._socket.sendto(message.encode(errors="replace"), self._address)


def why_it_ends() -> Ending:
    """Why we are told to end: whether the machine goes down, and how.

    Where systemd cannot be asked, the service alone: then the app is left as it is.
    """
    if not Path("/run/systemd/system").is_dir():
        return Ending.STOP
    patience = Deadline.after(PATIENCE_SECONDS)
    while not (state := _systemctl("is-system-running")):
        if patience.passed:
            logger.error("systemd does not say whether the machine goes down: the app is left as it is")
            return Ending.STOP
        time.sleep(0.5)
    if state != "stopping":
        return Ending.STOP
    jobs = [line.split() for line in _systemctl("list-jobs", "--no-legend", "--plain").splitlines()]
    starting = {job[1] for job in jobs if len(job) > 2 and job[2] == "start"}
    return Ending.REBOOT if starting.intersection(_REBOOTS) else Ending.POWEROFF


def _systemctl(*arguments: str) -> str:
    """What systemctl prints; nothing where it does not answer."""
    environ = {"LC_ALL": "C", "SYSTEMD_COLORS": "0", "PATH": os.defpath}
    try:
        answer = subprocess.run(
            ["systemctl", *arguments],  # noqa: S607
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=CALL_SECONDS,
            env=environ,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def _watchdog_seconds(microseconds: str, pid: str) -> float | None:
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000 or None

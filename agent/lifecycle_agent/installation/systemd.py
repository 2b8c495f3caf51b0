"""systemd, asked about one service and told what to do with it; every call has its limit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lifecycle_agent.clients import units
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.installation.place import SERVICE

# Reading all units anew and making links takes milliseconds, on a machine that is just booting a few
# seconds; systemd itself gives up after 90 s.
COMMAND_SECONDS = 60.0

_LAST_LINES = 5

_PROPERTIES = (
    *("LoadState", "ActiveState", "SubState", "Result", "Job", "NeedDaemonReload", "StatusText"),
    "InvocationID",
)


@dataclass(frozen=True)
class State:
    """A service as systemd knows it; the words are those of systemctl(1)."""

    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    result: str = ""
    job: str = ""
    stale: bool = False  # whether its files have changed since systemd read them
    said: str = ""  # the service's own STATUS=
    invocation: str = ""

    @property
    def at_rest(self) -> bool:
        """Whether nothing of it runs, and nothing is about to."""
        return self.active in ("inactive", "failed") and not self.job


class Systemd(Protocol):
    """What installing needs of it."""

    def present(self) -> bool:
        """Whether there is a systemctl."""

    def running(self) -> bool:
        """Whether it is this system's init, and answers. In a chroot or a container image it is not."""

    def enabled(self) -> bool:
        """Whether the service is started at boot."""

    def state(self, unit: str = SERVICE) -> State:
        """How the service is, or another unit."""

    def booting(self) -> bool:
        """Whether the machine is still being started."""

    def do(self, *words: str) -> None:
        """Run `systemctl WORDS`.

        Raises:
            LifecycleAgentError: it refused, or did not answer.
        """

    def last_words(self, invocation: str) -> list[str]:
        """The last lines that one run of the service wrote; none where there is no journal."""

    def waits_for(self) -> list[str]:
        """The units whose jobs have to end before the service's own begins."""

    def starting(self) -> set[str]:
        """The units that are being started just now, or are to be."""


class ThisSystemd:
    """The one of this machine."""

    def present(self) -> bool:
        """Whether there is a systemctl."""
        return shutil.which("systemctl", path=os.defpath) is not None

    def running(self) -> bool:
        """As sd_booted(3); and it answers, which it does not where only its /run is seen."""
        if not Path("/run/systemd/system").is_dir():
            return False
        return bool(units.call("systemctl", "show", "-p", "Version", limit=units.CALL_SECONDS).stdout.strip())

    def enabled(self) -> bool:
        """Whether the links of [Install] are there; works offline, too."""
        answer = units.call("systemctl", "is-enabled", SERVICE, limit=units.CALL_SECONDS)
        return answer.returncode == 0 and answer.stdout.strip() == "enabled"

    def state(self, unit: str = SERVICE) -> State:
        """How the service is, or another unit."""
        shown = units.show(unit, _PROPERTIES)
        return State(
            load=shown["LoadState"],
            active=shown["ActiveState"],
            sub=shown["SubState"],
            result=shown["Result"],
            job=shown["Job"] if shown["Job"] != "0" else "",
            stale=shown["NeedDaemonReload"] == "yes",
            said=shown["StatusText"],
            invocation=shown["InvocationID"],
        )

    def booting(self) -> bool:
        """Whether the jobs of the boot, user-data included, are not all done yet."""
        answer = units.call("systemctl", "is-system-running", limit=units.CALL_SECONDS)
        return answer.stdout.strip() in ("initializing", "starting")

    def do(self, *words: str) -> None:
        """Run `systemctl WORDS`."""
        answer = units.call("systemctl", *words, limit=COMMAND_SECONDS)
        if answer.returncode != 0:
            said = " ".join((answer.stderr or answer.stdout).split()) or f"exit code {answer.returncode}"
            raise LifecycleAgentError(
                f"systemctl {' '.join(words)}: {said}",
                f"mend that; `systemctl status {SERVICE}` may say more",
            )

    def last_words(self, invocation: str) -> list[str]:
        """The last lines that one run of the service wrote."""
        if not invocation or shutil.which("journalctl", path=os.defpath) is None:
            return []
        whose = f"_SYSTEMD_INVOCATION_ID={invocation}"
        words = ("journalctl", "-q", "-o", "cat", "--no-pager", "-n", str(_LAST_LINES), whose)
        try:
            return units.call(*words, limit=units.CALL_SECONDS).stdout.splitlines()
        except LifecycleAgentError:
            return []

    def waits_for(self) -> list[str]:
        """The units whose jobs have to end before the service's own begins."""
        listed = units.call(
            "systemctl", "list-jobs", "--before", "--full", "--no-legend", limit=units.CALL_SECONDS
        )
        return waited_for(listed.stdout.splitlines())

    def starting(self) -> set[str]:
        """The units that have a start job."""
        listed = units.call("systemctl", "list-jobs", "--full", "--no-legend", limit=units.CALL_SECONDS)
        jobs = [line.split() for line in listed.stdout.splitlines()]
        return {job[1] for job in jobs if len(job) > 2 and job[2] in ("start", "restart")}


def waited_for(listed: Sequence[str]) -> list[str]:
    """What `systemctl list-jobs --before` says that the service's job waits for.

    Below each job there is a line like `└─waiting for job 42 (app.service/start)` for each such job.
    """
    found: list[str] = []
    ours = False
    for line in listed:
        _, waiting, rest = line.partition("waiting for job ")
        if not waiting:
            ours = SERVICE in line.split()
        elif ours:
            found.append(rest.partition("(")[2].partition("/")[0])
    return found

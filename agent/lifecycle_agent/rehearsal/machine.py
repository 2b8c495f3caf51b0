"""An instance of the group: an address, a disk (a directory) and processes, until the group takes it away."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lifecycle_agent.deadline import Deadline

Hears = Callable[[str], None]

KILL_SECONDS = 5.0  # how long a process may take to vanish after SIGKILL; in practice milliseconds


class Process:
    """A process of ours and what it says, line by line.

    Args:
        argv: the command.
        environ: all of its environment; nothing of ours is inherited.
        hears: called with each line, on a thread of its own.
        of_errors: whether the lines are those of standard error; else of standard output.
        log: where the other stream goes, and what cannot be read as a line.
        said: what it reads on its standard input.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        hears: Hears,
        *,
        log: Path,
        of_errors: bool = False,
        said: str | None = None,
    ) -> None:
        with log.open("ab") as other:
            self._process = subprocess.Popen(
                argv,
                env=dict(environ),
                stdin=subprocess.DEVNULL if said is None else subprocess.PIPE,
                stdout=other if of_errors else subprocess.PIPE,
                stderr=subprocess.PIPE if of_errors else other,
                start_new_session=True,  # a Ctrl-C on the terminal is ours to handle
                text=True,
                errors="replace",
            )
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
                stdin.write(said or "")  # an event of EC2's is shorter than what a pipe holds
        self._stream = self._process.stderr if of_errors else self._process.stdout
        self._hears = hears
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, a signal as a negative number; None while it runs.

        It is not reaped before `kill`, so its id, and its session's, cannot become somebody else's.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # `kill`, in another thread, was first, and Popen knows
            return self._process.wait()
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def terminate(self) -> None:
        """Tell it to end (SIGTERM), as systemd does it."""
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGTERM)  # not through Popen, which would reap it

    def kill(self) -> None:
        """End it and every process that came of it, at once (SIGKILL)."""
        if self._process.returncode is not None:
            return
        deadline = Deadline.after(KILL_SECONDS)
        while (family := _family(self.pid)) and not deadline.passed:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(deadline.timeout(1.0))
        self._reader.join(1.0)

    def _listen(self) -> None:
        if self._stream is not None:
            for line in self._stream:
                self._hears(line.rstrip("\n"))


def _family(pid: int) -> set[int]:
    """The living processes of the session that `pid` leads, and all that came of those (proc(5), stat)."""
    alive: dict[int, tuple[int, int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent, _, session = stat.read_text(errors="replace").rpartition(")")[2].split()[:4]
            if state not in "ZX":
                alive[int(stat.parent.name)] = (int(parent), int(session))
    family = {one for one, (_, session) in alive.items() if session == pid}
    while more := {one for one, (parent, _) in alive.items() if parent in family} - family:
        family |= more
    return family


class Machine:
    """One instance; `disk` holds what would be on its disk.

    Args:
        instance_id: as EC2 spells it.
        address: its private address, one of loopback's.
        root: a directory for everything of this machine.
    """

    def __init__(self, instance_id: str, address: str, root: Path) -> None:
        self.instance_id = instance_id
        self.address = address
        self.root = root
        self.disk = root / "disk"
        self.logs = self.disk / "var" / "log" / "orders"
        self.state = self.disk / "var" / "lib" / "lifecycle-agent"
        self.runtime = self.disk / "run" / "lifecycle-agent"
        self.etc = self.disk / "etc" / "lifecycle-agent"
        for directory in (self.logs, self.state, self.runtime, self.etc):
            directory.mkdir(parents=True)
        self.processes: list[Process] = []
        self.dead = threading.Event()
        self._dying = threading.Lock()

    @property
    def remains(self) -> Path:
        """Where the disk is once the machine is gone: nobody but the judge looks there."""
        return self.root / "remains"

    def where(self, path: Path) -> Path:
        """Where a file of this machine's disk is now."""
        return self.remains / path.relative_to(self.disk) if self.dead.is_set() else path

    def environ(self, **more: str) -> dict[str, str]:
        """What a service on this machine finds in its environment; nothing of the person who rehearses,
        whose AWS profile or proxy would lead out of the world.
        """
        return {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(self.disk), **more}

    def start(
        self,
        module: str,
        *arguments: str,
        hears: Hears,
        of_errors: bool = False,
        said: str | None = None,
        **more: str,
    ) -> Process:
        """Start a Python module as a process of this machine, with `more` in its environment."""
        log = self.root / f"{module.rpartition('.')[2]}.out"
        process = Process(
            [sys.executable, "-m", module, *arguments],
            self.environ(**_python(), **more),
            hears,
            log=log,
            of_errors=of_errors,
            said=said,
        )
        self.processes.append(process)
        return process

    def switch_off(self) -> None:
        """EC2 stops the instance: nothing runs any more, and the disk stays."""
        with self._dying:
            for process in self.processes:
                process.kill()
            self.processes.clear()

    def die(self) -> None:
        """The machine is taken away: processes are killed, the disk is gone."""
        with self._dying:
            for process in self.processes:
                process.kill()
            if not self.dead.is_set():
                self.disk.rename(self.remains)
                self.dead.set()


def _python() -> dict[str, str]:
    """How this interpreter finds the package, where it is not installed."""
    path = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": path} if path else {}

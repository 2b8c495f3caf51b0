"""A command as a process group of its own: for a machine without systemd, or a user who isn't root.

The name of a command is in its environment (`LIFECYCLE_AGENT_COMMAND`), and whatever it starts
inherits it. So a command is found again by reading `/proc`, without a record that could be lost or
stale: also by an agent that was killed and started again, and also where a part of it has made itself
a daemon. Whole means: each process group that has a process with the name in its environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lifecycle_agent.clients.commands import (
    GRACE_SECONDS,
    NAME_VARIABLE,
    TAIL_BYTES,
    CommandResult,
    Waiter,
    account,
    cannot_start,
    grace,
    output_tail,
)
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError

# What systemd tells a service about itself (systemd.exec(5)); none of it is true of a command.
_OUR_OWN = {
    "CACHE_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LOGS_DIRECTORY",
    "MAINPID",
    "MANAGERPID",
    "NOTIFY_SOCKET",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
}

_TICK = (0.01, 0.1)  # seconds between looks, at first and at most: it only delays noticing the end
_KILLED = 1.0  # seconds until a killed process is gone; one stuck in the kernel isn't waited for


class ProcessGroups:
    """Runs commands in sessions of their own; see `Commands`.

    Told to stop, it kills the command: nothing would look after it, and the step will be run again.
    """

    def run(
        self, name: str, argv: Sequence[str], user: str | None, deadline: Deadline, waiter: Waiter
    ) -> CommandResult:
        """Run a command; see `Commands.run`. What an earlier run of it left is killed first."""
        _end(name, None, deadline)
        process = _start(name, argv, user)
        output = _Output(process)
        timed_out = False
        try:
            timed_out = not _wait(process, output, deadline, waiter)
        finally:
            _end(name, process.pid, deadline, meanwhile=output.read)
            # Collected only now: until then nobody else gets its number.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_KILLED)
            output.read()
            output.close()
        code = process.returncode
        if code is None:
            raise LifecycleAgentError(
                f"{argv[0]} (process {process.pid}) does not die, not even of SIGKILL",
                "it hangs in the kernel, as with a dead NFS server or disk: look at /proc/PID/stack",
            )
        return CommandResult(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            timed_out=timed_out,
            output_tail=output_tail(bytes(output.tail)),
        )


def environment(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The agent's own environment without what systemd says to the agent alone."""
    return {key: value for key, value in environ.items() if key not in _OUR_OWN} | {NAME_VARIABLE: name}


def _start(name: str, argv: Sequence[str], user: str | None) -> subprocess.Popen[bytes]:
    environ = environment(name, os.environ)
    uid: int | None = None
    gid: int | None = None
    groups: list[int] | None = None
    if user:
        entry = account(user)
        environ |= {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user, "SHELL": entry.pw_shell}
        if os.geteuid() == 0:
            uid, gid = entry.pw_uid, entry.pw_gid
            groups = os.getgrouplist(user, gid)
        elif entry.pw_uid != os.geteuid():
            raise LifecycleAgentError(
                f"cannot run {argv[0]} as user {user!r}: only root may",
                "run the agent as root, or remove `user`",
            )
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environ,
            start_new_session=True,
            user=uid,
            group=gid,
            extra_groups=groups,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise cannot_start(argv[0], getattr(error, "strerror", None) or str(error)) from error


class _Output:
    """What a command says: read without ever blocking, for a daemon may hold the pipe open for good."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for, this tells mypy
        self._pipe = process.stdout
        self.tail = bytearray()
        os.set_blocking(self._pipe.fileno(), False)

    def read(self) -> bool:
        """Take in what is there, at most one pipe full; whether there was anything."""
        try:
            chunk = os.read(self._pipe.fileno(), 64 * 1024)  # what a pipe holds, pipe(7)
        except BlockingIOError:
            return False
        self.tail += chunk
        del self.tail[:-TAIL_BYTES]
        return bool(chunk)

    def close(self) -> None:
        self._pipe.close()


def _wait(process: subprocess.Popen[bytes], output: _Output, deadline: Deadline, waiter: Waiter) -> bool:
    """Wait for the end of the process, without collecting it; False when SIGTERM is due before that."""
    spare, (tick, most) = grace(deadline), _TICK
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if deadline.remaining() <= spare:
            return False
        tick = _TICK[0] if output.read() else min(most, tick * 1.5)
        waiter.wait(max(0.001, min(tick, deadline.remaining() - spare)))
    return True


def _end(name: str, own: int | None, deadline: Deadline, meanwhile: Callable[[], object] = bool) -> None:
    """End all of the command `name`: SIGTERM, then SIGKILL for what is still there when grace is over.

    Args:
        own: the process group known to be the command's, whatever its environment says.
        meanwhile: done again and again while it lasts.
    """
    for number, limit in (
        (signal.SIGTERM, deadline.within(GRACE_SECONDS)),
        (signal.SIGKILL, Deadline.after(_KILLED)),
    ):
        groups = _groups(name, own)
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        while groups and not limit.passed:
            meanwhile()
            time.sleep(_TICK[0])
            groups = _groups(name, own)
        if not groups:
            return


def _groups(name: str, own: int | None) -> set[int]:
    """The process groups, with somebody alive in them, that belong to the command `name`."""
    mark = f"{NAME_VARIABLE}={name}".encode()
    alive, marked = set(), {own}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            # proc(5): after the name, which may hold anything, come state, parent and process group.
            state, _, group = (process / "stat").read_bytes().rpartition(b")")[2].split()[:3]
            if state in (b"Z", b"X"):
                continue
            alive.add(int(group))
            if mark in (process / "environ").read_bytes().split(b"\0"):
                marked.add(int(group))
        except (OSError, ValueError):
            continue  # it has ended meanwhile, or is none of ours to read
    # Never our own group: an agent may itself have been started by a command of that name.
    return {group for group in alive if group in marked and group != os.getpgrp()}

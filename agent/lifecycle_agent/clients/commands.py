"""The users' own commands: one interface, two ways to run them.

Under systemd a command is a transient unit (`transient_unit.py`), elsewhere a process group of its
own (`process_group.py`). What they share is here; `tests/contract` runs the same cases on both.
"""

from __future__ import annotations

import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError

# The variable by which a command learns its name, and by which a process group is found again.
NAME_VARIABLE = "LIFECYCLE_AGENT_COMMAND"

# A stack trace or two. It goes into the log and the report, which people read.
TAIL_BYTES = 16 * 1024
TAIL_LINES = 100

# Long enough for a process to write its last line and remove its lock file after SIGTERM; commands
# that need more time than that have their own `timeout` to say so.
GRACE_SECONDS = 2.0
GRACE_SHARE = 0.1  # of a command's time at most, so that a short timeout isn't all grace


@dataclass(frozen=True)
class CommandResult:
    """How a command ended.

    Args:
        exit_code: None when a signal ended it.
        signal: the number of the signal that ended it, else None.
        timed_out: whether it was killed because its time was up.
        output_tail: the end of standard output and standard error together, at most `TAIL_LINES`.
        resumed: whether it had been started by an earlier run of the agent and was only waited for.
    """

    exit_code: int | None
    signal: int | None
    timed_out: bool
    output_tail: str
    resumed: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the command ended by itself with exit code 0."""
        return self.exit_code == 0 and not self.timed_out


class Waiter(Protocol):
    """What waiting needs of a step's `Work`."""

    def wait(self, seconds: float) -> None:
        """Sleep; raises `Interrupted` when the agent was told to stop."""
        ...


class Commands(Protocol):
    """Runs commands, each killed whole, with all it started, when it ends or its time is up."""

    def run(
        self, name: str, argv: Sequence[str], user: str | None, deadline: Deadline, waiter: Waiter
    ) -> CommandResult:
        """Run `argv` (never a shell) and wait for its end, no longer than `deadline`.

        Standard input is empty, the working directory is `/`. SIGTERM comes `grace(deadline)` before
        the deadline and SIGKILL at it. Whatever a command leaves running ends with it.

        Args:
            name: this step of this transition: the same when it is run again, and no other on this machine.
            user: whom to run it as with all of that user's groups; None means as the agent's user.

        Raises:
            LifecycleAgentError: it could not be started.
            Interrupted: the agent was told to stop.
        """
        ...


def grace(deadline: Deadline) -> float:
    """Seconds between SIGTERM and SIGKILL for a command that has until `deadline`."""
    return min(GRACE_SECONDS, GRACE_SHARE * deadline.remaining())


def output_tail(output: bytes) -> str:
    """The last lines of `output` as text."""
    lines = output[-TAIL_BYTES:].decode(errors="replace").splitlines()
    return "\n".join(lines[-TAIL_LINES:])


def account(user: str) -> pwd.struct_passwd:
    """The password entry of `user`.

    Raises:
        LifecycleAgentError: there is no such user.
    """
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise LifecycleAgentError(
            f"there is no user {user!r} on this machine", "create the user, or correct `user` of the command"
        ) from None


def cannot_start(program: str, why: str) -> LifecycleAgentError:
    """The error for a command that never ran."""
    return LifecycleAgentError(
        f"cannot run {program}: {why}", "the first word of argv is a program's absolute path: check it"
    )

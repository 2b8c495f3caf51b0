"""A command as a transient unit of systemd: out of the agent's sandbox, in a control group of its own.

Not `systemd-run --wait --pipe --collect`: with `--pipe` the command holds our pipes and dies of SIGPIPE
when the agent is restarted, and with `--collect` its result is lost when it ends while we are away.
Instead systemd keeps the ended unit (`RemainAfterExit=yes`) until we have read how it ended, its output
goes to the journal, and starting a command whose unit is there already means waiting for that one.
So `systemd-run` needs no message bus either, only systemd's own socket: one thing less during shutdown.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from lifecycle_agent.clients.commands import (
    NAME_VARIABLE,
    TAIL_LINES,
    CommandResult,
    Waiter,
    account,
    cannot_start,
    grace,
    output_tail,
)
from lifecycle_agent.clients.units import CALL_SECONDS, call, escaped, show
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError

_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainCode",
    "ExecMainStatus",
    "InvocationID",
)
_EXITED = "1"  # CLD_EXITED of waitid(2): ExecMainStatus is an exit code, else a signal's number
# What a process exits with that systemd could not make into the program (systemd.exec(5)).
_NOT_EXECUTED = range(200, 246)
_TICK = (0.02, 0.25)  # seconds between looks, at first and at most: each is a process of some milliseconds
_KILLED = 1.0  # seconds until a killed unit is gone


class TransientUnits:
    """Runs commands as transient units; see `Commands`.

    Told to stop, it leaves the command alone: systemd keeps its time, and the next run of the step
    waits for it.
    """

    def run(
        self, name: str, argv: Sequence[str], user: str | None, deadline: Deadline, waiter: Waiter
    ) -> CommandResult:
        """Run a command, or wait for the one that an earlier run has started; see `Commands.run`."""
        unit = unit_name(name)
        resumed = _state(unit)["LoadState"] == "loaded"
        refusal = None if resumed else _start(unit, name, argv, user, deadline)
        if refusal is not None:
            _forget(unit)
            raise cannot_start(argv[0], refusal)
        timed_out = not _wait(unit, deadline, waiter)
        state = _state(unit)
        if not _ended(state):
            raise LifecycleAgentError(
                f"{argv[0]} does not die, not even of SIGKILL", f"look at `systemctl status {unit}`"
            )
        output = _output(unit, state["InvocationID"])
        _forget(unit)
        exited, status = state["ExecMainCode"] == _EXITED, int(state["ExecMainStatus"])
        return CommandResult(
            exit_code=status if exited else None,
            signal=None if exited else status,
            timed_out=timed_out or state["Result"] == "timeout",
            output_tail=output,
            resumed=resumed,
        )


def unit_name(name: str) -> str:
    """The unit of the command `name`, escaped as systemd.unit(5) does it."""
    return f"lifecycle-agent-command-{escaped(name, keep='-')}.service"


def _start(unit: str, name: str, argv: Sequence[str], user: str | None, deadline: Deadline) -> str | None:
    """Start the unit; why not, where it was refused."""
    entry = account(user or "root")
    spare = grace(deadline)
    properties = (
        "Type=exec",  # so that an argv that cannot be executed is an error here
        "RemainAfterExit=yes",
        # Else starting it while the machine shuts down contradicts the shutdown and is refused.
        "DefaultDependencies=no",
        # systemd keeps the time, should we be gone; tightened deadlines are ours to keep.
        f"RuntimeMaxSec={max(1, round((deadline.remaining() - spare) * 1000))}ms",
        f"TimeoutStopSec={max(1, round(spare * 1000))}ms",
        "KillMode=control-group",
        f"User={entry.pw_name}",  # said for root too: it is what sets HOME and the like
        "WorkingDirectory=/",
        "StandardInput=null",
        "StandardOutput=journal",
        "StandardError=journal",
    )
    # systemd replaces variables in arguments, $$ is a dollar sign (systemd.service(5)).
    arguments = [argument.replace("$", "$$") for argument in argv[1:]]
    answer = call(
        "systemd-run",
        "--quiet",
        "--no-ask-password",
        f"--unit={unit}",
        f"--description=Command of lifecycle-agent: {argv[0]}",
        f"--setenv={NAME_VARIABLE}={name}",
        *(word for one in properties for word in ("-p", one)),
        "--",
        argv[0],
        *arguments,
        limit=deadline.timeout(CALL_SECONDS),
    )
    if answer.returncode == 0:
        return None
    state = _state(unit)
    if state["LoadState"] == "loaded" and not (
        state["ExecMainCode"] == _EXITED and int(state["ExecMainStatus"]) in _NOT_EXECUTED
    ):
        return None  # it ran, and ended so soon that systemd calls the start itself failed
    said = answer.stderr.strip().splitlines()
    return said[0] if said else f"systemd could not execute it, `journalctl -u {unit}` says why"


def _wait(unit: str, deadline: Deadline, waiter: Waiter) -> bool:
    """Wait for the end of the unit; False when it did not come before SIGTERM was due."""
    spare, (tick, most) = grace(deadline), _TICK
    in_time = True
    while not _ended(_state(unit)) and not deadline.passed:
        left = deadline.remaining()
        if in_time and left <= spare:
            in_time = False
            _kill(unit, "SIGTERM")
        tick = min(most, tick * 1.5)
        waiter.wait(max(0.001, min(tick, left - spare if in_time else left)))
    if not _ended(_state(unit)):
        in_time = False
        _kill(unit, "SIGKILL")
        limit = Deadline.after(_KILLED)
        while not _ended(_state(unit)) and not limit.passed:
            time.sleep(_TICK[0])
    return in_time


def _kill(unit: str, signal: str) -> None:
    # All of its control group. What came of it is seen by the unit's state.
    call("systemctl", "kill", f"--signal={signal}", "--", unit, limit=CALL_SECONDS)


def _state(unit: str) -> Mapping[str, str]:
    return show(unit, _PROPERTIES)


def _ended(state: Mapping[str, str]) -> bool:
    return state["ActiveState"] in ("inactive", "failed") or state["SubState"] == "exited"


def _output(unit: str, invocation: str) -> str:
    """The end of what the command said, as far as the journal has it."""
    call("journalctl", "--sync", limit=CALL_SECONDS)
    answer = call(
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=cat",
        f"--lines={TAIL_LINES}",  # of 48 KiB each at most (LineMax= in journald.conf(5))
        "_TRANSPORT=stdout",
        f"_SYSTEMD_INVOCATION_ID={invocation}",
        # Of a command that was over at once the journal may know the unit alone.
        "+",
        "_TRANSPORT=stdout",
        f"_SYSTEMD_UNIT={unit}",
        limit=CALL_SECONDS,
    )
    return output_tail(answer.stdout.encode())


def _forget(unit: str) -> None:
    """Let systemd drop an ended unit and end what the command left running."""
    # Best effort: what stays is a line in `systemctl list-units`. A unit that is gone is an error of both.
    call("systemctl", "stop", "--", unit, limit=CALL_SECONDS)
    call("systemctl", "reset-failed", "--", unit, limit=CALL_SECONDS)

"""systemd's units: the app's own, stopped and started through systemctl."""

from __future__ import annotations

import os
import string
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lifecycle_agent.clients.commands import Waiter, grace
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError

# systemd answers in milliseconds; the time that D-Bus itself gives a call (25 s) is too long for us.
CALL_SECONDS = 10.0

_UP = ("active", "reloading")

# systemd.unit(5); what has none of these at its end is a service, as for systemctl.
_UNIT_TYPES = (
    *(".service", ".socket", ".device", ".mount", ".automount", ".swap"),
    *(".target", ".path", ".timer", ".slice", ".scope"),
)

_TICK = 0.1  # seconds between looks; each is a process of some milliseconds


def whole_name(unit: str) -> str:
    """The name of a unit as systemd has it: what has no ending is a service."""
    return unit if unit.endswith(_UNIT_TYPES) else f"{unit}.service"


@dataclass(frozen=True)
class Stopped:
    """How a unit came to rest.

    Args:
        was_active: False when it did not run in the first place.
        killed: whether it had to be killed because its time was up.
    """

    was_active: bool
    killed: bool = False


class Units:
    """The units of the machine's systemd."""

    def manager_stopping(self) -> bool:
        """Whether the machine is shutting down."""
        # Exits non-zero for every state but `running`.
        return call("systemctl", "is-system-running", limit=CALL_SECONDS).stdout.strip() == "stopping"

    def is_active(self, unit: str) -> bool:
        """Whether the unit is up.

        Raises:
            LifecycleAgentError: there is no such unit, or no systemd.
        """
        return _state(unit)["ActiveState"] in _UP

    def active_state(self, unit: str, deadline: Deadline) -> str:
        """What systemd calls a unit's state (`active`, `failed` ...); `not-found` where there is none.

        Raises:
            LifecycleAgentError: systemd does not answer before `deadline`, or there is none.
        """
        state = show(unit, ("LoadState", "ActiveState"), deadline.timeout(CALL_SECONDS))
        return state["LoadState"] if _is_missing(state) else state["ActiveState"]

    def stop(self, unit: str, deadline: Deadline, waiter: Waiter) -> Stopped:
        """Stop a unit and wait until it has; what is left of it shortly before `deadline` is killed.

        While the machine shuts down, `systemctl stop` would wait for ever: the unit's own stop job is queued
        behind ours, since the agent is ordered after it. Then the unit gets its stop signal from us;
        its `ExecStop=` does not run in that case.

        Raises:
            LifecycleAgentError: there is no such unit, systemd refused, or it is still there at the deadline.
            Interrupted: the agent was told to stop; systemd goes on stopping the unit.
        """
        state = _state(unit)
        if _at_rest(state):
            return Stopped(was_active=False)
        spare = grace(deadline)
        asked = signalled = killed = False
        while not _at_rest(state := _state(unit)):
            # One that is being stopped already must not get its signal twice: some take that for "at once".
            stoppable = state["ActiveState"] != "deactivating" and not signalled
            if stoppable and self.manager_stopping():
                signalled = True
                _kill(unit, state["KillSignal"], "all" if state["KillMode"] == "control-group" else "main")
            elif stoppable and not asked:
                asked = True
                _checked("systemctl", "stop", "--no-block", "--", unit)
            if deadline.remaining() <= spare and not killed:
                killed = True
                _kill(unit, "SIGKILL", "all")
            if deadline.passed:
                raise LifecycleAgentError(
                    f"{unit} is still {state['ActiveState']} after its time to stop, SIGKILL included",
                    f"look at `systemctl status {unit}`; drain.stop_timeout is the time it gets",
                )
            waiter.wait(max(0.001, min(_TICK, deadline.remaining())))
        return Stopped(was_active=True, killed=killed)

    def start(self, unit: str, deadline: Deadline, waiter: Waiter) -> None:
        """Start a unit and wait until it is up; one of `Type=oneshot`, until it has ended well.

        Raises:
            LifecycleAgentError: there is no such unit, systemd skips it for a condition (systemd.unit(5)), or
                it did not come up before `deadline`.
            Interrupted: the agent was told to stop; systemd goes on starting the unit.
        """
        before = _state(unit)
        if before["ActiveState"] in _UP:
            return
        _checked("systemctl", "start", "--no-block", "--", unit)
        while (state := _state(unit))["Job"] not in ("", "0") or state["ActiveState"] == "activating":
            if deadline.passed:
                raise LifecycleAgentError(
                    f"{unit} is still {state['ActiveState']} after its time to start",
                    f"look at `systemctl status {unit}`",
                )
            waiter.wait(max(0.001, min(_TICK, deadline.remaining())))
        if state["ActiveState"] in _UP or _has_run(state, before):
            return
        if _is_skipped(state):
            raise LifecycleAgentError(
                f"{unit} was skipped: a condition of the unit is not met",
                f"`systemctl status {unit}` says which; conditions are in its file and in its drop-ins",
            )
        raise LifecycleAgentError(
            f"{unit} did not start: {state['ActiveState']}, result {state['Result']}",
            f"look at `systemctl status {unit}` and `journalctl -u {unit}`",
        )


_PLAIN = frozenset(string.ascii_letters + string.digits + ":_.")


def escaped(text: str, keep: str = "") -> str:
    """Text as a part of a unit's name; systemd.unit(5), "String Escaping for Inclusion in Unit Names".

    Args:
        keep: what stays as it is besides letters, digits and `:_.`
    """
    return "".join(
        char if char in _PLAIN or char in keep else "".join(f"\\x{byte:02x}" for byte in char.encode())
        for char in text
    )


def call(*argv: str, limit: float) -> subprocess.CompletedProcess[str]:
    """Run one of systemd's programs, `limit` seconds at most.

    Raises:
        LifecycleAgentError: this machine has no systemd, or it does not answer.
    """
    environ = {"LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "", "PATH": os.defpath}
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=max(0.001, limit),
            env=environ,
        )
    except FileNotFoundError:
        raise LifecycleAgentError(
            f"there is no {argv[0]} on this machine",
            "units need systemd: name none in the configuration, use commands",
        ) from None
    except OSError as error:
        raise LifecycleAgentError(f"cannot run {argv[0]}: {error}", "look at the machine's limits") from error
    except subprocess.TimeoutExpired:
        raise LifecycleAgentError(
            f"`{' '.join(argv[:2])}` did not answer within {limit:.1f} s", "is systemd itself in trouble?"
        ) from None


def show(unit: str, properties: Sequence[str], limit: float = CALL_SECONDS) -> Mapping[str, str]:
    """Properties of a unit as systemctl(1) shows them; one that it does not know is empty.

    Raises:
        LifecycleAgentError: systemd does not answer.
    """
    answer = call("systemctl", "show", "-p", ",".join(properties), "--", unit, limit=limit)
    if answer.returncode != 0:
        raise _refused("systemctl show", unit, answer)
    pairs = (line.partition("=") for line in answer.stdout.splitlines())
    return dict.fromkeys(properties, "") | {key: value for key, _, value in pairs}


_PROPERTIES = (
    *("LoadState", "ActiveState", "Result", "Job", "Type", "KillSignal", "KillMode"),
    *("ConditionResult", "ConditionTimestampMonotonic"),
)


def _state(unit: str) -> Mapping[str, str]:
    state = show(unit, _PROPERTIES)
    if _is_missing(state):
        raise LifecycleAgentError(
            f"systemd knows no unit {unit}",
            "`systemctl list-units --all` shows the names; correct the configuration",
        )
    return state


def _is_missing(state: Mapping[str, str]) -> bool:
    # One whose file was deleted while it runs is not found either, but there to be stopped.
    return state["LoadState"] == "not-found" and state["ActiveState"] == "inactive"


def _has_run(state: Mapping[str, str], before: Mapping[str, str]) -> bool:
    """Whether it is a `Type=oneshot` that was started and has ended well; such a one is inactive again."""
    checked = state["ConditionTimestampMonotonic"]  # when its start came to its conditions
    # systemd forgets an ended unit that no other one knows, and only a failure is worth remembering to it.
    started = checked in ("", "0") or checked != before["ConditionTimestampMonotonic"]
    well = state["ActiveState"] == "inactive" and state["Result"] == "success" and not _is_skipped(state)
    return state["Type"] == "oneshot" and started and well


def _is_skipped(state: Mapping[str, str]) -> bool:
    """Whether its last start ended at one of its conditions; for systemd that is no failure."""
    return state["ConditionResult"] == "no" and state["ConditionTimestampMonotonic"] not in ("", "0")


def _at_rest(state: Mapping[str, str]) -> bool:
    return state["ActiveState"] in ("inactive", "failed")


def _kill(unit: str, signal: str, whom: str) -> None:
    # --kill-whom is the name since systemd 252, and this one still means the same. Whether it
    # arrived is seen by the unit's state, so an answer of "nobody there" is no error.
    call("systemctl", "kill", f"--signal={signal}", f"--kill-who={whom}", "--", unit, limit=CALL_SECONDS)


def _checked(*argv: str) -> None:
    answer = call(*argv, limit=CALL_SECONDS)
    if answer.returncode != 0:
        raise _refused(" ".join(argv[:2]), argv[-1], answer)


def _refused(what: str, unit: str, answer: subprocess.CompletedProcess[str]) -> LifecycleAgentError:
    said = (answer.stderr or answer.stdout).strip().splitlines()
    why = said[0] if said else f"exit code {answer.returncode}"
    return LifecycleAgentError(
        f"{what} {unit}: {why}", "the agent must run as root on a machine with systemd"
    )

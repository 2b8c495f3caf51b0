"""What the two ways to run a command share; how each really runs one is in tests/contract/test_systemd.py."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from lifecycle_agent.clients.commands import CommandResult, grace, output_tail
from lifecycle_agent.clients.here import commands_here
from lifecycle_agent.clients.process_group import ProcessGroups, environment
from lifecycle_agent.clients.transient_unit import unit_name
from lifecycle_agent.clients.units import call
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError

# No other on this machine may have a command's name: another run of these tests would be ended too.
NAME = uuid.uuid4().hex


class Sleeper:
    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


@pytest.mark.parametrize(("seconds", "expected"), [(600, 2.0), (20, 2.0), (1, 0.1), (0, 0.0)])
def test_grace_is_short_and_never_most_of_the_time(seconds: float, expected: float) -> None:
    assert grace(Deadline.after(seconds, clock=lambda: 0.0)) == pytest.approx(expected)


def test_output_tail_is_bounded_in_bytes_and_lines() -> None:
    assert output_tail(b"a\nb\n") == "a\nb"
    assert output_tail(b"x\n" * 500) == "\n".join("x" * 100)
    assert len(output_tail(b"y" * 100_000)) == 16 * 1024
    assert output_tail(b"not \xff UTF-8") == "not \ufffd UTF-8"


def test_succeeded_means_in_time_too() -> None:
    assert CommandResult(0, None, timed_out=False, output_tail="").succeeded
    assert not CommandResult(0, None, timed_out=True, output_tail="").succeeded
    assert not CommandResult(1, None, timed_out=False, output_tail="").succeeded
    assert not CommandResult(None, 9, timed_out=False, output_tail="").succeeded


def test_what_systemd_tells_the_agent_is_not_for_commands() -> None:
    ours = {
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "1",
        "WATCHDOG_PID": "1",
        "CREDENTIALS_DIRECTORY": "/c",
    }

    assert environment("step", ours | {"PATH": "/bin"}) == {"PATH": "/bin", "LIFECYCLE_AGENT_COMMAND": "step"}


def test_unit_names_are_escaped_and_differ() -> None:
    assert unit_name("t-1.drain_2") == "lifecycle-agent-command-t-1.drain_2.service"
    assert unit_name("a/b ü") == "lifecycle-agent-command-a\\x2fb\\x20\\xc3\\xbc.service"
    assert unit_name("a/b") != unit_name("a-b")


def test_where_systemd_does_not_run_the_machine_commands_are_process_groups() -> None:
    systemd = os.geteuid() == 0 and Path("/run/systemd/system").is_dir()

    assert isinstance(commands_here(), ProcessGroups) is not systemd


def test_a_flood_of_output_does_not_block_the_command() -> None:
    result = ProcessGroups().run(
        NAME,
        ["/bin/sh", "-c", "head -c 3000000 /dev/zero; echo; echo end"],
        None,
        Deadline.after(60),
        Sleeper(),
    )

    assert result.exit_code == 0
    assert result.output_tail.endswith("\nend")
    assert len(result.output_tail) <= 16 * 1024


def test_only_root_may_run_a_command_as_somebody_else() -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            ProcessGroups().run(NAME, ["/bin/true"], "root", Deadline.after(60), Sleeper())
        except LifecycleAgentError as error:
            code = 0 if "as user 'root': only root may" in error.message else 2
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_ending_a_command_ends_nobody_of_another_name() -> None:
    other = subprocess.Popen(
        ["/bin/sleep", "3600"], start_new_session=True, env={"LIFECYCLE_AGENT_COMMAND": f"{NAME}0"}
    )
    try:
        ProcessGroups().run(NAME, ["/bin/true"], None, Deadline.after(60), Sleeper())

        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_machine_without_systemd_is_said() -> None:
    with pytest.raises(LifecycleAgentError, match="there is no systemctl-that-is-not-here") as caught:
        call("systemctl-that-is-not-here", limit=10)

    assert "need systemd" in caught.value.hint

"""What is asked of journalctl, and what its end means; tests/contract has it against a real journal."""

from __future__ import annotations

import time

import pytest

from lifecycle_agent.clients.journald import JournalExport
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError


def journal(
    *command: str, since: float | None = None, form: str = "export", seconds: float = 30
) -> JournalExport:
    return JournalExport("a.service", Deadline.after(seconds), since, form, command)


def test_it_is_read_to_its_end() -> None:
    export = journal("echo", "MESSAGE=x")
    assert export.read(10) == b"MESSAGE=x "
    assert export.read(1000).split() == (
        b"--output=export --boot --all --no-pager --quiet --unit=a.service".split()
    )
    assert export.read(100) == b""
    export.close()


def test_the_time_is_said_in_seconds_since_the_epoch() -> None:
    earliest = time.time() - 86400
    export = journal("echo", since=86400, form="json")
    output, since, *_ = export.read(1000).decode().split()
    export.close()
    assert output == "--output=json"
    assert since.startswith("--since=@")
    assert earliest - 1 <= int(since.removeprefix("--since=@")) <= time.time() - 86400 + 1


def test_its_failure_is_said() -> None:
    failing = journal("sh", "-c", "echo no access >&2; exit 3")
    with pytest.raises(LifecycleAgentError, match=r"a\.service ended with 3: no access") as caught:
        failing.read(100)
    failing.close()
    assert "systemd-journal" in caught.value.hint
    with pytest.raises(LifecycleAgentError, match="cannot be read: /no/such/journalctl"):
        journal("/no/such/journalctl")


def test_one_that_says_nothing_is_ended() -> None:
    hanging = journal("sh", "-c", "exec sleep 60", seconds=0.05)
    with pytest.raises(LifecycleAgentError, match="time ran out"):
        hanging.read(100)
    hanging.close()
    assert hanging._process.returncode == -9

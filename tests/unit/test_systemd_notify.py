"""What systemd hears, on a socket like its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_agent.watch.systemd import Manager


class Listener:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(10)

    def next(self) -> str:
        return self.socket.recv(4096).decode()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    name = f"@lifecycle-agent-{uuid.uuid4()}" if request.param == "abstract" else str(tmp_path / "notify")
    listener = Listener(name)
    yield listener
    listener.socket.close()


def test_what_a_service_says_of_itself(systemd: Listener) -> None:
    manager = Manager({"NOTIFY_SOCKET": systemd.address})

    manager.ready()
    assert systemd.next() == "READY=1"
    manager.report("waiting: für nichts")
    assert systemd.next() == "STATUS=waiting: für nichts\nWATCHDOG=1"
    manager.report("waiting: für nichts")
    assert systemd.next() == "WATCHDOG=1"
    manager.stopping()
    assert systemd.next() == "STOPPING=1"


def test_a_sentence_cannot_say_anything_else(systemd: Listener) -> None:
    manager = Manager({"NOTIFY_SOCKET": systemd.address})

    manager.report("odd\nSTOPPING=1 \ud800")

    assert systemd.next() == "STATUS=odd STOPPING=1 ?\nWATCHDOG=1"


def test_systemd_that_does_not_read_holds_nobody_up(systemd: Listener) -> None:
    manager = Manager({"NOTIFY_SOCKET": systemd.address})

    for number in range(2000):  # far beyond net.unix.max_dgram_qlen
        manager.report(f"sentence {number}")

    assert systemd.next().startswith("STATUS=sentence 0\n")


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-is-here", "/" + "long" * 100])
def test_without_systemd_nothing_happens(address: str) -> None:
    manager = Manager({"NOTIFY_SOCKET": address} if address else {})

    manager.ready()
    manager.report("waiting")
    manager.stopping()


def test_children_do_not_inherit_what_is_meant_for_us(
    systemd: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
    for name, value in zip(names, (systemd.address, "1000000", str(os.getpid())), strict=True):
        monkeypatch.setenv(name, value)

    manager = Manager()

    code = f"import os; print([name for name in os.environ if name in {names!r}])"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"
    assert manager.watchdog_seconds == 1.0
    manager.ready()
    assert systemd.next() == "READY=1"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, None),  # somebody else's
        ({"WATCHDOG_USEC": "0"}, None),  # a pause of nothing would be a busy loop
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
    ],
)
def test_how_often_systemd_wants_to_hear_from_us(environ: dict[str, str], seconds: float | None) -> None:
    assert Manager(environ).watchdog_seconds == seconds

"""Bytes on their way, as they are shown."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from lifecycle_agent.cli.transfer import LINE_SECONDS, RATE_SECONDS, Rate, Transfer, amount, line
from lifecycle_agent.errors import Interrupted


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 50, "3072.0 TiB")],
)
def test_an_amount(size: int, shown: str) -> None:
    assert amount(size) == shown


def test_the_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate(0.0, 0) == 0.0
    assert rate(1.0, 100) == 100.0
    for second in range(2, 60):
        latest = rate(float(second), 100 + (second - 1) * 10)
    assert latest == pytest.approx(10.0)
    assert rate(60.0 + RATE_SECONDS, 680) == 0.0


def test_a_line_has_bytes_rate_files_and_what_remains() -> None:
    assert line("3 of 9 files", 1 << 20, 91 << 20, 1 << 20) == (
        "1.0 MiB of 91.0 MiB, 1.0 MiB/s, 3 of 9 files, 1:30 left"
    )
    assert "left" not in line("3 of 9 files", 0, 10, 0.0)
    assert "left" not in line("9 of 9 files", 10, 10, 1.0)


def test_where_there_is_no_terminal_a_line_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Transfer(60, clock) as work:
        for _ in range(100):
            work.say("looking for logs")
            clock.now += 0.1
        work.say("3 of 9 files", 5, 10)
        clock.now += LINE_SECONDS
        work.say("4 of 9 files", 5, 10)

    lines = capsys.readouterr().err.splitlines()
    assert lines == ["looking for logs", "5 bytes of 10 bytes, 0 bytes/s, 4 of 9 files"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As in a terminal: who is started in the background, as tests may be, has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_the_first_signal_stops_it_and_the_second_is_as_always() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Transfer(60) as work:
        work.wait(0)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted):
            work.wait(30)
        assert work.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_a_wait_ends_with_the_deadline() -> None:
    clock = Clock()
    with Transfer(0, clock) as work:
        work.wait(30)  # or the test hangs: this clock stands still

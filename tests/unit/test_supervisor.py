"""The transition's process: real children, a clock of the test's own."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from lifecycle_agent.model import Notice, NoticeKind
from lifecycle_agent.watch import supervisor
from lifecycle_agent.watch.supervisor import FIRST_PAUSE, LONGEST_PAUSE, Supervisor

NOTICE = Notice(NoticeKind.TERMINATE, "the group takes this instance away", 7.0)

FOREVER = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "open(sys.argv[1], 'w').close(); time.sleep(600)"
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Children:
    """Starts `python -c CODE` as the transition, and remembers what it was asked for."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.code = code
        self.arguments = arguments
        self.asked: list[tuple[Notice, int]] = []

    def __call__(self, notice: Notice, deaths: int) -> Sequence[str]:
        self.asked.append((notice, deaths))
        return [sys.executable, "-c", self.code, *self.arguments]


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up, "in vain"
        time.sleep(0.005)


@pytest.fixture
def clock() -> Clock:
    return Clock()


Start = Callable[[Children], Supervisor]


@pytest.fixture
def start(clock: Clock) -> Iterator[Start]:
    """Starts supervisors whose children do not outlive the test."""
    with ExitStack() as stack:

        def begin(children: Children) -> Supervisor:
            made = Supervisor(NOTICE, children, clock)
            stack.callback(kill, made)
            return made

        yield begin


def kill(transition: Supervisor) -> None:
    if transition.pid is not None and not transition.over:
        try:
            os.kill(transition.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        died(transition)


def died(transition: Supervisor) -> None:
    def reaped() -> bool:
        transition.check()
        return transition.pid is None

    until(reaped)


@pytest.mark.parametrize("code", [supervisor.DONE, supervisor.DONE_WITH_FAILURES])
def test_a_transition_that_ran_to_its_end_is_over(start: Start, clock: Clock, code: int) -> None:
    children = Children(f"raise SystemExit({code})")
    transition = start(children)
    died(transition)

    clock.now += 1000
    transition.check()

    assert (transition.over, transition.exit_code, transition.deaths) == (True, code, 0)
    assert transition.pause_left() is None
    assert children.asked == [(NOTICE, 0)]


@pytest.mark.parametrize(
    "code",
    [
        "raise SystemExit(2)",
        "raise RuntimeError('a defect')",
        "raise SystemExit(1)",
        "import os; os.kill(os.getpid(), 9)",
    ],
)
def test_one_that_died_is_started_again(start: Start, clock: Clock, code: str) -> None:
    children = Children(code)
    transition = start(children)
    died(transition)
    assert (transition.over, transition.deaths) == (False, 1)

    pause = transition.pause_left()
    assert pause is not None
    assert FIRST_PAUSE * 0.8 <= pause <= FIRST_PAUSE * 1.2
    clock.now += pause - 0.001
    transition.check()
    assert transition.pid is None, "started too early"

    children.code = FOREVER
    clock.now += 0.002
    transition.check()

    assert transition.pid is not None
    assert transition.pause_left() is None
    assert children.asked == [(NOTICE, 0), (NOTICE, 1)]


def test_being_told_to_stop_is_no_death_and_ends_a_row_of_them(start: Start, clock: Clock) -> None:
    children = Children("raise SystemExit(1)")
    transition = start(children)
    died(transition)

    children.code = f"raise SystemExit({supervisor.INTERRUPTED})"
    clock.now += LONGEST_PAUSE
    transition.check()
    died(transition)

    assert (transition.over, transition.deaths) == (False, 0)
    assert transition.pause_left() == pytest.approx(FIRST_PAUSE)


def test_the_pauses_grow_and_stay_bounded(start: Start, clock: Clock) -> None:
    transition = start(Children("raise SystemExit(4)"))
    pauses = []
    for deaths in range(1, 12):
        died(transition)
        assert transition.deaths == deaths
        pause = transition.pause_left()
        assert pause is not None
        pauses.append(pause)
        clock.now += pause
        transition.check()

    doubled = [min(LONGEST_PAUSE, FIRST_PAUSE * 2**number) for number in range(len(pauses))]
    assert all(0.8 * much <= pause <= 1.2 * much for much, pause in zip(doubled, pauses, strict=True))


def test_a_command_that_cannot_be_started_is_a_death(clock: Clock) -> None:
    transition = Supervisor(NOTICE, lambda notice, deaths: ["/nowhere/python"], clock)

    assert (transition.over, transition.deaths, transition.pid) == (False, 1, None)
    clock.now += 1
    transition.check()
    assert transition.deaths == 2


def test_checking_does_not_wait(start: Start) -> None:
    transition = start(Children(FOREVER))
    pid = transition.pid
    for _ in range(100):
        transition.check()
    assert (transition.pid, transition.deaths, transition.over) == (pid, 0, False)


def test_stopping_asks_first(start: Start) -> None:
    transition = start(Children(FOREVER))
    pid = transition.pid
    assert pid is not None

    transition.stop()

    assert not os.path.exists(f"/proc/{pid}"), "left behind"


def test_stopping_kills_what_does_not_listen(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.05)
    deaf = tmp_path_factory.mktemp("stubborn") / "deaf"
    transition = start(Children(STUBBORN, str(deaf)))
    pid = transition.pid
    until(deaf.exists)

    transition.stop()

    assert not os.path.exists(f"/proc/{pid}"), "left behind"


def test_stopping_between_two_processes_is_nothing(start: Start) -> None:
    transition = start(Children("raise SystemExit(3)"))
    died(transition)
    transition.stop()
    assert transition.pid is None

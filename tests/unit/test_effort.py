"""How hard to compress, on a clock of the test's own."""

from __future__ import annotations

import threading

import pytest

from lifecycle_agent.steps.logs.effort import FIRST_GUESS, PACKERS, Effort

MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def effort(clock: Clock) -> Effort:
    return Effort(clock)


def sent(effort: Effort, clock: Clock, size: int, seconds: float) -> None:
    with effort.sending(size):
        clock.now += seconds


def test_nothing_is_known_of_the_link_yet(effort: Effort) -> None:
    with effort.sending(100 * MIB), effort.packing(1) as hard:
        assert not hard


def test_a_slow_link_leaves_time(effort: Effort, clock: Clock) -> None:
    sent(effort, clock, MIB, 1)
    with effort.sending(2 * MIB):  # on its way for two more seconds
        with effort.packing(FIRST_GUESS) as hard:
            assert hard
        with effort.packing(3 * FIRST_GUESS) as hard:
            assert not hard


def test_a_link_that_waits_for_us_does_not(effort: Effort, clock: Clock) -> None:
    sent(effort, clock, MIB, 1)
    with effort.packing(1) as hard:
        assert not hard


def test_a_fast_link_does_not(effort: Effort, clock: Clock) -> None:
    sent(effort, clock, 100 * MIB, 1)
    with effort.sending(5 * MIB), effort.packing(FIRST_GUESS) as hard:
        assert not hard


def test_time_in_which_nothing_was_sent_is_not_the_links(effort: Effort, clock: Clock) -> None:
    sent(effort, clock, 100 * MIB, 1)
    clock.now += 1000
    with effort.sending(5 * MIB), effort.packing(FIRST_GUESS) as hard:
        assert not hard


def test_two_sent_at_once_share_the_link(effort: Effort, clock: Clock) -> None:
    with effort.sending(MIB), effort.sending(MIB):
        clock.now += 1
    with effort.sending(4 * MIB):
        with effort.packing(int(1.9 * FIRST_GUESS)) as hard:
            assert hard
        with effort.packing(int(2.1 * FIRST_GUESS)) as hard:
            assert not hard


def test_nobody_is_kept_from_the_processor(effort: Effort, clock: Clock) -> None:
    sent(effort, clock, MIB, 1)
    with effort.sending(100 * MIB):
        with effort.packing(1) as first, effort.packing(1) as second:
            assert (first, second) == (True, False)
        with effort.packing(10**12), effort.packing(1) as beside:
            assert not beside


def test_how_long_it_takes_here_is_learned(effort: Effort, clock: Clock) -> None:
    sent(effort, clock, MIB, 1)
    with effort.sending(10 * MIB):
        with effort.packing(FIRST_GUESS) as hard:
            clock.now += 4  # a quarter of what was guessed; the link has sent 1 MiB in 5 seconds now
            assert hard
        with effort.packing(40 * FIRST_GUESS) as hard:
            assert not hard
        with effort.packing(20 * FIRST_GUESS) as hard:
            assert hard


def test_what_was_decided_before_stays(effort: Effort, clock: Clock) -> None:
    with effort.packing(1, True) as hard:
        assert hard
    sent(effort, clock, MIB, 1)
    with effort.sending(100 * MIB), effort.packing(1, False) as hard:
        assert not hard


def test_no_more_at_once_than_there_is_memory_for(effort: Effort) -> None:
    inside, leave = threading.Semaphore(0), threading.Event()
    most, now, lock = 0, 0, threading.Lock()

    def pack() -> None:
        nonlocal most, now
        with effort.packing(1):
            with lock:
                now += 1
                most = max(most, now)
            inside.release()
            leave.wait(30)
            with lock:
                now -= 1

    threads = [threading.Thread(target=pack) for _ in range(2 * PACKERS)]
    for thread in threads:
        thread.start()
    for _ in range(PACKERS):
        assert inside.acquire(timeout=30)
    leave.set()
    for thread in threads:
        thread.join(30)
    assert most == PACKERS

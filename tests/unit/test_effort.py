"""How hard to compress, on a clock of the test's own."""

from __future__ import annotations

import threading

import pytest

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.steps.logs.effort import FIRST_GUESS, Effort

MIB = 1024 * 1024
LONG = Deadline.after(24 * 3600)  # made once for a run of any length


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
    with effort.sending(100 * MIB), effort.packing(1, LONG) as hard:
        assert not hard


def test_a_slow_link_leaves_time(effort: Effort, clock: Clock) -> None:
    sent(effort, clock, MIB, 1)
    with effort.sending(2 * MIB):  # on its way for two more seconds
        with effort.packing(FIRST_GUESS, LONG) as hard:
            assert hard
        with effort.packing(3 * FIRST_GUESS, LONG) as hard:
            assert not hard


def test_a_link_that_waits_for_us_does_not(effort: Effort, clock: Clock) -> None:
    sent(effort, clock, MIB, 1)
    with effort.packing(1, LONG) as hard:
        assert not hard


def test_a_fast_link_does_not(effort: Effort, clock: Clock) -> None:
    sent(effort, clock, 100 * MIB, 1)
    with effort.sending(5 * MIB), effort.packing(FIRST_GUESS, LONG) as hard:
        assert not hard


def test_time_in_which_nothing_was_sent_is_not_the_links(effort: Effort, clock: Clock) -> None:
    sent(effort, clock, 100 * MIB, 1)
    clock.now += 1000
    with effort.sending(5 * MIB), effort.packing(FIRST_GUESS, LONG) as hard:
        assert not hard


def test_two_sent_at_once_share_the_link(effort: Effort, clock: Clock) -> None:
    with effort.sending(MIB), effort.sending(MIB):
        clock.now += 1
    with effort.sending(4 * MIB):
        with effort.packing(int(1.9 * FIRST_GUESS), LONG) as hard:
            assert hard
        with effort.packing(int(2.1 * FIRST_GUESS), LONG) as hard:
            assert not hard


def test_who_is_in_a_hurry_is_not_kept_from_the_processor(effort: Effort, clock: Clock) -> None:
    sent(effort, clock, MIB, 1)
    with effort.sending(100 * MIB), effort.packing(10**12, LONG) as first, effort.packing(1, LONG) as beside:
        assert (first, beside) == (False, False)


def test_one_at_a_time_is_compressed_hard_and_the_next_one_waits_if_there_is_time(
    effort: Effort, clock: Clock
) -> None:
    sent(effort, clock, MIB, 1)
    with effort.sending(10 * MIB):  # ten seconds
        chosen: list[bool] = []

        def pack(size: int) -> None:
            with effort.packing(size, LONG) as hard:
                chosen.append(hard)

        with effort.packing(6 * FIRST_GUESS, LONG) as hard:
            assert hard
            pack(6 * FIRST_GUESS)  # would make it twelve
            assert chosen == [False]
            second = threading.Thread(target=pack, args=(3 * FIRST_GUESS,))
            second.start()
            second.join(0.05)
            assert second.is_alive()
        second.join(30)
        assert chosen == [False, True]


def test_how_long_it_takes_here_is_learned(effort: Effort, clock: Clock) -> None:
    sent(effort, clock, MIB, 1)
    with effort.sending(10 * MIB):
        with effort.packing(FIRST_GUESS, LONG) as hard:
            clock.now += 4  # a quarter of what was guessed; the link has sent 1 MiB in 5 seconds now
            assert hard
        with effort.packing(40 * FIRST_GUESS, LONG) as hard:
            assert not hard
        with effort.packing(20 * FIRST_GUESS, LONG) as hard:
            assert hard


def test_what_was_decided_before_stays(effort: Effort, clock: Clock) -> None:
    with effort.packing(1, LONG, True) as hard:
        assert hard
    sent(effort, clock, MIB, 1)
    with effort.sending(100 * MIB), effort.packing(1, LONG, False) as hard:
        assert not hard


def test_who_waits_behind_one_that_hangs_gives_up_in_time(effort: Effort) -> None:
    soon = Deadline.after(0.01)
    with effort.packing(1, LONG, True), pytest.raises(TimeoutError), effort.packing(1, soon, True):
        pass
    with effort.packing(1, LONG, True) as hard:
        assert hard

"""The one clock: a deadline is passed down, subdivided, tightened, never extended."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_agent.deadline import Deadline, boottime

SECONDS = st.floats(min_value=0, max_value=200_000, allow_nan=False)


class StoppedClock:
    """A clock that stands still until it is set."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


def test_counts_down_on_its_own_clock(clock: StoppedClock) -> None:
    deadline = Deadline.after(60, clock)
    assert (deadline.at, deadline.now(), deadline.remaining(), deadline.passed) == (1060, 1000, 60, False)

    clock.at = 1059.5
    assert (deadline.remaining(), deadline.passed) == (0.5, False)

    clock.at = 1060
    assert (deadline.remaining(), deadline.passed) == (0, True)


def test_what_remains_is_never_below_zero(clock: StoppedClock) -> None:
    deadline = Deadline.after(60, clock)
    clock.at = 5000
    assert deadline.remaining() == 0


@pytest.mark.parametrize(
    ("seconds", "reserve", "expected"),
    [
        (10, 0, 1010),  # its own limit comes first
        (90, 0, 1060),  # the whole's limit comes first
        (90, 20, 1040),  # less what is reserved
        (40, 20, 1040),
        (10, 20, 1010),  # the reserve does not matter that early
        (10, 90, 970),  # more is reserved than is there: no time at all
    ],
)
def test_a_part_ends_at_the_earlier_limit(
    clock: StoppedClock, seconds: float, reserve: float, expected: float
) -> None:
    assert Deadline.after(60, clock).within(seconds, reserve).at == expected


def test_tightening_the_whole_tightens_every_part(clock: StoppedClock) -> None:
    whole = Deadline.after(60, clock)
    part = whole.within(50, reserve=5)
    inner = part.within(40)

    assert whole.tighten(1020)

    assert (whole.at, part.at, inner.at) == (1020, 1015, 1015)


def test_tightening_a_part_leaves_the_whole(clock: StoppedClock) -> None:
    whole = Deadline.after(60, clock)
    part = whole.within(50)

    assert part.tighten(1010)

    assert (whole.at, part.at) == (1060, 1010)


@pytest.mark.parametrize("later", [1060, 1060.5, 9999])
def test_tightening_never_gives_more_time(clock: StoppedClock, later: float) -> None:
    deadline = Deadline.after(60, clock)
    assert not deadline.tighten(later)
    assert deadline.at == 1060


def test_tightening_a_part_counts_what_the_whole_has_left(clock: StoppedClock) -> None:
    whole = Deadline.after(20, clock)
    part = whole.within(50)
    assert not part.tighten(1030)  # before its own limit, but the whole ends sooner still
    assert part.at == 1020


def test_a_call_gets_its_limit_or_what_is_left(clock: StoppedClock) -> None:
    deadline = Deadline.after(60, clock)
    assert deadline.timeout(5) == 5
    assert deadline.timeout(90) == 60

    clock.at = 2000
    assert 0 < deadline.timeout(5) <= 0.01  # zero would mean "no limit" to libraries


@given(st.lists(st.tuples(SECONDS, SECONDS), max_size=6), st.lists(SECONDS, max_size=6), SECONDS)
def test_no_part_ever_outlives_the_whole(
    parts: list[tuple[float, float]], tightenings: list[float], passed: float
) -> None:
    clock = StoppedClock()
    chain = [Deadline.after(3600, clock)]
    for seconds, reserve in parts:
        chain.append(chain[-1].within(seconds, reserve))
    before = [deadline.at for deadline in chain]
    for index, at in enumerate(tightenings):
        chain[index % len(chain)].tighten(at)
    clock.at += passed

    for outer, inner in itertools.pairwise(chain):
        assert inner.at <= outer.at
    assert all(deadline.at <= at for deadline, at in zip(chain, before, strict=True))


def test_the_clock_is_the_boot_clock() -> None:
    with open("/proc/uptime") as file:
        uptime = float(file.read().split()[0])  # CLOCK_BOOTTIME too (proc(5)), rounded down to 10 ms
    assert boottime() >= uptime
    assert Deadline.after(60).remaining() > 0

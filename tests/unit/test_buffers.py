"""The memory of an upload is what these buffers are, and no more."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.steps.logs.buffers import SLACK, SMALL, Buffer, Buffers

COUNT, SIZE = 3, 1 << 20


def soon() -> Deadline:
    return Deadline.after(30)


def test_no_more_are_out_than_there_are_and_each_is_somebodys_own() -> None:
    """Many threads take one, write their own bytes, and give it back."""
    buffers, lock = Buffers(COUNT, SIZE), threading.Lock()
    out: set[int] = set()
    ever: dict[int, Buffer] = {}

    def use(number: int) -> None:
        for _ in range(50):
            buffer = buffers.take(soon())
            with lock:
                assert id(buffer) not in out
                out.add(id(buffer))
                ever[id(buffer)] = buffer
                assert len(out) <= COUNT
            assert len(buffer.data) == 0
            buffer.write(bytes([number]) * 100)
            assert bytes(buffer.data) == bytes([number]) * 100
            with lock:
                out.remove(id(buffer))
            buffer.free()

    with ThreadPoolExecutor(4 * COUNT) as pool:
        list(pool.map(use, range(4 * COUNT)))
    assert len(ever) <= COUNT


def test_who_gets_none_in_time_is_told() -> None:
    buffers = Buffers(COUNT, SIZE)
    out = [buffers.take(soon()) for _ in range(COUNT)]
    with pytest.raises(TimeoutError):
        buffers.take(Deadline.after(0.01))
    out[0].free()
    assert buffers.take(Deadline.after(0)) is out[0]


def test_what_is_little_moves_out_and_makes_room() -> None:
    buffers = Buffers(1, SIZE)
    buffer = buffers.take(soon())
    buffer.write(b"little")
    settled = buffer.settled()
    assert bytes(settled.data) == b"little"
    again = buffers.take(Deadline.after(0))
    again.write(b"other")
    assert bytes(settled.data) == b"little"
    settled.free()
    with pytest.raises(TimeoutError):  # it was nobody's, and is not given out
        buffers.take(Deadline.after(0))


def test_what_is_much_stays_where_it_is() -> None:
    buffers = Buffers(1, SIZE)
    buffer = buffers.take(soon())
    buffer.write(bytes(SMALL + 1))
    assert buffer.settled() is buffer
    with pytest.raises(TimeoutError):
        buffers.take(Deadline.after(0))


def test_it_is_full_with_a_part_in_it_and_takes_no_more_than_it_has_room_for() -> None:
    buffer = Buffers(1, SIZE).take(soon())
    buffer.write(bytes(SIZE - 1))
    assert not buffer.full
    buffer.write(b"x")
    assert buffer.full
    buffer.write(bytes(SLACK))
    with pytest.raises(AssertionError, match="in a buffer of"):
        buffer.write(b"x")


def test_no_more_large_sources_at_once_than_buffers_and_any_number_of_small_ones() -> None:
    buffers = Buffers(1, SIZE)
    with buffers.turn(SIZE + 1, soon()):
        with buffers.turn(SIZE, soon()), buffers.turn(0, soon()):
            pass
        for expected in (SIZE + 1, None):
            with pytest.raises(TimeoutError), buffers.turn(expected, Deadline.after(0.01)):
                pass
    with buffers.turn(None, Deadline.after(0)):
        pass

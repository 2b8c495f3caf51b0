"""A time limit on a whole call."""

from __future__ import annotations

import threading

import pytest

from lifecycle_agent.clients.bounded import within


def test_the_answer() -> None:
    assert within(10, lambda: "yes") == "yes"


@pytest.mark.parametrize(
    "error", [ValueError("no"), OSError(5), KeyboardInterrupt(), SystemExit(3)], ids=repr
)
def test_the_error_is_the_calls_own(error: BaseException) -> None:
    def fails() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        within(10, fails)
    assert caught.value is error


def test_a_call_that_hangs_is_left_behind_and_does_not_keep_the_process() -> None:
    released, ended = threading.Event(), threading.Event()
    daemon: list[bool] = []

    def hangs() -> None:
        released.wait()
        daemon.append(threading.current_thread().daemon)
        ended.set()

    with pytest.raises(TimeoutError, match=r"no answer within 0\.0 s"):
        within(0.01, hangs)
    assert not ended.is_set()
    released.set()  # what it says then goes nowhere
    assert ended.wait(10)
    assert daemon == [True]


def test_without_a_thread_to_be_had_it_is_called_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert within(10, lambda: "yes") == "yes"

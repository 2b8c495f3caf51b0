"""A line of the log is one line, in the form that fits where it goes."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from lifecycle_agent.logline import MOST_MESSAGE, logger, set_up, utc


class Stderr(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


def logs_to(monkeypatch: pytest.MonkeyPatch, terminal: bool = False, journal: bool = False) -> Stderr:
    stderr = Stderr(terminal)
    monkeypatch.setattr("sys.stderr", stderr)
    set_up(environ={"JOURNAL_STREAM": "8:1"} if journal else {})
    return stderr


def test_json_with_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = logs_to(monkeypatch)

    logger.warning("the %s is %d", "answer", 42, extra={"fields": {"step": "logs", "seconds": 1.5}})

    line = json.loads(stderr.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {"level": "warning", "message": "the answer is 42", "step": "logs", "seconds": 1.5}


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2), (25, 6)],
)
def test_the_journal_gets_priorities(monkeypatch: pytest.MonkeyPatch, level: int, priority: int) -> None:
    stderr = logs_to(monkeypatch, journal=True)

    logger.log(level, "hello")

    assert stderr.getvalue().startswith(f"<{priority}>{{")


def test_a_terminal_gets_lines_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = logs_to(monkeypatch, terminal=True, journal=True)

    logger.info("hello")
    logger.error("oh")

    assert re.fullmatch(r"(\d\d:\d\d:\d\d) hello\n(\d\d:\d\d:\d\d) error: oh\n", stderr.getvalue())


@pytest.mark.parametrize("terminal", [True, False])
def test_one_line_whatever_is_in_it(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    stderr = logs_to(monkeypatch, terminal)

    logger.info("a\nb\rc\x1b[31md\u2028e\ud800" + "x" * 2 * MOST_MESSAGE)

    assert len(stderr.getvalue().splitlines()) == 1
    assert "a b c [31md e" in stderr.getvalue()
    assert len(stderr.getvalue()) < MOST_MESSAGE + 200


def test_an_exception_is_named_without_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = logs_to(monkeypatch)

    try:
        raise OSError("no\nspace")
    except OSError:
        logger.exception("step logs")

    assert json.loads(stderr.getvalue())["message"] == "step logs: OSError: no space"


def test_debug_is_for_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = logs_to(monkeypatch)
    logger.debug("quiet")
    set_up(verbose=True, environ={})
    logger.debug("loud")

    assert "quiet" not in stderr.getvalue()
    assert json.loads(stderr.getvalue())["message"] == "loud"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "1970-01-01T00:00:00.000Z"), (1450809828.75, "2015-12-22T18:43:48.750Z")],
)
def test_wall_clock_times(seconds: float, text: str) -> None:
    assert utc(seconds) == text

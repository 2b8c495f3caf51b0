"""The figures of each search, at the end of pytest's output."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from lifecycle_agent.logline import logger
from tests.explore import figures


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """The agent's own log: thousands of lines on what it would do."""
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was searched, as `python -m tests.explore` prints it."""
    if figures.LINES:
        terminalreporter.section("explored")
        for line in (figures.HEAD, *figures.LINES):
            terminalreporter.line(line)

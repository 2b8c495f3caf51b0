"""The figures of each search, at the end of pytest's output."""

from __future__ import annotations

import pytest

from tests.explore import figures


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was searched, as `python -m tests.explore` prints it."""
    if figures.LINES:
        terminalreporter.section("explored")
        for line in (figures.HEAD, *figures.LINES):
            terminalreporter.line(line)

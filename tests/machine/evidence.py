"""What is left of the machines of a failed test: their journals, where the failure says."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.machine.box import Box


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """For the `conftest.py` of a directory whose tests boot machines."""
    report = yield
    if report.failed:
        lines = [line for box in Box.used if box.boots for line in box.evidence()]
        if lines:
            report.sections.append(("the machines of this test", "\n".join(lines)))
    if report.when == "teardown":
        Box.used = [box for box in Box.used if not (box.closed and box.discard())]
    return report

"""`python -m tests.explore [--wide] [SCOPE ...]`: every scope searched, one line each."""

from __future__ import annotations

import logging
import sys
import time

from lifecycle_agent.logline import logger
from tests.explore import figures
from tests.explore.scopes import SCOPES


def main(arguments: list[str]) -> int:
    """Search the scopes of these names, or all; with `--wide` more may happen in each."""
    logger.setLevel(logging.CRITICAL + 1)
    names, wide = [each for each in arguments if each != "--wide"], "--wide" in arguments
    states = steps = wrong = 0
    print(figures.HEAD)
    began = time.monotonic()
    for scope in SCOPES:
        if names and scope.name not in names:
            continue
        at = time.monotonic()
        found = scope.explore(wide=wide)
        print(figures.line(scope.name, found, time.monotonic() - at), flush=True)
        states, steps = states + found.states, steps + found.edges
        if found.violation is not None:
            wrong += 1
            print(found.violation)
    print(f"{states:,} states and {steps:,} steps in {time.monotonic() - began:.0f} s; {wrong} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

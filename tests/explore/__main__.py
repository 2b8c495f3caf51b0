"""`python -m tests.explore [--wide] [SCOPE ...]`: every scope searched, one line each."""

from __future__ import annotations

import logging
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from lifecycle_agent.logline import logger
from tests.explore import figures
from tests.explore.scopes import SCOPES
from tests.explore.search import Found
from tests.explore.world import World


def main(arguments: list[str]) -> int:
    """Search the scopes of these names, or all, one on each processor; `--wide` lets more happen in each."""
    names, wide = [each for each in arguments if each != "--wide"], "--wide" in arguments
    places = [place for place, scope in enumerate(SCOPES) if not names or scope.name in names]
    states = steps = wrong = 0
    print(figures.HEAD)
    began = time.monotonic()
    with ProcessPoolExecutor() as processes:
        searches = processes.map(partial(_search, wide), places)
        for place, (found, seconds) in zip(places, searches, strict=True):
            print(figures.line(SCOPES[place].name, found, seconds), flush=True)
            states, steps = states + found.states, steps + found.edges
            if found.violation is not None:
                wrong += 1
                print(found.violation)
    print(f"{states:,} states and {steps:,} steps in {time.monotonic() - began:.0f} s; {wrong} violations")
    return 1 if wrong else 0


def _search(wide: bool, place: int) -> tuple[Found[World], float]:
    logger.setLevel(logging.CRITICAL + 1)
    began = time.monotonic()
    return SCOPES[place].explore(wide=wide), time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

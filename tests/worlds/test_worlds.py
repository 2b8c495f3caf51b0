"""Random lives of an instance with the real agent: the laws hold, and a broken agent breaks them.

Every run has a small part with a fixed seed. `make test-worlds` is the full one: EXAMPLES=200 worlds, and
SEED=... to repeat them.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

import lifecycle_agent
from tests.worlds.laws import Broken
from tests.worlds.lives import Worlds, explore

# In every run the same few: some 5 s a world.
EXAMPLES = int(os.environ.get("LIFECYCLE_AGENT_WORLDS", "7"))
SEED = int(os.environ.get("LIFECYCLE_AGENT_SEED", "6"))
MOST_UNTIL_FOUND = 30  # worlds until a broken agent is found out


@pytest.mark.once
@pytest.mark.timeout(60 + 60 * EXAMPLES)
def test_random_worlds() -> None:
    print(f"{EXAMPLES} worlds with seed {SEED}")
    explore(EXAMPLES, SEED)


# -- that it can fail


@dataclass(frozen=True)
class Break:
    """One line of the agent, broken.

    Args:
        law: what is broken by it.
    """

    law: str
    file: str
    line: str
    instead: str


BREAKS = (
    Break(
        "up_only_after_ready",
        "transition/plan.py",
        "    if not ready.asked:\n        return []\n",
        "    return []\n",
    ),
    Break(
        "answered_in_time",
        "watch/wanted.py",
        "TAKEN_AWAY = (TargetState.TERMINATED, TargetState.WARMED_TERMINATED)",
        "TAKEN_AWAY = ()",
    ),
    Break(
        "finished_steps_are_not_repeated",
        "transition/runner.py",
        "        self._before = dict(ended)\n",
        "        self._before = {}\n",
    ),
)


@pytest.mark.once
@pytest.mark.timeout(600)
@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.law)
def test_an_agent_with_a_broken_line_is_found_out(broken: Break, tmp_path: Path) -> None:
    package = Path(lifecycle_agent.__file__).parent
    shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / package.name / broken.file
    text = file.read_text()
    assert text.count(broken.line) == 1
    file.write_text(text.replace(broken.line, broken.instead))

    class Wrong(Worlds):
        """The same worlds, and the broken agent in them."""

        agent = tmp_path

    with pytest.raises(Broken, match=broken.law):
        explore(MOST_UNTIL_FOUND, SEED, Wrong)

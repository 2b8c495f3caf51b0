"""What a scenario is: acts, each with a scene, a script and the checks that judge what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lifecycle_agent.config import Config
from lifecycle_agent.rehearsal.outcome import Outcome
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scene import Scene
from lifecycle_agent.rehearsal.verdict import Check

USUAL = Scene()


def _as_it_is(config: Config) -> Config:
    return config


def _always(config: Config) -> str:
    return ""


def acted_on(section: str, action: str) -> Callable[[Config], str]:
    """Why an act makes no sense where `[section] action` is another one."""

    def fits(config: Config) -> str:
        found = getattr(config, section).action
        return "" if found == action else f'[{section}] action is "{found}"'

    return fits


@dataclass(frozen=True)
class Act:
    """One world from its beginning to its end.

    Args:
        title: what is shown, a few words.
        script: what the group, EC2 and people do, in order; waits for conditions of the world only.
        judge: what to think of it. Pure.
        scene: what is there when it begins.
        prepare: what the rehearsal's own configuration needs besides; a user's is taken as it is.
        fits: why the act makes no sense with a configuration; empty where it does.
        without_agent: whether there is something to be seen without the agent.
    """

    title: str
    script: Callable[[Play], None]
    judge: Callable[[Outcome], Sequence[Check]]
    scene: Scene = USUAL
    prepare: Callable[[Config], Config] = _as_it_is
    fits: Callable[[Config], str] = _always
    without_agent: bool = False


@dataclass(frozen=True)
class Scenario:
    """One way in which an instance comes or goes.

    Args:
        name: as it is chosen on the command line.
    """

    name: str
    acts: tuple[Act, ...]

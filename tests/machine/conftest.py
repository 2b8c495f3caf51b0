"""Machines for tests: their images, the wheels they install, and what is left of them when a test fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.machine.box import Box, Image
from tests.machine.container import need
from tests.machine.evidence import pytest_runtest_makereport  # noqa: F401 - the hook
from tests.machine.tree import suites
from tests.machine.wheels import wheels

MakeBox = Callable[..., Box]


@pytest.fixture(scope="session", params=suites())
def suite(request: pytest.FixtureRequest) -> str:
    """The Debian to test on."""
    need()
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def wheelhouse(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout's wheel, and all that it needs: `/wheels` in a machine."""
    return wheels(tmp_path_factory.mktemp("wheels"), suite)


@pytest.fixture(scope="session")
def installed(suite: str, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """A machine with the agent in its virtual environment; no unit yet, and no configuration."""
    with Box(tmp_path_factory.mktemp("installed"), Image(suite), wheels=wheelhouse) as box:
        box.boot()
        box.wait_until_up()
        box.check("python3", "-m", "venv", "/opt/lifecycle-agent")
        box.check("/opt/lifecycle-agent/bin/pip", "install", "lifecycle-agent", limit=180)
        return box.keep()


@pytest.fixture
def make_box(suite: str, wheelhouse: Path, tmp_path: Path) -> Generator[MakeBox, None, None]:
    """Makes boxes that are gone when the test is; bare ones unless given an image."""
    boxes: list[Box] = []

    def make(image: Image | None = None, **settings: Any) -> Box:
        directory = tmp_path / f"box-{len(boxes)}"
        boxes.append(Box(directory, image or Image(suite), wheels=wheelhouse, **settings))
        return boxes[-1]

    yield make
    for box in boxes:
        box.close()


@dataclass(frozen=True)
class Offline:
    """A machine that is switched on, and whose network is not there yet.

    Args:
        since: when it was switched on, on the clock of `time.monotonic`.
    """

    box: Box
    since: float


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks at a machine that has to be on for a while comes last."""
    items.sort(key=lambda item: "offline" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session", autouse=True)
def _switched_on_early(request: pytest.FixtureRequest) -> None:
    """It is on while the other tests run."""
    if any("offline" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("offline")


@pytest.fixture(scope="session")
def offline(installed: Image, tmp_path_factory: pytest.TempPathFactory) -> Generator[Offline, None, None]:
    """A machine with the service installed that finds no network when it boots."""
    with Box(tmp_path_factory.mktemp("offline"), installed, instance_id="i-0ff11e00000000000") as box:
        box.boot()
        box.wait_until_up()
        box.check("/opt/lifecycle-agent/bin/lifecycle-agent", "install")
        box.power_off()
        box.world.imds.requests.clear()
        box.network.cut()
        box.boot()
        yield Offline(box, time.monotonic())

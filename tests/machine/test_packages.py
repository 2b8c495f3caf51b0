"""The packages on a booted machine: put on it, upgraded in the middle of a drain, taken from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent import __version__
from tests.machine.box import Box, Image
from tests.machine.container import wait_for
from tests.machine.orders import AGENT, PAUSE, READY
from tests.packages import BUILD_SECONDS, carried_rpm, packages

pytestmark = [pytest.mark.machine, pytest.mark.once, pytest.mark.timeout(2 * BUILD_SECONDS + 300)]

NEWER = "99.0"

CONFIG = (
    """[eureka]
urls = ["http://eureka-a:8761/eureka"]
app = "ORDERS"
settle = "1s"
"""
    + PAUSE
)


class Packaged:
    """A machine, and one kind of package for it in two versions."""

    def __init__(self, box: Box, kind: str) -> None:
        self.box, self.kind = box, kind
        self._rpm = carried_rpm(box.shared / "rpm", "/shared/rpm")
        for name, version in (("now", None), ("newer", NEWER)):
            shutil.copy(getattr(packages(version), kind), box.shared / f"{name}.{kind}")
        box.world.in_service()
        box.world.register()
        box.boot()
        box.wait_until_up()

    def install(self, name: str = "now") -> None:
        how = ["dpkg", "-i"] if self.kind == "deb" else [*self._rpm, "-U"]
        self.box.check(*how, f"/shared/{name}.{self.kind}")

    def remove(self) -> None:
        self.box.check(*(["dpkg", "-r"] if self.kind == "deb" else [*self._rpm, "-e"]), "lifecycle-agent")

    def wait_until_waits(self) -> None:
        wait_for(lambda: READY in self.box.show(AGENT, "StatusText"), "the agent to watch")

    @property
    def state(self) -> str:
        return self.box.show(AGENT, "ActiveState")

    def version(self) -> str:
        """That of the watcher that runs."""
        return str(self._status()["watcher"]["version"])

    def _status(self) -> Any:
        return json.loads(self.box.check("cat", "/run/lifecycle-agent/status.json"))

    def paths(self) -> set[str]:
        """What is there with the agent's name; dpkg's notes and what the box has of it are not."""
        found = self.box.check(
            "find", "/", "/run", "-xdev", "-name", "*lifecycle*", "-not", "-path", "*/00-box*"
        )
        return {path for path in found.split() if not path.startswith("/var/lib/dpkg/info/")}


@pytest.fixture(params=["deb", "rpm"])
def machine(request: pytest.FixtureRequest, suite: str, tmp_path: Path) -> Iterator[Packaged]:
    with Box(tmp_path / "box", Image(suite)) as box:
        yield Packaged(box, request.param)


def test_installed_upgraded_removed(machine: Packaged) -> None:
    box, before = machine.box, machine.paths()
    machine.install()
    machine.wait_until_waits()
    assert machine.version() == __version__
    assert box.check("systemctl", "is-enabled", AGENT).strip() == "enabled"
    assert box.show(AGENT, "FragmentPath").endswith(f"/lib/systemd/system/{AGENT}"), "the package's own"

    machine.install("newer")
    machine.wait_until_waits()
    assert machine.version() == NEWER
    assert box.check("lifecycle-agent", "--version").strip() == NEWER

    machine.remove()
    assert machine.state == "inactive"
    assert box.show(AGENT, "LoadState") == "not-found"
    assert not box.call("pgrep", "-f", "lifecycle_agent").stdout
    assert machine.paths() - before == {"/var/lib/lifecycle-agent"}
    if machine.kind == "deb":
        box.check("dpkg", "-P", "lifecycle-agent")
        assert machine.paths() == before


@pytest.mark.parametrize("machine", ["deb"], indirect=True)
def test_it_does_not_run_while_its_files_are_replaced(machine: Packaged) -> None:
    machine.install()
    machine.wait_until_waits()
    machine.box.check("dpkg", "--unpack", "/shared/newer.deb")
    assert machine.state == "inactive"
    machine.box.check("dpkg", "--configure", "lifecycle-agent")
    machine.wait_until_waits()


def test_an_upgrade_starts_nothing_that_was_stopped(machine: Packaged) -> None:
    machine.install()
    machine.wait_until_waits()
    machine.box.check("systemctl", "stop", AGENT)
    machine.install("newer")
    assert machine.state == "inactive"
    assert machine.box.check("systemctl", "is-enabled", AGENT).strip() == "enabled"
    machine.box.check("systemctl", "start", AGENT)
    machine.wait_until_waits()
    assert machine.version() == NEWER


def test_upgraded_in_the_middle_of_a_drain_it_goes_on(machine: Packaged) -> None:
    box = machine.box
    box.write("etc/lifecycle-agent/config.toml", CONFIG)
    machine.install()
    machine.wait_until_waits()
    box.world.group.terminate(box.instance_id)
    ran = box.root / "var/tmp/ran"
    wait_for(ran.exists, "the drain's command to run")

    machine.install("newer")
    wait_for(lambda: machine.version() == NEWER, "the new version to run")
    box.write("var/tmp/go", "")
    wait_for(lambda: box.world.answer, "the group to have its answer")

    assert box.world.answer == "CONTINUE"
    assert ran.read_text() == "ran\n", "the command was not run a second time"
    assert box.world.eureka.registry.applications()["applications"]["application"] == []


def test_a_broken_configuration_fails_once_and_the_package_is_installed(machine: Packaged) -> None:
    box = machine.box
    box.write("etc/lifecycle-agent/config.toml", "[drain]\ntimeuot = 3\n")
    machine.install()
    assert machine.state in ("inactive", "failed")
    box.write("etc/lifecycle-agent/config.toml", CONFIG)
    box.check("lifecycle-agent", "install")
    machine.wait_until_waits()

"""User data, as people paste it, to a service that is ready: by the real cloud-init, with no hand on it."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.kept import cache
from tests.machine.box import Box
from tests.machine.conftest import MakeBox
from tests.machine.container import wait_for
from tests.machine.orders import AGENT, READY

pytestmark = [pytest.mark.machine, pytest.mark.once, pytest.mark.timeout(900)]

PACKAGING = Path(__file__).parent.parent.parent / "packaging"
# Seconds for what takes twenty: a machine that runs other tests beside it.
LIMIT = 300.0
SCRIPT = {"sh": "part-001", "yaml": "runcmd"}  # what cloud-init has made of it, to be run again


def outcome(box: Box) -> str:
    """What cloud-init says of itself."""
    return box.call("cloud-init", "status", "--long").stdout


@pytest.mark.parametrize("form", ["sh", "yaml"])
def test_from_user_data_to_ready(make_box: MakeBox, suite: str, form: str) -> None:
    box = make_box(user_data=(PACKAGING / f"user-data.{form}").read_text())
    box.world.in_service()
    begun = time.monotonic()
    box.boot()

    wait_for(lambda: box.running and READY in box.show(AGENT, "StatusText"), "the service to be ready", LIMIT)
    seconds = time.monotonic() - begun
    note(suite, form, seconds)

    assert box.show(AGENT, "ActiveState") == "active"
    box.wait_until_up(LIMIT)
    assert "status: done" in outcome(box), box.read("/var/log/cloud-init-output.log")
    assert "DataSourceEc2" in box.read("/var/log/cloud-init.log")
    assert box.world.imds.requests["user-data"] >= 1
    assert box.show(AGENT, "UnitFileState") == "enabled"

    again = f"/var/lib/cloud/instance/scripts/{SCRIPT[form]}"
    box.check(again, limit=LIMIT)
    wait_for(lambda: READY in box.show(AGENT, "StatusText"), "the service to be ready again")


@pytest.mark.parametrize("form", ["sh", "yaml"])
def test_user_data_that_cannot_install_says_so(make_box: MakeBox, form: str) -> None:
    box = make_box(user_data=(PACKAGING / f"user-data.{form}").read_text())
    box.write("etc/pip.conf", "[global]\nno-index = true\n")
    box.boot()
    box.wait_until_up(LIMIT)

    assert "status: error" in outcome(box)
    assert "No matching distribution found for lifecycle-agent" in box.read("/var/log/cloud-init-output.log")
    assert box.show(AGENT, "LoadState") == "not-found"


def note(suite: str, form: str, seconds: float) -> None:
    """Say how long it took, and keep the figure where a benchmark finds it."""
    name = f"user-data.{form} to ready on {suite}, installing with pip from a directory"
    print(f"{name}: {seconds:.1f} s")
    figures = cache() / "figures"
    figures.mkdir(exist_ok=True)
    now = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    figure = {"name": name, "value": round(seconds, 1), "unit": "s", "date": now}
    (figures / f"user-data-{suite}-{form}.json").write_text(json.dumps(figure) + "\n")

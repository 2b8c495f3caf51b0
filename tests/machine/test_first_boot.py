"""Boots that begin with something odd: another machine's past on the disk, or nobody to ask."""

from __future__ import annotations

import time
import uuid

import pytest

from lifecycle_agent.rehearsal.group_faults import Call
from tests.machine.box import Box, Image
from tests.machine.conftest import MakeBox, Offline
from tests.machine.container import wait_for
from tests.machine.orders import AGENT, ORDERS, READY, UNIT, Orders

pytestmark = [pytest.mark.machine, pytest.mark.once, pytest.mark.timeout(600)]

OFFLINE_SECONDS = 60.0


def test_a_copy_of_a_machine_with_a_finished_journal_starts_clean(
    make_box: MakeBox, installed: Image
) -> None:
    orders = Orders(make_box(installed, instance_id=new_id()))
    orders.terminate()
    orders.wait_until_answered()
    assert orders.box.read("/var/lib/lifecycle-agent/journal.jsonl")
    copied = orders.box.keep()

    box = make_box(copied, instance_id=new_id())
    box.write(
        f"etc/systemd/system/{ORDERS}", UNIT.replace("%i", box.instance_id)
    )  # an app that knows where it is
    box.world.in_service()
    box.boot()
    wait_for(lambda: READY in box.show(AGENT, "StatusText"), "the copy to be ready")
    wait_for(lambda: [lease.status for lease in box.world.eureka.registry] == ["UP"], "its app to be UP")
    box.wait_until_up()

    assert box.world.group.calls == []
    changed = [
        asked for asked in box.world.eureka.requests if asked.method == "DELETE" or "status?" in asked.path
    ]
    assert changed == []
    assert box.world.objects() == {}

    box.world.group.terminate(box.instance_id)
    wait_for(lambda: answers(box), "the group to have its answer")
    assert not list(box.world.eureka.registry)
    assert any(key.endswith("manifest.json") for key in box.world.objects())


def test_without_a_network_it_waits_and_then_works(offline: Offline) -> None:
    box = offline.box
    box.wait_until_up()
    wait_for(
        lambda: time.monotonic() - offline.since >= OFFLINE_SECONDS,
        "a minute without a network",
        2 * OFFLINE_SECONDS,
    )
    assert box.show(AGENT, "ActiveState") == "active"
    assert box.show(AGENT, "NRestarts") == "0"
    assert not box.world.imds.requests["autoscaling/target-lifecycle-state"]

    box.world.in_service()
    box.network.mend()

    wait_for(lambda: READY in box.show(AGENT, "StatusText"), "the service to find its group")
    box.world.group.terminate(box.instance_id)
    wait_for(lambda: answers(box), "the group to have its answer")


def answers(box: Box) -> list[Call]:
    """The answers that the group has accepted."""
    accepted = ("CompleteLifecycleAction", "ok")
    return [call for call in box.world.group.calls if (call.operation, call.outcome) == accepted]


def new_id() -> str:
    return f"i-{uuid.uuid4().hex[:17]}"

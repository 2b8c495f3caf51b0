"""The service on a booted machine: its sandbox, its deaths, and what it does when it is told to end."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
import zstandard

from lifecycle_agent import __version__
from tests.machine.box import Image
from tests.machine.conftest import MakeBox
from tests.machine.container import wait_for
from tests.machine.orders import AGENT, AUDIT, CONFIG, ORDERS, PAUSE, Orders
from tests.machine.wheels import agent

pytestmark = [pytest.mark.machine, pytest.mark.once, pytest.mark.timeout(600)]

MOST_EXPOSED = 2.0  # systemd-analyze security: 0 is a service that can do nothing, 10 one that can do all

Start = Callable[..., Orders]


@pytest.fixture
def start(make_box: MakeBox, installed: Image) -> Start:
    """Starts a machine of the service orders."""

    def begin(config: str = "", unit: str = "", secrets: Mapping[str, str] = MappingProxyType({})) -> Orders:
        box = make_box(installed, instance_id=f"i-{uuid.uuid4().hex[:17]}")
        for name, secret in secrets.items():
            box.write(f"etc/lifecycle-agent/{name}", secret, 0o600)
        return Orders(box, config, unit)

    return begin


def first(lines: list[dict[str, Any]], text: str, about: str = "") -> float:
    """When the journal has the first line with `text` in it, in seconds; `about` names systemd's unit."""
    for line in lines:
        if text in str(line["MESSAGE"]) and about in (line.get("UNIT", ""), ""):
            return int(line["__REALTIME_TIMESTAMP"]) / 1e6
    raise AssertionError(f"nobody said {text!r} of {about or 'anything'}")


def value(status: str, name: str) -> str:
    """A line of /proc/PID/status."""
    return next(line.partition(":")[2].strip() for line in status.splitlines() if line.startswith(f"{name}:"))


def test_the_main_job_under_the_hardened_unit(start: Start) -> None:
    orders = start(
        PAUSE + '[[drain.command]]\nargv = ["/bin/sh", "-c", "cat /proc/self/status >/var/tmp/status"]\n'
    )
    box = orders.box
    exposed = box.check("systemd-analyze", "security", "--no-pager", AGENT)
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", exposed)
    assert level is not None
    assert float(level[1]) <= MOST_EXPOSED, exposed
    box.check("/bin/sh", "-c", "echo for the upload | systemd-cat -t nobody")
    orders.go()

    orders.terminate()
    orders.wait_until_answered()

    assert orders.answer == "CONTINUE"
    assert set(orders.outcomes().values()) == {"done"}, orders.report()
    assert orders.status() == ""
    assert box.show(ORDERS, "ActiveState") == "inactive"
    objects = orders.world.objects()
    (journal,) = (body for key, body in objects.items() if "orders.service" in key)
    said = zstandard.ZstdDecompressor().stream_reader(journal, read_across_frames=True).read()
    assert b"Started" in said
    assert b'"event": "registered"' in said
    assert b"for the upload" not in said
    assert any("var/log/orders" in key for key in objects)
    assert any(key.endswith("manifest.json") for key in objects)
    # The users' own commands may do what the machine's first process may, and their files are everybody's.
    commands, init = box.read("var/tmp/status"), box.check("cat", "/proc/1/status")
    for name in ("CapEff", "NoNewPrivs", "Seccomp_filters"):
        assert value(commands, name) == value(init, name)


def test_its_capabilities_are_to_read_and_nothing_else(start: Start) -> None:
    orders = start()
    pid = orders.box.show(AGENT, "MainPID")
    status = orders.box.check("cat", f"/proc/{pid}/status")

    read_anything = 1 << 2  # CAP_DAC_READ_SEARCH in linux/capability.h
    assert int(value(status, "CapEff"), 16) == int(value(status, "CapBnd"), 16) == read_anything
    assert value(status, "NoNewPrivs") == "1"
    assert value(status, "Uid").split() == ["0"] * 4
    init = orders.box.check("cat", "/proc/1/status")
    assert int(value(status, "Seccomp_filters")) > int(value(init, "Seccomp_filters"))


def test_killed_in_the_middle_of_a_drain_command_it_waits_for_that_one(start: Start) -> None:
    orders = start(PAUSE)
    orders.terminate()
    wait_for(orders.pauses, "the command to run")

    orders.box.check("systemctl", "kill", "--kill-who=main", "--signal=KILL", AGENT)
    wait_for(lambda: orders.box.show(AGENT, "NRestarts") == "1", "the agent to be started again")
    orders.wait_until_says("drain.command.1")
    orders.go()
    orders.wait_until_answered()

    assert orders.pauses() == 1
    assert orders.answer == "CONTINUE"
    assert set(orders.outcomes().values()) == {"done"}, orders.report()
    (step,) = (step for step in orders.report()["steps"] if step["name"] == "drain.command.1")
    assert step["data"]["resumed"] is True
    assert orders.report()["attempts"] == 2


def test_a_watcher_that_was_stopped_is_killed_and_the_job_is_done(start: Start) -> None:
    orders = start(PAUSE, "[Service]\nWatchdogSec=3\n")
    orders.terminate()
    wait_for(orders.pauses, "the command to run")

    orders.box.check("systemctl", "kill", "--kill-who=main", "--signal=STOP", AGENT)
    wait_for(lambda: orders.box.show(AGENT, "NRestarts") == "1", "the watchdog")
    orders.go()
    orders.wait_until_answered()

    assert "Watchdog timeout" in orders.box.journal()
    assert orders.pauses() == 1
    assert orders.answer == "CONTINUE"
    assert set(orders.outcomes().values()) == {"done"}, orders.report()


def test_switched_off_in_service_it_leaves_before_app_and_network(start: Start) -> None:
    orders = start(PAUSE)
    box = orders.box
    orders.go()
    box.call("systemctl", "poweroff", "--no-block")
    box.wait_until_off()

    assert orders.status() == ""
    assert set(orders.outcomes().values()) == {"done"}, orders.report()
    assert orders.report()["notice"]["kind"] == "shutdown"
    assert orders.answer is None, "the group never asked"
    assert any(key.endswith("manifest.json") for key in orders.world.objects())
    lines = orders.lines()
    order = [
        first(lines, "discovery.out_of_service: out of service"),
        first(lines, "drain.command.1: /bin/sh is done"),
        first(lines, "Deactivated successfully", ORDERS),
        first(lines, "discovery.deregister: 1 registration deleted"),
        first(lines, "logs: "),
        first(lines, "complete: "),
        first(lines, "Stopped ", AGENT),
        first(lines, "Stopping ", AUDIT),
        first(lines, "Stopping ", "systemd-networkd.service"),
    ]
    assert order == sorted(order)


def test_a_shutdown_waits_as_long_as_is_configured_whatever_the_unit_says(start: Start) -> None:
    orders = start('[[drain.command]]\nargv = ["/bin/sleep", "4"]\n', "[Service]\nTimeoutStopSec=1\n")

    orders.box.call("systemctl", "poweroff", "--no-block")
    orders.box.wait_until_off()

    assert orders.outcomes()["drain.command.1"] == "done"
    assert orders.report()["outcome"] == "done", orders.report()


def test_an_open_action_is_answered_when_the_machine_is_switched_off(start: Start) -> None:
    orders = start(PAUSE)
    orders.terminate()
    wait_for(orders.pauses, "the command to run")

    orders.box.call("systemctl", "poweroff", "--no-block")
    orders.go()
    orders.box.wait_until_off()

    assert orders.answer == "CONTINUE"
    assert orders.pauses() == 1
    assert orders.status() == ""
    assert orders.report()["notice"]["kind"] == "terminate"


def test_rebooted_in_service_it_comes_back_and_leaves_the_logs_alone(start: Start) -> None:
    orders = start()
    orders.box.reboot()
    orders.wait_until_in_service()

    wait_for(lambda: orders.report()["notice"]["kind"] == "return", "the way back to be recorded")
    assert orders.report()["outcome"] == "done"
    assert orders.report()["notice"]["reason"] == "the machine is up again"
    assert orders.world.objects() == {}
    log = orders.box.journal(AGENT)
    assert "starting: the machine reboots" in log
    assert "discovery.out_of_service: out of service" in log


def test_a_command_that_takes_all_the_time_does_not_keep_the_app_alive(start: Start) -> None:
    stubborn = 'argv = ["/bin/sh", "-c", "trap : TERM; while :; do sleep 1; done"]'
    orders = start(f'[[drain.command]]\n{stubborn}\n[shutdown]\ntimeout = "10s"\n')

    orders.box.call("systemctl", "poweroff", "--no-block")
    orders.box.wait_until_off()

    assert orders.status() == "", "an app that was deregistered alive would be UP again"
    assert orders.outcomes()["drain.units"] in ("done", "warned")
    assert any(key.endswith("manifest.json") for key in orders.world.objects())


def test_the_group_overtakes_a_drain_by_hand_and_its_command_is_run_once(start: Start) -> None:
    orders = start(PAUSE)
    drain = ["systemd-run", "--quiet", "--unit=by-hand", "/opt/lifecycle-agent/bin/lifecycle-agent", "drain"]
    orders.box.check(*drain)
    wait_for(orders.pauses, "the command to run")

    orders.terminate()
    wait_for(lambda: orders.box.show("by-hand.service", "ActiveState") != "active", "the drain to give way")
    orders.wait_until_says("drain.command.1")
    orders.go()
    orders.wait_until_answered()

    assert orders.pauses() == 1
    assert orders.answer == "CONTINUE"


def test_up_again_it_waits_for_the_registry_also_when_it_is_restarted(start: Start) -> None:
    orders = start()
    box, eureka = orders.box, orders.world.eureka
    box.call("systemctl", "reboot", "--no-block")
    wait_for(lambda: orders.status() == "OUT_OF_SERVICE", "the way down")
    wait_for(lambda: box.boots == 2, "the next boot")
    eureka.fail(503)
    box.wait_until_up()
    orders.wait_until_says("discovery.back_in_service")
    box.check("systemctl", "restart", AGENT)
    orders.wait_until_says("discovery.back_in_service")
    assert orders.status() == "OUT_OF_SERVICE"

    eureka.heal()
    orders.wait_until_in_service()

    assert orders.report()["notice"]["kind"] == "return"


def test_without_a_journal_a_reboot_leaves_the_app_in_service(start: Start) -> None:
    orders = start(unit="[Service]\nReadOnlyPaths=/var/lib/lifecycle-agent\n")

    orders.box.reboot()
    orders.wait_until_in_service()

    assert "so the app stays in service" in orders.box.journal(AGENT)
    assert not [each for each in orders.world.eureka.requests if "OUT_OF_SERVICE" in each.path]


def test_a_transition_that_dies_and_dies_holds_no_shutdown_up(start: Start) -> None:
    orders = start('[shutdown]\ntimeout = "3s"\n')
    packages = "/opt/lifecycle-agent/lib/python3*/site-packages"
    orders.box.check("/bin/sh", "-c", f"mv {packages}/requests {packages}/botocore /var/tmp")

    orders.box.call("systemctl", "poweroff", "--no-block")
    orders.box.wait_until_off()

    assert "the machine goes down; the time for it is up" in orders.box.journal(AGENT)


def test_a_systemd_that_is_slow_to_answer_is_waited_for(start: Start) -> None:
    orders = start()
    slow = '#!/bin/sh\n[ "$1" != is-system-running ] || sleep 4\nexec /usr/bin/real.systemctl "$@"\n'
    orders.box.check("mv", "/usr/bin/systemctl", "/usr/bin/real.systemctl")
    orders.box.write("usr/bin/systemctl", slow, 0o755)

    orders.box.call("/usr/bin/real.systemctl", "poweroff", "--no-block")
    orders.box.wait_until_off()

    assert orders.status() == ""
    assert orders.report()["notice"]["kind"] == "shutdown"


@pytest.mark.parametrize("how", ["poweroff", "reboot"])
def test_each_can_be_switched_off(start: Start, how: str) -> None:
    orders = start(f'[shutdown]\n{how} = "ignore"\n')
    box = orders.box
    if how == "reboot":
        box.reboot()
        orders.wait_until_in_service()
    else:
        box.call("systemctl", "poweroff", "--no-block")
        box.wait_until_off()

    log = box.journal(AGENT)
    assert f'[shutdown] {how} = \\"ignore\\"' in log
    assert "out_of_service" not in log
    assert orders.world.objects() == {}


def test_restarted_in_service_it_leaves_the_app_alone(start: Start) -> None:
    orders = start()
    box, calls = orders.box, list(orders.world.group.calls)
    app = box.show(ORDERS, "MainPID")

    for word in ("restart", "stop", "start"):
        box.check("systemctl", word, AGENT)
    orders.wait_until_in_service()

    assert box.show(ORDERS, "MainPID") == app
    assert orders.status() == "UP"
    assert orders.world.group.calls == calls, "AWS was not asked"
    assert "stopped; the app is left as it is" in box.journal(AGENT)
    assert "out_of_service" not in box.journal(AGENT)


def test_a_secret_is_the_services_own_copy(start: Start) -> None:
    orders = start(
        '[[notify]]\nkind = "webhook"\nurl_file = "hook"\n',
        secrets={"hook": "http://eureka-a:8761/eureka/told"},
    )
    orders.box.write("etc/lifecycle-agent/hook", "http://eureka-a:8761/eureka/not-that-one", 0o600)

    orders.terminate()
    orders.wait_until_answered()

    told = [each.path for each in orders.world.eureka.requests if each.method == "POST"]
    assert "/told" in told
    assert "/not-that-one" not in told


def test_a_broken_configuration_fails_once_and_says_why(start: Start) -> None:
    orders = start()
    orders.box.write("etc/lifecycle-agent/config.toml", CONFIG + "[drain.idel]\n")

    assert orders.box.call("systemctl", "restart", AGENT).returncode != 0

    assert orders.box.show(AGENT, "ActiveState") == "failed"
    assert orders.box.show(AGENT, "NRestarts") == "0"
    shown = orders.box.call("systemctl", "status", "--no-pager", "--full", AGENT).stdout
    assert 'drain.idel is not a known key; did you mean "idle"?' in shown
    assert "agent: failed: " in (
        told := orders.box.check("/opt/lifecycle-agent/bin/lifecycle-agent", "status")
    )
    assert "drain.idel is not a known key" in told
    assert orders.status() == "UP"


def test_with_a_full_disk_the_job_is_done_and_it_says_so(start: Start) -> None:
    orders = start()
    box = orders.box
    state = "/var/lib/lifecycle-agent"
    box.check("systemctl", "stop", AGENT)
    box.check("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", state)
    box.call("dd", "if=/dev/zero", f"of={state}/full", "bs=4k")
    box.check("systemctl", "start", AGENT)
    orders.wait_until_in_service()

    orders.terminate()
    orders.wait_until_answered()

    assert orders.answer == "CONTINUE"
    assert orders.status() == ""
    assert any(key.endswith("manifest.json") for key in orders.world.objects())
    log = box.journal(AGENT)
    assert "the journal cannot be written: /var/lib/lifecycle-agent/journal.jsonl: No space left" in log


def test_upgraded_in_the_middle_of_a_drain_the_new_version_goes_on(start: Start) -> None:
    orders = start(PAUSE)
    box = orders.box
    newer = agent(box.shared, "99.0")
    orders.terminate()
    wait_for(orders.pauses, "the command to run")

    pip = "/opt/lifecycle-agent/bin/pip"
    box.check(pip, "install", "--find-links=/shared", "--upgrade", "lifecycle-agent", limit=180)
    said = box.check("/opt/lifecycle-agent/bin/lifecycle-agent", "install")
    orders.wait_until_says("drain.command.1")
    orders.go()
    orders.wait_until_answered()

    assert newer.name.startswith("lifecycle_agent-99.0")
    assert "restarted lifecycle-agent.service: it runs version" in said
    assert orders.answer == "CONTINUE"
    assert orders.pauses() == 1
    assert set(orders.outcomes().values()) == {"done"}, orders.report()
    journal = [json.loads(line) for line in box.read("var/lib/lifecycle-agent/journal.jsonl").splitlines()]
    assert [line["version"] for line in journal if line["event"] == "attempt"] == [__version__, "99.0"]

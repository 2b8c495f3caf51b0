"""`lifecycle-agent uninstall`: it takes back what `install` did, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.installation import install, service, uninstall
from lifecycle_agent.installation.place import DROP_IN, EXAMPLE, SERVICE, UNIT, VENDOR_UNITS
from lifecycle_agent.installation.systemd import State
from lifecycle_agent.installation.unit import shipped
from tests.unit.installing import Box

STOP = f"stop --no-block {SERVICE}"
DISABLE = f"disable {SERVICE}"


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def run(box: Box, dry_run: bool = False) -> None:
    box.forget()
    uninstall(box.place, box.systemd, box.talk, dry_run)


def installed(box: Box) -> None:
    install(box.place, box.systemd, box.talk)


def on_disk(box: Box) -> dict[str, str]:
    """What is on the disk and outlives a boot."""
    return {name: content for name, content in box.files().items() if not name.startswith("run/")}


def test_it_takes_back_exactly_what_install_did(box: Box) -> None:
    before = on_disk(box)
    installed(box)
    assert on_disk(box) != before
    run(box)

    assert on_disk(box) == before
    assert box.systemd.calls == [STOP, DISABLE, "daemon-reload"]
    assert not box.systemd.links
    assert box.systemd.state().at_rest
    assert box.said == [
        f"stopped {SERVICE}",
        f"disabled {SERVICE}",
        f"removed {UNIT}",
        f"removed {DROP_IN}",
        f"removed {EXAMPLE}",
        f"removed {DROP_IN.parent}",
        f"removed {EXAMPLE.parent}",
    ]


def test_the_second_time_there_is_nothing_to_do(box: Box) -> None:
    installed(box)
    run(box)
    run(box)

    assert box.systemd.calls == []
    assert box.said == ["nothing is here that `lifecycle-agent install` wrote"]


def test_a_dry_run_shows_everything_and_changes_nothing(box: Box) -> None:
    installed(box)
    before = box.files()
    run(box, dry_run=True)

    assert box.files() == before
    assert box.systemd.calls == []
    assert f"--- {UNIT}" in box.said
    assert [line for line in box.said if line.startswith("would ")] == [
        f"would run: systemctl {STOP}",
        f"would run: systemctl {DISABLE}",
        "would run: systemctl daemon-reload",
    ]


def test_what_is_the_operators_own_stays_and_is_named(box: Box) -> None:
    box.write(EXAMPLE, 'agent.state_dir = "/data/agent"\n')
    installed(box)
    box.write(DROP_IN.with_name("20-mine.conf"), "[Service]\nNice=5\n")
    run(box)

    assert box.place.at(EXAMPLE).exists()
    assert box.place.at(DROP_IN.with_name("20-mine.conf")).exists()
    assert box.place.at(Path("/data/agent")).is_dir()
    for kept in (EXAMPLE, DROP_IN.parent, EXAMPLE.parent, "/data/agent"):
        assert any(line.startswith(f"left {kept} as it is") for line in box.said), kept


def test_the_state_stays(box: Box) -> None:
    installed(box)
    box.write("/var/lib/lifecycle-agent/journal.jsonl", "{}\n")
    run(box)

    assert box.read("/var/lib/lifecycle-agent/journal.jsonl") == "{}\n"
    assert box.said[-1].startswith("left /var/lib/lifecycle-agent as it is")


def test_a_broken_configuration_is_no_obstacle(box: Box) -> None:
    installed(box)
    box.write(EXAMPLE, "drain = [\n")
    run(box)

    assert not box.place.at(UNIT).exists()
    assert box.place.at(EXAMPLE).exists()


@pytest.mark.parametrize("path", [UNIT, DROP_IN])
def test_a_file_of_somebody_else_stays(box: Box, path: Path) -> None:
    installed(box)
    box.write(path, "# mine\n")
    run(box)

    assert box.read(path) == "# mine\n"
    assert any(line.startswith(f"left {path} as it is") for line in box.said)
    # the service of a unit that is not ours is not ours to stop
    assert (STOP in box.systemd.calls) == (path == DROP_IN)


def test_a_masked_service_stays_masked(box: Box) -> None:
    box.place.at(UNIT).symlink_to("/dev/null")
    run(box)

    assert box.place.at(UNIT).is_symlink()


def test_a_packages_unit_is_stopped_and_left(box: Box) -> None:
    box.write(VENDOR_UNITS[0], shipped())
    before = on_disk(box)
    installed(box)
    run(box)

    assert on_disk(box) == before
    assert box.systemd.calls == [STOP, DISABLE, "daemon-reload"]
    assert any(line.startswith(f"left {VENDOR_UNITS[0]} as it is") for line in box.said)


def test_a_failed_service_is_forgotten(box: Box) -> None:
    installed(box)
    box.systemd.now = State("loaded", "failed", "failed")
    run(box)

    assert box.systemd.calls == [DISABLE, "daemon-reload", f"reset-failed {SERVICE}"]


@pytest.mark.parametrize(
    ("group", "warns"), [(f"0::/system.slice/{SERVICE}\n", True), ("0::/user.slice\n", False)]
)
def test_a_transition_of_the_service_is_warned_of(box: Box, group: str, warns: bool) -> None:
    installed(box)
    box.write("/run/lifecycle-agent/status.json", json.dumps({"transition": {"pid": 4711}}))
    box.write("/proc/4711/cgroup", group)
    run(box)

    assert bool(box.warned) is warns
    assert STOP in box.systemd.calls


@pytest.mark.parametrize("status", ['{"transition": {"pid": 4711}}', '{"transition": {"pid": null}}', "x"])
def test_without_a_transition_nothing_is_warned_of(box: Box, status: str) -> None:
    installed(box)
    box.write("/run/lifecycle-agent/status.json", status)
    run(box)

    assert box.warned == []


def test_one_that_does_not_stop_is_not_waited_for_for_ever(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(box)
    monkeypatch.setattr(service, "UP_SECONDS", 0.0)
    monkeypatch.setattr(
        box.systemd, "state", lambda: State("loaded", "deactivating", "stop-sigterm", job="3")
    )
    run(box)

    assert f"{SERVICE} still stops" in box.said[0]
    assert not box.place.at(UNIT).exists()


@pytest.mark.parametrize("present", [True, False])
def test_where_systemd_does_not_run_the_files_go_all_the_same(box: Box, present: bool) -> None:
    installed(box)
    box.systemd.is_running, box.systemd.is_present = False, present
    run(box)

    assert box.systemd.calls == ([DISABLE] if present else [])
    assert not box.place.at(UNIT).exists()


def test_a_file_that_cannot_be_removed_is_named(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(box)
    monkeypatch.setattr(
        Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(30, "Read-only file system"))
    )
    with pytest.raises(LifecycleAgentError, match=f"{UNIT}: cannot be removed: Read-only"):
        run(box)

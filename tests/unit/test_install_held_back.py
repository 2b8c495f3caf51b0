"""The drop-ins that hold units back until the instance is prepared: written, released, taken away."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.files import LAUNCHED, RUNTIME_DIR
from lifecycle_agent.installation import install, service, uninstall
from lifecycle_agent.installation.place import DROP_IN, EXAMPLE, SERVICE, UNIT
from tests.unit.installing import Box

DEPLOY = "codedeploy-agent.service"
HELD = Path(f"/etc/systemd/system/{DEPLOY}.d/50-lifecycle-agent.conf")
MARKER = RUNTIME_DIR / LAUNCHED
CONFIG = f'launch.then_start = ["{DEPLOY}"]\n'


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    box.write(EXAMPLE, CONFIG)
    return box


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUEUED_SECONDS", "UP_SECONDS", "STATUS_SECONDS"):
        monkeypatch.setattr(service, name, 0.0)


def run(box: Box, dry_run: bool = False) -> None:
    box.forget()
    install(box.place, box.systemd, box.talk, dry_run)


def settings(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_a_unit_is_held_back_by_a_file_that_each_boot_begins_without(box: Box) -> None:
    run(box)

    assert settings(box.read(HELD)) == ["[Unit]", "ConditionPathExists=/run/lifecycle-agent/launched"]
    assert stat.S_IMODE(box.place.at(HELD).stat().st_mode) == 0o644
    assert stat.S_IMODE(box.place.at(HELD).parent.stat().st_mode) == 0o755
    assert f"wrote {HELD}" in box.said
    assert not box.place.at(MARKER).exists()
    # all is on the disk before systemd reads it, and read before anything starts
    assert box.systemd.calls[0] == "daemon-reload"
    assert box.place.at(HELD) in box.systemd.read_files


def test_names_are_whole_and_each_comes_once(box: Box) -> None:
    box.write(
        EXAMPLE, 'launch.then_start = ["a", "a.service", "web@1.service", "x.timer", "b\\\\x2dc.service"]\n'
    )
    run(box)

    held = sorted(path.parent.name for path in box.place.at(UNIT.parent).glob("*.d/50-lifecycle-agent.conf"))
    assert held == ["a.service.d", "b\\x2dc.service.d", "web@1.service.d", "x.timer.d"]


def test_the_service_is_not_ordered_after_what_it_starts(box: Box) -> None:
    """Else an agent that dies while such a unit starts would be away until that is done."""
    box.write(EXAMPLE, CONFIG + 'drain.units = ["orders.service"]\n')
    run(box)

    after = [line for line in box.read(DROP_IN).splitlines() if line.startswith("After=")]
    assert after == ["After=orders.service"]


def test_the_second_time_there_is_nothing_to_do(box: Box) -> None:
    run(box)
    before = box.files()
    run(box)

    assert box.systemd.calls == []
    assert box.files() == before
    assert f"left {HELD} as it is" in box.said


def test_a_dry_run_shows_it_and_changes_nothing(box: Box) -> None:
    box.systemd.others[DEPLOY] = "active"
    before = box.files()
    run(box, dry_run=True)

    assert box.files() == before
    assert f"+++ {HELD}" in box.said
    assert "+ConditionPathExists=/run/lifecycle-agent/launched" in box.said
    assert f"would write {MARKER}: {DEPLOY} runs already" in box.said


def test_one_that_is_not_named_any_more_is_let_go(box: Box) -> None:
    run(box)
    box.write(EXAMPLE, 'launch.then_start = ["other.service"]\n')
    run(box)

    assert not box.place.at(HELD.parent).exists()
    assert box.place.at(Path("/etc/systemd/system/other.service.d/50-lifecycle-agent.conf")).exists()
    assert f"removed {HELD}" in box.said
    assert f"removed {HELD.parent}" in box.said
    assert "daemon-reload" in box.systemd.calls


def test_what_others_wrote_beside_it_stays(box: Box) -> None:
    mine = box.write(HELD.with_name("10-mine.conf"), "[Service]\nNice=5\n")
    run(box)
    box.write(EXAMPLE, "")
    run(box)

    assert mine.read_text() == "[Service]\nNice=5\n"
    assert not box.place.at(HELD).exists()


def test_one_of_somebody_else_at_its_place_stops_it_before_anything(box: Box) -> None:
    box.write(HELD, "[Unit]\nConditionPathExists=/mine\n")
    before = box.files()
    with pytest.raises(LifecycleAgentError, match=f"{HELD} is there, and was not written by") as caught:
        run(box)

    assert caught.value.hint
    assert box.files() == before


@pytest.mark.parametrize("configured", [CONFIG, ""])
def test_one_of_somebody_else_is_never_removed(box: Box, configured: str) -> None:
    run(box)
    box.write(HELD, "# mine\n")
    box.write(EXAMPLE, "")
    run(box)
    box.write(EXAMPLE, configured)
    uninstall(box.place, box.systemd, box.talk)

    assert box.read(HELD) == "# mine\n"


@pytest.mark.parametrize("state", ["active", "activating", "reloading"])
def test_one_that_runs_on_a_machine_that_is_up_can_be_started_again(box: Box, state: str) -> None:
    box.systemd.others[DEPLOY] = state
    run(box)

    assert box.place.at(MARKER).read_bytes() == b""
    assert any(line.startswith(f"wrote {MARKER}; {DEPLOY}: runs already") for line in box.said)
    assert not [call for call in box.systemd.calls if DEPLOY in call], "nothing is stopped or started"
    run(box)
    assert not any(str(MARKER) in line for line in box.said)


@pytest.mark.parametrize("state", ["inactive", "failed", "deactivating"])
def test_one_that_does_not_run_waits_for_the_agent(box: Box, state: str) -> None:
    box.systemd.others[DEPLOY] = state
    run(box)

    assert not box.place.at(MARKER).exists()
    assert box.warned == []


def test_while_the_machine_boots_the_launch_lets_it_go(box: Box) -> None:
    """User-data of a new machine whose image starts the unit: what else is held back must not go early."""
    box.systemd.others[DEPLOY] = "active"
    box.systemd.boots = True
    run(box)

    assert not box.place.at(MARKER).exists()
    assert box.warned == [f"{DEPLOY}: runs already, and is held back from the next boot on"]


def test_where_systemd_does_not_run_nobody_is_asked(box: Box) -> None:
    box.systemd.is_running = False
    box.systemd.others[DEPLOY] = "active"
    run(box)

    assert box.place.at(HELD).exists()
    assert not box.place.at(MARKER).exists()


def test_a_file_that_cannot_be_written_is_named_before_anything_is_held_back(
    box: Box, tmp_path: Path
) -> None:
    box.systemd.others[DEPLOY] = "active"
    (tmp_path / "run/lifecycle-agent").write_text("a file where a directory has to be")
    with pytest.raises(LifecycleAgentError, match=f"{MARKER}: cannot be written"):
        run(box)

    assert not box.place.at(HELD).exists()


def test_an_installation_that_was_cut_off_is_ended_by_the_next(box: Box) -> None:
    run(box)
    del box.systemd.read_files[box.place.at(HELD)]
    run(box)

    assert box.systemd.calls == ["daemon-reload"]


def test_the_service_runs_on_when_only_a_drop_in_of_others_was_missing(box: Box) -> None:
    run(box)
    box.place.at(HELD).unlink()
    run(box)

    assert box.systemd.calls == ["daemon-reload"]
    assert box.place.at(HELD).exists()


def test_uninstall_takes_all_of_them_back(box: Box) -> None:
    before = {name for name in box.files() if not name.startswith("run/")}
    run(box)
    box.write(EXAMPLE, "")  # whatever is configured by now
    box.forget()
    uninstall(box.place, box.systemd, box.talk)

    assert {name for name in box.files() if not name.startswith("run/")} == before
    assert f"removed {HELD}" in box.said
    assert f"removed {HELD.parent}" in box.said
    assert "daemon-reload" in box.systemd.calls


def test_uninstall_shows_it_in_a_dry_run(box: Box) -> None:
    run(box)
    before = box.files()
    box.forget()
    uninstall(box.place, box.systemd, box.talk, dry_run=True)

    assert f"--- {HELD}" in box.said
    assert box.files() == before


def test_the_service_itself_is_never_held_back(box: Box) -> None:
    box.write(EXAMPLE, f'launch.then_start = ["{SERVICE}"]\n')
    with pytest.raises(LifecycleAgentError, match="has the agent itself in it"):
        run(box)

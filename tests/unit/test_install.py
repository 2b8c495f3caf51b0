"""`lifecycle-agent install`, with real files below a directory and a systemd of ten honest lines."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from lifecycle_agent import __version__, toml
from lifecycle_agent.cli import Settings
from lifecycle_agent.cli.talk import checked_talk, this_place
from lifecycle_agent.config import load
from lifecycle_agent.errors import LifecycleAgentError, UsageError
from lifecycle_agent.installation import configured, install, service
from lifecycle_agent.installation.place import DROP_IN, EXAMPLE, SERVICE, UNIT, VENDOR_UNITS
from lifecycle_agent.installation.unit import shipped
from tests.unit.installing import Box

START = f"start --no-block {SERVICE}"
RESTART = f"restart --no-block {SERVICE}"


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUEUED_SECONDS", "UP_SECONDS", "STATUS_SECONDS"):
        monkeypatch.setattr(service, name, 0.0)


def run(box: Box, dry_run: bool = False, start: bool = True) -> None:
    box.forget()
    install(box.place, box.systemd, box.talk, dry_run, start)


def test_a_bare_machine_gets_all_three_files_and_a_running_service(box: Box) -> None:
    run(box)

    assert box.read(UNIT).splitlines().count("ExecStart=/opt/lifecycle-agent/bin/lifecycle-agent run") == 1
    assert box.read(UNIT).endswith(shipped().partition("ExecStart=")[2].partition("\n")[2])
    assert "TimeoutStopSec=100s" in box.read(DROP_IN)
    assert box.place.at(EXAMPLE).read_bytes() == configured.example()
    assert box.systemd.calls == ["daemon-reload", f"enable {SERVICE}", START]
    assert box.said == [
        f"wrote {UNIT}",
        f"wrote {DROP_IN}",
        f"wrote {EXAMPLE}",
        f"enabled {SERVICE}",
        f"started {SERVICE}",
    ]
    for path, mode in ((UNIT, 0o644), (EXAMPLE, 0o644), (DROP_IN.parent, 0o755), (EXAMPLE.parent, 0o755)):
        assert stat.S_IMODE(box.place.at(path).stat().st_mode) == mode


def test_the_second_time_there_is_nothing_to_do(box: Box) -> None:
    run(box)
    before = box.files()
    run(box)

    assert box.systemd.calls == []
    assert box.files() == before
    assert all(line.startswith("left ") for line in box.said)


def test_a_dry_run_shows_everything_and_changes_nothing(box: Box) -> None:
    box.write(EXAMPLE, 'agent.state_dir = "/data/agent"\n')
    before = box.files()
    run(box, dry_run=True)

    assert box.files() == before
    assert box.systemd.calls == []
    assert f"+++ {UNIT}" in box.said
    assert "+TimeoutStopSec=100s" in box.said
    assert [line for line in box.said if line.startswith("would ")] == [
        "would make /data/agent",
        "would run: systemctl daemon-reload",
        f"would run: systemctl enable {SERVICE}",
        f"would run: systemctl start --no-block {SERVICE}",
    ]


def test_without_start_it_is_enabled_only(box: Box) -> None:
    run(box, start=False)

    assert box.systemd.calls == ["daemon-reload", f"enable {SERVICE}"]
    assert box.said[-1] == f"left {SERVICE} inactive: --no-start"


def test_where_systemd_does_not_run_the_next_boot_starts_it(box: Box) -> None:
    box.systemd.is_running = False
    run(box)

    assert box.systemd.calls == [f"enable {SERVICE}"]
    assert "next boot" in box.said[-1]


def test_without_systemctl_nothing_is_written(box: Box) -> None:
    box.systemd.is_present = False
    before = box.files()
    with pytest.raises(LifecycleAgentError, match="no systemctl"):
        run(box)

    assert box.files() == before


@pytest.mark.parametrize("content", ["drain.timeout = 9\n", "drain = [\n", "[drian]\n"])
def test_a_broken_configuration_stops_it_before_anything(box: Box, content: str) -> None:
    box.write(EXAMPLE, content)
    before = box.files()
    with pytest.raises(UsageError) as caught:
        run(box)

    assert caught.value.exit_code == 2
    assert str(EXAMPLE) in caught.value.message
    assert box.files() == before


def test_a_broken_drop_in_beside_no_configuration_is_named_where_it_is(box: Box) -> None:
    wrong = box.write("/etc/lifecycle-agent/config.d/10-app.toml", "drain.timeout = 9\n")
    with pytest.raises(UsageError) as caught:
        run(box)
    assert caught.value.message.startswith(f"{wrong}: drain.timeout")

    wrong.write_text("[")
    with pytest.raises(UsageError) as caught:
        run(box)
    assert caught.value.message.startswith(f"{wrong}: is not TOML")
    assert not box.place.at(EXAMPLE).exists()


def test_drop_ins_count_where_there_is_no_configuration_yet(box: Box) -> None:
    box.write("/etc/lifecycle-agent/config.d/10-app.toml", 'drain.units = ["app.service"]\n')
    run(box)
    assert "After=app.service" in box.read(DROP_IN).splitlines()

    run(box)
    assert box.systemd.calls == []


def test_a_configuration_elsewhere_has_to_be_there(tmp_path: Path) -> None:
    box = Box(tmp_path, Path("/srv/agent.toml"))
    with pytest.raises(UsageError, match="cannot be read"):
        run(box)

    box.write("/srv/agent.toml", "")
    run(box)
    assert (
        "ExecStart=/opt/lifecycle-agent/bin/lifecycle-agent --config /srv/agent.toml run"
        in box.read(UNIT).splitlines()
    )
    assert not box.place.at(EXAMPLE).exists()


@pytest.mark.parametrize("path", [UNIT, DROP_IN])
def test_a_file_of_somebody_else_is_an_error_before_anything(box: Box, path: Path) -> None:
    box.write(path, "[Service]\nExecStart=/usr/bin/mine\n")
    before = box.files()
    with pytest.raises(LifecycleAgentError, match="was not written by") as caught:
        run(box)

    assert str(path) in caught.value.message
    assert box.files() == before


def test_a_masked_service_is_an_error_that_says_how_to_unmask_it(box: Box) -> None:
    box.place.at(UNIT).symlink_to("/dev/null")
    with pytest.raises(LifecycleAgentError) as caught:
        run(box)

    assert "systemctl unmask" in caught.value.hint
    assert not box.place.at(DROP_IN).exists()


@pytest.mark.parametrize("path", VENDOR_UNITS)
def test_a_package_that_runs_the_same_launcher_needs_no_unit_of_ours(box: Box, path: Path) -> None:
    run(box)
    box.write(path, shipped())
    run(box)

    assert not box.place.at(UNIT).exists()
    assert box.place.at(DROP_IN).exists()
    assert box.systemd.calls == ["daemon-reload", RESTART]
    run(box)
    assert box.systemd.calls == []


def test_a_package_by_another_name_is_the_same_launcher(box: Box, tmp_path: Path) -> None:
    real = tmp_path / "real-launcher"
    real.touch()
    (tmp_path / "link").symlink_to(real)
    unit = shipped().replace("/opt/lifecycle-agent/bin/lifecycle-agent", str(tmp_path / "link"))
    box.write(VENDOR_UNITS[0], unit)
    box = Box(tmp_path / "again", launcher=type(box.launcher)((str(real),)))
    box.write(VENDOR_UNITS[0], unit)
    run(box)

    assert not box.place.at(UNIT).exists()


@pytest.mark.parametrize("line", ["/usr/bin/other run", "/opt/lifecycle-agent/bin/lifecycle-agent -v run"])
def test_a_package_that_runs_something_else_gives_way_to_our_unit(box: Box, line: str) -> None:
    box.write(VENDOR_UNITS[0], f"[Service]\nExecStart={line}\n")
    run(box)

    assert box.place.at(UNIT).exists()


def test_beside_a_package_an_edited_copy_stays(box: Box) -> None:
    box.write(VENDOR_UNITS[0], shipped())
    box.write(UNIT, shipped() + "Nice=5\n")
    run(box)

    assert box.read(UNIT).endswith("Nice=5\n")
    assert any(line.startswith(f"left {UNIT} as it is") for line in box.said)


def test_a_new_package_is_read_anew_and_restarted(box: Box) -> None:
    box.write(VENDOR_UNITS[0], shipped())
    run(box)
    box.write(VENDOR_UNITS[0], shipped() + "# newer\n")
    run(box)

    assert box.systemd.calls == ["daemon-reload", RESTART]


def test_a_change_that_systemd_must_know_restarts_the_service(box: Box) -> None:
    run(box)
    box.write(EXAMPLE, 'drain.units = ["app.service"]\n')
    run(box)

    assert box.systemd.calls == ["daemon-reload", RESTART]
    assert box.said[-1] == f"restarted {SERVICE}: its files have changed"


def test_a_change_that_only_the_agent_must_know_does_too(box: Box) -> None:
    run(box)
    box.write(EXAMPLE, 'drain.timeout = "9m"\n')
    run(box)

    assert box.systemd.calls == [RESTART]
    assert box.said[-1] == f"restarted {SERVICE}: the configuration has changed"
    run(box)
    assert box.systemd.calls == []


@pytest.mark.parametrize("status", [{"pid": 1}, {"pid": 1, "version": "0.0.1"}, {}, None])
def test_another_version_is_restarted(box: Box, status: object) -> None:
    run(box)
    box.write("/run/lifecycle-agent/status.json", json.dumps({"watcher": status}))
    run(box)

    assert box.systemd.calls == [RESTART]
    assert __version__ in box.said[-1]


def test_a_service_that_runs_on_nobody_knows_what_is_restarted(box: Box) -> None:
    run(box)
    box.write("/run/lifecycle-agent/config.json", "{")
    run(box)

    assert box.systemd.calls == [RESTART]


def test_a_new_secret_restarts_the_service(box: Box) -> None:
    box.write(EXAMPLE, '[[notify]]\nkind = "slack"\nurl_file = "slack-url"\n')
    box.write("/etc/lifecycle-agent/slack-url", "https://hooks.test/1", 0o600)
    run(box)
    assert "LoadCredential=slack-url:/etc/lifecycle-agent/slack-url" in box.read(DROP_IN).splitlines()
    assert box.warned == []

    box.write("/etc/lifecycle-agent/slack-url", "https://hooks.test/2", 0o600)
    run(box)
    assert box.systemd.calls == [RESTART]
    assert box.said[-1] == f"restarted {SERVICE}: a secret has changed"
    run(box)
    assert box.systemd.calls == []


def test_a_secret_that_cannot_be_read_is_a_warning(box: Box) -> None:
    box.write(EXAMPLE, '[[notify]]\nkind = "slack"\nurl_file = "slack-url"\n')
    run(box)

    assert "slack-url" in box.warned[0]
    assert "LoadCredential" not in box.read(DROP_IN)


def test_a_service_that_runs_is_not_restarted_into_a_missing_secret(box: Box) -> None:
    run(box)
    box.write(EXAMPLE, '[[notify]]\nkind = "slack"\nurl_file = "slack-url"\n')
    before = box.read(DROP_IN)

    for dry_run in (True, False):
        with pytest.raises(UsageError, match="slack-url") as refused:
            run(box, dry_run=dry_run)
        assert "runs on with the configuration that it has" in refused.value.hint

    assert box.systemd.calls == []
    assert box.read(DROP_IN) == before


def test_a_service_that_runs_is_not_queued_behind_an_app_that_starts(box: Box) -> None:
    run(box)
    box.write(EXAMPLE, '[drain]\nunits = ["slow"]\n')
    box.systemd.starts = {"slow.service", "other.service"}
    run(box)

    assert not [call for call in box.systemd.calls if "start" in call]
    assert "left lifecycle-agent.service running: it would have to wait until slow.service" in box.said[-1]

    box.systemd.starts = {"other.service"}
    run(box)
    assert RESTART in box.systemd.calls


def test_that_nothing_is_configured_is_said(box: Box) -> None:
    run(box)
    assert any("nothing is configured" in warning for warning in box.warned)
    box.write(EXAMPLE, '[hooks]\nterminate = "drain"\n')
    run(box)
    assert not any("nothing is configured" in warning for warning in box.warned)


def test_a_secret_that_has_gone_is_a_warning_though_the_service_still_has_it(box: Box) -> None:
    box.write(EXAMPLE, '[[notify]]\nkind = "slack"\nurl_file = "slack-url"\n')
    secret = box.write("/etc/lifecycle-agent/slack-url", "https://hooks.test/1", 0o600)
    run(box)
    secret.unlink()
    run(box)

    assert "slack-url is gone" in box.warned[0]


def test_a_service_that_fails_says_its_own_two_lines(box: Box) -> None:
    box.systemd.fails_with = ["starting", "error: the disk is full", "  do: make room", "bye"]
    with pytest.raises(LifecycleAgentError) as caught:
        run(box)

    assert caught.value.message == f"{SERVICE} failed: the disk is full"
    assert caught.value.hint == "make room"


def test_a_service_that_fails_without_a_word_of_ours_shows_its_last(box: Box) -> None:
    box.systemd.fails_with = ["hello", "no room in /run", "Segmentation fault"]
    with pytest.raises(LifecycleAgentError, match="failed: no room in /run; Segmentation fault"):
        run(box)

    box.systemd.fails_with = []
    with pytest.raises(LifecycleAgentError, match="failed: result exit-code"):
        run(box)


def test_behind_another_unit_it_is_not_waited_for(box: Box) -> None:
    box.systemd.ahead = ["app.service", "db.service"]
    run(box)

    assert box.said[-1] == f"{SERVICE} is queued behind app.service, db.service: it starts after that"


def test_a_start_that_takes_too_long_is_no_failure(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.systemd.ahead = ["app.service"]
    monkeypatch.setattr(box.systemd, "waits_for", list)
    run(box)

    assert "is not up after" in box.said[-1]


def test_a_service_that_dies_again_and_again_is_restarted(box: Box) -> None:
    run(box)
    box.systemd.now = type(box.systemd.now)("loaded", "activating", "auto-restart")
    run(box)

    assert box.systemd.calls == [RESTART]


def test_a_state_directory_elsewhere_is_made(box: Box) -> None:
    box.write(EXAMPLE, 'agent.state_dir = "/data/agent"\n')
    run(box)

    assert box.place.at(Path("/data/agent")).is_dir()
    assert "made /data/agent" in box.said
    assert "ReadWritePaths=-/data/agent" in box.read(DROP_IN).splitlines()


def uncommented() -> str:
    """The example with everything set: prose has a space behind its #, a setting has none."""
    lines = configured.example().decode().splitlines()
    return "\n".join(line[1:] if line[:1] == "#" and line[1:2] not in ("", " ") else line for line in lines)


def test_the_example_sets_nothing_and_uncommented_everything(tmp_path: Path) -> None:
    plain = tmp_path / "plain.toml"
    plain.write_bytes(configured.example())
    assert toml.Document.read(plain, {}).values == {}
    load(plain, {})

    full = tmp_path / "full.toml"
    full.write_text(uncommented())
    (tmp_path / "eureka-password").write_text("secret")
    (tmp_path / "slack-url").write_text("https://hooks.test/1")
    loaded = load(full, {})
    assert loaded.logs is not None
    assert loaded.drain.command
    assert loaded.launch.command
    assert loaded.launch.ready.asked
    assert loaded.notify
    assert set(toml.Document.read(full, {}).values) == {
        *("agent", "hooks", "eureka", "drain", "launch", "logs", "notify"),
        *("standby", "spot", "rebalance", "maintenance", "shutdown"),
    }


@pytest.mark.once
def test_a_wheel_carries_the_unit_and_the_example() -> None:
    """setup.cfg names them; the packages and the machine in a box install from wheels."""
    root = Path(__file__).parents[2]
    told = (root / "setup.cfg").read_text()
    assert "lifecycle_agent = py.typed, systemd/*, installation/config.toml" in told
    assert (root / "agent/lifecycle_agent/systemd").resolve() == root / "systemd"
    assert shipped() == (root / "systemd" / SERVICE).read_text()


def test_only_root_may_do_more_than_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LifecycleAgentError, match="needs root") as caught, checked_talk("install", False):
        pytest.fail("it went on")
    assert "sudo" in caught.value.hint
    with checked_talk("install", dry_run=True):
        pass


def test_what_is_said_in_a_pipe_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with checked_talk("install", dry_run=True) as talk:
        talk.say("wrote it")
        talk.progress("waiting")
        talk.warn("careful")
        assert not talk.color
    said = capsys.readouterr()
    assert said.out == "wrote it\n"
    assert said.err == "warning: careful\n"


@pytest.mark.parametrize(("no_color", "color"), [(None, True), ("1", False)])
def test_on_a_terminal_there_is_colour_and_progress(
    no_color: str | None, color: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    with checked_talk("install", dry_run=True) as talk:
        talk.progress("waiting")
        assert talk.color is color
    assert "waiting" in capsys.readouterr().out


def test_a_relative_configuration_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert this_place(Settings(Path("agent.toml"), verbose=False)).config == tmp_path / "agent.toml"

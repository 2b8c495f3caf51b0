"""What is written into the unit and its drop-in, word by word."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent.config import Config, load
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.installation.changes import Change
from lifecycle_agent.installation.credentials import NOT_SECRET, Credential, credentials
from lifecycle_agent.installation.drop_in import drop_in_text
from lifecycle_agent.installation.launcher import Launcher
from lifecycle_agent.installation.place import Place
from lifecycle_agent.installation.systemd import waited_for
from lifecycle_agent.installation.talk import Talk
from lifecycle_agent.installation.unit import unit_text
from tests.unit.installing import LAUNCHER, Box


def drop_in(tmp_path: Path, content: str, *found: Credential, launcher: Launcher = LAUNCHER) -> list[str]:
    path = tmp_path / "config.toml"
    path.write_text(content)
    return drop_in_text(load(path, {}), found, Place(launcher)).splitlines()


def settings(lines: list[str]) -> list[str]:
    return [line for line in lines if line and not line.startswith(("#", "["))]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("/opt/a/bin/x",), "/opt/a/bin/x run"),
        (("/usr/bin/python3", "-m", "lifecycle_agent"), "/usr/bin/python3 -m lifecycle_agent run"),
        (("/opt/a b/x",), '"/opt/a b/x" run'),
        (("/opt/100%/x",), "/opt/100%%/x run"),
        (("/opt/$HOME/x",), ":/opt/$HOME/x run"),
        (("/opt/x", "a\"b\\c'd;"), '/opt/x "a\\"b\\\\c\'d;" run'),
        (("/opt/\N{SNOWMAN}/x",), '"/opt/\N{SNOWMAN}/x" run'),
    ],
)
def test_a_command_line_as_systemd_reads_it(argv: tuple[str, ...], line: str) -> None:
    assert Launcher(argv).exec_line("run") == line


@pytest.mark.parametrize("program", ['/opt/"/x', "/opt/'/x", "/opt/\\/x", "/opt/\n/x", "/opt/\udcff/x"])
def test_a_path_that_no_unit_can_have_is_said_so(program: str) -> None:
    with pytest.raises(LifecycleAgentError) as caught:
        Launcher((program,)).exec_line("run")
    assert caught.value.hint


def test_the_launcher_of_this_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = Path(sysconfig.get_path("scripts"), "lifecycle-agent")
    assert Launcher.of_this_interpreter() == Launcher((str(script),))

    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert Launcher.of_this_interpreter() == Launcher((sys.executable, "-m", "lifecycle_agent"))


def test_the_unit_differs_from_the_shipped_one_in_its_launcher_alone() -> None:
    text = unit_text(Place(Launcher(("/srv/venv/bin/lifecycle-agent",))))

    assert [line for line in text.splitlines() if line.startswith("Exec")] == [
        "ExecStart=/srv/venv/bin/lifecycle-agent run"
    ]
    # Else an app that starts after cloud-final.service, and so after multi-user.target, would make a circle.
    assert "DefaultDependencies=no" in text.splitlines()
    assert "/opt/lifecycle-agent" not in "".join(line for line in text.splitlines() if line[:1] != "#")


def test_units_come_whole_once_and_without_ourselves(tmp_path: Path) -> None:
    names = '["app", "app.service", "web@1.service", "x.socket", "a\\\\x2db.service"]'
    saved = 'logs.bucket = "b"\nlogs.journal_units = ["app", "lifecycle-agent.service"]\n'
    lines = drop_in(tmp_path, f"drain.units = {names}\n{saved}")

    after = [line for line in lines if line.startswith("After=") and "sysinit" not in line]
    assert after == ["After=app.service", "After=web@1.service", "After=x.socket", "After=a\\x2db.service"]


def test_what_is_saved_is_still_mounted_at_the_end(tmp_path: Path) -> None:
    paths = '["/data/app-1/**/*.log", "/var/log/a.log", "/data/[ab]/x", "/.hidden/ü/*"]'
    lines = drop_in(tmp_path, f'agent.state_dir = "/srv/state"\nlogs.bucket = "b"\nlogs.paths = {paths}\n')

    # as `systemd-escape --path --suffix=mount` has them
    mounts = ["data", "data-app\\x2d1", "var", "var-log", "var-log-a.log", "\\x2ehidden"]
    mounts += ["\\x2ehidden-\\xc3\\xbc", "srv", "srv-state"]
    assert [line for line in lines if line.endswith(".mount")] == [f"After={name}.mount" for name in mounts]


def test_nothing_configured_sets_the_stop_timeout_alone(tmp_path: Path) -> None:
    assert settings(drop_in(tmp_path, "")) == ["TimeoutStopSec=100s"]


@pytest.mark.parametrize(("timeout", "seconds"), [("5m", 310), ("1s", 11), ("1500ms", 12)])
def test_the_stop_timeout_is_the_shutdown_and_ten_seconds(tmp_path: Path, timeout: str, seconds: int) -> None:
    assert settings(drop_in(tmp_path, f'shutdown.timeout = "{timeout}"\n')) == [f"TimeoutStopSec={seconds}s"]


def test_a_secret_in_an_odd_place(tmp_path: Path) -> None:
    lines = drop_in(tmp_path, "", Credential("pw", Path('/etc/a b/100%/"pw')))
    assert 'LoadCredential=pw:/etc/a b/100%%/"pw' in lines


@pytest.mark.parametrize(
    ("state_dir", "line"),
    [
        ("/var/lib/lifecycle-agent", None),
        ("/data", "ReadWritePaths=-/data"),
        ("/my data/100%", 'ReadWritePaths=-"/my data/100%%"'),
    ],
)
def test_a_state_directory_may_be_written_to(tmp_path: Path, state_dir: str, line: str | None) -> None:
    lines = drop_in(tmp_path, f'agent.state_dir = "{state_dir}"\n')
    assert [each for each in lines if each.startswith("ReadWritePaths=")] == ([line] if line else [])


@pytest.mark.parametrize(
    ("content", "hidden"),
    [
        ('logs = { bucket = "b-1", paths = ["/var/log/*.log"] }', False),
        ('logs = { bucket = "b-1", paths = ["/tmpfiles/x", "/var/tmp2/x"] }', False),
        ('logs = { bucket = "b-1", paths = ["/var/log/a", "/tmp/app/*.log"] }', True),
        ('logs = { bucket = "b-1", paths = ["/var/tmp/a.log"] }', True),
        ('logs = { bucket = "b-1", paths = ["/**/*.log"] }', True),
        ('logs = { bucket = "b-1", paths = ["/v*/tmp/*.log"] }', True),
        ('agent.state_dir = "/tmp/state"', True),
    ],
)
def test_what_is_in_tmp_has_to_be_seen(tmp_path: Path, content: str, hidden: bool) -> None:
    assert ("PrivateTmp=no" in drop_in(tmp_path, content)) is hidden


def test_so_has_an_installation_in_tmp(tmp_path: Path) -> None:
    lines = drop_in(tmp_path, "", launcher=Launcher(("/tmp/venv/bin/lifecycle-agent",)))
    assert "PrivateTmp=no" in lines


def test_every_secret_of_the_configuration_is_found_by_its_key() -> None:
    def keys(section: type[Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for item in fields(section):
            part = item.metadata.get("section") or item.metadata.get("sections")
            if isinstance(part, type) and is_dataclass(part):
                found |= keys(part)
            else:
                found[item.name] = str(item.type)
        return found

    secret = {name for name, kind in keys(Config).items() if "Secret" in kind}
    named = {name for name in keys(Config) if name.endswith("_file")}
    assert secret == named - set(NOT_SECRET)
    assert {"password_file", "url_file"} <= secret


def test_secrets_by_every_kind_of_name(tmp_path: Path) -> None:
    box = Box(tmp_path)
    for file in ("pw", "ca.pem", "sub/relative"):
        box.write(f"/etc/lifecycle-agent/{file}", "x", 0o600)
    box.write("/srv/absolute", "x", 0o600)
    box.write("/etc/up", "x", 0o600)
    names = ("sub/relative", "/srv/absolute", "../up", "not-there")
    found, warnings = credentials(
        {
            "eureka": {"password_file": "pw", "ca_file": "ca.pem"},
            "notify": [{"url_file": name} for name in names],
        },
        box.place,
    )

    assert {each.id: str(each.file) for each in found} == {
        "pw": "/etc/lifecycle-agent/pw",
        "relative": "/etc/lifecycle-agent/sub/relative",
        "absolute": "/srv/absolute",
        "up": "/etc/up",
    }
    assert warnings == []


def test_two_files_of_one_name_are_no_credentials(tmp_path: Path) -> None:
    box = Box(tmp_path)
    for file in ("a/token", "b/token", "other", "ca/other"):
        box.write(f"/etc/lifecycle-agent/{file}", "x", 0o600)
    found, warnings = credentials(
        {
            "eureka": {"password_file": "other", "ca_file": "ca/other"},
            "notify": [{"url_file": "a/token"}, {"url_file": "b/token"}, {"url_file": "a/token"}],
        },
        box.place,
    )

    assert found == []
    assert len(warnings) == 3
    assert all("has the same name" in warning for warning in warnings)


def test_one_file_named_twice_is_one_credential(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.write("/etc/lifecycle-agent/token", "x", 0o600)
    values = {"notify": [{"url_file": "token"}, {"url_file": "/etc/lifecycle-agent/token"}]}
    found, warnings = credentials(values, box.place)

    assert [each.id for each in found] == ["token"]
    assert warnings == []


@pytest.mark.parametrize("name", ["a b", "a:b", "a%b", "a\\b", "\N{SNOWMAN}"])
def test_a_name_that_is_no_credential(tmp_path: Path, name: str) -> None:
    box = Box(tmp_path)
    box.write(f"/etc/lifecycle-agent/{name}", "x", 0o600)
    found, warnings = credentials({"eureka": {"password_file": name}}, box.place)

    assert found == []
    assert "is no credential" in warnings[0]


def test_a_secret_that_everybody_can_read_is_warned_of(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.write("/etc/lifecycle-agent/token", "x", 0o644)
    found, warnings = credentials({"eureka": {"password_file": "token"}}, box.place)

    assert len(found) == 1
    assert "chmod 600 /etc/lifecycle-agent/token" in warnings[0]


def test_what_the_service_waits_for() -> None:
    listed = """\
12 other.service                    start waiting
└─  \twaiting for job 84 (slow.service/start) -     -
134 lifecycle-agent.service          start waiting
├─  \twaiting for job 84 (slow.service/start) -     -
└─  \twaiting for job 85 (app@1.service/start) -     -
84  slow.service                     start running
85  app@1.service                    start waiting
└─  \twaiting for job 84 (db.service/start) -     -""".splitlines()
    assert waited_for(listed) == ["slow.service", "app@1.service"]
    assert waited_for([]) == []


def test_a_diff_is_coloured_on_request_only() -> None:
    change = Change(Path("/etc/x"), b"a\nb\n", b"a\nc\n")
    plain: list[str] = []
    colored: list[str] = []
    Talk(plain.append, plain.append, plain.append).show(change.diff())
    Talk(colored.append, colored.append, colored.append, color=True).show(change.diff())

    assert plain == ["--- /etc/x", "+++ /etc/x", "@@ -1,2 +1,2 @@", " a", "-b", "+c"]
    assert colored[4:] == ["\033[31m-b\033[0m", "\033[32m+c\033[0m"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    place = Place(LAUNCHER, root=tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/x.d").write_text("a file where a directory has to be")
    with pytest.raises(LifecycleAgentError, match=r"/etc/x.d/y: cannot be written"):
        Change(Path("/etc/x.d/y"), None, b"new").apply(place)
    assert os.listdir(tmp_path / "etc") == ["x.d"]

"""Where a configuration comes from: drop-ins, secrets, and files that are none."""

from __future__ import annotations

import copy
import json
import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle_agent import toml
from lifecycle_agent.config import load, make
from tests.unit.configuration import EXAMPLE, PASSWORD, SLACK_URL, Files, refused

# Files laid over each other


def test_later_files_win_key_by_key(configuration: Files) -> None:
    path = configuration(
        'drain.timeout = "1m"\ndrain.stop_timeout = "2s"\ndrain.units = ["a.service", "b.service"]',
        **{
            "10-first": 'drain.timeout = "2m"\nspot.action = "ignore"',
            "20-second": 'drain.timeout = "3m"\ndrain.units = ["c.service"]',
        },
    )

    config = load(path, {})

    assert config.drain.timeout == 180
    assert config.drain.stop_timeout == 2  # no later file names it
    assert config.drain.units == ("c.service",)  # a list is replaced whole
    assert config.spot.action == "ignore"
    assert config.document is not None
    assert config.document.files == (
        path,
        *(path.parent / "config.d" / f"{n}.toml" for n in ("10-first", "20-second")),
    )


def test_files_come_in_the_order_of_their_names(configuration: Files) -> None:
    names = ["9", "10", "B", "a"]
    drop_ins = {name: f'hooks.terminate = "{name}"' for name in names}

    assert load(configuration(**drop_ins), {}).hooks.terminate == sorted(names)[-1]


def test_only_toml_files_are_read(configuration: Files) -> None:
    path = configuration(good='hooks.terminate = "good"')
    for name in ("z.toml~", "z.toml.rpmsave", "README"):
        (path.parent / "config.d" / name).write_text("not TOML")

    assert load(path, {}).hooks.terminate == "good"


@pytest.mark.parametrize(
    ("main", "drop_in", "key"),
    [
        ("", "spot.action = 1", "spot.action"),
        ('spot.action = "drain"', "spot.action = 1", "spot.action"),
        ("", "[[drain.http]]", "drain.http[1].url"),
        ('logs.bucket = "b"', "logs = 3", "logs"),
        ("spot = 3", "[spot]\nactoin = 1", "spot.actoin"),
    ],
)
def test_the_file_that_is_wrong_is_named(configuration: Files, main: str, drop_in: str, key: str) -> None:
    path = configuration(main, late=drop_in)

    assert str(refused(path)).startswith(f"{path.parent / 'config.d' / 'late.toml'}: {key} ")


def test_the_file_that_is_right_is_not_named(configuration: Files) -> None:
    path = configuration("spot.action = 1", late='hooks.terminate = "drain"')

    assert str(refused(path)).startswith(f"{path}: spot.action ")


# Secrets


def test_secrets_are_never_shown(configuration: Files) -> None:
    config = load(configuration(EXAMPLE), {})

    for text in (
        repr(config),
        str(config),
        f"{config.eureka.password_file}",
        f"{config.notify[0].url_file!r}",
    ):
        assert PASSWORD not in text
        assert "abcdef" not in text
    assert str(config.eureka.password_file) == "(secret)"
    assert copy.deepcopy(config) == config == pickle.loads(pickle.dumps(config))


@pytest.mark.parametrize(
    "text",
    [
        'eureka.password = "hunter2"',
        'eureka.password_file = ["hunter2"]',
        'eureka.password_file = "https://me:hunter2@eureka"',
        'eureka.password_file = "hunter2\\n"',
        'eureka.urls = ["http://me:hunter2@eureka/"]',
        'eureka.urls = ["http://me:hunter2 x@eureka/"]',
        'eureka.urls = ["http://me:hunter2@eureka:port/"]',
        'eureka.urls = ["http://me:hunter2@[::1/"]',
        '[[notify]]\nkind = "slack"\nurl = "https://hooks.slack.test/hunter2"',
        '[[notify]]\nkind = "slack"\nurl_file = "https://hooks.slack.test/hunter2"',
        '[[notify]]\nkind = "slack"\nurl_file = "broken-url"',
        'eureka.password_file = "two-lines"\neureka.username = "me"',
        'eureka.password = "hunter2',  # not TOML
    ],
)
def test_a_misplaced_secret_is_not_shown_either(configuration: Files, text: str) -> None:
    path = configuration(text)
    (path.parent / "broken-url").write_text("hooks.slack.test/hunter2")
    (path.parent / "two-lines").write_text("hunter2\nhunter2")

    error = refused(path)

    assert "hunter2" not in "".join(traceback.format_exception_only(error)) + error.hint


def test_systemd_credentials_come_first(configuration: Files, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "eureka-password").write_text("from systemd")
    path = configuration(EXAMPLE)

    config = load(path, {"CREDENTIALS_DIRECTORY": str(credentials)})

    assert config.eureka.password_file is not None
    assert config.eureka.password_file.value == "from systemd"
    assert config.notify[0].url_file is not None
    assert config.notify[0].url_file.value == SLACK_URL  # not a credential: beside the configuration


@pytest.mark.parametrize("name", ["/etc/orders/eureka-password", "sub/eureka-password"])
def test_a_credential_is_found_by_its_last_part(configuration: Files, tmp_path: Path, name: str) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "eureka-password").write_text("from systemd")
    path = configuration(f'eureka.username = "me"\neureka.password_file = "{name}"')

    password = load(path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}).eureka.password_file

    assert password is not None
    assert password.value == "from systemd"


def test_a_drop_in_names_files_beside_the_main_one(configuration: Files) -> None:
    path = configuration(late='eureka = { username = "me", password_file = "eureka-password" }')

    password = load(path, {}).eureka.password_file

    assert password is not None
    assert password.value == PASSWORD


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("missing", "No such file"),
        ("directory", "Is a directory"),
        ("fifo", "Not a regular file"),
        ("empty", "empty file"),
        ("binary", "not text"),
        ("huge", "Larger than 65536 bytes"),
        ("x" * 300, "File name too long"),
        ("", "is not the name of a file"),
        ("..", "Is a directory"),
    ],
)
def test_a_secret_that_cannot_be_read(configuration: Files, tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "huge").write_text("x" * 70_000)
    path = configuration(f'eureka.username = "me"\neureka.password_file = "{name}"')

    error = refused(path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")})

    assert str(error).startswith(f"{path}: eureka.password_file ")
    assert what in str(error)


def test_a_ca_file_must_be_there(configuration: Files) -> None:
    path = configuration('eureka.ca_file = "ca.pem"')
    assert f"eureka.ca_file names a file that is not there: {path.parent / 'ca.pem'}" in str(refused(path))

    (path.parent / "ca.pem").touch()
    assert load(path, {}).eureka.ca_file == path.parent / "ca.pem"


# Hostile files


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\xff\xfe\x00\x01", "is not TOML"),
        (b"\x00" * 100, "is not TOML"),
        (b"\x7fELF" + bytes(range(256)), "is not TOML"),
        (b"[agent", "is not TOML"),
        (b"a = 1\na = 2", "is not TOML"),
        (b"a = " + b"1" * 5000, "is not TOML"),
        (b"a = 9999-99-99", "is not TOML"),
        (b"#" * 70_000, "Larger than 65536 bytes"),
        (b"a = " + b"[" * 30_000, "nested too deeply"),
        (b"a = " + b"{a=" * 20_000, "nested too deeply"),
        (b"a." * 3000 + b"a = 1", "nested too deeply"),
        (b"[" + b"a." * 3000 + b"a]", "nested too deeply"),
        (b"a" * 60_000 + b" = 1", "is not a known key"),
        (b'spot.action = "' + b"a" * 60_000 + b'"', 'spot.action is "aaa'),
    ],
    ids=range(14),
)
def test_a_hostile_file(configuration: Files, content: bytes, what: str) -> None:
    path = configuration()
    path.write_bytes(content)

    error = refused(path)

    assert str(error).startswith(f"{path}: ")
    assert what in str(error) or (what == "nested too deeply" and "is not TOML" in str(error))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: None, "No such file or directory"),
        (Path.mkdir, "Is a directory"),
        (os.mkfifo, "Not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "Not a regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
    ids=["missing", "directory", "fifo", "device", "loop"],
)
@pytest.mark.parametrize("where", ["config.toml", "config.d/x.toml"])
def test_what_is_no_file_is_refused_and_does_not_hang(
    configuration: Files, make: Callable[[Path], object], what: str, where: str
) -> None:
    path = configuration(other="")
    bad = path.parent / where
    bad.unlink(missing_ok=True)
    make(bad)
    if not bad.exists() and not bad.is_symlink() and where != "config.toml":
        assert load(path, {}) is not None  # a drop-in that is not there is none
        return

    assert str(refused(path)) == f"{bad}: cannot be read: {what}"


def test_a_config_d_that_is_a_file(configuration: Files) -> None:
    path = configuration()
    (path.parent / "config.d").touch()

    assert str(refused(path)) == f"{path.parent / 'config.d'}: cannot be read: Not a directory"


def test_a_document_kept_as_json_makes_the_same_configuration(configuration: Files) -> None:
    path = configuration(EXAMPLE, **{"10-first": 'drain.timeout = "3m"'})
    read = load(path, {})
    assert read.document is not None
    kept = json.loads(json.dumps(read.document.as_json()))
    assert PASSWORD not in str(kept)

    path.write_text("not TOML any more")

    assert make(toml.Document.from_json(kept, {})) == read

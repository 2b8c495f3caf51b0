"""Where the agent's files are, and that readers never see half of one."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path

import pytest

from lifecycle_agent.files import MOST_STATUS_BYTES, StatusFile, replace, runtime_dir, state_dir


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, "/run/lifecycle-agent"),
        ({"RUNTIME_DIRECTORY": ""}, "/run/lifecycle-agent"),
        ({"RUNTIME_DIRECTORY": "/run/a"}, "/run/a"),
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b"}, "/run/a"),
    ],
)
def test_the_runtime_directory(environ: dict[str, str], path: str) -> None:
    assert runtime_dir(environ) == Path(path)


@pytest.mark.parametrize(
    ("configured", "environ", "path"),
    [
        (None, {}, "/var/lib/lifecycle-agent"),
        (None, {"STATE_DIRECTORY": "/state/a:/state/b"}, "/state/a"),
        (Path("/configured"), {"STATE_DIRECTORY": "/state/a"}, "/configured"),
    ],
)
def test_the_state_directory(configured: Path | None, environ: dict[str, str], path: str) -> None:
    assert state_dir(configured, environ) == Path(path)


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    for content in (b"one", b"two"):
        replace(path, content, durable=True)
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["file"]


def test_what_cannot_be_replaced_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (path / "occupied").mkdir(parents=True)

    with pytest.raises(OSError, match="file"):
        replace(path, b"new")

    assert os.listdir(tmp_path) == ["file"]


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path, stop = tmp_path / "file", threading.Event()
    contents = [letter * 100_000 for letter in (b"a", b"b")]
    replace(path, contents[0])

    def write() -> None:
        while not stop.is_set():
            for content in contents:
                replace(path, content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = {path.read_bytes() for _ in range(300)}
    finally:
        stop.set()
        writer.join()
    assert seen <= set(contents)


def test_each_section_is_kept_when_the_other_is_replaced(tmp_path: Path) -> None:
    status = StatusFile(tmp_path / "run")

    status.update("watcher", {"pid": 1})
    status.update("transition", {"step": "logs"})
    status.update("watcher", {"pid": 2})

    assert status.read() == {"watcher": {"pid": 2}, "transition": {"step": "logs"}}
    assert json.loads(status.path.read_bytes())["version"] == 1


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"17",
        b'{"watcher": "text", "transition": null}',
        b"[" * 100_000,
        b'{"watcher": {"x": "' + b"y" * MOST_STATUS_BYTES + b'"}}',
    ],
    ids=lambda content: str(content)[:30],
)
def test_a_status_that_is_none_is_no_status_and_can_be_mended(tmp_path: Path, content: bytes | None) -> None:
    status = StatusFile(tmp_path)
    if content is not None:
        status.path.write_bytes(content)

    assert status.read() == {}
    status.update("watcher", {"pid": 1})
    assert status.read() == {"watcher": {"pid": 1}}


def test_writers_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lock, one that read before the other wrote puts the other's old section back."""
    status = StatusFile(tmp_path)
    with open(tmp_path / ".status.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def the_other_writes(_: float) -> None:
            status.path.write_text('{"transition": {"step": "logs"}}')
            fcntl.flock(lock, fcntl.LOCK_UN)

        monkeypatch.setattr("lifecycle_agent.files.time.sleep", the_other_writes)
        status.update("watcher", {"pid": 1})

    assert status.read() == {"watcher": {"pid": 1}, "transition": {"step": "logs"}}


def test_a_status_that_cannot_be_written_is_not_worth_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    StatusFile(tmp_path / "file").update("watcher", {"pid": 1})


def test_a_writer_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    status = StatusFile(tmp_path)
    with open(tmp_path / ".status.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status.update("watcher", {"pid": 1})

    assert status.read() == {"watcher": {"pid": 1}}

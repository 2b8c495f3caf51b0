"""A manifest read back, an object proven in a stream, and a directory that files come back to."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import os
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import zstandard

from lifecycle_agent.clients.s3_errors import S3Error
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted, LifecycleAgentError, UsageError
from lifecycle_agent.steps.logs import saved
from lifecycle_agent.steps.logs.check import Check, Result
from lifecycle_agent.steps.logs.directory import Directory
from lifecycle_agent.steps.logs.manifest import Entry, document
from lifecycle_agent.steps.logs.prove import prove
from lifecycle_agent.steps.logs.saved import Opened, Unproven, file_of, load, place, printable

HEAD = {"instance_id": "i-1", "group": "orders", "started": "then", "finished": "later"}
KEY = "asg/orders/i-1/then/manifest.json"
SUM = hashlib.sha256(b"").hexdigest()
ENTRY = Entry("/var/log/a.log", "asg/orders/i-1/then/files/a", 0, SUM, complete=True)


class Object(io.BytesIO):
    """Bytes as an object that is open."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        super().__init__(content)
        self.size = len(content) if size is None else size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size)


class Bucket:
    """Objects at hand; what is an exception is raised, what is callable makes the object."""

    bucket = "acme-logs"

    def __init__(self, objects: dict[str, Any]) -> None:
        self._objects = objects

    def open(self, key: str, deadline: Deadline) -> Opened:
        found = self._objects[key]
        if isinstance(found, Exception):
            raise found
        return found() if callable(found) else Object(found)


class Job:
    """What a step gets to work with."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.deadline = Deadline.after(seconds)
        self.said: list[tuple[str, int | None, int | None]] = []
        self.stop = False

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        self.said.append((text, done, total))

    def wait(self, seconds: float) -> None:
        if self.stop:
            raise Interrupted


def entry_of(content: bytes, source: str = "/a.log", name: str = "a", **fields: Any) -> Entry:
    crc = base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
    values = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "complete": True}
    values |= {"stored_bytes": len(content), "checksum": crc}
    return Entry(source, f"asg/orders/i-1/then/files/{name}", **{**values, **fields})


def read(content: bytes) -> saved.Saved:
    return saved.read(content, f"s3://acme-logs/{KEY}", KEY)


def with_file(**changes: Any) -> bytes:
    manifest = json.loads(document(HEAD, [ENTRY], {}))
    for name, value in changes.items():
        if value is None:
            del manifest["files"][0][name]
        else:
            manifest["files"][0][name] = value
    return json.dumps(manifest).encode()


# The manifest


def test_what_was_written_is_read_back() -> None:
    strange = replace(ENTRY, source=os.fsdecode(b"/\xff\n.log"), same_as=os.fsdecode(b"/\xfe"))
    entries = [ENTRY, strange, Entry("/gone.log", why="no permission")]

    back = read(document(HEAD, entries, {os.fsdecode(b"/\xfd"): "a pipe"}))

    assert list(back.entries) == entries
    assert back.head == HEAD
    assert back.ignored == {os.fsdecode(b"/\xfd"): "a pipe"}


def test_keys_that_were_added_later_do_not_matter() -> None:
    assert read(with_file(new_in_2031=[1])).entries == (ENTRY,)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"source": 7}, "source is missing or of the wrong kind"),
        ({"source": None}, "a file has no name"),
        ({"source": ""}, "a file has no name"),
        ({"source": "\ud800"}, "source is no name"),
        ({"source_base64": "no base64!"}, "source is no name"),
        ({"bytes": "7"}, "bytes is missing or of the wrong kind"),
        ({"bytes": True}, "bytes is missing or of the wrong kind"),
        ({"bytes": 1.5}, "bytes is missing or of the wrong kind"),
        ({"bytes": -1}, "a size is negative"),
        ({"stored_bytes": -1}, "a size is negative"),
        ({"complete": 1}, "complete is missing or of the wrong kind"),
        ({"sha256": ""}, "sha256 '' is none"),
        ({"sha256": SUM.upper()}, "is none"),
        ({"checksum": "AAAA"}, "is no CRC32"),
        ({"checksum": "\x1b["}, "checksum '\\x1b[' is no CRC32"),
        ({"compression": "brotli"}, "compression 'brotli' is unknown"),
        ({"key": "elsewhere/a"}, "key 'elsewhere/a' is not of this upload"),
        ({"key": "asg/orders/i-1/then/files/\x1b"}, "/then/files/\\x1b' is not of this upload"),
        ({"key": "asg/orders/i-2/then/files/a"}, "is not of this upload"),
        ({"why": []}, "why is missing or of the wrong kind"),
    ],
)
def test_a_value_that_cannot_be_is_named(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Unproven) as caught:
        read(with_file(**changes))
    assert why in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"7", b"{}", b"\xff", b'{"schema": 1, "files": {}}'])
def test_what_is_no_manifest(content: bytes) -> None:
    with pytest.raises(Unproven, match="is no manifest"):
        read(content)


@pytest.mark.parametrize("name", ["files", "ignored"])
@pytest.mark.parametrize("value", [[7], [[]], "x", 7, {"a": 1}])
def test_lists_of_what_they_should_not_have(name: str, value: Any) -> None:
    manifest = json.loads(document(HEAD, [], {})) | {name: value}

    with pytest.raises(Unproven, match="is no manifest"):
        read(json.dumps(manifest).encode())


def test_what_was_shipped_before_the_end_is_ours() -> None:
    assert read(with_file(key="asg/orders/i-1/closed/a.log.1.zst")).entries[0].key.endswith("a.log.1.zst")


def test_a_manifest_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "MOST_BYTES", 1_000_000)
    endless = Object(b"")
    taken: list[int] = []

    def more(size: int | None = -1, /) -> bytes:
        taken.append(size or 0)
        return b" " * (size or 0)

    endless.read = more  # type: ignore[method-assign]

    with pytest.raises(LifecycleAgentError, match="more than 1000000 bytes"):
        load(Bucket({KEY: lambda: endless}), KEY, Deadline.after(60))
    assert sum(taken) < 1_500_000


@pytest.mark.parametrize(
    ("url", "bucket", "key"),
    [
        ("s3://b/a/c", "b", "a/c/manifest.json"),
        ("s3://b/a/c/", "b", "a/c/manifest.json"),
        ("s3://b/a/manifest.json", "b", "a/manifest.json"),
        (
            "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/logs/a",
            "arn:aws:s3:us-east-1:123456789012:accesspoint/logs",
            "a/manifest.json",
        ),
    ],
)
def test_an_address(url: str, bucket: str, key: str) -> None:
    assert place(url) == (bucket, key)


@pytest.mark.parametrize("url", ["", "s3://", "s3://b", "s3://b/", "s3:///a", "http://b/a", "b/a"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError):
        place(url)


# Names


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        (Entry("/var/log/a.log"), (b"files", b"var", b"log", b"a.log")),
        (Entry(os.fsdecode(b"/\xff/\n")), (b"files", b"\xff", b"\n")),
        (Entry("report.json"), (b"agent", b"report.json")),
        (
            Entry("journal of a@b.service", "p/journal/a%40b.service.export.zst", compression="zstd"),
            (b"journal", b"a@b.service.export"),
        ),
        (Entry("journal of x", "p/files/..%2F..%2Fetc", compression="none"), None),
        (Entry("journal of x", "p/files/%2E%2E", compression="none"), None),
        (Entry("journal of x", "p/", compression="none"), None),
        (Entry("/a/../b"), None),
        (Entry("/a/./b"), None),
        (Entry("/a//b"), None),
        (Entry("/a/"), None),
        (Entry("/"), None),
        (Entry(".."), None),
        (Entry("../a"), None),
        (Entry("/a\0b"), None),
    ],
)
def test_where_a_source_goes(entry: Entry, names: tuple[bytes, ...] | None) -> None:
    if names is None:
        with pytest.raises(Unproven):
            file_of(entry)
    else:
        assert file_of(entry) == names


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/var/log/größe.log", "/var/log/größe.log"),
        ("a\nb\tc\x1b[2J\\", "a\\nb\\tc\\x1b[2J\\\\"),
        (os.fsdecode(b"\xff"), "\\xff"),
        ("\x85\u202e\U000e0001", "\\u0085\\u202e\\U000e0001"),
    ],
)
def test_a_name_on_one_line(name: str, shown: str) -> None:
    assert printable(name) == shown


# The proof


def test_an_object_is_proven_without_being_held() -> None:
    size = 64 << 20
    packed = zstandard.ZstdCompressor().compress(bytes(size)) * 3
    crc = base64.b64encode(zlib.crc32(packed).to_bytes(4, "big")).decode()
    whole = hashlib.sha256(bytes(size))
    whole.update(bytes(size))
    whole.update(bytes(size))
    entry = replace(
        entry_of(b""),
        bytes=3 * size,
        sha256=whole.hexdigest(),
        stored_bytes=len(packed),
        checksum=crc,
        compression="zstd",
    )
    written = counted = 0

    def write(block: bytes) -> None:
        nonlocal written
        written += len(block)

    def count(read: int) -> None:
        nonlocal counted
        counted += read

    del whole
    tracemalloc.start()
    prove(entry, Bucket({entry.key: packed}), Deadline.after(60), count, write)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (written, counted) == (3 * size, len(packed))
    assert peak < 4 << 20


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_an_object_without_a_byte_is_an_empty_file(compression: str) -> None:
    entry = entry_of(b"", compression=compression)

    prove(entry, Bucket({entry.key: b""}), Deadline.after(60), lambda read: None, lambda block: None)


def test_a_frame_that_asks_for_too_much_memory_is_refused() -> None:
    greedy = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    packed = zstandard.ZstdCompressor(compression_params=greedy).compressobj().compress(bytes(1 << 20))
    packed += b"\1\0\0"  # an empty last block
    entry = replace(entry_of(packed), compression="zstd")

    with pytest.raises(Unproven, match="no valid zstd"):
        prove(entry, Bucket({entry.key: packed}), Deadline.after(60), lambda read: None, lambda block: None)


def test_one_file_that_cannot_be_had_does_not_stop_the_others() -> None:
    good, denied = entry_of(b"good"), entry_of(b"denied", "/b.log", "b")
    bucket = Bucket({good.key: b"good", denied.key: S3Error("access denied", "ask", "AccessDenied")})

    result = Check(_saved(denied, good), bucket).run(Job())

    assert result.proven == [good]
    assert result.wrong == [(denied, "access denied")]


def test_what_would_happen_to_all_ends_it() -> None:
    entry = entry_of(b"x")
    gone = S3Error("no answer from S3", "check the route", "Unreachable", hopeless=True)

    with pytest.raises(S3Error, match="no answer"):
        Check(_saved(entry), Bucket({entry.key: gone})).run(Job())


def test_time_that_runs_out_is_said_of_what_it_hit() -> None:
    entry, never = entry_of(b"x"), Event()

    def hang() -> Opened:
        never.wait()
        return Object(b"")

    result = Check(_saved(entry), Bucket({entry.key: hang})).run(Job(seconds=0.05))
    never.set()

    assert result.wrong == [(entry, "time ran out before it was read")]


def test_progress_counts_what_is_stored() -> None:
    one, two = entry_of(b"12345"), entry_of(b"678", "/b.log", "b")
    job = Job()

    Check(_saved(one, two, Entry("/c.log", why="gone")), Bucket({one.key: b"12345", two.key: b"678"})).run(
        job
    )

    assert job.said[-1] == ("2 of 2 files", 8, 8)


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({"same_as": "/nowhere"}, "which was not saved"),
        ({"same_as": "/a.log", "sha256": SUM}, "and is another one"),
        ({"same_as": "/a.log", "bytes": 7}, "and is another one"),
    ],
)
def test_a_second_name_of_another_file(second: dict[str, Any], why: str) -> None:
    one = entry_of(b"x")
    two = replace(one, source="/b.log", **second)

    result = Check(_saved(one, two), Bucket({one.key: b"x"})).run(Job())

    assert result.proven == [one]
    assert why in result.wrong[0][1]


def test_complete_without_an_object_is_wrong() -> None:
    result = Check(_saved(Entry("/a.log", complete=True)), Bucket({})).run(Job())

    assert "names no object" in result.wrong[0][1]
    assert not result.whole


def _saved(*entries: Entry) -> saved.Saved:
    return saved.Saved("s3://acme-logs/x", b"{}", HEAD, entries, {})


# The directory


def fetch(path: Path, *files: tuple[Entry, Any]) -> Result:
    bucket = Bucket({entry.key: content for entry, content in files})
    with Directory(path) as directory:
        return Check(_saved(*(entry for entry, _ in files)), bucket, directory).run(Job())


def _no_links(number: int) -> Callable[..., None]:
    def link(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return link


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "link", _no_links(number))
    one = entry_of(b"content")

    result = fetch(tmp_path, (one, b"content"), (replace(one, source="/b.log", same_as="/a.log"), b"content"))

    assert result.whole
    assert (tmp_path / "files/a.log").read_bytes() == b"content"
    assert (tmp_path / "files/b.log").read_bytes() == b"content"
    assert sorted(os.listdir(tmp_path / "files")) == ["a.log", "b.log"]


def test_what_is_under_way_is_taken_away_when_it_is_stopped(tmp_path: Path) -> None:
    begun, go = Event(), Event()
    slow, job = Object(b""), Job()
    slow.size = 7

    def wait(size: int | None = -1, /) -> bytes:
        begun.set()
        job.stop = True
        go.wait()
        return b""

    slow.read = wait  # type: ignore[method-assign]
    entry = entry_of(b"content")

    with pytest.raises(Interrupted), Directory(tmp_path) as directory:
        Check(_saved(entry), Bucket({entry.key: lambda: slow}), directory).run(job)

    assert begun.is_set()
    assert os.listdir(tmp_path / "files") == []
    go.set()


def test_no_name_of_a_manifest_is_that_of_a_file_under_way(tmp_path: Path) -> None:
    entry = entry_of(b"x", "/.unproven-1")

    result = fetch(tmp_path, (entry, b"x"))

    assert [each for each, _ in result.wrong] == [entry]


def test_two_files_of_one_name_are_not_under_way_at_once(tmp_path: Path) -> None:
    with Directory(tmp_path) as directory:
        assert directory.begin(entry_of(b"one")) is not None
        with pytest.raises(Unproven, match="two files of that name"):
            directory.begin(entry_of(b"two"))


def test_a_file_that_is_no_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(LifecycleAgentError, match="file"):
        Directory(tmp_path / "file")


def test_a_part_is_read_as_one() -> None:
    part = entry_of(b"par", complete=False, why="time ran out after 3 bytes")

    result = Check(_saved(part), Bucket({part.key: b"par"})).run(Job())

    assert result.partial == [part]
    assert not result.whole

"""Saving logs: what is selected, what it is called, how it is packed, and what the manifest says."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_agent.clients.journald import JournalExport
from lifecycle_agent.clients.s3_errors import OutOfTime, S3Error
from lifecycle_agent.config import LogsSection
from lifecycle_agent.deadline import Clock, Deadline, boottime
from lifecycle_agent.errors import Interrupted, LifecycleAgentError, StepFailed
from lifecycle_agent.steps import Done
from lifecycle_agent.steps.logs import Extra, Logs, keys
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.progress import Progress
from lifecycle_agent.steps.logs.select import select
from lifecycle_agent.steps.logs.source import FileSource, Unreadable

VALUES = {"group": "orders", "instance_id": "i-1", "time": "20260102T030405Z"}
PREFIX = "asg/orders/i-1/20260102T030405Z"


@dataclass
class Object:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)


class Bucket:
    """A bucket in memory, as S3 is: an upload in parts is nothing before it is completed."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.open: dict[str, Upload] = {}
        self.puts: list[str] = []
        self.before: Callable[[str], None] = lambda key: None

    def put(self, key: str, data: bytes, deadline: Deadline, content_type: str, metadata: Any) -> None:
        self.before(key)
        if deadline.passed:
            raise OutOfTime("b", key)
        self.puts.append(key)
        self.objects[key] = Object(data)

    def begin(self, key: str, deadline: Deadline, content_type: str, metadata: Mapping[str, str]) -> Upload:
        upload = Upload(self, key, f"upload-{len(self.puts)}-{key}")
        self.open[upload.upload_id] = upload
        return upload

    def head(self, key: str, deadline: Deadline) -> Object | None:
        return self.objects.get(key)

    def abort(self, key: str, upload_id: str, deadline: Deadline) -> None:
        self.open.pop(upload_id, None)

    def content(self, key: str) -> bytes:
        data = self.objects[key].data
        if key.endswith(".zst"):
            return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
        return gzip.decompress(data) if key.endswith(".gz") else data

    def manifest(self) -> Any:
        return json.loads(self.objects[f"{PREFIX}/manifest.json"].data)


@dataclass
class Upload:
    bucket: Bucket
    key: str
    upload_id: str
    data: bytes = b""

    def send(self, data: bytes, deadline: Deadline) -> None:
        self.bucket.before(self.key)
        if deadline.passed:
            raise OutOfTime("b", self.key)
        self.bucket.puts.append(self.key)
        self.data += data

    def complete(self, deadline: Deadline) -> None:
        if deadline.passed:
            raise OutOfTime("b", self.key)
        del self.bucket.open[self.upload_id]
        self.bucket.objects[self.key] = Object(self.data)

    def abort(self, deadline: Deadline) -> None:
        self.bucket.abort(self.key, self.upload_id, deadline)


class Job:
    """What the runner would hand in."""

    def __init__(self, seconds: float = 60, clock: Clock = boottime) -> None:
        self.deadline = Deadline.after(seconds, clock)
        self.said: list[tuple[str, int | None, int | None]] = []
        self.stopped = threading.Event()

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        self.said.append((text, done, total))

    def wait(self, seconds: float) -> None:
        if self.stopped.wait(min(seconds, self.deadline.remaining())):
            raise Interrupted


def logs(bucket: Bucket, *paths: Path | str, compression: str = "zstd", **more: Any) -> Logs:
    section = LogsSection(bucket="b", paths=tuple(map(str, paths)), compression=compression)
    return Logs(section, lambda: bucket, VALUES, **more)


def save(bucket: Bucket, *paths: Path | str, job: Job | None = None, **more: Any) -> Done:
    return logs(bucket, *paths, **more).run(job or Job())


def noise(size: int) -> bytes:
    """Bytes that no compression makes smaller, the same in each run."""
    return hashlib.shake_128(b"noise").digest(size)


# --- select


def test_globs_select_regular_files_and_follow_no_link(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("top.log", "a/one.log", "a/b/two.log", "a/b/two.txt", ".hidden.log"):
        (tmp_path / name).write_text(name)
    os.mkfifo(tmp_path / "a/pipe.log")
    (tmp_path / "a/link.log").symlink_to("one.log")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dir.log").mkdir()
    found = select([f"{tmp_path}/**/*.log", f"{tmp_path}/a/*.log", f"{tmp_path}/none/*.log"])
    assert [file.path.removeprefix(f"{tmp_path}/") for file in found.files] == [
        "a/b/two.log",
        "a/one.log",
        "top.log",
    ]
    assert {Path(path).name: why for path, why in found.ignored.items()} == {
        "pipe.log": "a pipe",
        "link.log": "a symbolic link, not followed",
    }
    assert found.unmatched == [f"{tmp_path}/none/*.log"]
    assert found.files[0].size == len("a/b/two.log")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**", ["d/e/2.log", "d/e/x[1].log", "x.log"]),
        ("d/**/e/**/2.log", ["d/e/2.log"]),
        ("d/e/x[[]1].log", ["d/e/x[1].log"]),
        ("x.log", ["x.log"]),
        (".*", [".dot"]),
        ("?.log", ["x.log"]),
    ],
)
def test_patterns_mean_what_they_mean_in_a_shell(tmp_path: Path, pattern: str, names: list[str]) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    for name in ("x.log", "d/e/2.log", "d/e/x[1].log", ".dot"):
        (tmp_path / name).touch()
    found = select([f"{tmp_path}/{pattern}"]).files
    assert [file.path.removeprefix(f"{tmp_path}/") for file in found] == names


# --- open


def test_a_pipe_or_socket_put_in_a_files_place_hangs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("x")
    (found,) = select([str(path)]).files
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Unreadable, match="is a pipe"):
        FileSource(found)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        with pytest.raises(Unreadable, match="cannot be opened"):
            FileSource(found)


def test_a_directory_swapped_for_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "logs" / "app").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.log").write_text("secret")
    (tmp_path / "logs" / "app" / "a.log").write_text("log")
    (found,) = select([f"{tmp_path}/logs/**/*.log"]).files
    (tmp_path / "logs" / "app").rename(tmp_path / "logs" / "gone")
    (tmp_path / "logs" / "app").symlink_to(tmp_path / "secret")
    with pytest.raises(Unreadable, match="cannot be opened"):
        FileSource(found)


def read_all(source: FileSource) -> bytes:
    return b"".join(iter(lambda: source.read(8), b""))


@pytest.mark.parametrize(
    ("before", "after", "saved"),
    [
        (b"one\ntw", b"o\nthree\n", b"one\ntwo\n"),
        (b"one\n", b"two\n", b"one\n"),
        (b"one\ntw", b"", b"one\ntw"),
        (b"one\ntw", b"o without an end", b"one\ntw"),
    ],
)
def test_a_file_that_grows_is_cut_at_a_whole_line(
    tmp_path: Path, before: bytes, after: bytes, saved: bytes
) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(before)
    source = FileSource(select([str(path)]).files[0])
    with path.open("ab") as writer:
        writer.write(after)
    assert read_all(source) == saved
    source.close()


def test_a_file_that_shrinks_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 100)
    source = FileSource(select([str(path)]).files[0])
    os.truncate(path, 10)
    with pytest.raises(Unreadable, match="shrank from 100 to 10"):
        read_all(source)
    source.close()


# --- keys


@given(st.lists(st.binary(min_size=1, max_size=400).map(os.fsdecode), unique=True, max_size=20))
def test_any_name_has_a_key_of_its_own_below_the_prefix(names: list[str]) -> None:
    # A path's empty parts say nothing, so names that differ in them alone are the same.
    names = list({"/".join(filter(None, name.split("/"))): name for name in names})
    made = [keys.key("p", "files", name, ".zst") for name in names]
    assert len(set(made)) == len(names)
    for key in made:
        assert key.isascii()
        assert key.isprintable()
        assert len(key) <= 1024
        assert key.startswith("p/files")
        assert key.endswith(".zst")
        assert not {".", ".."} & set(key.split("/"))


def test_a_key_reads_like_the_path() -> None:
    assert keys.key("p", "agent", "../../x/./y", "") == "p/agent/%2E%2E/%2E%2E/x/%2E/y"
    assert keys.key("p", "files", "/var/log/a b.log", ".zst") == "p/files/var/log/a%20b.log.zst"


def test_the_prefix_is_unique_and_cannot_be_left() -> None:
    assert keys.prefix("asg/{group}/{instance_id}/{time}", VALUES) == PREFIX
    assert keys.prefix("/x/", VALUES) == "x/i-1/20260102T030405Z"
    assert keys.prefix("{group}/x", {**VALUES, "group": "../a/b"}).startswith("..%2Fa%2Fb/x/i-1/")


# --- the step


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_files_come_back_byte_for_byte(tmp_path: Path, compression: str) -> None:
    contents = {
        "empty.log": b"",
        "small.log": b"line\n" * 1000,
        "parts.log": noise(5 << 20) + b"text\n" * 100_000,
        "exact.log": noise(1 << 20),
        "old.log.gz": gzip.compress(b"x"),
        "small.log.zst": b"not made by us",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    bucket, job = Bucket(), Job()
    done = save(bucket, f"{tmp_path}/*", job=job, compression=compression, part=1 << 20)
    manifest = bucket.manifest()
    assert manifest["schema"] == 1
    assert manifest["complete"]
    assert not bucket.open
    assert len(manifest["files"]) == len(contents)
    for entry in manifest["files"]:
        name = Path(entry["source"]).name
        original = contents[name]
        stored = bucket.objects[entry["key"]].data
        assert entry["stored_bytes"] == len(stored)
        assert entry["bytes"] == len(original)
        assert entry["sha256"] == hashlib.sha256(original).hexdigest()
        if entry["compression"] == "none":
            assert stored == original
        else:
            assert bucket.content(entry["key"]) == original
    assert bucket.puts[-1] == f"{PREFIX}/manifest.json"
    assert done.warnings == ()
    assert done.data == {
        "bucket": "b",
        "prefix": PREFIX,
        "manifest_key": f"{PREFIX}/manifest.json",
        "files": len(contents),
        "bytes": sum(map(len, contents.values())),
        "stored_bytes": sum(entry["stored_bytes"] for entry in manifest["files"]),
        "incomplete": 0,
    }
    total = sum(map(len, contents.values()))
    assert ("6 of 6 files", total, total) in job.said


def test_hostile_names_are_recorded_exactly(tmp_path: Path) -> None:
    names = [b"new\nline.log", b"not-utf8-\xff.log", b"\xc3\xa4.log", b"x" * 251 + b".log", b"a\\..\\b.log"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    bucket = Bucket()
    save(bucket, f"{tmp_path}/*.log")
    for entry in bucket.manifest()["files"]:
        raw = (
            base64.b64decode(entry["source_base64"]) if "source_base64" in entry else entry["source"].encode()
        )
        assert raw.rpartition(b"/")[2] == bucket.content(entry["key"])
        assert raw.rpartition(b"/")[2] in names
    assert len(bucket.manifest()["files"]) == len(names)


def test_what_cannot_be_read_is_in_the_manifest_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "good.log").write_text("good\n")
    (tmp_path / "late.log").write_text("late\n")
    bucket = Bucket()

    def connect() -> Bucket:
        (tmp_path / "late.log").unlink()  # listed by now, not yet opened
        return bucket

    section = LogsSection(bucket="b", paths=(f"{tmp_path}/*.log", f"{tmp_path}/none*"))
    extras = [Extra("x", lambda: b"%d" % (1 // 0))]
    done = Logs(section, connect, VALUES, extras).run(Job())
    entries = {Path(entry["source"]).name: entry for entry in bucket.manifest()["files"]}
    assert entries["good.log"]["complete"]
    assert "No such file" in entries["late.log"]["why"]
    assert entries["x"]["why"] == "could not be made: integer division or modulo by zero"
    assert done.data["incomplete"] == 2
    assert not bucket.manifest()["complete"]
    assert len(done.warnings) == 3
    assert f"nothing matches '{tmp_path}/none*'" in done.warnings


def test_the_agents_own_goes_first_and_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text("{}\n")
    (tmp_path / "a.log").write_text("a")
    bucket = Bucket()
    extras = [Extra("journal.jsonl", tmp_path / "journal.jsonl"), Extra("report.json", lambda: b"{}")]
    save(bucket, tmp_path / "a.log", extras=extras)
    assert bucket.content(f"{PREFIX}/agent/journal.jsonl") == b"{}\n"
    assert bucket.content(f"{PREFIX}/agent/report.json") == b"{}"
    first, second, _ = bucket.manifest()["files"]
    assert (first["source"], second["source"]) == ("journal.jsonl", "report.json")


def large_and_small(directory: Path) -> str:
    """One file of five parts of 1 MiB, and six small ones."""
    (directory / "large.log").write_bytes(noise(5 << 20))
    for number in range(6):
        (directory / f"small{number}.log").write_text("x\n")
    return f"{directory}/*.log"


def test_when_time_runs_out_what_was_sent_is_kept_and_the_rest_is_named(tmp_path: Path) -> None:
    """The third part of the large file meets the deadline: the first two are completed into a valid file."""
    bucket, now = Bucket(), [0.0]
    job = Job(100, lambda: now[0])
    out = threading.Event()

    def before(key: str) -> None:
        if "small" in key:
            out.wait(30)
        elif bucket.puts.count(key) == 2:
            now[0] = 96.0
            out.set()

    bucket.before = before
    done = save(bucket, large_and_small(tmp_path), job=job, part=1 << 20)
    large, *small = bucket.manifest()["files"]
    content = bucket.content(large["key"])
    assert content == noise(5 << 20)[: len(content)]
    assert len(content) >= 2 << 20
    assert large["bytes"] == len(content)
    assert large["sha256"] == hashlib.sha256(content).hexdigest()
    assert large["why"] == f"time ran out after {len(content)} bytes"
    assert not large["complete"]
    assert {entry["why"] for entry in small} == {"time ran out before it was sent"}
    assert {entry["key"] for entry in small} == {""}
    assert done.data["incomplete"] == 7
    assert done.warnings[-1] == "2 more are not complete, the manifest has them"
    assert not bucket.open


def test_a_request_that_hangs_is_left_behind_and_the_manifest_written(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("a")
    (tmp_path / "b.log").write_text("b")
    bucket, now, release = Bucket(), [0.0], threading.Event()
    job = Job(100, lambda: now[0])

    def before(key: str) -> None:
        if key.endswith("b.log.zst"):
            eventually(lambda: any("a.log" in put for put in bucket.puts))
            now[0] = 98.0
            release.wait(30)

    bucket.before = before
    done = save(bucket, f"{tmp_path}/*.log", job=job)
    release.set()
    whys = [entry["why"] for entry in bucket.manifest()["files"]]
    assert whys[1] == "time ran out while it was on its way"
    assert done.data["incomplete"] >= 1


def test_nothing_saved_is_a_failure_that_says_why_and_does_not_try_them_all(tmp_path: Path) -> None:
    bucket, tried = Bucket(), []

    def refuse(key: str) -> None:
        tried.append(key)
        raise S3Error("access denied", "allow it", "AccessDenied", hopeless=True)

    bucket.before = refuse
    for number in range(50):
        (tmp_path / f"{number}.log").write_text("x")
    with pytest.raises(StepFailed, match="no logs saved: access denied") as caught:
        save(bucket, f"{tmp_path}/*.log")
    assert caught.value.hint == "allow it"
    assert len(tried) <= 4


def test_one_file_that_fails_fails_alone(tmp_path: Path) -> None:
    def refuse(key: str) -> None:
        if key.endswith("large.log.zst") and bucket.puts.count(key) == 1:
            raise S3Error("broken", "", "InternalError")

    bucket = Bucket()
    bucket.before = refuse
    done = save(bucket, large_and_small(tmp_path), part=1 << 20)
    assert done.warnings == (f"{tmp_path}/large.log: broken",)
    assert done.data["files"] == 6
    assert not bucket.open


def test_no_manifest_is_a_warning_where_logs_are_saved(tmp_path: Path) -> None:
    def refuse(key: str) -> None:
        if key.endswith("manifest.json"):
            raise S3Error("broken", "", "InternalError")

    (tmp_path / "a.log").write_text("x")
    bucket = Bucket()
    bucket.before = refuse
    assert save(bucket, tmp_path / "a.log").warnings == ("the manifest was not written: broken",)


def test_interruption_comes_through_and_the_next_run_sends_only_the_rest(tmp_path: Path) -> None:
    files, progress = large_and_small(tmp_path), tmp_path / "progress"
    bucket, job, release = Bucket(), Job(), threading.Event()

    def before(key: str) -> None:
        if bucket.puts.count(key) == 1:
            eventually(lambda: progress.read_text().count("entry") == 6)
            job.stopped.set()
            release.wait(30)

    bucket.before = before
    with pytest.raises(Interrupted):
        save(bucket, files, job=job, part=1 << 20, progress=progress)
    assert f"{PREFIX}/manifest.json" not in bucket.objects
    assert len(bucket.open) == 1
    bucket.before = lambda key: None
    bucket.puts.clear()
    del bucket.objects[f"{PREFIX}/files{tmp_path}/small3.log.zst"]  # remembered, and yet not there
    bucket.objects[f"{PREFIX}/files{tmp_path}/small2.log.zst"] = Object(b"not ours")
    (tmp_path / "small4.log").write_text("x\ny\n")  # not what was sent
    done = save(bucket, files, part=1 << 20, progress=progress)
    sent = {Path(put).name.split(".")[0] for put in bucket.puts}
    assert sent == {"large", "small2", "small3", "small4", "manifest"}
    assert done.data["files"] == 7
    assert done.warnings == ()
    assert not bucket.open  # the upload that was cut off is aborted
    release.set()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread is about to do."""
    deadline = Deadline.after(30)
    while not condition():
        assert not deadline.passed
        threading.Event().wait(0.001)


# --- what is remembered


def test_progress_survives_torn_lines_and_belongs_to_one_place(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    one, two = Entry("a", "ka", 1), Entry("b", "kb", 2)
    Progress(path, "here").done("1", one)
    with path.open("ab") as file:
        file.write(b'{"identity": "torn", "ent')
    Progress(path, "here").done("2", two)
    assert Progress(path, "here").sent == {("ka", "1"): one, ("kb", "2"): two}
    assert Progress(path, "elsewhere").sent == {}
    assert Progress(path, "here").sent == {}


def test_progress_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x")
    assert save(Bucket(), tmp_path / "a.log", progress=tmp_path / "no" / "dir").warnings == ()


# --- journald


def test_a_journal_is_read_to_its_end_and_its_failure_is_said() -> None:
    export = JournalExport("a.service", Deadline.after(30), ("echo", "MESSAGE=x"))
    assert export.read(100) == b"MESSAGE=x --unit=a.service\n"
    assert export.read(100) == b""
    export.close()
    failing = JournalExport("a.service", Deadline.after(30), ("sh", "-c", "echo no access >&2; exit 3"))
    with pytest.raises(LifecycleAgentError, match="ended with 3: no access"):
        failing.read(100)
    failing.close()
    hanging = JournalExport("a.service", Deadline.after(0.05), ("sh", "-c", "exec sleep 60"))
    with pytest.raises(LifecycleAgentError, match="time ran out"):
        hanging.read(100)
    hanging.close()
    with pytest.raises(LifecycleAgentError, match="cannot be read"):
        JournalExport("a.service", Deadline.after(1), ("/no/such/journalctl",))

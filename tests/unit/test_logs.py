"""Saving logs: what is sent, how it is packed, and what the manifest says."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent.clients.s3_errors import S3Error
from lifecycle_agent.config import LogsSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted, StepFailed
from lifecycle_agent.steps.logs import Extra, Logs
from lifecycle_agent.steps.logs.means import MOST_DENIED
from lifecycle_agent.steps.logs.select import Selection, select
from lifecycle_agent.steps.logs.send import THREADS
from tests.unit.bucket import PREFIX, VALUES, Bucket, Job, Object, noise, save

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
        "manifest_written": True,
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


def test_what_cannot_be_read_is_in_the_manifest_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.log").write_text("good\n")
    (tmp_path / "late.log").write_text("late\n")
    bucket = Bucket()

    def selected(*arguments: Any) -> Selection:
        found = select(*arguments)
        (tmp_path / "late.log").unlink()  # listed by now, not yet opened
        return found

    monkeypatch.setattr("lifecycle_agent.steps.logs.select", selected)
    extras = [Extra("x", lambda: b"%d" % (1 // 0))]
    done = save(bucket, f"{tmp_path}/*.log", f"{tmp_path}/none*", extras=extras)
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


def test_a_file_with_two_names_is_sent_once_and_named_twice(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("a line\n")
    os.link(tmp_path / "a.log", tmp_path / "b.log")
    bucket = Bucket()
    done = save(bucket, f"{tmp_path}/*.log")
    first, second = bucket.manifest()["files"]
    assert len(bucket.puts) == 2  # with the manifest
    assert (first["same_as"], second["same_as"]) == ("", f"{tmp_path}/a.log")
    assert (second["source"], second["complete"]) == (f"{tmp_path}/b.log", True)
    assert {name for name in first if first[name] != second[name]} == {"source", "same_as"}
    assert (done.data["bytes"], done.warnings) == (7, ())


def test_what_is_configured_decides_what_goes_and_when(tmp_path: Path) -> None:
    for name in ("audit", "b.log", "c.log", "z.log"):
        (tmp_path / name).write_text(name)
    section = LogsSection(
        bucket="b",
        paths=(f"{tmp_path}/*",),
        exclude=(f"{tmp_path}/aud*",),
        first=(f"{tmp_path}/z*",),
        last=(f"{tmp_path}/b*",),
    )
    bucket = Bucket()
    Logs(section, lambda: bucket, VALUES).run(Job())
    assert [Path(entry["source"]).name for entry in bucket.manifest()["files"]] == ["z.log", "c.log", "b.log"]


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

    def before(key: str, number: int) -> None:
        if number == 3:
            eventually(lambda: bucket.puts.count(key) == 2)
            now[0] = 96.0
            out.set()
        elif "small" in key or number > 3:
            out.wait(30)

    bucket.before = before
    done = save(bucket, large_and_small(tmp_path), job=job, part=1 << 20)
    *small, large = bucket.manifest()["files"]
    content = bucket.content(large["key"])
    assert content == noise(5 << 20)[: len(content)]
    assert 2 << 20 <= len(content) < 3 << 20
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

    def before(key: str, number: int) -> None:
        if key.endswith("b.log.zst"):
            eventually(lambda: any("a.log" in put for put in bucket.puts))
            now[0] = 98.0
            release.wait(30)

    bucket.before = before
    done = save(bucket, f"{tmp_path}/*.log", job=job)
    release.set()
    whys = {Path(entry["source"]).name: entry["why"] for entry in bucket.manifest()["files"]}
    assert whys["b.log"] == "time ran out while it was on its way"
    assert done.data["incomplete"] >= 1


def test_nothing_saved_is_a_failure_that_says_why_and_does_not_try_them_all(tmp_path: Path) -> None:
    bucket, tried = Bucket(), []

    def refuse(key: str, number: int) -> None:
        tried.append(key)
        raise S3Error("access denied", "allow it", "AccessDenied", hopeless=True)

    bucket.before = refuse
    for number in range(50):
        (tmp_path / f"{number}.log").write_text("x")
    with pytest.raises(StepFailed, match="no logs saved: access denied") as caught:
        save(bucket, f"{tmp_path}/*.log")
    assert caught.value.hint == "allow it"
    assert len(tried) <= MOST_DENIED + THREADS


def test_one_file_that_fails_fails_alone(tmp_path: Path) -> None:
    def refuse(key: str, number: int) -> None:
        if number == 2:
            raise S3Error("broken", "", "InternalError")

    bucket = Bucket()
    bucket.before = refuse
    done = save(bucket, large_and_small(tmp_path), part=1 << 20)
    # What was sent before it is a valid file.
    assert done.warnings == (f"{tmp_path}/large.log: broken after {1 << 20} bytes",)
    assert done.data["files"] == 7
    assert not bucket.open


def test_no_manifest_is_a_warning_where_logs_are_saved(tmp_path: Path) -> None:
    def refuse(key: str, number: int) -> None:
        if key.endswith("manifest.json"):
            raise S3Error("broken", "", "InternalError")

    (tmp_path / "a.log").write_text("x")
    bucket = Bucket()
    bucket.before = refuse
    assert save(bucket, tmp_path / "a.log").warnings == ("the manifest was not written: broken",)


def test_interruption_comes_through_and_the_next_run_sends_only_the_rest(tmp_path: Path) -> None:
    files, record = large_and_small(tmp_path), tmp_path / "record"
    bucket, job, release = Bucket(), Job(), threading.Event()

    def before(key: str, number: int) -> None:
        if number == 2:
            eventually(lambda: (text := record.read_text()).count("entry") == 6 and '"part"' in text)
            job.stopped.set()
        if number > 1:
            release.wait(30)

    bucket.before = before
    with pytest.raises(Interrupted):
        save(bucket, files, job=job, part=1 << 20, record=record)
    assert f"{PREFIX}/manifest.json" not in bucket.objects
    assert len(bucket.open) == 1
    bucket.before = lambda key, number: None
    bucket.puts.clear()
    del bucket.objects[f"{PREFIX}/files{tmp_path}/small3.log.zst"]  # remembered, and yet not there
    bucket.objects[f"{PREFIX}/files{tmp_path}/small2.log.zst"] = Object(b"not ours")
    (tmp_path / "small4.log").write_text("x\ny\n")  # not what was sent
    done = save(bucket, files, part=1 << 20, record=record)
    sent = {Path(put).name.split(".")[0] for put in bucket.puts}
    assert sent == {"large", "small2", "small3", "small4", "manifest"}
    assert sum("large" in put for put in bucket.puts) == 4  # of 5 parts the first was there
    assert bucket.content(f"{PREFIX}/files{tmp_path}/large.log.zst") == noise(5 << 20)
    assert done.data["files"] == 7
    assert done.warnings == ()
    assert not bucket.open  # the upload that was cut off was gone on with
    release.set()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread is about to do."""
    deadline = Deadline.after(30)
    while not condition():
        assert not deadline.passed
        threading.Event().wait(0.001)


def test_a_record_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x")
    done = save(Bucket(), tmp_path / "a.log", record=tmp_path / "no" / "dir")
    assert done.data["files"] == 1
    assert [warning.partition(",")[0] for warning in done.warnings] == ["what was sent cannot be remembered"]

"""What an upload leaves behind when it dies or runs out of time, and how the next one goes on from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent.clients import s3 as client
from tests.contract.death import Death, known, live
from tests.contract.gateway import BUCKET, Gateway, empty, running  # noqa: F401 # fixtures
from tests.contract.proxy import Exchange
from tests.contract.shipper import PART, PREFIX, VALUES, noise, prove, save, unpacked
from tests.stage import until

pytestmark = pytest.mark.once

# Four parts, the last a short one.
LARGE = noise(3 * PART + PART // 2)


class Scene:
    """A directory with one large file of four parts and a small one, and an upload that remembers."""

    def __init__(self, s3: Gateway, directory: Path) -> None:
        self.s3 = s3
        self.logs = directory / "logs"
        self.logs.mkdir()
        self.large = self.logs / "large.log"
        self.record = directory / "record"
        self.originals = {"large.log": LARGE, "small.log": b"a line\n"}
        self.write()
        self.how: dict[str, Any] = {"pattern": f"{self.logs}/*", "record": self.record}

    def write(self) -> None:
        for name, data in self.originals.items():
            (self.logs / name).write_bytes(data)

    def known(self) -> set[str]:
        """The names, and numbers of parts, that are known to be in the bucket."""
        return {unit.rpartition("/")[2].replace(".zst", "") for unit in known(self.record)}

    def die(self, kind: str, phase: str, *with_known: str) -> None:
        """An upload is killed once these units are known."""
        wait = partial(until, lambda: set(with_known) <= self.known())
        assert live(self.s3, Death(kind, 1, phase, wait), **self.how) == -9
        assert self.known() == set(with_known)
        self.s3.proxy.seen = []

    def go_on(self, **how: Any) -> list[str]:
        """The names, and numbers of parts, that another upload sent."""
        done = save(**{**self.how, **how})
        assert [each for each in done.warnings if "cannot be remembered" not in each] == []
        prove(self.s3.get, self.originals)
        assert self.s3.unfinished() == []
        sent = [each.unit.rpartition("/")[2].replace(".zst", "") for each in self.s3.proxy.seen if each.unit]
        return sorted(set(sent) - {"manifest.json"})


@pytest.fixture
def scene(s3: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.001)
    return Scene(s3, tmp_path)


PARTS = tuple(f"large.log#{number}" for number in (1, 2, 3, 4))


def refuse_reading(exchange: Exchange) -> None:
    """To a role that may only write."""
    if exchange.method in ("GET", "HEAD"):
        exchange.refuse(403, "AccessDenied")
    else:
        exchange.through()


def test_what_is_known_is_not_sent_again(scene: Scene) -> None:
    scene.die("UploadPart 4", "half sent", "small.log", *PARTS[:3])
    assert scene.go_on() == ["large.log#4"]


def test_a_role_that_may_only_write_goes_by_what_is_remembered(scene: Scene) -> None:
    scene.die("UploadPart 4", "half sent", "small.log", *PARTS[:3])
    scene.s3.proxy.play = refuse_reading
    assert scene.go_on() == ["large.log#4"]


def test_a_role_that_may_only_write_completes_what_was_complete(scene: Scene) -> None:
    """S3 takes the same completion twice."""
    scene.die("Complete", "stored", "small.log", *PARTS)
    scene.s3.proxy.play = refuse_reading
    assert scene.go_on() == []


@pytest.mark.parametrize("phase", ["asked", "stored", "answered"])
def test_killed_while_it_is_completed_nothing_is_sent_again(scene: Scene, phase: str) -> None:
    scene.die("Complete", phase, "small.log", *PARTS)
    assert scene.go_on() == []


def test_an_upload_that_somebody_aborted_is_sent_anew(scene: Scene) -> None:
    scene.die("UploadPart 4", "half sent", "small.log", *PARTS[:3])
    abort_all(scene.s3)
    assert scene.go_on() == list(PARTS)


def test_an_upload_that_somebody_aborts_on_its_way_is_sent_anew(scene: Scene) -> None:
    aborted: list[str] = []
    one_by_one = threading.Lock()  # how the server takes both at once is not what is tried here

    def abort(exchange: Exchange) -> None:
        with one_by_one:
            if exchange.query.get("partNumber") == "3" and not aborted:
                aborted.append(exchange.key)
                abort_all(scene.s3)
            exchange.through()

    scene.s3.proxy.play = abort
    assert scene.go_on() == [*PARTS, "small.log"]
    assert aborted


def abort_all(s3: Gateway) -> None:
    for key, upload_id in s3.unfinished():
        s3.admin.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload_id)


def test_a_source_that_changed_is_sent_anew(scene: Scene) -> None:
    scene.die("UploadPart 4", "half sent", "small.log", *PARTS[:3])
    scene.originals["large.log"] = noise(len(LARGE), "another")
    scene.write()
    assert scene.go_on() == [*PARTS, "small.log"]  # which was written again, too


def test_a_source_that_grew_is_sent_from_where_it_was(scene: Scene) -> None:
    scene.die("UploadPart 4", "half sent", "small.log", *PARTS[:3])
    grow(scene)
    assert scene.go_on() == [*PARTS[3:], "large.log#5"]


def test_a_source_that_grew_when_all_of_it_was_sent_has_its_short_part_made_again(scene: Scene) -> None:
    """S3 takes a short part at the end only."""
    scene.die("Complete", "asked", "small.log", *PARTS)
    grow(scene)
    assert scene.go_on() == [*PARTS[3:], "large.log#5"]


def test_a_source_that_grew_when_it_was_complete_is_sent_anew(scene: Scene) -> None:
    scene.die("Complete", "stored", "small.log", *PARTS)
    grow(scene)
    assert scene.go_on() == [*PARTS, "large.log#5"]


def grow(scene: Scene) -> None:
    scene.originals["large.log"] += noise(PART, "more")
    with scene.large.open("ab") as file:
        file.write(noise(PART, "more"))


def test_a_source_that_was_rotated_is_sent_under_its_new_name(scene: Scene) -> None:
    """Of what went under the old name nothing is left, for that is another file's now."""
    scene.die("UploadPart 4", "half sent", "small.log", *PARTS[:3])
    scene.large.rename(scene.logs / "large.log.1")
    scene.originals |= {"large.log.1": LARGE, "large.log": b"a new one\n"}
    scene.large.write_bytes(b"a new one\n")
    assert scene.go_on() == ["large.log", *(part.replace(".log", ".log.1") for part in PARTS)]


def test_a_source_that_is_gone_leaves_nothing_behind(scene: Scene) -> None:
    scene.die("UploadPart 4", "half sent", "small.log", *PARTS[:3])
    scene.large.unlink()
    del scene.originals["large.log"]
    assert scene.go_on() == []


@pytest.mark.parametrize("part", [PART + PART // 3, 3 * PART])
def test_parts_of_another_size_go_on_where_they_fit(scene: Scene, part: int) -> None:
    """The second is missing, and made again it ends behind the begin of the third."""
    scene.die("UploadPart 4", "half sent", "small.log", *PARTS[:3])
    lines = scene.record.read_text().splitlines()
    scene.record.write_text("\n".join(line for line in lines if '"number": 2, "start"' not in line) + "\n")
    assert scene.known() == {"small.log", PARTS[0], PARTS[2]}
    sent = scene.go_on(part=part)
    assert sent[0] == PARTS[1]
    assert PARTS[0] not in sent


# --- what is remembered, and cannot be read or written

DEEP = b"[" * 100_000
HOSTILE = [
    b"",
    b"\0" * 5000,
    bytes(range(256)) * 20,
    DEEP,
    b'{"place": "elsewhere"}\n',
    b'{"place": PLACE}\n' + DEEP + b"\n",
    b'{"place": PLACE}\n[]\n7\nnull\n{}\n{"begin": [], "key": {}}\n{"entry": 7}\n{"entry": {"source": 1}}\n',
    b'{"place": PLACE}\n{"begin": "id", "key": KEY}\n{"part": "id", "key": KEY, "number": 1, "start": 0, '
    b'"end": -1, "sha256": "", "stored_bytes": -5, "crc": -1, "etag": ""}\n',
    b'{"place": PLACE}\n{"begin": "id", "key": KEY}\n{"part": "id", "key": KEY, "number": "1", "start": "0", '
    b'"end": {}, "sha256": 7, "stored_bytes": null, "crc": [], "etag": 3}\n',
    b'{"place": PLACE}\n{"begin": 7, "key": KEY}\n{"made": 7, "key": KEY, "number": [], "hard": "x"}\n',
    b'{"place": PLACE}\n{"identity": "IDENTITY", "entry": {"source": 5, "key": KEY, "bytes": "x", '
    b'"complete": 1}}\n',
    b'{"place": PLACE}\n{"identity": "IDENTITY", "entry": {"source": "x", "key": KEY, "stored_bytes": 99}}\n',
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_a_record_that_makes_no_sense_costs_nothing_but_the_work(scene: Scene, content: bytes) -> None:
    status = scene.large.stat()
    identity = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    place, key = f"{BUCKET}/{PREFIX} zstd", f"{PREFIX}/files{scene.large}.zst"
    content = content.replace(b"PLACE", json.dumps(place).encode()).replace(b"KEY", json.dumps(key).encode())
    scene.record.write_bytes(content.replace(b"IDENTITY", identity.encode()))
    assert scene.go_on() == [*PARTS, "small.log"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system of a few KiB")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True, timeout=30)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True, timeout=30)


def fill(disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (disk / "full").write_bytes(b"x" * (1 << 20))


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True, timeout=30)


@pytest.mark.parametrize("spoil", [fill, make_read_only])
def test_where_nothing_can_be_remembered_all_is_sent_nevertheless(
    scene: Scene, small_disk: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(small_disk)
    scene.record = scene.how["record"] = small_disk / "record"
    assert scene.go_on() == [*PARTS, "small.log"]


def test_a_disk_that_is_full_on_the_way_costs_nothing_but_the_work(scene: Scene, small_disk: Path) -> None:
    scene.record = scene.how["record"] = small_disk / "record"

    def play(exchange: Exchange) -> None:
        if exchange.query.get("partNumber") == "2":
            fill(small_disk)
        exchange.through()

    scene.s3.proxy.play = play
    assert scene.go_on() == [*PARTS, "small.log"]
    scene.s3.proxy.reset()
    (small_disk / "full").unlink()
    again = scene.go_on()  # what it knows is true
    assert not set(again) & scene.known()


# --- when time runs out


def hold_part(number: int, release: threading.Event, so_far: int = 0) -> Callable[[Exchange], None]:
    """A part of the large file, and those after it, do not get there; some bytes of them do."""

    def play(exchange: Exchange) -> None:
        if int(exchange.query.get("partNumber", 0)) >= number:
            for _ in exchange.body():
                if exchange.received >= so_far:
                    break
            release.wait(60)
            exchange.reset()
        exchange.through()

    return play


@pytest.mark.parametrize("so_far", [0, PART // 2, PART + PART // 2], ids=["silent", "stuck", "no answer"])
def test_what_got_there_in_time_is_a_file(scene: Scene, so_far: int) -> None:
    release = threading.Event()
    scene.s3.proxy.play = hold_part(3, release, so_far)
    try:
        done = save(f"{scene.logs}/*", seconds=4)
    finally:
        release.set()
    assert (done.data["files"], done.data["incomplete"]) == (2, 1)
    entries = json.loads(scene.s3.get(f"{PREFIX}/manifest.json"))["files"]
    large = next(each for each in entries if each["source"] == str(scene.large))
    content = unpacked(large["key"], scene.s3.get(large["key"]))
    assert 2 * PART <= len(content) < 2 * PART + PART // 4
    assert content == LARGE[: len(content)]
    assert large["bytes"] == len(content)
    assert large["why"] == f"time ran out after {len(content)} bytes"
    assert scene.s3.unfinished() == []


# --- side by side


def test_two_instances_share_a_bucket_and_a_prefix(scene: Scene) -> None:
    instances = ["i-1", "i-2", "i-3"]
    how = {**scene.how, "prefix": "logs/{group}"}

    def ship(instance: str) -> int:
        values = {**VALUES, "instance_id": instance}
        return live(scene.s3, **how | {"values": values, "record": scene.record.with_name(instance)})

    with ThreadPoolExecutor(len(instances)) as pool:
        assert list(pool.map(ship, instances)) == [0, 0, 0]
    for instance in instances:
        prove(scene.s3.get, scene.originals, f"logs/orders/{instance}/{VALUES['time']}")
    assert scene.s3.unfinished() == []


# --- other people's tools


@pytest.mark.parametrize(("compression", "tool"), [("zstd", ["zstd", "-dc"]), ("gzip", ["zcat"])])
def test_the_objects_are_files_that_every_tool_reads(scene: Scene, compression: str, tool: list[str]) -> None:
    if shutil.which(tool[0]) is None:
        pytest.skip(f"no {tool[0]} here (tests/setup packages)")
    save(f"{scene.logs}/*", compression)
    for entry in json.loads(scene.s3.get(f"{PREFIX}/manifest.json"))["files"]:
        read = subprocess.run(
            tool, input=scene.s3.get(entry["key"]), capture_output=True, timeout=60, check=False
        )
        assert (read.returncode, read.stderr) == (0, b"")
        assert read.stdout == scene.originals[Path(entry["source"]).name]

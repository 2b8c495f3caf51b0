"""A bucket in memory, and the step that saves into it."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from lifecycle_agent.clients.s3_errors import OutOfTime, S3Error
from lifecycle_agent.config import LogsSection
from lifecycle_agent.deadline import Clock, Deadline, boottime
from lifecycle_agent.errors import Interrupted
from lifecycle_agent.steps import Done
from lifecycle_agent.steps.logs import Logs

VALUES = {"group": "orders", "instance_id": "i-1", "time": "20260102T030405Z"}
PREFIX = "asg/orders/i-1/20260102T030405Z"


@dataclass
class Object:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)


class Bucket:
    """A bucket in memory, as S3 is: checksums are verified, an upload in parts is nothing until completed."""

    bucket = "b"

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.open: dict[str, dict[int, bytes]] = {}
        self.puts: list[str] = []
        self.before: Callable[[str, int], None] = lambda key, number: None

    def put(
        self,
        key: str,
        data: bytes | memoryview,
        crc: int,
        deadline: Deadline,
        content_type: str,
        metadata: Mapping[str, str],
    ) -> None:
        self._receive(key, 0, data, crc, deadline)
        self.objects[key] = Object(bytes(data))

    def head(self, key: str, deadline: Deadline) -> Object | None:
        in_time(key, deadline)
        return self.objects.get(key)

    def begin(self, key: str, deadline: Deadline, content_type: str) -> str:
        in_time(key, deadline)
        upload_id = f"{len(self.puts)} {key}"
        self.open[upload_id] = {}
        return upload_id

    def send_part(
        self, key: str, upload_id: str, number: int, data: memoryview, crc: int, deadline: Deadline
    ) -> str:
        self._receive(key, number, data, crc, deadline)
        exists(upload_id, self.open)
        self.open[upload_id][number] = bytes(data)
        return etag(data)

    def parts(self, key: str, upload_id: str, deadline: Deadline) -> dict[int, str] | None:
        in_time(key, deadline)
        there = self.open.get(upload_id)
        return None if there is None else {number: etag(data) for number, data in there.items()}

    def complete(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[str, int]],
        size: int,
        crc: int,
        deadline: Deadline,
    ) -> None:
        in_time(key, deadline)
        exists(upload_id, self.open)
        there = self.open.pop(upload_id)
        data = b"".join(there[number] for number in range(1, len(parts) + 1))
        assert [(etag(there[n]), zlib.crc32(there[n])) for n in range(1, len(parts) + 1)] == list(parts)
        assert (len(data), zlib.crc32(data)) == (size, crc)
        self.objects[key] = Object(data)

    def abort(self, key: str, upload_id: str, deadline: Deadline) -> None:
        in_time(key, deadline)
        self.open.pop(upload_id, None)

    def unfinished(self, prefix: str, deadline: Deadline) -> list[tuple[str, str]]:
        in_time(prefix, deadline)
        found = [(upload_id.partition(" ")[2], upload_id) for upload_id in self.open]
        return [(key, upload_id) for key, upload_id in found if key.startswith(prefix)]

    def content(self, key: str) -> bytes:
        data = self.objects[key].data
        if key.endswith(".zst"):
            return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
        return gzip.decompress(data) if key.endswith(".gz") else data

    def manifest(self) -> Any:
        return json.loads(self.objects[f"{PREFIX}/manifest.json"].data)

    def _receive(self, key: str, number: int, data: bytes | memoryview, crc: int, deadline: Deadline) -> None:
        self.before(key, number)
        in_time(key, deadline)
        assert zlib.crc32(data) == crc
        self.puts.append(key)


def in_time(key: str, deadline: Deadline) -> None:
    if deadline.passed:
        raise OutOfTime("b", key)


def exists(upload_id: str, uploads: Mapping[str, Any]) -> None:
    if upload_id not in uploads:
        raise S3Error("there is no such upload", "", "NoSuchUpload")


def etag(data: bytes | memoryview) -> str:
    return hashlib.md5(data).hexdigest()


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

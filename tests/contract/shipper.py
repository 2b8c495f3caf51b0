"""The step that saves logs, as the runner would run it; as a program, to be killed."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zstandard

from lifecycle_agent.clients.s3 import Storage, later
from lifecycle_agent.config import LogsSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.steps import Done
from lifecycle_agent.steps.logs import Logs

PART = 5 << 20  # the least that S3 takes for a part that is not the last
VALUES = {"group": "orders", "instance_id": "i-1", "time": "20260102T030405Z"}
BUCKET = "acme-logs"
PREFIX = "asg/orders/i-1/20260102T030405Z"


class Job:
    """What the runner would hand in."""

    def __init__(self, seconds: float = 60) -> None:
        self.deadline = Deadline.after(seconds)

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        pass

    def wait(self, seconds: float) -> None:
        pass


def save(
    pattern: str,
    compression: str = "zstd",
    record: Path | str | None = None,
    seconds: float = 60,
    values: Mapping[str, str] = VALUES,
    part: int = PART,
    storage: Storage | None = None,
    **section: Any,
) -> Done:
    """Run the step once."""
    configured = LogsSection(bucket=BUCKET, paths=(pattern,), compression=compression, **section)
    connect = later(BUCKET, "us-east-1", storage)
    step = Logs(configured, connect, values, record=Path(record) if record else None, part=part)
    return step.run(Job(seconds))


def noise(size: int, seed: str = "noise") -> bytes:
    """Bytes that no compression makes smaller, the same in each run."""
    return hashlib.shake_128(seed.encode()).digest(size)


def unpacked(key: str, data: bytes) -> bytes:
    """What an object was made of."""
    if key.endswith(".zst"):
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return gzip.decompress(data) if key.endswith(".gz") else data


def prove(get: Callable[[str], bytes], originals: Mapping[str, bytes], prefix: str = PREFIX) -> None:
    """Every object, read back and unpacked, is its original, as the manifest says.

    Args:
        get: gives an object.
        originals: by the name of the file.
    """
    manifest = json.loads(get(f"{prefix}/manifest.json"))
    assert manifest["complete"]
    assert sorted(Path(entry["source"]).name for entry in manifest["files"]) == sorted(originals)
    for entry in manifest["files"]:
        stored = get(entry["key"])
        data = unpacked(entry["key"], stored)
        assert data == originals[Path(entry["source"]).name], entry["source"]
        assert (entry["bytes"], entry["stored_bytes"]) == (len(data), len(stored))
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["complete"]


if __name__ == "__main__":
    save(**json.loads(sys.argv[1]))

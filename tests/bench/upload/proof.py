"""Whether what was measured has done its job: everything is there, ours byte for byte."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from pathlib import Path

import zstandard

from tests.bench.upload import copiers
from tests.bench.upload.dataset import MIB, Dataset
from tests.bench.upload.measure import Failed
from tests.bench.upload.server import Bucket


def prove(name: str, bucket: Bucket, dataset: Dataset) -> int:
    """Look at what a copier has left in the bucket.

    Returns:
        The bytes that are stored there.

    Raises:
        Failed: something is missing, or is not what it was.
    """
    objects = bucket.objects()
    stored = sum(objects.values())
    if name == copiers.OURS:
        _prove_ours(bucket, objects, dataset)
    elif name == copiers.TAR:
        if len(objects) != 1 or not stored:
            raise Failed(f"{name} left {len(objects)} objects")
    elif (len(objects), stored) != (len(dataset.sizes), dataset.bytes):
        raise Failed(f"{name} left {len(objects)} objects with {stored} bytes")
    return stored


def _prove_ours(bucket: Bucket, objects: dict[str, int], dataset: Dataset) -> None:
    manifests = [key for key in objects if key.endswith("/manifest.json")]
    if len(manifests) != 1:
        raise Failed(f"{len(manifests)} manifests")
    manifest = json.loads((bucket.path / manifests[0]).read_text())
    if not manifest["complete"]:
        raise Failed(f"the manifest is not complete: {manifest['totals']}")
    if littered := bucket.unfinished():
        raise Failed(f"{len(littered)} parts were neither completed nor aborted")
    entries = {entry["source"]: entry for entry in manifest["files"]}
    for file, size in dataset.sizes.items():
        entry = entries.get(str(dataset.root / file))
        if entry is None:
            raise Failed(f"{file} is not in the manifest")
        if entry["bytes"] != size or entry["sha256"] != dataset.sha256[file]:
            raise Failed(f"{file} is not in the manifest as it is on the disk")
        if objects.get(entry["key"]) != entry["stored_bytes"]:
            raise Failed(f"{file} is not in the bucket as it is in the manifest")
        try:
            same = _sha256(bucket.path / entry["key"], entry["compression"]) == entry["sha256"]
        except (zstandard.ZstdError, OSError, EOFError) as error:
            raise Failed(f"{file} cannot be unpacked: {error}") from error
        if not same:
            raise Failed(f"{file} does not come out of its object as it was")


def _sha256(path: Path, compression: str) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as raw:
        opened: io.BufferedIOBase = raw
        if compression == "zstd":
            opened = io.BufferedReader(
                zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
            )
        elif compression == "gzip":
            opened = gzip.GzipFile(fileobj=raw)
        while block := opened.read(MIB):
            digest.update(block)
    return digest.hexdigest()

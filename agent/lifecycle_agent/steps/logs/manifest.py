"""The manifest: what was saved, how it can be proved, and what was left behind and why."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Readers refuse a higher number. Keys are only ever added while it stays the same.
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One source.

    Args:
        source: path or name, as os.fsdecode has it.
        key: the object, empty where there is none.
        bytes: of the original, as far as they are in the object.
        sha256: of those bytes, in hex; empty where there is no object.
        stored_bytes: the object's size.
        checksum: CRC32 of the whole object in base64, as S3 has it in `x-amz-checksum-crc32`.
        started, finished: when it was opened and when it was all in the bucket, in UTC.
        complete: whether all of the source is in the object.
        why: what is missing, empty if nothing is.
        note: what to know of it although it is complete.
        same_as: the other name of this file whose object this is: an inode goes once.
    """

    source: str
    key: str = ""
    bytes: int = 0
    sha256: str = ""
    stored_bytes: int = 0
    checksum: str = ""
    compression: str = "none"
    started: str = ""
    finished: str = ""
    complete: bool = False
    why: str = ""
    note: str = ""
    same_as: str = ""


def document(head: Mapping[str, Any], entries: Sequence[Entry], ignored: Mapping[str, str]) -> bytes:
    """The manifest as JSON, ready to be stored.

    Args:
        head: what there is to say of the whole: instance, group, bucket, prefix, times.
        ignored: what matched and is no regular file.
    """
    whole = {
        "schema": SCHEMA,
        **head,
        "complete": all(entry.complete for entry in entries),
        "totals": totals(entries),
        "ignored": [{**named("source", path), "why": why} for path, why in ignored.items()],
    }
    # One file after the other: as objects, all of them take ten times the memory.
    content = bytearray(json.dumps(whole, indent=1).encode().removesuffix(b"\n}"))
    content += b',\n "files": ['
    for number, entry in enumerate(entries):
        content += b",\n  " if number else b"\n  "
        names = {**named("source", entry.source), **named("same_as", entry.same_as)}
        content += json.dumps({**asdict(entry), **names}).encode()
    return bytes(content + b"\n ]\n}\n")


def totals(entries: Sequence[Entry]) -> dict[str, int]:
    """Objects, bytes of the originals in them, bytes stored, and how many sources are not all there."""
    return {
        "files": sum(1 for entry in entries if entry.key),
        "bytes": sum(entry.bytes for entry in entries if not entry.same_as),
        "stored_bytes": sum(entry.stored_bytes for entry in entries if not entry.same_as),
        "incomplete": sum(1 for entry in entries if not entry.complete),
    }


def named(field: str, name: str) -> dict[str, str]:
    """The name as text, and where its bytes are not UTF-8 exactly, in base64."""
    raw = os.fsencode(name)
    try:
        return {field: raw.decode()}
    except UnicodeDecodeError:
        return {field: raw.decode(errors="replace"), f"{field}_base64": base64.b64encode(raw).decode()}

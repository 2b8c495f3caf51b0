"""A manifest read back. Whoever can write to the bucket may have written it: nothing in it is believed."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from lifecycle_agent.clients.s3_errors import NOT_THERE, S3Error
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError, UsageError
from lifecycle_agent.steps.logs import keys
from lifecycle_agent.steps.logs.manifest import SCHEMA, Entry
from lifecycle_agent.steps.logs.pack import CODECS

# An entry is some 600 bytes, more where names are long: this holds all files that are selected at most.
MOST_BYTES = 256 * 1024 * 1024
BLOCK = 256 * 1024

MANIFEST = "manifest.json"
JOURNAL_OF = "journal of "  # how the source of a unit's journal is named

_PLACE = re.compile(r"s3://(arn:[^/]+:accesspoint[/:][^/]+|[^/]+)/(.*)", re.DOTALL)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Opened(Protocol):
    """An object being read; clients/s3_read.py has one, and says what each method does."""

    size: int

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, empty at the end."""
        ...

    def close(self) -> None:
        """Let go of it."""


class Bucket(Protocol):
    """Where objects are read from."""

    bucket: str

    def open(self, key: str, deadline: Deadline) -> Opened:
        """The object at `key`."""
        ...


class Unproven(Exception):
    """What is there, or what is said of it, cannot be right; the text says why."""


@dataclass(frozen=True)
class Saved:
    """What an upload left in the bucket.

    Args:
        content: the manifest as it is stored.
        head: what it says of the whole, as text: `instance_id`, `group`, `started`, `finished`.
        ignored: what matched and was no regular file, and what it was.
    """

    url: str
    content: bytes
    head: Mapping[str, str]
    entries: tuple[Entry, ...]
    ignored: Mapping[str, str]


def place(url: str) -> tuple[str, str]:
    """Bucket, and key of the manifest, of `s3://BUCKET/PREFIX` or of the manifest's own address.

    Raises:
        UsageError: it is none.
    """
    match = _PLACE.fullmatch(url)
    prefix = match[2].rstrip("/") if match else ""
    if not match or not prefix:
        raise UsageError(
            f"'{printable(url)}' is not the address of an upload",
            "write s3://BUCKET/PREFIX, as `logs upload` and report.json name it",
        )
    return match[1], prefix if prefix.endswith("/" + MANIFEST) else f"{prefix}/{MANIFEST}"


def load(bucket: Bucket, key: str, deadline: Deadline) -> Saved:
    """The manifest at `key`.

    Raises:
        S3Error: it cannot be had.
        LifecycleAgentError: it is none of ours.
    """
    url = f"s3://{bucket.bucket}/{key}"
    try:
        stream = bucket.open(key, deadline)
    except S3Error as error:
        if error.code not in NOT_THERE:
            raise
        raise S3Error(
            f"there is no {url}",
            "correct the address; an upload that was cut off has no manifest, run it again where that can be",
            error.code,
        ) from error
    content = bytearray()
    try:
        while len(content) <= MOST_BYTES and (block := stream.read(BLOCK)):
            content += block
    finally:
        stream.close()
    try:
        return read(bytes(content), url, key)
    except Unproven as error:
        raise LifecycleAgentError(
            f"{url} {error}", "give the address of an upload of this agent, or a newer agent for a newer one"
        ) from error


def read(content: bytes, url: str, key: str) -> Saved:
    """The manifest as objects, every type in it checked.

    Raises:
        Unproven: it is not a manifest, or names what it may not.
    """
    if len(content) > MOST_BYTES:
        raise Unproven(f"is no manifest: more than {MOST_BYTES} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unproven(f"is no manifest: {printable(str(error))}") from error
    if not isinstance(document, dict) or not _is(document.get("schema"), int):
        raise Unproven("is no manifest: it has no schema")
    if document["schema"] > SCHEMA:
        raise Unproven(f"is of schema {document['schema']}, this agent knows up to {SCHEMA}")
    try:
        head = {name: _get(document, name, str) for name in ("instance_id", "group", "started", "finished")}
        entries = tuple(_entry(item, key) for item in _get(document, "files", list))
        ignored = {_name(item, "source"): _get(item, "why", str) for item in document.get("ignored", [])}
    except (Unproven, TypeError, AttributeError) as error:
        raise Unproven(f"is no manifest: {error}") from error
    return Saved(url, content, head, entries, ignored)


def file_of(entry: Entry) -> tuple[bytes, ...]:
    """Where a source goes below a directory of fetched files: one name for each level, exactly as it was.

    Raises:
        Unproven: its name can be no file's.
    """
    raw = os.fsencode(entry.source)
    if raw.startswith(b"/"):
        names = (b"files", *raw[1:].split(b"/"))
    elif entry.source.startswith(JOURNAL_OF) and entry.key:
        suffix = CODECS[entry.compression].suffix
        names = (b"journal", keys.decoded(entry.key.rpartition("/")[2].removesuffix(suffix)))
    else:
        names = (b"agent", raw)
    for name in names:
        if name in (b"", b".", b"..") or b"\0" in name or b"/" in name:
            raise Unproven("can be no file below a directory: its name has an empty or a relative part")
    return names


def printable(name: str) -> str:
    r"""A name, or anything else from outside, on one line of text that no terminal acts on.

    What can be shown is left as it is. A byte that is not UTF-8 is `\xNN`, a character `\uNNNN`.
    """
    return "".join(each if each.isprintable() and each != "\\" else _escaped(each) for each in name)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how os.fsdecode has a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return character.encode("unicode_escape").decode()
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _entry(item: Any, manifest_key: str) -> Entry:
    names = {name: _name(item, name) for name in ("source", "same_as")}
    plain: dict[str, Any] = {
        each.name: _get(item, each.name, type(each.default), each.default)
        for each in fields(Entry)
        if each.name not in names
    }
    entry = Entry(**{**plain, **names})
    if not entry.source:
        raise Unproven("a file has no name")
    problem = _problem(entry, manifest_key)
    if problem:
        raise Unproven(f"{printable(entry.source)}: {problem}")
    return entry


def _problem(entry: Entry, manifest_key: str) -> str:
    if entry.compression not in CODECS:
        return f"compression '{printable(entry.compression)}' is unknown"
    if entry.bytes < 0 or entry.stored_bytes < 0:
        return "a size is negative"
    if entry.checksum and not _is_crc32(entry.checksum):
        return f"checksum '{printable(entry.checksum)}' is no CRC32"
    if entry.key and not entry.same_as and not _SHA256.fullmatch(entry.sha256):
        return f"sha256 '{printable(entry.sha256)}' is none"
    if entry.key and not (entry.key.isprintable() and _is_ours(entry.key, manifest_key)):
        return f"key '{printable(entry.key)}' is not of this upload"
    return ""


def _is_ours(key: str, manifest_key: str) -> bool:
    """Below the manifest's own prefix, or among what the same instance has shipped before its end."""
    prefix = manifest_key.rpartition("/")[0]
    closed = f"{prefix.rpartition('/')[0]}/closed"
    return any(key.startswith(f"{each}/") for each in (prefix, closed))


def _is_crc32(checksum: str) -> bool:
    try:
        return len(base64.b64decode(checksum, validate=True)) == 4
    except ValueError:
        return False


def _name(item: Any, field: str) -> str:
    """A name as os.fsdecode has it, from its text or, where that is not all of it, its bytes."""
    try:
        encoded = _get(item, f"{field}_base64", str, "")
        raw = base64.b64decode(encoded, validate=True) if encoded else _get(item, field, str, "").encode()
    except ValueError as error:
        raise Unproven(f"{field} is no name: {error}") from error
    return os.fsdecode(raw)


def _get(item: Any, name: str, kind: type[Any], default: Any = None) -> Any:
    if not isinstance(item, dict):
        raise Unproven("what should be a table is none")
    value = item.get(name, default)
    if not _is(value, kind):
        raise Unproven(f"{name} is missing or of the wrong kind")
    return value


def _is(value: object, kind: type[Any]) -> bool:
    """JSON's `true` is a number to Python, not to us."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))

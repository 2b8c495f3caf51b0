"""What is already in the bucket, on disk: an upload that was cut off sends only the rest."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from lifecycle_agent.files import read_regular, regular_only, replace
from lifecycle_agent.steps.logs.manifest import Entry

T = TypeVar("T", Entry, "Begun", "SentPart")

# An entry is some 500 bytes: this is more than the files that are selected at most. A larger one is not ours.
MOST_BYTES = 128 * 1024 * 1024
# A file smaller than this is not worth making smaller.
SMALL = 1024 * 1024


@dataclass(frozen=True)
class SentPart:
    """A part that is in the bucket.

    Args:
        number: from 1 on.
        start, end: where it is in the original.
        sha256: of the original up to `end`, in hex.
        stored_bytes: of this part as it is stored.
        crc: CRC32 of those.
    """

    number: int
    start: int
    end: int
    sha256: str
    stored_bytes: int
    crc: int
    etag: str = ""


@dataclass
class Begun:
    """A multipart upload that was begun.

    Args:
        parts: those that were sent, by their number.
        hard: whether a part was compressed hard, by its number: made again, it must end at the same place.
    """

    upload_id: str
    key: str
    parts: dict[int, SentPart] = field(default_factory=dict)
    hard: dict[int, bool] = field(default_factory=dict)


class Record:
    """A file of JSON lines that survives the process. It saves work and is never needed: a disk that is full
    or a line that is torn means that something is sent once more.

    `sent` has what was in the bucket whole at the start, by key and identity of the source; `begun` the
    multipart uploads that nobody has ended, by key; `in_parts` the keys of all that were ever begun;
    `lost` says why something could not be remembered.

    Args:
        path: None to remember nothing.
        place: bucket, prefix and compression; a file of another place is begun anew.
    """

    def __init__(self, path: Path | None, place: str) -> None:
        self._path = path
        self._place = place
        self._lock = threading.Lock()
        self.sent: dict[tuple[str, str], Entry] = {}
        self.begun: dict[str, Begun] = {}
        self.in_parts: set[str] = set()
        self.lost = ""
        if path is None or not self._recall(path):
            self._start()

    @classmethod
    def look(cls, path: Path, place: str) -> Record:
        """What the file at `path` says; it is left alone, and so is what becomes of this."""
        record = cls(None, place)
        record._recall(path)
        return record

    def size(self) -> int:
        """Bytes of the file."""
        try:
            return self._path.stat().st_size if self._path else 0
        except OSError:
            return 0

    def keep(self, identities: Container[str]) -> None:
        """Forget what was sent of all other sources, where that makes the file half as large."""
        size = self.size()
        if self._path is None or size <= SMALL:
            return
        sent = {known: entry for known, entry in self.sent.items() if known[1] in identities}
        lines = [{"place": self._place}, *(_sent(identity, entry) for (_, identity), entry in sent.items())]
        for begun in self.begun.values():
            lines += _begun(begun)
        data = b"".join(map(_encoded, lines))
        if len(data) > size / 2:
            return
        try:
            replace(self._path, data, mode=0o600)
        except OSError as error:
            self.lost = str(error)
        else:
            self.sent = sent

    def done(self, identity: str, entry: Entry) -> None:
        """`entry` is in the bucket, all of it; `identity` tells whether the source is still the same."""
        if identity:
            self._write(_sent(identity, entry))

    def begin(self, begun: Begun) -> None:
        """A multipart upload begins; whoever finds no end to it goes on with it, or aborts it."""
        with self._lock:
            self.begun[begun.key] = begun
            self.in_parts.add(begun.key)
        self._write(_begin(begun))

    def made(self, begun: Begun, number: int, hard: bool) -> None:
        """A part of it is about to be sent."""
        with self._lock:
            begun.hard[number] = hard
        self._write(_made(begun, number, hard))

    def part(self, begun: Begun, part: SentPart) -> None:
        """A part of it is in the bucket."""
        with self._lock:
            begun.parts[part.number] = part
        self._write(_part(begun, part))

    def end(self, key: str) -> None:
        """The multipart upload to `key` was completed or aborted, if there was one."""
        with self._lock:
            begun = self.begun.pop(key, None)
        if begun is not None:
            self._write({"end": begun.upload_id, "key": key})

    def _recall(self, path: Path) -> bool:
        """Whether the file is one of this place."""
        lines = _read(path)
        if not lines or lines[0].get("place") != self._place:
            return False
        for line in lines[1:]:
            self._replay(line)
        return True

    def _replay(self, line: dict[str, Any]) -> None:
        try:
            if "entry" in line:
                entry = _typed(Entry(**line["entry"]))
                self.sent[entry.key, line["identity"]] = entry
                return
            key = line["key"]
            begun = self.begun.get(key)
            if "begin" in line:
                self.begun[key] = _typed(Begun(line["begin"], key))
                self.in_parts.add(key)
            elif begun is None:
                return
            elif line.get("made") == begun.upload_id:
                begun.hard[line["number"]] = line["hard"]
            elif line.get("part") == begun.upload_id:
                values = {name: line[name] for name in SentPart.__dataclass_fields__}
                begun.parts[values["number"]] = _typed(SentPart(**values))
            elif line.get("end") == begun.upload_id:
                del self.begun[key]
        except (KeyError, TypeError):
            return

    def _start(self) -> None:
        if self._path is None:
            return
        try:
            os.close(regular_only(str(self._path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        except OSError as error:
            self._path, self.lost = None, str(error)
        self._write({"place": self._place})

    def _write(self, line: dict[str, Any]) -> None:
        if self._path is None:
            return
        data = _encoded(line)
        with self._lock:
            try:
                fd = regular_only(str(self._path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                try:
                    os.write(fd, data)
                finally:
                    os.close(fd)
            except OSError as error:
                self.lost = str(error)


def _typed(read: T) -> T:
    """What was read, if its numbers are numbers and its texts texts.

    Raises:
        TypeError: they are not.
    """
    kinds = {"str": str, "int": int, "bool": bool}
    for each in fields(read):
        kind = kinds.get(str(each.type), object)
        if not isinstance(value := getattr(read, each.name), kind):
            raise TypeError(f"{each.name}: {value!r}")
    return read


def _sent(identity: str, entry: Entry) -> dict[str, Any]:
    return {"identity": identity, "entry": asdict(entry)}


def _begin(begun: Begun) -> dict[str, Any]:
    return {"begin": begun.upload_id, "key": begun.key}


def _made(begun: Begun, number: int, hard: bool) -> dict[str, Any]:
    return {"made": begun.upload_id, "key": begun.key, "number": number, "hard": hard}


def _part(begun: Begun, part: SentPart) -> dict[str, Any]:
    return {"part": begun.upload_id, "key": begun.key, **asdict(part)}


def _begun(begun: Begun) -> Iterator[dict[str, Any]]:
    """All that there is to say of it."""
    yield _begin(begun)
    for number, hard in begun.hard.items():
        yield _made(begun, number, hard)
    for part in begun.parts.values():
        yield _part(begun, part)


def _encoded(line: dict[str, Any]) -> bytes:
    # A line break on both sides: one that follows a torn line stays whole. One write, so lines never mix.
    return b"\n" + json.dumps(line).encode() + b"\n"


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        data = read_regular(path, MOST_BYTES)
    except OSError:
        return []
    lines = []
    for raw in data.splitlines():
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines

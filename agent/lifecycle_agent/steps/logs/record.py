"""What is already in the bucket, on disk: an upload that was cut off sends only the rest."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lifecycle_agent.files import read_regular, regular_only
from lifecycle_agent.steps.logs.manifest import Entry

# An entry is some 500 bytes: this is sixty thousand files. A file larger than that is not ours.
MOST_BYTES = 32 * 1024 * 1024


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

    `sent` has what is in the bucket whole, by key and identity of the source; `begun` the multipart uploads
    that nobody has ended, by key.

    Args:
        path: None to remember nothing.
        place: bucket, prefix and compression; a file of another place is begun anew.
    """

    def __init__(self, path: Path | None, place: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.sent: dict[tuple[str, str], Entry] = {}
        self.begun: dict[str, Begun] = {}
        lines = _read(path) if path else []
        if lines and lines[0].get("place") == place:
            for line in lines[1:]:
                self._replay(line)
        else:
            self._start(place)

    def done(self, identity: str, entry: Entry) -> None:
        """`entry` is in the bucket, all of it; `identity` tells whether the source is still the same."""
        if identity:
            self._write({"identity": identity, "entry": asdict(entry)})

    def begin(self, begun: Begun) -> None:
        """A multipart upload begins; whoever finds no end to it goes on with it, or aborts it."""
        with self._lock:
            self.begun[begun.key] = begun
        self._write({"begin": begun.upload_id, "key": begun.key})

    def made(self, begun: Begun, number: int, hard: bool) -> None:
        """A part of it is about to be sent."""
        with self._lock:
            begun.hard[number] = hard
        self._write({"made": begun.upload_id, "key": begun.key, "number": number, "hard": hard})

    def part(self, begun: Begun, part: SentPart) -> None:
        """A part of it is in the bucket."""
        with self._lock:
            begun.parts[part.number] = part
        self._write({"part": begun.upload_id, "key": begun.key, **asdict(part)})

    def end(self, begun: Begun) -> None:
        """It was completed or aborted."""
        with self._lock:
            self.begun.pop(begun.key, None)
        self._write({"end": begun.upload_id, "key": begun.key})

    def _replay(self, line: dict[str, Any]) -> None:
        try:
            if "entry" in line:
                entry = Entry(**line["entry"])
                self.sent[entry.key, line["identity"]] = entry
                return
            key = line["key"]
            begun = self.begun.get(key)
            if "begin" in line:
                self.begun[key] = Begun(line["begin"], key)
            elif begun is None:
                return
            elif line.get("made") == begun.upload_id:
                begun.hard[line["number"]] = line["hard"]
            elif line.get("part") == begun.upload_id:
                values = {name: line[name] for name in SentPart.__dataclass_fields__}
                begun.parts[values["number"]] = SentPart(**values)
            elif line.get("end") == begun.upload_id:
                del self.begun[key]
        except (KeyError, TypeError):
            return

    def _start(self, place: str) -> None:
        if self._path is None:
            return
        try:
            os.close(regular_only(str(self._path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        except OSError:
            self._path = None
        self._write({"place": place})

    def _write(self, line: dict[str, Any]) -> None:
        if self._path is None:
            return
        # A line break on both sides: one that follows a torn line stays whole. One write, so lines never mix.
        data = b"\n" + json.dumps(line).encode() + b"\n"
        with self._lock:
            try:
                fd = regular_only(str(self._path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                try:
                    os.write(fd, data)
                finally:
                    os.close(fd)
            except OSError:
                return


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        data = read_regular(path, MOST_BYTES)
    except OSError:
        return []
    lines = []
    for raw in data.splitlines():
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines

"""What is already in the bucket, on disk: a step that was cut off sends only the rest."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lifecycle_agent.files import read_regular, regular_only
from lifecycle_agent.steps.logs.manifest import Entry

# An entry is some 300 bytes: this is a hundred thousand files. A file larger than that is not ours.
MOST_BYTES = 32 * 1024 * 1024


class Progress:
    """A file of JSON lines that survives the process. It saves work and is never needed: a disk that is full
    or a line that is torn means that something is sent once more.

    Args:
        path: None to remember nothing.
        place: bucket, prefix and compression; a file of another place is begun anew.
    """

    def __init__(self, path: Path | None, place: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.sent: dict[tuple[str, str], Entry] = {}
        self.begun: dict[str, str] = {}
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

    def begin(self, key: str, upload_id: str) -> None:
        """A multipart upload begins; whoever finds no end to it has to abort it."""
        self._write({"begin": upload_id, "key": key})

    def end(self, upload_id: str) -> None:
        """It was completed or aborted."""
        self._write({"end": upload_id})

    def _replay(self, line: dict[str, Any]) -> None:
        try:
            if "entry" in line:
                entry = Entry(**line["entry"])
                self.sent[entry.key, line["identity"]] = entry
            elif "begin" in line:
                self.begun[line["begin"]] = line["key"]
            elif "end" in line:
                self.begun.pop(line["end"], None)
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

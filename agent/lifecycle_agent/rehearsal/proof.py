"""Whether the logs are in S3: every object fetched, decompressed and compared with what was on the disk.

Nothing here is the agent's code: the truth is the disk of the machine that is gone, and the bucket is
read with plain requests. Only the manifest's form is known to both.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

REQUEST_SECONDS = 10.0
# The emulated S3 takes any signature, but wants to see one.
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=judge/20200101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=none"
}


class Bucket:
    """A bucket of the emulated S3.

    Args:
        url: the S3 endpoint.
    """

    def __init__(self, url: str, name: str) -> None:
        self._host = urlsplit(url).netloc
        self.name = name

    def create(self) -> None:
        """Make the bucket, with nothing in it.

        The emulated S3 is the whole process's: another world may have had a bucket of this name.

        Raises:
            OSError: it could not be made.
        """
        self._request("PUT", "")
        for key in self.listing():
            self._request("DELETE", "/" + quote(key))

    def listing(self, prefix: str = "") -> list[str]:
        """The keys of all objects under `prefix`."""
        keys: list[str] = []
        token = ""
        while True:
            query = {"list-type": "2", "prefix": prefix, **({"continuation-token": token} if token else {})}
            page = ElementTree.fromstring(self._request("GET", f"?{urlencode(query)}"))  # noqa: S314 - ours
            keys += [key.text or "" for key in page.findall(".//{*}Key")]
            token = page.findtext("{*}NextContinuationToken") or ""
            if not token:
                return keys

    def save(self, directory: Path) -> None:
        """Write all objects below a directory, under their keys."""
        for key in self.listing():
            path = directory.joinpath(*(part for part in key.split("/") if part not in ("", ".", "..")))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(key))

    def get(self, key: str) -> bytes:
        """An object's bytes as they are stored."""
        return self._request("GET", "/" + quote(key))

    def _request(self, method: str, rest: str) -> bytes:
        connection = http.client.HTTPConnection(self._host, timeout=REQUEST_SECONDS)
        try:
            connection.request(method, f"/{self.name}{rest}", headers=SIGNED)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status not in (200, 204):
            raise OSError(f"{method} {rest}: status {answer.status}")
        return content


class Objects(Protocol):
    """What the judge needs of a bucket."""

    def listing(self, prefix: str = "") -> list[str]:
        """All keys."""
        ...

    def get(self, key: str) -> bytes:
        """An object as it is stored."""
        ...


@dataclass(frozen=True)
class LogProof:
    """What became of the log files that were on the machine.

    Args:
        files: how many there were, with `bytes` in all.
        missing: those that are not in S3, or not as they were, one sentence each.
        stored: bytes in S3.
        manifest: the manifest's key; empty when there is none.
    """

    files: int
    bytes: int
    missing: tuple[str, ...]
    stored: int = 0
    manifest: str = ""

    @property
    def proven(self) -> bool:
        """Whether every file is in S3 as it was on the disk."""
        return bool(self.manifest) and not self.missing


def truth(directory: Path) -> dict[str, Path]:
    """The log files that were on the machine, by their path below `directory`."""
    return {str(path.relative_to(directory)): path for path in sorted(directory.rglob("*")) if path.is_file()}


def prove(bucket: Objects, logs: Path, was: Path) -> LogProof:
    """Compare what is in the bucket with what was on the disk.

    Args:
        logs: the log directory as it is now.
        was: where it was while the machine lived: the paths in the manifest.
    """
    files = truth(logs)
    total = sum(path.stat().st_size for path in files.values())
    manifests = [key for key in bucket.listing() if key.rpartition("/")[2] == "manifest.json"]
    if not manifests:
        return LogProof(len(files), total, tuple(f"{name}: no manifest" for name in files))
    try:
        entries = {entry["source"]: entry for entry in json.loads(bucket.get(manifests[-1]))["files"]}
    except (ValueError, KeyError, TypeError) as error:
        return LogProof(len(files), total, (f"the manifest cannot be read: {error!r}",))
    missing: list[str] = []
    stored = 0
    for name, path in files.items():
        entry = entries.get(str(was / name))
        if entry is None:
            missing.append(f"{name}: not in the manifest")
            continue
        try:
            raw = bucket.get(entry["key"])
            wrong = _compare(path.read_bytes(), _decompressed(raw, entry["compression"]), entry)
        except Exception as error:  # a broken object, however it is broken, is no proof
            raw, wrong = b"", f"{type(error).__name__}: {error}"
        stored += len(raw)
        if wrong:
            missing.append(f"{name}: {wrong}")
    return LogProof(len(files), total, tuple(missing), stored, manifests[-1])


def _decompressed(raw: bytes, compression: str) -> bytes:
    """The file's bytes."""
    if compression == "zstd":
        import zstandard

        # An object may be several frames in a row (RFC 8878, 3).
        reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw), read_across_frames=True)
        return reader.read()
    return gzip.decompress(raw) if compression == "gzip" else raw


def _compare(on_disk: bytes, in_s3: bytes, entry: dict[str, Any]) -> str:
    """What is wrong with a file in S3; empty when nothing is."""
    if len(in_s3) != len(on_disk):
        return f"{len(in_s3)} of {len(on_disk)} bytes are in S3"
    if in_s3 != on_disk:
        return "other bytes are in S3"
    if entry["bytes"] != len(on_disk) or entry["sha256"] != hashlib.sha256(on_disk).hexdigest():
        return "the manifest says something else"
    return ""

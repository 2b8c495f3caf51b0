"""Object keys: whatever a file is called, its key is plain text, its own, and below the prefix."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from urllib.parse import quote_from_bytes, unquote_to_bytes

# S3 takes 1024 bytes of UTF-8 (its user guide, "Naming Amazon S3 objects").
KEY_LIMIT = 1024
# The prefix, once it is filled in: half of the key is the file's.
PREFIX_LIMIT = 512


def prefix(template: str, values: Mapping[str, str]) -> str:
    """The prefix with its placeholders filled, without a slash at either end.

    What makes a transition unique and is not in the template is added at its end: two instances, or two
    transitions of one, must never write over each other's logs.
    """
    for name in ("instance_id", "time"):
        if "{" + name + "}" not in template:
            template = template.rstrip("/") + "/{" + name + "}"

    filled = re.sub(r"\{(\w+)\}", lambda found: _safe(values[found[1]]), template).strip("/")
    return filled if len(filled.encode()) <= PREFIX_LIMIT else _cut(filled, filled, PREFIX_LIMIT)


def key(prefix: str, kind: str, name: str, suffix: str) -> str:
    """The key of `name` (a path, or any name) below `prefix`/`kind`.

    Different names have different keys, and none becomes another path when a tool decodes it, however often.
    Encoding keeps them readable; one that gets too long is cut and ends with a hash of the name.
    """
    whole = "/".join([prefix, kind, *(_safe(part) for part in name.split("/") if part)]) + suffix
    if len(whole.encode()) <= KEY_LIMIT:
        return whole
    return mark(whole, name, suffix)


def mark(key: str, name: str, suffix: str) -> str:
    """`key` made unique by a hash of the name it stands for, `suffix` still at its end."""
    return _cut(key.removesuffix(suffix), name, KEY_LIMIT - len(suffix)) + suffix


def decoded(part: str) -> bytes:
    """The part of a name that a part of a key stands for, unless it was cut."""
    return unquote_to_bytes(re.sub("~(..)", r"%\1", part).rstrip("~"))


def _cut(text: str, name: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, ending with a hash of `name` behind a `~~`, which is nowhere else."""
    digest = "~~" + hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return text.encode()[: limit - len(digest)].decode(errors="ignore") + digest


def _safe(part: str) -> str:
    """One part of a path: letters, digits and `-_.` as they are, every other byte as %XX.

    But ~XX for what would be a separator, or the begin of something else to decode, in a tool that decodes
    %XX; and a `~` behind `.` and `..`, which are directories to tools that make files of keys.
    """
    quoted = quote_from_bytes(os.fsencode(part), safe="").replace("~", "~7E")
    for separator in ("25", "2F", "5C"):
        quoted = quoted.replace(f"%{separator}", f"~{separator}")
    return quoted + "~" if part in (".", "..") else quoted

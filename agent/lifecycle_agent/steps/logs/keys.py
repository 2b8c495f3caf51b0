"""Object keys: whatever a file is called, its key is plain text, its own, and below the prefix."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from urllib.parse import quote_from_bytes

# S3 takes 1024 bytes of UTF-8 (its user guide, "Naming Amazon S3 objects"). Ours are ASCII.
KEY_LIMIT = 1024


def prefix(template: str, values: Mapping[str, str]) -> str:
    """The prefix with its placeholders filled, without a slash at either end.

    What makes a transition unique and is not in the template is added at its end: two instances, or two
    transitions of one, must never write over each other's logs.
    """
    for name in ("instance_id", "time"):
        if "{" + name + "}" not in template:
            template = template.rstrip("/") + "/{" + name + "}"
    return re.sub(r"\{(\w+)\}", lambda found: _safe(values[found[1]]), template).strip("/")


def key(prefix: str, kind: str, name: str, suffix: str) -> str:
    """The key of `name` (a path, or any name) below `prefix`/`kind`.

    Different names have different keys. Percent-encoding keeps them readable; one that gets too long is cut
    and ends with a hash of the name, behind a `~` that is in no other key.
    """
    whole = "/".join([prefix, kind, *(_safe(part) for part in name.split("/") if part)]) + suffix
    if len(whole.encode()) <= KEY_LIMIT:
        return whole
    return mark(whole, name, suffix)


def mark(key: str, name: str, suffix: str) -> str:
    """`key` made unique by a hash of the name it stands for, `suffix` still at its end."""
    digest = "~" + hashlib.sha256(os.fsencode(name)).hexdigest()[:32] + suffix
    body = key.removesuffix(suffix).encode()[: KEY_LIMIT - len(digest)].decode(errors="ignore")
    return body + digest


def _safe(part: str) -> str:
    """One part of a path: letters, digits and `-_.` as they are, every other byte as %XX.

    `.` and `..` as whole parts would be taken for directories by tools that make files of keys again.
    """
    quoted = quote_from_bytes(os.fsencode(part)).replace("~", "%7E").replace("/", "%2F")
    return quoted.replace(".", "%2E") if part in (".", "..") else quoted

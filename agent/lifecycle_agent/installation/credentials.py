"""The secrets that a configuration names, as credentials of the service (systemd.exec(5))."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifecycle_agent.installation.place import CREDENTIALS, Place

# The `_file` keys of `config.py` whose file is no secret: it need not be hidden, and may be large.
NOT_SECRET = ("ca_file",)

# Narrower than what systemd takes: nothing here needs quotes, and a colon would end the name.
_ID = re.compile(r"[A-Za-z0-9_.@+=-]{1,255}")


@dataclass(frozen=True)
class Credential:
    """A file with a secret, and the name under which the service gets it."""

    id: str
    file: Path


def credentials(
    values: Mapping[str, Any], place: Place, before: bytes | None = None
) -> tuple[list[Credential], list[str]]:
    """What the service is to be given, of the configuration's values; and what to warn of.

    The name is the base name, as `values.Place.find` looks it up: so two files of one base name would
    be taken for each other, and none of them can be a credential. A file that is not there may be
    a credential of the operator's own making.

    Args:
        values: the configuration's, as TOML has them.
        before: the drop-in as it is now: what it gives to the service was found by an earlier installation.
    """
    named: dict[str, set[Path]] = {}
    secret: set[Path] = set()
    for key, name in _file_keys(values):
        file = _normal(place.config.parent / name, place)
        named.setdefault(file.name, set()).add(file)
        if key not in NOT_SECRET:
            secret.add(file)
    found, warnings = [], []
    for file in sorted(secret):
        if not os.path.isfile(place.at(file)):
            ours = f"LoadCredential={file.name}:".encode() in (before or b"")
            if ours and place.at(CREDENTIALS / file.name).exists():  # else reading it has failed already
                warnings.append(f"{file} is gone: the service has it until it is restarted, and fails then")
            continue
        others = sorted(map(str, named[file.name] - {file}))
        if others:
            warnings.append(f"{file} is no credential: {others[0]} has the same name; rename one of them")
        elif not _ID.fullmatch(file.name) or not str(file).isprintable():
            warnings.append(f"{file} is no credential: use letters, digits, - and _ in its name")
        else:
            found.append(Credential(file.name, file))
        if place.at(file).stat().st_mode & stat.S_IROTH:
            warnings.append(f"{file} is a secret that everybody can read: chmod 600 {file}")
    return found, warnings


def differ(found: Sequence[Credential], place: Place) -> bool:
    """Whether what the running service was given is not what is in the files now."""
    try:
        return any(
            place.at(CREDENTIALS / each.id).read_bytes() != place.at(each.file).read_bytes() for each in found
        )
    except OSError:
        return True


def _file_keys(values: Any) -> Iterator[tuple[str, str]]:
    """Every `_file` key, however deep, with the name that it has."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            if key.endswith("_file") and isinstance(value, str):
                yield key, value
            yield from _file_keys(value)
    elif isinstance(values, list):
        for value in values:
            yield from _file_keys(value)


def _normal(file: Path, place: Place) -> Path:
    """The path without the `..` that systemd does not take, leading to the same file."""
    if ".." not in file.parts:
        return file
    directory = os.path.realpath(place.at(file.parent))
    return Path("/", os.path.relpath(directory, os.path.realpath(place.root)), file.name)

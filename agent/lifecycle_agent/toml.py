"""Reads TOML into frozen dataclasses, and says what is wrong with file and key.

The fields of the dataclasses are made by the functions of `values.py`. What is not a field is an
unknown key, and said so with the nearest known one.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from lifecycle_agent.errors import UsageError
from lifecycle_agent.files import read_regular
from lifecycle_agent.values import Place, Wrong, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

# A configuration is read by people; a larger file is some other file. Also, the parser's time grows with
# the square of a hostile one.
MOST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Document:
    """TOML files laid over each other, the main one first, with the file that each key came from."""

    values: Mapping[str, Any]
    origins: Mapping[str, Path]
    files: tuple[Path, ...]
    environ: Mapping[str, str]
    forgives: bool = False

    @classmethod
    def read(cls, main: Path, environ: Mapping[str, str]) -> Document:
        """Read `main` and the `config.d/*.toml` beside it, in the order of their names.

        Raises:
            UsageError: one cannot be read, or is not TOML.
        """
        values: dict[str, Any] = {}
        origins: dict[str, Path] = {}
        files = (main, *_drop_ins(main.parent / "config.d"))
        for file in files:
            try:
                _lay_over(values, _parse(file), origins, file, "")
            except RecursionError as error:
                raise UsageError(
                    f"{file}: is nested too deeply", "nothing here needs that: remove it"
                ) from error
        return cls(values, origins, files, environ)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any], environ: Mapping[str, str]) -> Document:
        """The document that `as_json` made JSON of."""
        origins = {key: Path(file) for key, file in kept["origins"].items()}
        return cls(kept["values"], origins, tuple(Path(file) for file in kept["files"]), environ)

    def as_json(self) -> dict[str, Any]:
        """What was read, for another process to use when the files have changed. Secrets are not in it."""
        origins = {key: str(file) for key, file in self.origins.items()}
        return {"values": self.values, "origins": origins, "files": [str(file) for file in self.files]}

    def forgiving(self) -> Document:
        """The same, with a file named in a `_file` key that cannot be used read as if none were named."""
        return replace(self, forgives=True)

    def error(self, key: str, what: str, hint: str) -> UsageError:
        """The error for `key` (dotted): names the file that it stands in."""
        return UsageError(f"{self._origin(key)}: {key} {what}", hint)

    def into(self, section: type[T]) -> T:
        """Make the dataclass `section` of the whole document.

        Raises:
            UsageError: a key is unknown, a value cannot be used, or a required one is missing.
        """
        return self._section(section, self.values, "", {"document": self})

    def part(self, key: str, section: type[T]) -> T:
        """Make the dataclass `section` of the table `key` alone, of an empty one where it is not there.

        Raises:
            UsageError: as `into`, for what is in that table.
        """
        return self._section(section, self.values.get(key, {}), key, {})

    def _origin(self, key: str) -> Path:
        parts = re.sub(r"\[\d+\]", "", key).split(".")
        for length in range(len(parts), 0, -1):
            origin = self.origins.get(".".join(parts[:length]))
            if origin is not None:
                return origin
        return self.files[0]

    def _section(self, section: type[T], values: Any, key: str, more: Mapping[str, Any]) -> T:
        if not isinstance(values, Mapping):
            raise self.error(key, f"is not a table: {shown(values)}", "write a table of key = value")
        known = {item.name: item for item in _fields(section)}
        for name in values:
            if name not in known:
                raise self.error(_dotted(key, name), "is not a known key", _nearest(name, list(known)))
        read = {name: self._value(item, values, _dotted(key, name)) for name, item in known.items()}
        return section(**read, **more)

    def _value(self, item: Field[Any], values: Mapping[str, Any], key: str) -> Any:
        if item.name not in values:
            if item.metadata.get("required"):
                raise self.error(key, "is missing", "set it: it has no default")
            return item.default if item.default_factory is MISSING else item.default_factory()
        value = values[item.name]
        if "section" in item.metadata:
            return self._section(item.metadata["section"], value, key, {})
        if "sections" in item.metadata:
            if not isinstance(value, list):
                raise self.error(
                    key, f"is not a list: {shown(value)}", f"write an array of tables: [[{key}]]"
                )
            section = item.metadata["sections"]
            return tuple(self._section(section, part, f"{key}[{n}]", {}) for n, part in enumerate(value, 1))
        try:
            return item.metadata["reader"](value, Place(self.files[0].parent, self.environ, self.forgives))
        except Wrong as wrong:
            raise self.error(key, wrong.what, wrong.hint) from wrong


def _drop_ins(directory: Path) -> list[Path]:
    try:
        return sorted(directory / name for name in os.listdir(directory) if name.endswith(".toml"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(
            f"{directory}: cannot be read: {error.strerror}", "make it a directory that the agent can read"
        ) from error


def _parse(file: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = tomllib.loads(read_regular(file, MOST_BYTES).decode())
    except OSError as error:
        raise UsageError(
            f"{file}: cannot be read: {error.strerror}", "create it, or name another one with --config PATH"
        ) from error
    except ValueError as error:  # not UTF-8, not TOML, or a number beyond Python's limit
        raise UsageError(
            f"{file}: is not TOML: {error}", "mend the line it names; toml.io shows the syntax"
        ) from error
    return document


def _lay_over(
    values: dict[str, Any], above: Mapping[str, Any], origins: dict[str, Path], file: Path, key: str
) -> None:
    """Lay `above` over `values`: tables key by key, everything else whole."""
    for name, value in above.items():
        dotted = _dotted(key, name)
        origins[dotted] = file
        if isinstance(value, dict):
            if not isinstance(values.get(name), dict):
                values[name] = {}
            _lay_over(values[name], value, origins, file, dotted)
        else:
            values[name] = value


def _fields(section: Any) -> list[Field[Any]]:
    """The fields of a dataclass that a configuration may set."""
    return [item for item in fields(section) if "internal" not in item.metadata]


def _dotted(key: str, name: str) -> str:
    part = name if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name) else shown(name)
    return f"{key}.{part}" if key else part


def _nearest(name: str, known: list[str]) -> str:
    import difflib  # only an error needs it: the watcher does not carry it

    close = difflib.get_close_matches(name, known, 1)
    return f'did you mean "{close[0]}"?' if close else "known here: " + ", ".join(sorted(known))

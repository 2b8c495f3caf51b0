"""Reads TOML into frozen dataclasses: the kinds of value there are, and errors that help.

A dataclass field made by one of the functions here (`duration`, `choice`, `strings` ...) carries the
reader of its value in its metadata. What is not a field is an unknown key, and said so with the
nearest known one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from lifecycle_agent.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

MOST_BYTES = 1024 * 1024  # a configuration is read by people; a larger file is some other file
MOST_SECRET_BYTES = 64 * 1024  # tokens, passwords and URLs are far below this

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class _Wrong(Exception):
    """A value that cannot be used; `Document.error` adds file and key."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


@dataclass(frozen=True)
class Secret:
    """A value that is never shown: not by repr, not in a log, not in an error."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "(secret)"


@dataclass(frozen=True)
class _Place:
    """Where a value stands: what `_file` keys are looked up against."""

    directory: Path
    environ: Mapping[str, str]

    def find(self, name: str) -> Path:
        """The file of that name: in CREDENTIALS_DIRECTORY (systemd.exec(5)) or beside the configuration."""
        credentials = self.environ.get("CREDENTIALS_DIRECTORY")
        if credentials:
            candidate = Path(credentials) / Path(name).name
            if candidate.exists():
                return candidate
        return self.directory / name


Reader = Callable[[Any, _Place], Any]


def _field(reader: Reader, default: Any, required: bool = False) -> Any:
    return field(default=default, metadata={"reader": reader, "required": required})


def parse_duration(text: object) -> float:
    """Seconds of a duration like `"90s"`, `"1h30m"`, `"500ms"`.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(text, str) or not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", text):
        raise ValueError(f"{text!r} is not a duration")
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def duration(default: str, at_least: str = "0s", at_most: str = "48h") -> Any:
    """A field of seconds, written as a string with a unit."""
    least, most = parse_duration(at_least), parse_duration(at_most)

    def read(value: Any, _: _Place) -> float:
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            raise _Wrong(
                f"is not a duration: {value!r}", 'write a string like "90s", "10m" or "1h30m"'
            ) from error
        if not least <= seconds <= most:
            raise _Wrong(f"is out of range: {value!r}", f"use {at_least} to {at_most}")
        return seconds

    return _field(read, parse_duration(default))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"is {_kind(value)}: {value!r}", "write a string in quotes")
    if any(ord(character) < 32 for character in value):
        raise _Wrong(f"has a control character in it: {value!r}", "remove it")
    return value


def string(default: str, required: bool = False) -> Any:
    """A field of text."""

    def read(value: Any, _: _Place) -> str:
        text = _text(value)
        if required and not text:
            raise _Wrong("is empty", "give it a value")
        return text

    return _field(read, default, required)


def choice(*words: str, required: bool = False) -> Any:
    """A field that is one of `words`; the first is the default."""

    def read(value: Any, _: _Place) -> str:
        if value not in words:
            raise _Wrong(f"is {value!r}", "use one of " + ", ".join(f'"{word}"' for word in words))
        return str(value)

    return _field(read, words[0], required)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Wrong(f"is {_kind(value)}: {value!r}", "write a list: [ ... ]")
    return value


def strings(*default: str, among: tuple[str, ...] = (), required: bool = False) -> Any:
    """A field that is a list of texts, each not empty and, where `among` is given, one of those."""

    def read(value: Any, _: _Place) -> tuple[str, ...]:
        texts = tuple(_text(item) for item in _list(value))
        if required and not texts:
            raise _Wrong("is an empty list", "give it at least one value")
        for text in texts:
            if not text:
                raise _Wrong("has an empty string in it", "remove it")
            if among and text not in among:
                raise _Wrong(f"has {text!r} in it", "use " + ", ".join(f'"{word}"' for word in among))
        return texts

    return _field(read, default, required)


def ports() -> Any:
    """A field that is a list of TCP port numbers."""

    def read(value: Any, _: _Place) -> tuple[int, ...]:
        for item in _list(value):
            if not isinstance(item, int) or isinstance(item, bool) or not 0 < item < 65536:
                raise _Wrong(f"has {item!r} in it", "use port numbers from 1 to 65535")
        return tuple(value)

    return _field(read, ())


def _url(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", text):
        raise _Wrong(f"is not an http or https URL: {text!r}", 'write it like "http://host:8080/path"')
    if "@" in text.split("/")[2]:
        raise _Wrong("has a user name or password in the URL", "secrets go into a file: see the _file keys")
    return text


def url(required: bool = False) -> Any:
    """A field that is one http or https URL."""
    return _field(lambda value, _: _url(value), "", required)


def urls() -> Any:
    """A field that is a list of http or https URLs, given back without a slash at their ends."""
    return _field(lambda value, _: tuple(_url(item).rstrip("/") for item in _list(value)), ())


def path(default: str | None, secret: bool = False) -> Any:
    """A field that is an absolute path; with `secret` a file name looked up like one (see `_Place.find`)."""

    def read(value: Any, place: _Place) -> Path:
        text = _text(value)
        if secret:
            found = place.find(text)
            if not found.is_file():
                raise _Wrong(
                    f"names a file that is not there: {found}", "put the file there, or mend the name"
                )
            return found
        if not text.startswith("/"):
            raise _Wrong(f"is not an absolute path: {text!r}", "write the path from / on")
        return Path(text)

    return _field(read, Path(default) if default else None)


def secret(required: bool = False) -> Any:
    """A field that names a file with a secret in it; reads as the secret, its line end taken off."""

    def read(value: Any, place: _Place) -> Secret:
        found = place.find(_text(value))
        try:
            with open(found, "rb") as file:
                content = file.read(MOST_SECRET_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise _Wrong(
                f"cannot be read: {found}: {reason}",
                "create the file, readable for the agent, or pass it as a systemd credential of that name",
            ) from error
        if not content:
            raise _Wrong(f"names an empty file: {found}", "write the secret into it")
        return Secret(content)

    return _field(read, None, required)


def table(section: type[Any], optional: bool = False) -> Any:
    """A field that is a TOML table, read as the dataclass `section`; its defaults, or None, where absent."""
    metadata = {"section": section}
    return (
        field(default=None, metadata=metadata)
        if optional
        else field(default_factory=section, metadata=metadata)
    )


def tables(section: type[Any]) -> Any:
    """A field that is an array of TOML tables, each read as the dataclass `section`."""
    return field(default=(), metadata={"sections": section})


@dataclass(frozen=True)
class Document:
    """TOML files laid over each other, with the file that each key came from."""

    values: Mapping[str, Any]
    origins: Mapping[str, Path]
    main: Path
    environ: Mapping[str, str]

    @classmethod
    def read(cls, main: Path, environ: Mapping[str, str]) -> Document:
        """Read `main` and the `config.d/*.toml` beside it, in the order of their names.

        Raises:
            UsageError: one cannot be read, or is not TOML.
        """
        values: dict[str, Any] = {}
        origins: dict[str, Path] = {}
        for file in (main, *sorted((main.parent / "config.d").glob("*.toml"))):
            _lay_over(values, _parse(file), origins, file, "")
        return cls(values, origins, main, environ)

    def error(self, key: str, what: str, hint: str) -> UsageError:
        """The error for `key` (dotted): names the file that it stands in."""
        return UsageError(f"{self._origin(key)}: {key} {what}", hint)

    def into(self, section: type[T]) -> T:
        """Make the dataclass `section` of the whole document.

        Raises:
            UsageError: a key is unknown, a value cannot be used, or a required one is missing.
        """
        sources = tuple(dict.fromkeys((self.main, *self.origins.values())))
        return self._section(section, self.values, "", {"sources": sources})

    def _origin(self, key: str) -> Path:
        parts = re.sub(r"\[\d+\]", "", key).split(".")
        for length in range(len(parts), 0, -1):
            origin = self.origins.get(".".join(parts[:length]))
            if origin is not None:
                return origin
        return self.main

    def _section(self, section: type[T], values: Any, key: str, more: Mapping[str, Any]) -> T:
        if not isinstance(values, Mapping):
            raise self.error(key, f"is {_kind(values)}: {values!r}", f"write a table: [{key}]")
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
                raise self.error(key, f"is {_kind(value)}", f"write an array of tables: [[{key}]]")
            section = item.metadata["sections"]
            return tuple(self._section(section, part, f"{key}[{n}]", {}) for n, part in enumerate(value))
        try:
            return item.metadata["reader"](value, _Place(self._origin(key).parent, self.environ))
        except _Wrong as wrong:
            raise self.error(key, wrong.what, wrong.hint) from wrong


def _parse(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{file}: cannot be read: {error.strerror}", "create it, or name another one with --config PATH"
        ) from error
    if len(content) > MOST_BYTES:
        raise UsageError(
            f"{file}: is larger than {MOST_BYTES} bytes", "name the configuration with --config PATH"
        )
    try:
        document: dict[str, Any] = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
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
        if isinstance(value, dict) and isinstance(values.get(name, {}), dict):
            _lay_over(values.setdefault(name, {}), value, origins, file, dotted)
        else:
            values[name] = value
        origins[dotted] = file


def _fields(section: Any) -> list[Field[Any]]:
    """The fields of a dataclass that a configuration may set."""
    return [item for item in fields(section) if "internal" not in item.metadata]


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "a table" if isinstance(value, Mapping) else names.get(type(value), "a date")


def _nearest(name: str, known: list[str]) -> str:
    import difflib  # only an error needs it: the watcher does not carry it

    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else "known here: " + ", ".join(sorted(known))


__all__ = ["Document", "Secret", "parse_duration"]

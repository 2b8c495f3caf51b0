"""The kinds of value that a configuration has: how each is written, and what is wrong when it isn't.

Each function makes a dataclass field that carries the reader of its value in its metadata; `toml.py`
walks through them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifecycle_agent.files import read_regular

MOST_SECRET_BYTES = 64 * 1024  # tokens, passwords and URLs are far below this
MOST_SHOWN = 60  # characters of a wrong value: enough to find it, and the error stays one line

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Wrong(Exception):
    """A value that cannot be used; `toml.Document` adds file and key."""

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


# Where systemd keeps the credentials of the service of this name while it runs.
SERVICE_CREDENTIALS = "/run/credentials/lifecycle-agent.service"


@dataclass(frozen=True)
class Place:
    """What the name in a `_file` key is looked up against."""

    directory: Path
    environ: Mapping[str, str]
    forgives: bool = False  # whether a file that cannot be used is read as none

    def find(self, name: str) -> Path:
        """The file of that name: a systemd credential (systemd.exec(5)), or beside the configuration."""
        # A command by hand, which systemd gives no CREDENTIALS_DIRECTORY, finds the service's.
        credentials = self.environ.get("CREDENTIALS_DIRECTORY") or SERVICE_CREDENTIALS
        candidate = Path(credentials, Path(name).name)
        if os.path.isfile(candidate):  # unlike Path.is_file, False for a name that is too long
            return candidate
        return self.directory / name


@dataclass(frozen=True)
class Like:
    """What a text must look like: a regular expression for the whole of it, and the same for people."""

    pattern: str
    hint: str


Reader = Callable[[Any, Place], Any]


def shown(value: object) -> str:
    """A wrong value as an error shows it: one short line whatever it is."""
    if isinstance(value, list | Mapping):
        return kind(value)
    text = json.dumps(value, default=str)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def kind(value: object) -> str:
    """What TOML calls a value of this type."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "a table" if isinstance(value, Mapping) else names.get(type(value), "a date")


def parse_duration(text: object) -> float:
    """Seconds of a duration like `"90s"`, `"1h30m"`, `"500ms"`.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(text, str) or not re.fullmatch(r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+", text):
        raise ValueError(f"{shown(text)} is not a duration")
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def duration(default: str, at_least: str = "0s", at_most: str = "48h", word: str = "") -> Any:
    """A field of seconds, written as a string with a unit; `word` may stand instead, and reads as None."""
    least, most = parse_duration(at_least), parse_duration(at_most)

    def read(value: Any, _: Place) -> float | None:
        if word and value == word:
            return None
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            hint = 'write a string like "90s", "10m" or "1h30m"' + (f', or "{word}"' if word else "")
            raise Wrong(f"is not a duration: {shown(value)}", hint) from error
        if not least <= seconds <= most:
            raise Wrong(f"is out of range: {shown(value)}", f"use {at_least} to {at_most}")
        return seconds

    return _field(read, None if default == word else parse_duration(default))


def number(default: int, at_least: int, at_most: int, required: bool = False) -> Any:
    """A field that is a whole number."""

    def read(value: Any, _: Place) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value <= at_most:
            raise Wrong(f"is {shown(value)}", f"use a whole number from {at_least} to {at_most}")
        return value

    return _field(read, default, required)


def boolean() -> Any:
    """A field that is true or false, and false unless it is set."""

    def read(value: Any, _: Place) -> bool:
        if not isinstance(value, bool):
            raise Wrong(f"is not a boolean: {shown(value)}", "write true or false")
        return value

    return _field(read, False)


def string(default: str, like: Like | None = None, required: bool = False) -> Any:
    """A field of text; empty is what it is when it is not set."""

    def read(value: Any, _: Place) -> str:
        text = _text(value)
        if required and not text:
            raise Wrong("is empty", "give it a value")
        if text:
            _check_like(text, like)
        return text

    return _field(read, default, required)


def choice(*words: str, required: bool = False) -> Any:
    """A field that is one of `words`; the first is the default."""

    def read(value: Any, _: Place) -> str:
        if value not in words:
            raise Wrong(f"is {shown(value)}", "use one of " + ", ".join(f'"{word}"' for word in words))
        return str(value)

    return _field(read, words[0], required)


def strings(
    *default: str, like: Like | None = None, among: tuple[str, ...] = (), required: bool = False
) -> Any:
    """A field that is a list of texts, none of them empty."""

    def read(value: Any, _: Place) -> tuple[str, ...]:
        texts = tuple(_text(item) for item in _list(value))
        if required and not texts:
            raise Wrong("is an empty list", "give it at least one value")
        for text in texts:
            if not text:
                raise Wrong("has an empty string in it", "remove it")
            if among and text not in among:
                raise Wrong(f"has {shown(text)} in it", "use " + ", ".join(f'"{word}"' for word in among))
            _check_like(text, like)
        return texts

    return _field(read, default, required)


def texts(at_most: int, key_like: Like, value_like: Like) -> Any:
    """A field that is a table of names to texts."""

    def read(value: Any, _: Place) -> Mapping[str, str]:
        if not isinstance(value, Mapping):
            raise Wrong(f"is not a table: {shown(value)}", 'write a table: { name = "text" }')
        if len(value) > at_most:
            raise Wrong(f"has {len(value)} entries", f"remove some: there may be {at_most}")
        for name, text in value.items():
            _check_like(_text(name), key_like)
            _check_like(_text(text), value_like)
        return dict(value)

    return field(default_factory=dict, metadata={"reader": read})


def ports() -> Any:
    """A field that is a list of TCP port numbers."""

    def read(value: Any, _: Place) -> tuple[int, ...]:
        for item in _list(value):
            if not isinstance(item, int) or isinstance(item, bool) or not 0 < item < 65536:
                raise Wrong(f"has {shown(item)} in it", "use port numbers from 1 to 65535")
        return tuple(value)

    return _field(read, ())


def url(required: bool = False) -> Any:
    """A field that is one http or https URL."""
    return _field(lambda value, _: _url(_text(value)), "", required)


def urls() -> Any:
    """A field that is a list of http or https URLs, given back without a slash at their ends."""
    return _field(lambda value, _: tuple(_url(_text(item)).rstrip("/") for item in _list(value)), ())


def path(default: str | None) -> Any:
    """A field that is an absolute path."""

    def read(value: Any, _: Place) -> Path:
        text = _text(value)
        if not text.startswith("/"):
            raise Wrong(f"is not an absolute path: {shown(text)}", "write the path from / on")
        return Path(text)

    return _field(read, Path(default) if default else None)


def file() -> Any:
    """A field that names a file, looked up like a secret's; the file must be there."""

    def read(value: Any, place: Place) -> Path:
        found = _find(value, place)
        if not os.path.isfile(found):
            raise Wrong(f"names a file that is not there: {found}", "put the file there, or mend the name")
        return found

    return _field(_forgiving(read), None)


def secret(required: bool = False, is_url: bool = False) -> Any:
    """A field that names a file with a secret in it; reads as the secret, its line end taken off."""

    def read(value: Any, place: Place) -> Secret:
        found = _find(value, place)
        try:
            content = read_regular(found, MOST_SECRET_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise Wrong(
                f"cannot be read: {found}: {reason}",
                "create the file, readable for the agent, or pass it as a systemd credential of that name",
            ) from error
        if not content:
            raise Wrong(f"names an empty file: {found}", "write the secret into it")
        if any(ord(character) < 32 for character in content):
            raise Wrong(f"names a file of more than one line: {found}", "write the secret alone into it")
        if is_url and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", content):
            raise Wrong(f"names a file without an http or https URL: {found}", "write the URL alone into it")
        return Secret(content)

    return _field(_forgiving(read), None, required)


def _forgiving(read: Reader) -> Reader:
    """`read`, with None for a file that cannot be used where the place forgives that."""

    def read_or_none(value: Any, place: Place) -> Any:
        try:
            return read(value, place)
        except Wrong:
            if place.forgives:
                return None
            raise

    return read_or_none


def table(section: type[Any], optional: bool = False) -> Any:
    """A field that is a TOML table, read as the dataclass `section`; its defaults, or None, where absent."""
    metadata = {"section": section}
    if optional:
        return field(default=None, metadata=metadata)
    return field(default_factory=section, metadata=metadata)


def tables(section: type[Any]) -> Any:
    """A field that is an array of TOML tables, each read as the dataclass `section`."""
    return field(default=(), metadata={"sections": section})


def _field(reader: Reader, default: Any, required: bool = False) -> Any:
    return field(default=default, metadata={"reader": reader, "required": required})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong(f"is not a string: {shown(value)}", "write a string in quotes")
    if any(ord(character) < 32 for character in value):
        raise Wrong(f"has a control character in it: {shown(value)}", "remove it")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Wrong(f"is not a list: {shown(value)}", "write a list: [ ... ]")
    return value


def _check_like(text: str, like: Like | None) -> None:
    if like is not None and not re.fullmatch(like.pattern, text):
        raise Wrong(f"cannot be {shown(text)}", like.hint)


def _find(value: Any, place: Place) -> Path:
    """The file that a `_file` key names. Whoever wrote the secret itself there does not get it shown."""
    if not isinstance(value, str) or "://" in value or not value.isprintable() or not value:
        raise Wrong("is not the name of a file", "write the secret into a file, and name that here")
    return place.find(value)


def _url(text: str) -> str:
    from urllib.parse import urlsplit  # `status` and `--help` do without it

    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        hidden = parts.username is not None
    except ValueError:  # a port that is none, half an IPv6 address
        usable, hidden = False, "@" in text
    if hidden:
        raise Wrong("has a user name or password in the URL", "secrets go into a file: see the _file keys")
    if not usable or re.search(r"\s", text):
        raise Wrong(f"is not an http or https URL: {shown(text)}", 'write it like "http://host:8080/path"')
    return text

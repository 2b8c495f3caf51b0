"""The configuration in force, as an installation needs it: with or without its secrets, or the example."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from lifecycle_agent import config, toml
from lifecycle_agent.config import Config
from lifecycle_agent.errors import UsageError
from lifecycle_agent.installation.place import CREDENTIALS, EXAMPLE, Place


@dataclass(frozen=True)
class Configured:
    """What was read.

    Args:
        is_missing: whether there is no configuration yet, so that the example is to be written.
        unreadable: what is wrong with a secret that cannot be read.
    """

    config: Config
    document: toml.Document
    is_missing: bool
    unreadable: UsageError | None = None


def example() -> bytes:
    """The example configuration: comments, and nothing set."""
    return Path(__file__).with_name("config.toml").read_bytes()


def read(place: Place) -> Configured:
    """The configuration of this machine.

    A secret that cannot be read is a warning: it may be a credential of a drop-in that is not ours.

    Raises:
        UsageError: a file cannot be read, or what is in it cannot be used.
    """
    environ = {"CREDENTIALS_DIRECTORY": str(place.at(CREDENTIALS))}
    main = place.at(place.config)
    missing = place.config == EXAMPLE and not os.path.lexists(main)
    document = _with_example(main, environ) if missing else toml.Document.read(main, environ)
    unreadable = None
    try:
        made = config.make(document)
    except UsageError as error:
        made = config.make(document.forgiving())
        unreadable = error
    return Configured(made, document, missing, unreadable)


def _with_example(main: Path, environ: dict[str, str]) -> toml.Document:
    """The document as it will be once the example stands at `main`, where there is nothing yet."""
    with tempfile.TemporaryDirectory() as name:
        stand_in = Path(name)
        stand_in.joinpath(main.name).write_bytes(example())
        if main.with_name("config.d").is_dir():
            stand_in.joinpath("config.d").symlink_to(main.with_name("config.d").absolute())
        try:
            document = toml.Document.read(stand_in / main.name, environ)
        except UsageError as error:
            raise UsageError(error.message.replace(name, str(main.parent)), error.hint) from error
    at_home = {path: main.parent / path.relative_to(stand_in) for path in document.files}
    origins = {key: at_home[path] for key, path in document.origins.items()}
    return replace(document, files=tuple(at_home.values()), origins=origins)

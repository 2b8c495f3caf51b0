"""The drop-in: what systemd must know of the configuration, for it reads no TOML."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lifecycle_agent.clients.units import escaped, whole_name
from lifecycle_agent.config import Config
from lifecycle_agent.files import STATE_DIR
from lifecycle_agent.installation.credentials import Credential
from lifecycle_agent.installation.launcher import quoted
from lifecycle_agent.installation.place import SERVICE, Place
from lifecycle_agent.installation.unit import MARKER

# What systemd waits beyond the agent's own limit, before it kills what is left.
SPARE_SECONDS = 10

# What PrivateTmp= hides from the service (systemd.exec(5)).
_HIDDEN = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - no file is made there


def drop_in_text(config: Config, found: Sequence[Credential], place: Place) -> str:
    """The drop-in for this configuration.

    Raises:
        LifecycleAgentError: a path that no unit can have.
    """
    lines = [
        f"{MARKER}, from {place.config}",
        "# and what is beside it. After a change there: `lifecycle-agent install` again.",
    ]
    units = app_units(config)
    mounts = list(_mounts(config))
    if units or mounts:
        lines += ["", "[Unit]"]
    if units:
        lines.append("# The app's. What starts first stops last: at shutdown the app waits for the agent.")
        lines += [f"After={name}" for name in units]
    if mounts:
        lines.append(
            "# Where logs and state may be mounted, with nofail too: unmounted after the agent has ended."
        )
        lines += [f"After={name}" for name in mounts]
    lines += ["", "[Service]", f"# shutdown.timeout, and {SPARE_SECONDS} s to come to an end."]
    lines.append(f"TimeoutStopSec={math.ceil(config.shutdown.timeout) + SPARE_SECONDS}s")
    if found:
        lines.append("# The secrets that the configuration names; read when the service starts.")
        # The path takes the rest of the line: no quotes are read there, specifiers are.
        lines += [f"LoadCredential={each.id}:{str(each.file).replace('%', '%%')}" for each in found]
    state_dir = _state_dir(config)
    if state_dir not in (None, STATE_DIR):
        lines += ["# agent.state_dir", f"ReadWritePaths=-{quoted(str(state_dir))}"]
    hidden = next((path for path in _needed(config, place) if _is_hidden(path)), None)
    if hidden is not None:
        lines += [f"# {hidden} is needed, and would not be seen.", "PrivateTmp=no"]
    return "\n".join(lines) + "\n"


def app_units(config: Config) -> list[str]:
    """The app's units, whole names: those that are stopped, and those whose journal is saved."""
    saved = config.logs.journal_units if config.logs else ()
    names = dict.fromkeys(map(whole_name, (*config.drain.units, *saved)))
    return [name for name in names if name != SERVICE]


def _state_dir(config: Config) -> Path | None:
    """As systemd takes it: without `..`."""
    return Path(os.path.normpath(config.agent.state_dir)) if config.agent.state_dir is not None else None


def _mounts(config: Config) -> Iterator[str]:
    """The mount units that what is saved, and the state, may be below; nobody asks which ones there are."""
    wanted = list(config.logs.paths) if config.logs else []
    if (state_dir := _state_dir(config)) is not None:
        wanted.append(str(state_dir))
    directories = [Path(*_before_wildcards(Path(pattern).parts)) for pattern in wanted]
    above = (parent for each in directories for parent in (*reversed(each.parents), each))
    return (f"{_unit_of_path(path)}.mount" for path in dict.fromkeys(above) if path != Path("/"))


def _unit_of_path(path: Path) -> str:
    """A path as the name of its unit, as `systemd-escape --path` makes it."""
    name = "-".join(map(escaped, path.parts[1:]))
    return f"\\x2e{name[1:]}" if name.startswith(".") else name


def _needed(config: Config, place: Place) -> Iterator[str]:
    """What the service reads and writes; logs may be globs."""
    yield from (word for word in place.launcher.argv if word.startswith("/"))
    yield str(place.config)
    if config.agent.state_dir is not None:
        yield str(config.agent.state_dir)
    if config.logs is not None:
        yield from config.logs.paths


def _is_hidden(pattern: str) -> bool:
    """Whether something that a glob means may be below one of the hidden directories."""
    fixed = Path(*_before_wildcards(Path(pattern).parts))
    whole = fixed == Path(pattern)
    return any(
        fixed.is_relative_to(hidden) or (not whole and hidden.is_relative_to(fixed)) for hidden in _HIDDEN
    )


def _before_wildcards(parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        if any(wildcard in part for wildcard in "*?["):
            return
        yield part

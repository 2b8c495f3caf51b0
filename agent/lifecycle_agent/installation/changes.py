"""Files that are to be written or removed: found out first, shown as a diff, then done."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lifecycle_agent import files
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.installation.place import Place

# A unit is a few KiB; what is larger is something else.
MOST_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Change:
    """One file: what is in it now and what is to be, None for no file."""

    path: Path
    old: bytes | None
    new: bytes | None

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return self.old != self.new

    def diff(self) -> Iterator[str]:
        """The lines of a unified diff."""
        before, after = (_lines(content) for content in (self.old, self.new))
        old_name, new_name = (
            "/dev/null" if content is None else str(self.path) for content in (self.old, self.new)
        )
        yield from difflib.unified_diff(before, after, old_name, new_name, lineterm="")

    def apply(self, place: Place) -> str:
        """Write or remove it, whole or not at all; says what was done.

        Raises:
            LifecycleAgentError: the disk would not have it.
        """
        path = place.at(self.path)
        try:
            if self.new is None:
                path.unlink(missing_ok=True)
                return f"removed {self.path}"
            make_directory(path.parent)
            files.replace(path, self.new, durable=True)
        except OSError as error:
            raise LifecycleAgentError(
                f"{self.path}: cannot be {'removed' if self.new is None else 'written'}: {error.strerror}",
                "mend that, then do the same again: what is done already is not done twice",
            ) from error
        return f"wrote {self.path}"


def make_directory(path: Path) -> None:
    """A directory that everybody may look into, whatever the umask; one that is there stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    for directory in (*reversed(path.parents), path):
        if not directory.exists():
            directory.mkdir()
            directory.chmod(0o755)


def current(path: Path) -> bytes | None:
    """What is in a file, None where there is none.

    Raises:
        LifecycleAgentError: it cannot be read, or is no file.
    """
    try:
        return files.read_regular(path, MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LifecycleAgentError(
            f"{path}: cannot be read: {error.strerror}", "move away what is there, if it is not needed"
        ) from error


def remove_if_empty(path: Path, place: Place) -> bool:
    """Remove a directory with nothing in it; whether it was one."""
    try:
        os.rmdir(place.at(path))
    except OSError:
        return False
    return True


def _lines(content: bytes | None) -> list[str]:
    return (content or b"").decode(errors="replace").splitlines()

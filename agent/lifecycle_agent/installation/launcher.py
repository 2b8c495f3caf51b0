"""What starts this very installation of the agent, and how a unit has to say it."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lifecycle_agent.errors import LifecycleAgentError

NAME = "lifecycle-agent"

# Characters that need no quotes in a command line of systemd.service(5).
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%$+,=~^-]+")


@dataclass(frozen=True)
class Launcher:
    """A program and its first arguments."""

    argv: tuple[str, ...]

    @classmethod
    def of_this_interpreter(cls) -> Launcher:
        """The script that was installed with us, in a venv or by a system's pip; else `python -m`."""
        script = Path(sysconfig.get_path("scripts"), NAME)
        if script.is_file() and os.access(script, os.X_OK):
            return cls((str(script),))
        return cls((sys.executable, "-m", "lifecycle_agent"))

    def exec_line(self, *arguments: str) -> str:
        """The value of `ExecStart=` that runs it with these arguments.

        Raises:
            LifecycleAgentError: a path that no unit can have.
        """
        # systemd: "Executable name contains special characters".
        if any(character in self.argv[0] for character in "\"'\\"):
            raise LifecycleAgentError(
                f"no unit can start a program with quotes or backslashes in its path: {self.argv[0]}",
                "install the agent below another path, such as /opt/lifecycle-agent",
            )
        words = [*self.argv, *arguments]
        line = " ".join(quoted(word) for word in words)
        # With a colon in front systemd leaves every dollar sign alone (systemd.service(5), since 244).
        return f":{line}" if any("$" in word for word in words) else line

    def same_as(self, line: str, arguments: Sequence[str]) -> bool:
        """Whether the value of an `ExecStart=` runs this launcher, by whatever name, with these arguments."""
        program, *rest = line.split() or [""]
        return [*self.argv[1:], *arguments] == rest and os.path.realpath(program) == os.path.realpath(
            self.argv[0]
        )


def quoted(word: str) -> str:
    """A word as units have it: systemd.syntax(7) for quotes, systemd.unit(5) for specifiers.

    Raises:
        LifecycleAgentError: it has characters in it that no unit can have.
    """
    if not word.isprintable():
        raise LifecycleAgentError(
            f"a unit cannot have control characters or unknown ones in it: {word!r}",
            "install the agent, or put its configuration, below a path without them",
        )
    doubled = word.replace("%", "%%")
    if _PLAIN.fullmatch(doubled):
        return doubled
    return '"' + doubled.replace("\\", "\\\\").replace('"', '\\"') + '"'

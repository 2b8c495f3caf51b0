"""Where the files of an installation are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lifecycle_agent.config import DEFAULT_PATH
from lifecycle_agent.installation.launcher import Launcher

SERVICE = "lifecycle-agent.service"
UNIT = Path("/etc/systemd/system") / SERVICE
DROP_IN = Path(f"{UNIT}.d/10-configuration.conf")
EXAMPLE = DEFAULT_PATH
# Where systemd puts the credentials of a service that runs (systemd.exec(5)).
CREDENTIALS = Path("/run/credentials") / SERVICE
# Where packages put units; on machines without a merged /usr the second is a directory of its own.
VENDOR_UNITS = (Path("/usr/lib/systemd/system") / SERVICE, Path("/lib/systemd/system") / SERVICE)


@dataclass(frozen=True)
class Place:
    """What is installed, and where.

    Args:
        launcher: what the unit starts.
        config: the absolute path of the configuration.
        root: in front of every path; tests work below a directory of their own.
    """

    launcher: Launcher
    config: Path = DEFAULT_PATH
    root: Path = Path("/")

    def at(self, path: Path) -> Path:
        """Where the file with this absolute path really is."""
        return self.root / path.relative_to("/")

    @property
    def default_config(self) -> bool:
        """Whether the configuration is where the agent looks for it without being told."""
        return self.config == DEFAULT_PATH

    @property
    def exec_start(self) -> str:
        """The command line of the service, as a unit has it."""
        options = () if self.default_config else ("--config", str(self.config))
        return self.launcher.exec_line(*options, "run")

"""What the tests of the installation share: a machine below a directory, and its systemd."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from lifecycle_agent import __version__, toml
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.installation import Launcher, Place, Talk
from lifecycle_agent.installation.place import CREDENTIALS, DROP_IN, EXAMPLE, SERVICE, UNIT, VENDOR_UNITS
from lifecycle_agent.installation.systemd import State

LAUNCHER = Launcher(("/opt/lifecycle-agent/bin/lifecycle-agent",))


@dataclass
class FakeSystemd:
    """One service: it knows the files that it has read, and the links that it has made.

    Args:
        fails_with: what the service writes before it dies at every start.
        ahead: units whose jobs come before the service's start, for ever.
        starts: units that are being started.
        others: how other units are.
        boots: whether the machine is still being started.
    """

    place: Place
    is_present: bool = True
    is_running: bool = True
    fails_with: list[str] | None = None
    ahead: list[str] = field(default_factory=list)
    starts: set[str] = field(default_factory=set)
    others: dict[str, str] = field(default_factory=dict)
    boots: bool = False
    version: str = __version__
    calls: list[str] = field(default_factory=list)
    now: State = field(default_factory=State)
    read_files: dict[Path, bytes] = field(default_factory=dict)
    links: set[str] = field(default_factory=set)

    def present(self) -> bool:
        return self.is_present

    def running(self) -> bool:
        return self.is_running

    def enabled(self) -> bool:
        return SERVICE in self.links

    def state(self, unit: str = SERVICE) -> State:
        now = self.now if unit == SERVICE else State(active=self.others.get(unit, "inactive"))
        read, there = (
            {path: text for path, text in files.items() if unit in str(path)}
            for files in (self.read_files, self._files())
        )
        return replace(now, stale=bool(self.read_files) and read != there)

    def booting(self) -> bool:
        return self.boots

    def waits_for(self) -> list[str]:
        return self.ahead

    def starting(self) -> set[str]:
        return self.starts

    def last_words(self, invocation: str) -> list[str]:
        return self.fails_with or [] if invocation == self.now.invocation else []

    def do(self, *words: str) -> None:
        self.calls.append(" ".join(words))
        match words:
            case ("daemon-reload",):
                self.read_files = self._files()
            case ("enable", unit):
                self._known()
                self.links.add(unit)
            case ("disable", unit):
                self.links.discard(unit)
            case ("start" | "restart", "--no-block", _):
                self._known()
                self._start()
            case ("stop", "--no-block", _):
                self.now = State("loaded")
            case ("reset-failed", _):
                self.now = replace(self.now, active="inactive")
            case _:
                raise AssertionError(f"systemctl {words} is not what this knows")

    def _start(self) -> None:
        if self.ahead:
            self.now = State("loaded", job="7")
        elif self.fails_with is not None:
            self.now = State("loaded", "failed", "failed", "exit-code", invocation="f00")
        else:
            self.read_files = self.read_files or self._files()
            self.now = State("loaded", "active", "running", "success", invocation="f00")
            self._live()

    def _live(self) -> None:
        """What the watcher writes, and systemd gives it."""
        main = self.place.at(self.place.config)
        document = toml.Document.read(main, {})
        runtime = self.place.at(Path("/run/lifecycle-agent"))
        runtime.mkdir(parents=True, exist_ok=True)
        (runtime / "config.json").write_text(json.dumps(document.as_json()))
        (runtime / "status.json").write_text(json.dumps({"watcher": {"pid": 1, "version": self.version}}))
        given = self.place.at(CREDENTIALS)
        given.mkdir(parents=True, exist_ok=True)
        for line in self.place.at(DROP_IN).read_text().splitlines():
            if line.startswith("LoadCredential="):
                name, _, file = line.partition("=")[2].partition(":")
                (given / name).write_bytes(self.place.at(Path(file.replace("%%", "%"))).read_bytes())

    def _known(self) -> None:
        if not any(self.place.at(path).is_file() for path in (UNIT, *VENDOR_UNITS)):
            raise LifecycleAgentError(f"Unit file {SERVICE} does not exist.", "")

    def _files(self) -> dict[Path, bytes]:
        paths = [self.place.at(path) for path in (UNIT, *VENDOR_UNITS)]
        paths += sorted(self.place.at(UNIT.parent).glob("*.d/*.conf"))
        return {path: path.read_bytes() for path in paths if path.is_file()}


@dataclass
class Box:
    """A machine below `root`, and what was said on it."""

    root: Path
    config: Path = EXAMPLE
    launcher: Launcher = LAUNCHER
    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.place = Place(self.launcher, self.config, self.root)
        self.systemd = FakeSystemd(self.place)
        self.talk = Talk(self.said.append, self.warned.append, lambda _: None)
        for directory in ("etc/systemd/system", "usr/lib/systemd/system", "run"):
            (self.root / directory).mkdir(parents=True)

    def write(self, path: str | Path, content: str, mode: int = 0o644) -> Path:
        file = self.place.at(Path(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)
        return file

    def read(self, path: str | Path) -> str:
        return self.place.at(Path(path)).read_text()

    def files(self) -> dict[str, str]:
        """Everything below the root, each file with its content, each directory with a dash."""
        found = {}
        for path in self.root.rglob("*"):
            name = str(path.relative_to(self.root))
            found[name] = path.read_text() if path.is_file() else "-"
        return found

    def forget(self) -> None:
        self.said.clear()
        self.warned.clear()
        self.systemd.calls.clear()

"""Who may import whom, read from the imports themselves; and that the quiet path stays light."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "agent" / "lifecycle_agent"

NOUNS = {"model", "deadline", "errors"}
FILES = {"values", "toml", "files", "logline"}
LEASE = {"http_call", "registrant"}  # what is registered for an app, and how it is asked whether it lives

# A room, and the rooms it may look into (its own always). The longest name that fits a module counts.
MAY_IMPORT: dict[str, set[str]] = {
    "model": set(),
    "errors": set(),
    "deadline": {"model", "errors"},
    "values": NOUNS | FILES,
    "toml": NOUNS | FILES,
    "files": NOUNS | FILES,
    "logline": NOUNS | FILES,
    "config": NOUNS | FILES,
    "http_call": NOUNS,
    "registrant": NOUNS | {"config", "http_call"},
    "journal": NOUNS | FILES,
    "standing": NOUNS | {"journal"},
    "clients": NOUNS | FILES | {"config", "registrant"},
    "steps": NOUNS | FILES | {"config", "clients", "registrant"},
    "transition": NOUNS | FILES | {"config", "journal", "clients", "steps"},
    "watch": NOUNS
    | FILES
    | LEASE
    | {"config", "journal", "standing"},  # resident: everything it imports stays in memory for weeks
    "installation": NOUNS | FILES | {"config", "clients"},
    "cli": NOUNS
    | FILES
    | {"config", "journal", "standing", "clients", "steps", "transition", "watch", "installation"},
    "cli.rehearse": NOUNS | FILES | {"config", "clients", "steps", "transition", "watch", "cli", "rehearsal"},
    # The emulated world shares no code with what it judges.
    "rehearsal": NOUNS | {"values", "toml", "files", "config"},
    "__main__": {"cli"},
}

# What is not ours, for the rooms that the watcher looks into; tomli is what tomllib was before Python 3.11.
THIRD_PARTY: dict[str, set[str]] = {
    **{room: set() for room in NOUNS | FILES | LEASE | {"config", "journal", "standing"}},
    "toml": {"tomli", "tomllib"},
    "watch": {"ec2_metadata", "urllib3"},  # urllib3 comes with ec2_metadata
}

# Too heavy for what runs all the time, or for what a person waits for.
HEAVY_FOR_THE_WATCHER = {"boto3", "botocore", "requests", "click", "zstandard"}
HEAVY_FOR_A_LOOK = {"boto3", "botocore", "requests", "zstandard", "ec2_metadata"}


@dataclass(frozen=True)
class Import:
    """An import as it stands in a module: `name` is dotted, without the package's own name if `ours`."""

    line: int
    name: str
    ours: bool


def imports(source: str, module: str, is_package: bool) -> Iterator[Import]:
    """Every import of a module named `lifecycle_agent.<module>`, wherever in it, for types only or not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = ["lifecycle_agent", *module.split(".")] if module else ["lifecycle_agent"]
                up = node.level - 1 if is_package else node.level
                base = ".".join([*here[: len(here) - up], *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            ours = name.split(".")[0] == "lifecycle_agent"
            yield Import(node.lineno, name.partition(".")[2] if ours else name, ours)


def room(module: str) -> str | None:
    """The entry of the table that a module belongs to."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in MAY_IMPORT), None)


def violations(package: Path) -> list[str]:
    """What the modules below `package` import and may not, one sentence each."""
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        here = room(module)
        if here is None and module:
            found.append(f"{module} is not in the table: say there what it may import")
        may = MAY_IMPORT[here] | {here} if here else set()
        for item in imports(path.read_text(), module, is_package):
            there = room(item.name) if item.ours else None
            if there is not None and there not in may:
                found.append(f"{module}:{item.line} imports {item.name}")
            top = item.name.split(".")[0]
            allowed = THIRD_PARTY.get(here or "")
            if not item.ours and allowed is not None and top not in {*sys.stdlib_module_names, *allowed}:
                found.append(f"{module}:{item.line} imports {item.name}, which is not ours")
    return found


def test_every_module_keeps_to_its_layer() -> None:
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("module", "source", "violation"),
    [
        ("model", "from lifecycle_agent.errors import UsageError", "model:1 imports errors.UsageError"),
        ("config", "import lifecycle_agent.clients.s3", "config:1 imports clients.s3"),
        ("clients/s3", "from ..steps import Work", "clients.s3:1 imports steps.Work"),
        ("clients/__init__", "from .. import steps", "clients:1 imports steps"),
        ("steps/__init__", "from ..transition import plan", "steps:1 imports transition.plan"),
        ("steps/logs", "def f():\n    from lifecycle_agent import cli", "steps.logs:2 imports cli"),
        ("watch/daemon", "import lifecycle_agent.clients", "watch.daemon:1 imports clients"),
        ("watch/imds", "import requests", "watch.imds:1 imports requests, which is not ours"),
        ("config", "from yaml import load", "config:1 imports yaml.load, which is not ours"),
        ("rehearsal/group", "from lifecycle_agent.clients import s3", "rehearsal.group:1 imports clients.s3"),
        ("rehearsal/x/y", "from ...transition import z", "rehearsal.x.y:1 imports transition.z"),
        ("cli/drain", "from lifecycle_agent import rehearsal", "cli.drain:1 imports rehearsal"),
        ("utils", "", "utils is not in the table: say there what it may import"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, violation: str, tmp_path: Path) -> None:
    path = tmp_path / f"{module}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)

    assert violations(tmp_path) == [violation]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("config", "import os, lifecycle_agent\nfrom lifecycle_agent import __version__, toml"),
        (
            "watch/imds",
            "from ec2_metadata import EC2Metadata\nimport urllib3.util\nfrom . import decide",
        ),
        ("clients/s3", "import boto3\nfrom lifecycle_agent.clients.bounded import read"),
        ("steps/logs", "from . import Work\nfrom ..clients import s3"),
        ("cli/rehearse", "from lifecycle_agent.rehearsal import world"),
    ],
)
def test_a_right_import_is_not(module: str, source: str, tmp_path: Path) -> None:
    path = tmp_path / f"{module}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)

    assert violations(tmp_path) == []


def loaded_by(code: str, tmp_path: Path) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded when it ends after `code`."""
    answer = tmp_path / "modules.json"
    at_exit = f"atexit.register(lambda: json.dump(list(sys.modules), open({str(answer)!r}, 'w')))"
    run = subprocess.run(
        [sys.executable, "-c", f"import atexit, json, sys\n{at_exit}\n{code}"],
        env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path), "STATE_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in run.stderr, run.stderr
    return {name.split(".")[0] for name in json.loads(answer.read_text())}


def test_the_watcher_stays_light(tmp_path: Path) -> None:
    loaded = loaded_by("import lifecycle_agent.watch.__main__", tmp_path)

    assert "lifecycle_agent" in loaded
    assert loaded & HEAVY_FOR_THE_WATCHER == set()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["status"], ["status", "--json"]], ids=" ".join
)
def test_a_look_stays_light(arguments: list[str], tmp_path: Path) -> None:
    code = f"sys.argv = {['lifecycle-agent', *arguments]!r}\nfrom lifecycle_agent.cli import main\nmain()"

    loaded = loaded_by(code, tmp_path)

    assert "click" in loaded
    assert loaded & HEAVY_FOR_A_LOOK == set()

"""The linters are tests: what they say is shown as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]


def shell_scripts() -> Iterator[Path]:
    """Every file of the tree whose first line names a shell."""
    for directory, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name == ".ci" or not name.startswith((".", "__"))]
        for path in (Path(directory, name) for name in sorted(names)):
            if path.is_file():
                with open(path, "rb") as file:
                    first = file.readline(80)
                if first.startswith(b"#!") and first.split(b"/")[-1].split()[-1] in (b"sh", b"bash"):
                    yield path


@pytest.mark.timeout(300)  # mypy without its cache reads the stubs of boto3
@pytest.mark.parametrize(
    "linter",
    [["ruff", "check"], ["ruff", "format", "--check", "--diff"], ["mypy"]],
    ids=["ruff check", "ruff format", "mypy --strict"],
)
def test_linter(linter: list[str]) -> None:
    run = subprocess.run([sys.executable, "-m", *linter], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, "\n" + run.stdout + run.stderr


@pytest.mark.parametrize("script", list(shell_scripts()), ids=lambda path: str(path.relative_to(ROOT)))
def test_shell_script_parses(script: Path) -> None:
    run = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr

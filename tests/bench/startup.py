"""How long a person waits for `--help` and `status`, beside an interpreter that imports click."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.bench.figure import Figure
from tests.stage import Stage, until

CLICK = [sys.executable, "-c", "import click"]


def figures(pairs: int) -> Iterator[Figure]:
    """Measure so many pairs of runs, one after the other: what slows the machine slows both."""
    command = str(Path(sys.executable).with_name("lifecycle-agent"))
    with tempfile.TemporaryDirectory() as directory, Stage(Path(directory)) as stage:
        stage.configure()
        agent = stage.start()
        until(lambda: stage.status.read().get("watcher"))
        agent.stop()
        for what in ("--help", "status"):
            _seconds([command, what], stage.environ())  # the first one compiles
            times = [
                (_seconds([command, what], stage.environ()), _seconds(CLICK, None)) for _ in range(pairs)
            ]
            ours, floor = median(pair[0] for pair in times), median(pair[1] for pair in times)
            about = f"{ours * 1000:.0f} ms, `python -c 'import click'` {floor * 1000:.0f} ms"
            yield Figure(f"lifecycle-agent {what}, beside importing click", ours / floor, 1.6, "x", about)


def _seconds(command: list[str], environ: dict[str, str] | None) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began

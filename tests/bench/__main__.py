"""How fast, how small: each figure beside its target. `make bench`, or `python tests/bench [--json]`.

The real agent against the emulated world on loopback. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT)  # was tests/bench

from tests.bench import reaction, resting, startup  # noqa: E402
from tests.bench.figure import Figure  # noqa: E402


def main() -> int:
    """Measure, print, and say whether all is within its target."""
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--polls", type=int, default=200, help="of the resting watcher (default 200)")
    parser.add_argument("--runs", type=int, default=7, help="terminations (default 7)")
    parser.add_argument("--pairs", type=int, default=21, help="of starts (default 21)")
    chosen = parser.parse_args()
    _close_the_world()
    measured = []
    for figure in _figures(chosen.polls, chosen.runs, chosen.pairs):
        measured.append(figure)
        print(f"{figure.name}: {figure.value:.3g} {figure.unit}", file=sys.stderr)
    about = _about()
    if chosen.json:
        print(json.dumps({**about, "figures": [{**asdict(one), "met": one.met} for one in measured]}))
    else:
        print(", ".join(str(value) for value in about.values()))
        print("\n".join(_table([("", "measured", "at most", "", ""), *(one.row() for one in measured)])))
    return 0 if all(one.met for one in measured) else 1


def _figures(polls: int, runs: int, pairs: int) -> Iterator[Figure]:
    yield from resting.figures(polls)
    yield from reaction.figures(runs)
    yield from startup.figures(pairs)


def _close_the_world() -> None:
    """Nothing of this person's AWS settings gets in, and nothing leaves loopback."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null")


def _about() -> dict[str, str]:
    """When, and on what."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "processor": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "system": f"Linux {platform.release()}",
        "python": f"Python {platform.python_version()}",
        "load": f"load {os.getloadavg()[0]:.1f}",
    }


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


if __name__ == "__main__":
    sys.exit(main())

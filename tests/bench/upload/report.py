"""The tables, for the terminal and for docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import boto3
import zstandard

from tests.bench.figure import Figure
from tests.bench.upload import memory
from tests.bench.upload.dataset import Dataset
from tests.bench.upload.memory import Sample
from tests.bench.upload.race import Result, Row

INTRODUCTION = """\
# Uploading logs: how fast, how small

`make bench-upload` wrote this page. It uploads the same files with `lifecycle-agent logs upload` and with
what people use instead, on one machine, in one run: each in turn, started anew, to an empty bucket of a real
S3 server (versitygw on a directory, without TLS) behind a link that tc's token bucket filter shapes in both
directions. All that is read is in the page cache. Ours runs as it comes: zstd, a checksum on every request, a
sha256 of every file, the manifest last. After each of its runs every object is unpacked and compared.

Seconds are the median of the rounds, with the fastest and the slowest beside it. Processor seconds are those
of all processes. Peak memory is that of the largest process in any round. The server runs on the same
processors as what is measured. The files are access logs, JSON records and a Java service's text with SQL
statements and stack traces, written from a seed (`tests/bench/upload/lines.py`).
"""


@dataclass(frozen=True)
class Measured:
    """Everything that there is to report."""

    about: Mapping[str, str]
    results: Sequence[Result]
    samples: Sequence[Sample]

    @property
    def figures(self) -> list[Figure]:
        """Each beside its target."""
        return [figure for result in self.results for figure in result.figures()] + memory.figures(
            self.samples
        )

    def text(self) -> str:
        """For a terminal."""
        blocks = ["\n".join(f"{name}: {value}" for name, value in self.about.items())]
        blocks += [f"{title}\n{_columns(rows)}" for title, rows in self._tables()]
        return "\n\n".join(blocks)

    def markdown(self) -> str:
        """The page."""
        blocks = [INTRODUCTION, "\n".join(f"- {name}: {value}" for name, value in self.about.items())]
        blocks += [f"## {title}\n\n{_pipes(rows)}" for title, rows in self._tables()]
        return "\n\n".join(block.rstrip() for block in blocks) + "\n"

    def _tables(self) -> Iterator[tuple[str, Sequence[Row]]]:
        for result in self.results:
            yield result.link.title, result.rows()
        if self.samples:
            slope = memory.slope(self.samples)
            grows = "" if slope is None else f": {slope:+.2f} MiB for each GiB of a file"
            yield f"Memory{grows}", [memory.HEADER, *(sample.row() for sample in self.samples)]
        if self.figures:
            header = ("", "measured", "at most", "what", "")
            yield "Targets", [header, *(figure.row() for figure in self.figures)]


def about(dataset: Dataset | None, versions: Mapping[str, str]) -> dict[str, str]:
    """When, on what, and with what."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    ours = f"Python {platform.python_version()}, boto3 {boto3.__version__}, zstandard {zstandard.__version__}"
    found = {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "processor": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "memory": f"{memory_kib / 2**20:.0f} GiB",
        "system": f"Linux {platform.release()}, load {os.getloadavg()[0]:.1f} at the start",
        "ours": ours,
        "the others": ", ".join(versions.values()),
    }
    if dataset is not None:
        found["files"] = str(dataset)
    return found


def _columns(rows: Sequence[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(padded)


def _pipes(rows: Sequence[Row]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    escaped.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)

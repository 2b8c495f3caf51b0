"""How much memory the size of the files takes: a file that grows, and files that do not get smaller."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figure import Figure
from tests.bench.upload import lines
from tests.bench.upload.copiers import OURS
from tests.bench.upload.dataset import MIB, Dataset
from tests.bench.upload.measure import Run
from tests.bench.upload.race import MOST_MEMORY, Race, Row

GIB = 1 << 30
BEFORE = (1, 5)  # GiB that the large file has on its way
NOISE = 4  # files
NOISE_MIB = 100  # each
# What is needed of the disk beside the large file, of its size: it is stored some five times smaller.
STORED = 0.25

HEADER: Row = ("", "seconds", "MiB/s", "processor s", "peak MiB", "sent MiB")


@dataclass(frozen=True)
class Sample:
    """One run over files of so many bytes."""

    title: str
    bytes: int
    run: Run

    def row(self) -> Row:
        """For the table."""
        run = self.run
        return (
            self.title,
            f"{run.seconds:.2f}",
            f"{self.bytes / MIB / run.seconds:.0f}",
            f"{run.processor:.2f}",
            f"{run.memory:.1f}",
            f"{run.sent / MIB:.1f}",
        )


def samples(race: Race, directory: Path, gib: Sequence[int], say: Callable[[str], None]) -> Iterator[Sample]:
    """Run ours over a file that grows to each of the sizes, then over noise."""
    with closing(_datasets(directory, gib, say)) as datasets:
        for title, dataset in datasets:
            say(f"memory: {title} ...")
            run = race.one(OURS, dataset)
            say(f"memory: {title}: {run.seconds:.1f} s, {run.memory:.1f} MiB")
            yield Sample(title, dataset.bytes, run)


def figures(taken: Sequence[Sample]) -> list[Figure]:
    """Beside what is allowed."""
    return [Figure(f"{one.title}: peak memory", one.run.memory, MOST_MEMORY, "MiB") for one in taken]


def slope(taken: Sequence[Sample]) -> float | None:
    """MiB of memory for each GiB that the large file is larger; None with less than two sizes."""
    large = [sample for sample in taken if sample.title.startswith("one file")]
    if len(large) < 2:
        return None
    first, last = large[0], large[-1]
    return (last.run.memory - first.run.memory) / ((last.bytes - first.bytes) / GIB)


def _datasets(
    directory: Path, gib: Sequence[int], say: Callable[[str], None]
) -> Generator[tuple[str, Dataset], None, None]:
    root = directory / "large"
    for files in (_growing(root, gib, say), _noise(root)):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        try:
            yield from files
        finally:
            shutil.rmtree(root, ignore_errors=True)


def _growing(
    root: Path, gib: Sequence[int], say: Callable[[str], None]
) -> Generator[tuple[str, Dataset], None, None]:
    path, digest, written = root / "orders.log", hashlib.sha256(), 0
    chunks = _chunks()
    for size in gib:
        say(f"memory: writing a file of {size} GiB ...")
        with path.open("ab") as file:
            while written < size * GIB:
                chunk = next(chunks)
                file.write(chunk)
                digest.update(chunk)
                written += len(chunk)
        yield f"one file of {size} GiB", _dataset(root, {path.name: (written, digest.hexdigest())})


def _noise(root: Path) -> Generator[tuple[str, Dataset], None, None]:
    rng, files = random.Random("noise"), {}
    for number in range(NOISE):
        data = rng.randbytes(NOISE_MIB * MIB)
        (root / f"noise.{number}").write_bytes(data)
        files[f"noise.{number}"] = (len(data), hashlib.sha256(data).hexdigest())
    yield f"{NOISE} files of {NOISE_MIB} MiB that cannot be compressed", _dataset(root, files)


def _dataset(root: Path, files: dict[str, tuple[int, str]]) -> Dataset:
    sizes = {name: size for name, (size, _) in files.items()}
    return Dataset(root, sizes, {name: sha256 for name, (_, sha256) in files.items()}, 1.0)


def _chunks() -> Iterator[bytes]:
    """Text without end: the same 8 MiB of a day's lines, in pieces with ever other numbers between them."""
    pieces, length = [], 0
    for line in lines.records(random.Random("large")):
        pieces.append(line.encode())
        length += len(line)
        if length > 8 * MIB:
            break
    number = 0
    while True:
        numbered = []
        for piece in pieces:
            number += 1
            numbered.append(b"%012d " % number)
            numbered.append(piece)
        yield b"".join(numbered)

"""The files that are uploaded: sizes as a machine has them after a day, made from a seed."""

from __future__ import annotations

import hashlib
import json
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lifecycle_agent.errors import LifecycleAgentError
from tests.bench.upload import lines, words

MIB = 1 << 20
WHOLE = 512  # MiB
LARGE = (60, 52, 44, 37, 31, 26, 22, 20)  # MiB, of WHOLE; the rest is in SMALL files
SMALL = 232
LEAST, MOST = 10 * 1024, 4 * MIB  # bytes of a small file
RATIO = (5.0, 8.0)  # what gzip makes of real logs like these

KINDS: tuple[tuple[str, lines.Lines], ...] = (
    ("nginx/access", lines.access),
    ("orders/orders.json", lines.records),
    ("orders/server", lines.traces),
    ("billing/billing.json", lines.records),
    ("billing/server", lines.traces),
)


@dataclass(frozen=True)
class Dataset:
    """What is in a directory.

    Args:
        sizes, sha256: of each file, by its path below `root`.
        ratio: how many times smaller gzip -6 makes it.
    """

    root: Path
    sizes: dict[str, int]
    sha256: dict[str, str]
    ratio: float

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())

    def warm(self) -> None:
        """Have all of it in the page cache."""
        for name in self.sizes:
            with (self.root / name).open("rb", buffering=0) as file:
                while file.read(MIB):
                    pass

    def __str__(self) -> str:
        size = f"{self.bytes / MIB:.0f} MiB in {len(self.sizes)} files"
        return f"{size}, which gzip makes {self.ratio:.2f} times smaller"


def make(directory: Path, mib: int, say: Callable[[str], None]) -> Dataset:
    """Make the files, or find those that an earlier run has left there.

    Raises:
        LifecycleAgentError: gzip makes them too small, or not small enough, to be like real logs.
    """
    recipe = hashlib.sha256(b"".join(Path(part.__file__ or "").read_bytes() for part in (lines, words)))
    root = directory / f"logs-{mib}-{recipe.hexdigest()[:8]}"
    stamp = root.with_suffix(".json")
    if stamp.exists():
        found = json.loads(stamp.read_text())
        dataset = Dataset(root, found["sizes"], found["sha256"], found["ratio"])
    else:
        dataset = _make(root, mib, say)
        stamp.write_text(json.dumps({**asdict(dataset), "root": str(root)}))
    if not RATIO[0] <= dataset.ratio <= RATIO[1]:
        raise LifecycleAgentError(
            f"gzip makes the files {dataset.ratio:.2f} times smaller, not {RATIO[0]:g} to {RATIO[1]:g}",
            "change what tests/bench/upload/lines.py writes, or ask for more --mib",
        )
    return dataset


def small(directory: Path) -> Dataset:
    """One small file, for a run that is not measured."""
    root = directory / "small"
    root.mkdir(exist_ok=True)
    data = _file(random.Random("small"), lines.access, LEAST)
    (root / "access.log").write_bytes(data)
    return Dataset(root, {"access.log": len(data)}, {"access.log": hashlib.sha256(data).hexdigest()}, 1.0)


def _make(root: Path, mib: int, say: Callable[[str], None]) -> Dataset:
    sizes: dict[str, int] = {}
    sha256: dict[str, str] = {}
    zipped = 0
    for number, (name, kind, size) in enumerate(_plan(mib)):
        if number % 20 == 0:
            say(f"making the files: {sum(sizes.values()) / MIB:.0f} of {mib} MiB")
        data = _file(random.Random(f"a day {name}"), kind, size)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        sizes[name], sha256[name] = len(data), hashlib.sha256(data).hexdigest()
        zipped += len(zlib.compress(data, 6))
    return Dataset(root, sizes, sha256, sum(sizes.values()) / zipped)


def _plan(mib: int) -> Iterator[tuple[str, lines.Lines, int]]:
    """Name, kind and bytes of each file; a smaller set than the whole has smaller files."""
    rng = random.Random("sizes")
    small = [LEAST * (MOST / LEAST) ** rng.random() for _ in range(SMALL)]
    left = (WHOLE - sum(LARGE)) * MIB
    for _ in range(20):  # what is cut off at MOST is spread over the others
        small = [min(size * left / sum(small), MOST) for size in small]
    scale = mib / WHOLE
    for number, size in enumerate([*(mib * MIB for mib in LARGE), *small]):
        stem, kind = KINDS[number % len(KINDS)]
        rotated = "" if number < len(KINDS) else f".{number // len(KINDS)}"
        yield f"{stem}.log{rotated}", kind, int(size * scale)


def _file(rng: random.Random, kind: lines.Lines, size: int) -> bytes:
    """Whole lines, up to `size` bytes."""
    made: list[str] = []
    length = 0
    for line in kind(rng):
        length += len(line)
        if length > size and made:
            break
        made.append(line)
    return "".join(made).encode()

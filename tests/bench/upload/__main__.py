"""Log uploads beside what people use instead: `make bench-upload`, or `python tests/bench/upload`.

Needs root: a real S3 server runs in a network namespace of its own, at the other end of a link that is
shaped. Takes about 20 minutes and, for the large file, 25 GiB of disk. A run that measures everything
writes docs/benchmarks.md. Exits with 1 if a target is missed, with 2 if something that it needs is not there
or a copier fails.

While changing the uploader: --dir /var/tmp/bench --links unshaped --only ours,tar --no-memory
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[0] = str(ROOT)  # was tests/bench/upload

from lifecycle_agent.errors import LifecycleAgentError  # noqa: E402
from tests.bench.upload import copiers, dataset, memory, race, report, server  # noqa: E402
from tests.bench.upload.network import LINKS, Network  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks.md"
GIB = 20
BEGAN = time.monotonic()


def main() -> int:
    """Measure, print, and say whether all is within its target."""
    chosen = _options()
    if os.geteuid() != 0:
        return _wrong("not root: network namespaces cannot be made", "run it with sudo")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleaned up
    try:
        with _directory(chosen.dir) as directory:
            measured = _measure(chosen, directory)
    except LifecycleAgentError as error:
        return _wrong(error.message, error.hint)
    except KeyboardInterrupt:
        return 130
    print(measured.text())
    if _whole(chosen):
        PAGE.write_text(measured.markdown())
        _say(f"written: {PAGE.relative_to(ROOT)}")
    return 0 if all(figure.met for figure in measured.figures) else 1


def _measure(chosen: argparse.Namespace, directory: Path) -> report.Measured:
    gib = [size for size in memory.BEFORE if size < chosen.large] + [chosen.large] if chosen.large else []
    _check_disk(directory, (0 if chosen.no_memory else chosen.large), chosen.mib)
    paths = copiers.find()
    files = dataset.make(directory, chosen.mib, _say)
    _say(f"files: {files}")
    about = report.about(files, copiers.versions(paths))
    scratch = directory / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    with (
        Network() as network,
        server.serve(network, paths["versitygw"], directory) as bucket,
        server.metadata(network) as metadata,
    ):
        running = race.Race(network, bucket, copiers.Copiers(paths, metadata, scratch), _say)
        _say("each copier once, not measured ...")
        race.warm_up(running, chosen.only, dataset.small(directory))
        results = running.all([LINKS[name] for name in chosen.links], chosen.only, chosen.rounds, files)
        network.shape(LINKS["unshaped"])
        samples = [] if chosen.no_memory else list(memory.samples(running, directory, gib, _say))
    shutil.rmtree(scratch)
    return report.Measured(about, results, samples)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python tests/bench/upload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    some = "comma-separated, of "
    parser.add_argument("--links", type=_among(LINKS), default=list(LINKS), help=some + ", ".join(LINKS))
    parser.add_argument("--only", type=_among(copiers.NAMES), default=list(copiers.NAMES),
                        help=some + ", ".join(copiers.NAMES))  # fmt: skip
    rounds = ", ".join(f"{link.rounds} at {name}" for name, link in LINKS.items())
    parser.add_argument("--rounds", type=int, help=f"on every link (default: {rounds})")
    parser.add_argument("--mib", type=int, default=dataset.WHOLE, help="of files (default %(default)s)")
    parser.add_argument("--large", type=int, default=GIB, metavar="GIB",
                        help="of the one large file (default %(default)s); 0 for none")  # fmt: skip
    parser.add_argument("--no-race", dest="links", action="store_const", const=[], help="memory alone")
    parser.add_argument("--no-memory", action="store_true", help="the copiers alone")
    parser.add_argument("--dir", type=Path, help="where everything is put and the files are kept for the next"
                        " run (default: below /var/tmp, and nothing is kept)")  # fmt: skip
    return parser.parse_args()


def _among(allowed: Collection[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if wrong := [name for name in names if name not in allowed]:
            raise argparse.ArgumentTypeError(f"{wrong[0]!r} is none of {', '.join(allowed)}")
        return names

    return parse


def _whole(chosen: argparse.Namespace) -> bool:
    everything = [list(LINKS), list(copiers.NAMES), dataset.WHOLE, GIB, False]
    return [chosen.links, chosen.only, chosen.mib, chosen.large, chosen.no_memory] == everything


@contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="bench-upload-", dir="/var/tmp") as made:
        yield Path(made)


def _check_disk(directory: Path, gib: int, mib: int) -> None:
    needed = gib * (1 + memory.STORED) + 3 * mib / 1024
    free = shutil.disk_usage(directory).free / memory.GIB
    if free < needed:
        raise LifecycleAgentError(
            f"{directory} has {free:.1f} GiB free, and {needed:.1f} are needed",
            "name another place with --dir, or a smaller file with --large",
        )


def _say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.0f} s  {text}", file=sys.stderr, flush=True)


def _wrong(message: str, hint: str) -> int:
    print(f"error: {message}\n  do: {hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

"""Every copier in turn on every link, to an empty bucket, with all that it reads in the page cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from tests.bench.figure import Figure
from tests.bench.upload import proof
from tests.bench.upload.copiers import OURS, PLAIN, TAR, TITLES, Copiers
from tests.bench.upload.dataset import MIB, Dataset
from tests.bench.upload.measure import Failed, Run, measure
from tests.bench.upload.network import Link, Network
from tests.bench.upload.server import Bucket

LIMIT = 1800  # seconds for one run: plain, 512 MiB take 90 at 50 Mbit/s
MOST_MEMORY = 96.0  # MiB, of the whole process

Row = tuple[str, ...]
HEADER: Row = ("", "seconds", "processor s", "peak MiB", "sent MiB", "ours / it")


@dataclass(frozen=True)
class Result:
    """Of one link: the runs of each copier."""

    link: Link
    runs: dict[str, list[Run]]

    def seconds(self, name: str) -> float:
        """The median of its runs."""
        return median(run.seconds for run in self.runs[name])

    def rows(self) -> list[Row]:
        """For a table, the fastest first."""
        return [HEADER, *(self._row(name) for name in sorted(self.runs, key=self.seconds))]

    def figures(self) -> list[Figure]:
        """What is asked of ours on this link, as far as it was measured."""
        if OURS not in self.runs:
            return []
        figures = [self._memory()]
        plain = [name for name in PLAIN if name in self.runs]
        everyone = [name for name in self.runs if name != OURS]
        if self.link.slow:
            if plain:
                figures.append(self._beside("the best plain copier", plain, 1 / 7))
            if TAR in self.runs:
                figures.append(self._beside("tar and gzip", [TAR], 0.65))
        elif everyone:
            figures.append(self._beside("the best of all", everyone, 0.7 if not self.link.rate else 0.45))
        return figures

    def _beside(self, title: str, names: Sequence[str], most: float) -> Figure:
        best = min(names, key=self.seconds)
        ours, theirs = self.seconds(OURS), self.seconds(best)
        detail = f"{ours:.2f} s, `{TITLES[best]}` {theirs:.2f} s"
        return Figure(f"{self.link.title}: time, beside {title}", ours / theirs, most, "x", detail)

    def _memory(self) -> Figure:
        peak = max(run.memory for run in self.runs[OURS])
        return Figure(f"{self.link.title}: peak memory", peak, MOST_MEMORY, "MiB")

    def _row(self, name: str) -> Row:
        runs = self.runs[name]
        seconds = f"{self.seconds(name):.2f}"
        if len(runs) > 1:
            seconds += f" ({min(run.seconds for run in runs):.2f} to {max(run.seconds for run in runs):.2f})"
        beside = f"{self.seconds(OURS) / self.seconds(name):.3f}" if OURS in self.runs else ""
        return (
            TITLES[name],
            seconds,
            f"{median(run.processor for run in runs):.2f}",
            f"{max(run.memory for run in runs):.0f}",
            f"{median(run.sent for run in runs) / MIB:.1f}",
            "" if name == OURS else beside,
        )


class Race:
    """Runs copiers.

    Args:
        say: told what happens.
    """

    def __init__(self, network: Network, bucket: Bucket, tools: Copiers, say: Callable[[str], None]) -> None:
        self._network = network
        self._bucket = bucket
        self._tools = tools
        self._say = say
        self._count = 0

    def one(self, name: str, dataset: Dataset) -> Run:
        """One run, proved.

        Raises:
            Failed: it did not do its job.
        """
        self._count += 1
        self._bucket.empty()
        argv = self._tools.argv(name, dataset.root, f"run-{self._count}")
        run = measure(self._network.at_client(argv), self._tools.environ(), LIMIT)
        try:
            return replace(run, sent=proof.prove(name, self._bucket, dataset))
        except Failed as failed:
            raise Failed(f"{TITLES[name]}: {failed}") from None

    def all(
        self, links: Sequence[Link], names: Sequence[str], rounds: int | None, dataset: Dataset
    ) -> list[Result]:
        """Every link, every round, every copier; who is first changes from round to round."""
        turns = {link: link.rounds if rounds is None else rounds for link in links}
        left = sum(turns.values()) * len(names)
        results = []
        for link in links:
            self._network.shape(link)
            runs: dict[str, list[Run]] = {name: [] for name in names}
            for turn in range(turns[link]):
                for place in range(len(names)):
                    name = names[(turn + place) % len(names)]
                    left -= 1
                    dataset.warm()
                    run = self.one(name, dataset)
                    runs[name].append(run)
                    self._say(
                        f"{link.title}, round {turn + 1} of {turns[link]}: {TITLES[name]}"
                        f" {run.seconds:.2f} s, {run.processor:.2f} s of processor, {run.memory:.0f} MiB;"
                        f" {left} runs to go"
                    )
            results.append(Result(link, runs))
        return results


def warm_up(race: Race, names: Sequence[str], dataset: Dataset) -> None:
    """Each copier once: its program is in memory from then on, and whatever is missing shows now."""
    for name in names:
        race.one(name, dataset)

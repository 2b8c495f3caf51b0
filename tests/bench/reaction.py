"""From the group's word to the registry, and a whole transition in which nothing has to be waited for."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lifecycle_agent.rehearsal.imds import TARGET_STATE
from lifecycle_agent.rehearsal.proof import Bucket
from tests.bench.figure import Figure
from tests.stage import INSTANCE, Stage, until

POLL = 0.2  # seconds, the shortest that can be configured: the rest is what is measured
LOG_BYTES = 100 * 1024  # there is something to upload, and its transfer takes no time worth mentioning

CONFIG = '[logs]\nbucket = "acme-logs"\npaths = ["{logs}/*.log"]\n'


@dataclass(frozen=True)
class Run:
    """One termination, in seconds.

    Args:
        reaction: from the change in IMDS to the first out-of-service request answered at the registry.
        seen: the part of it from the answer that told the watcher.
        completion: from the end of the last step to the answer accepted by the group.
        whole: from the notice to the answer accepted.
        steps: what each step took.
    """

    reaction: float
    seen: float
    completion: float
    whole: float
    steps: dict[str, float]


def figures(runs: int) -> Iterator[Figure]:
    """Measure so many terminations."""
    done = [_run() for _ in range(runs)]
    reactions = sorted(run.reaction for run in done)
    seen = [run.seen for run in done]
    about = f"median {median(reactions):.2f} s; from the poll that saw it {max(seen):.2f} s"
    yield Figure(
        "from the change in IMDS to out of service at the registry", reactions[-1], POLL + 0.4, "s", about
    )
    completions = sorted(run.completion for run in done)
    about = f"median {median(completions):.3f} s"
    yield Figure("from the last step's end to the answer accepted", completions[-1], 0.3, "s", about)
    slowest = max(done, key=lambda run: run.whole)
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in slowest.steps.items() if seconds >= 0.005)
    about = f"median {median(run.whole for run in done):.2f} s; the longest: {parts}"
    yield Figure("a transition without anything to wait for", slowest.whole, 1.5, "s", about)


def _run() -> Run:
    """Settle is nothing, there is no drain, and the group is waiting at once: what is left is overhead.

    The logs' transfer is not taken off: 100 KiB on loopback, so the figure is the upper bound.
    """
    with tempfile.TemporaryDirectory() as directory, Stage(Path(directory)) as stage:
        Bucket(stage.group.url, "acme-logs").create()
        logs = Path(directory) / "logs"
        logs.mkdir()
        (logs / "orders.log").write_bytes(random.randbytes(LOG_BYTES))
        stage.configure(CONFIG.format(logs=logs), poll=f"{POLL * 1000:.0f}ms")
        stage.imds.set(TARGET_STATE, "InService")
        stage.start()
        until(lambda: stage.imds.requests[TARGET_STATE] >= 5)
        time.sleep(random.uniform(0, POLL))  # any moment between two polls
        stage.group.terminate(INSTANCE)
        stage.imds.set(TARGET_STATE, "Terminated")
        completed: float = until(stage.completed_at)
        until(lambda: stage.transition().get("outcome"))
        changed, read = stage.imds.changed_at(), stage.imds.first_read_at()
        assert changed is not None
        assert read is not None
        put = stage.asked("PUT", "OUT_OF_SERVICE")[0].at
        lines = (Path(directory) / "state" / "journal.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        ended = {event["name"]: event for event in events if event["event"] == "ended"}
        answer = ended.pop("complete")
        assert {event["outcome"] for event in (*ended.values(), answer)} == {"done"}, ended
        last = max(event["at"] for event in ended.values())
        # That it was found in service comes before it.
        notices = [event["notice"] for event in events if event["event"] == "notice"]
        seen_at = next(notice["seen_at"] for notice in notices if notice["kind"] == "terminate")
        steps = {name: event["seconds"] for name, event in ended.items()}
        return Run(put - changed, put - read, completed - last, completed - seen_at, steps)

"""The watcher while nothing happens: memory, processor, and what it asks of AWS."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from lifecycle_agent.rehearsal.imds import TARGET_STATE, Imds
from tests.bench.figure import Figure
from tests.stage import Stage, until

PAIRS = 3
WARM_UP = 20  # polls: everything that is imported or allocated once is there by then

MODULES = (
    "import sys\n"
    "from lifecycle_agent import config, logline\n"
    "from lifecycle_agent.watch import daemon\n"
    "print(*(name for name in sys.modules if name.split('.')[0] in sys.stdlib_module_names))"
)

# The interpreter's modules that the watcher has loaded, ec2_metadata, and one answer read.
FLOOR = (
    "import importlib, sys, time\n"
    "endpoint, *modules = sys.argv[1:]\n"
    "for name in modules: importlib.import_module(name)\n"
    "from ec2_metadata import ec2_metadata\n"
    "ec2_metadata.service_url = endpoint + '/latest/'\n"
    "ec2_metadata.metadata_url = endpoint + '/latest/meta-data/'\n"
    "print(ec2_metadata.autoscaling_target_lifecycle_state, flush=True)\n"
    "time.sleep(600)"
)


def figures(polls: int) -> Iterator[Figure]:
    """Measure over so many polls."""
    with tempfile.TemporaryDirectory() as directory, Stage(Path(directory)) as stage:
        stage.configure()
        pairs = [(_watcher_memory(stage), _floor_memory(stage.imds)) for _ in range(PAIRS)]
        ours, floor = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
        about = f"{ours / 1024:.1f} MiB resident, the floor has {floor / 1024:.1f} MiB"
        yield Figure(
            "watcher at rest: memory over its modules and ec2_metadata", ours / floor, 1.1, "x", about
        )
        yield _processor(stage, polls)
        asked = len(stage.group.calls) + sum(
            count for path, count in stage.imds.requests.items() if path.startswith("iam/")
        )
        about = f"over {stage.imds.requests[TARGET_STATE]} polls; requests for credentials count"
        yield Figure("watcher at rest: AWS API calls", asked, 0, "calls", about)


@contextmanager
def _watcher(stage: Stage) -> Iterator[int]:
    """A watcher that has warmed up; its process id."""
    before = stage.imds.requests[TARGET_STATE]
    agent = stage.start()
    until(lambda: stage.imds.requests[TARGET_STATE] >= before + WARM_UP)
    yield agent.pid
    agent.stop()


def _watcher_memory(stage: Stage) -> int:
    with _watcher(stage) as pid:
        return _resident(pid)


def _floor_memory(imds: Imds) -> int:
    listed = subprocess.run([sys.executable, "-c", MODULES], capture_output=True, text=True, check=True)
    modules = [name for name in listed.stdout.split() if name != "__main__"]
    command = [sys.executable, "-c", FLOOR, imds.url, *modules]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as floor:
        assert floor.stdout is not None
        assert floor.stdout.readline() == "InService\n"
        memory = _resident(floor.pid)
        floor.kill()
    return memory


def _processor(stage: Stage, polls: int) -> Figure:
    with _watcher(stage) as pid:
        before, first = _on_processor(pid), stage.imds.requests[TARGET_STATE]
        until(lambda: stage.imds.requests[TARGET_STATE] >= first + polls, seconds=polls)
        seconds, count = _on_processor(pid) - before, stage.imds.requests[TARGET_STATE] - first
    about = f"over {count} polls, 0.2 s apart"
    return Figure("watcher at rest: processor time for a poll", seconds / count * 1000, 1.5, "ms", about)


def _resident(pid: int) -> int:
    """Resident memory in KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))


def _on_processor(pid: int) -> float:
    """Seconds that a process's threads have run, user and system, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((tasks / task / "schedstat").read_text().split()[0]) for task in os.listdir(tasks)) / 1e9

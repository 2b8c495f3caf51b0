"""SIGKILL at every line of the journal: always answered, and what was finished stays finished."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from lifecycle_agent.model import ActionResult
from lifecycle_agent.watch.supervisor import DONE_WITH_FAILURES
from tests.fleet.job import Job, Ran
from tests.stage import until

pytestmark = pytest.mark.once

DRIVER = str(Path(__file__).with_name("kill_driver.py"))

STEPS = (
    "notify.start",
    "discovery.out_of_service",
    "discovery.settle",
    "drain.command.1",
    "drain.command.2",
    "drain.http.1",
    "drain.idle",
    "discovery.deregister",
    "logs",
    "discovery.verify",
    "notify.result",
    "complete",
)
# Every line that the journal of the main job has; the first test holds this against a real one.
BOUNDARIES = (
    "notice",
    "attempt",
    *(f"{what} {step}" for step in STEPS for what in ("started", "ended")),
    "over",
)

# Dead after a line: nothing was done since. Dead before the next: all of it was, and nothing said.
KILLS = [(side, boundary) for boundary in BOUNDARIES for side in ("before", "after")]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with Job(tmp_path) as job:
        yield job


def killed(job: Job, side: str, boundary: str) -> None:
    ran = job.run(side, boundary, *job.transition_of(job.seen()), program=(DRIVER,))
    assert ran.code == -signal.SIGKILL, ran


def assert_well_ended(job: Job, ran: Ran) -> None:
    """What holds wherever it died."""
    assert ran.code == 0, ran
    assert "Traceback" not in ran.err
    assert job.answers() == ["CONTINUE"], "answered, and once"
    assert job.answered() is ActionResult.CONTINUE
    assert not job.registered()
    assert [entry["source"] for entry in job.manifest()["files"] if entry["source"].endswith("orders.log")]
    lines = job.boundaries()
    assert lines[-1] == "over"
    for number, line in enumerate(lines):
        if line.startswith("ended "):
            later = [other for other in lines[number + 1 :] if other.split(" ")[-1] == line.split(" ")[-1]]
            assert later == [], "a step that finished was run again"
    assert {line.split(" ")[1] for line in lines if line.startswith("ended ")} == set(STEPS)


def die_once(side: str, boundary: str) -> None:
    """One trial, in a world of its own."""
    with tempfile.TemporaryDirectory() as directory, Job(Path(directory)) as job:
        killed(job, side, boundary)
        before = job.boundaries()
        assert (boundary in before) == (side == "after"), "died where it was told to"
        ran = job.run(*job.transition_of(job.seen(), deaths=1))
        assert_well_ended(job, ran)
        starts = Counter(job.boundaries())
        for word, step in (("one", "drain.command.1"), ("two", "drain.command.2")):
            # Dead between its end and the line that says so: then it is run again, as it must be.
            unsaid = (side, boundary) == ("before", f"ended {step}")
            assert job.commands_run().count(word) == (2 if unsaid else 1), boundary
            assert starts[f"ended {step}"] == 1
        unsaid = (side, boundary) == ("before", "ended drain.http.1")
        assert job.called["/pause"] == (2 if unsaid else 1)


@pytest.fixture(scope="module")
def trials() -> Iterator[dict[tuple[str, str], Future[None]]]:
    """All of them, on their way: each is two processes that wait for most of their time."""
    with ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1)) as pool:
        yield {kill: pool.submit(die_once, *kill) for kill in KILLS}
        pool.shutdown(cancel_futures=True)


def test_the_boundaries_are_these(job: Job) -> None:
    ran = job.run(*job.transition_of(job.seen()))
    assert tuple(job.boundaries()) == BOUNDARIES
    assert_well_ended(job, ran)
    assert job.commands_run() == ["one", "two"]
    assert (job.called["/pause"], job.called["/notice"]) == (1, 2)
    assert set(job.outcomes().values()) == {"done"}


@pytest.mark.parametrize("kill", KILLS, ids=" ".join)
def test_killed_once(trials: dict[tuple[str, str], Future[None]], kill: tuple[str, str]) -> None:
    trials[kill].result()


ESSENTIAL = ("discovery.deregister", "logs", "discovery.verify", "notify.result", "complete")


@pytest.mark.parametrize("boundary", ["started discovery.settle", "started drain.http.1"])
def test_killed_three_times_at_the_same_place_it_goes_straight_to_the_end(job: Job, boundary: str) -> None:
    for _ in range(3):
        killed(job, "after", boundary)
    before = len(job.boundaries())
    ran = job.run(*job.transition_of(job.seen()))
    assert ran.code == DONE_WITH_FAILURES, "steps were left out"
    assert "3 deaths or reboots in the middle: straight to " + ", ".join(ESSENTIAL) in ran.err
    started = [line.split(" ")[1] for line in job.boundaries()[before:] if line.startswith("started ")]
    assert started == list(ESSENTIAL)
    assert job.answers() == ["CONTINUE"]
    assert not job.registered()
    assert job.manifest()
    assert job.outcomes()[boundary.split(" ")[1]] == "skipped"
    assert job.outcomes()["discovery.out_of_service"] == "done", "what had been done stays in the report"


def test_what_dies_of_the_essential_steps_too_answers_all_the_same(job: Job) -> None:
    """The logs upload is out of memory, say: six deaths on, nothing is tried but the answer."""
    for _ in range(6):
        killed(job, "after", "started logs")
    ran = job.run(*job.transition_of(job.seen()))
    assert ran.code == DONE_WITH_FAILURES
    assert "6 deaths or reboots in the middle: straight to complete" in ran.err
    assert job.answers() == ["CONTINUE"]
    assert job.outcomes()["logs"] == "skipped"
    assert not job.registered(), "that had been done before"


def test_a_stop_in_between_is_no_death(job: Job) -> None:
    job.configure_all(settle="30s")
    for _ in range(2):
        killed(job, "after", "started discovery.settle")
    agent = job.start(*job.transition_of(job.seen())[2:])
    until(lambda: job.transition().get("pid") == agent.pid and job.transition()["step"] == "discovery.settle")
    assert agent.stop() == 143
    assert job.boundaries()[-1] == "interrupted"
    assert job.answers() == []
    job.configure_all()
    killed(job, "after", "started discovery.settle")
    ran = job.run(*job.transition_of(job.seen()))
    assert_well_ended(job, ran)


def test_under_the_watcher_three_deaths_and_the_end(job: Job) -> None:
    """The real parent: it starts the transition again, and the fourth goes straight to the end."""
    hanging = job.directory / "pids"
    job.configure_all(
        f"""
        [[drain.command]]
        argv = ["/bin/sh", "-c", "echo $$ >> {hanging}; exec sleep 600"]
        timeout = "1h"
        """,
        timeout="2h",
    )
    watcher = job.start("run")
    try:
        until(lambda: watcher.said("the group wants this instance InService"))
        job.seen()
        dead = 0
        for death in range(1, 4):
            dead = until(partial(in_command, job, dead))
            os.kill(dead, signal.SIGKILL)
            until(partial(watcher.said, f"death {death};"))
        until(lambda: watcher.said("terminate: done, with failures"))
        assert watcher.said("3 deaths or reboots in the middle: straight to")
        assert job.answers() == ["CONTINUE"]
        assert not job.registered()
        assert job.manifest()
        assert job.outcomes()["drain.command.1"] == "skipped"
        assert watcher.stop() == 0
    finally:
        for pid in hanging.read_text().split() if hanging.exists() else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def in_command(job: Job, before: int) -> int:
    """The pid of a transition in its first command, other than the one before; 0 if there is none."""
    shown = job.transition()
    there = shown.get("step") == "drain.command.1" and shown["pid"] != before and not shown["outcome"]
    return int(shown["pid"]) if there else 0


def test_the_answer_of_a_process_that_died_right_after_it_is_not_repeated(job: Job) -> None:
    killed(job, "before", "ended complete")
    assert job.answers() == ["CONTINUE"]
    ran = job.run(*job.transition_of(job.seen()))
    assert_well_ended(job, ran)
    (answer,) = [step for step in job.report()["steps"] if step["name"] == "complete"]
    assert "no answer is owed" in answer["detail"] or "moved on" in answer["detail"]


def test_over_is_over(job: Job) -> None:
    job.run(*job.transition_of(job.seen()))
    lines = job.boundaries()
    ran = job.run(*job.transition_of(job.seen()))
    assert ran.code == 0
    assert "over already" in ran.err
    assert job.boundaries() == lines

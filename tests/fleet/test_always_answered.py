"""The group has its answer, whatever became of configuration, lock and directories since the start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_agent.rehearsal.group_faults import Fault
from lifecycle_agent.rehearsal.imds import Trouble
from lifecycle_agent.transition.lock import Holder, TransitionLock
from lifecycle_agent.watch.supervisor import DONE_WITH_FAILURES
from tests.fleet.job import Job
from tests.stage import INSTANCE, until

pytestmark = pytest.mark.once


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with Job(tmp_path) as job:
        yield job


def test_a_configuration_broken_after_the_start_changes_nothing(job: Job) -> None:
    watcher = job.start("run")
    until(lambda: watcher.said("the group wants this instance InService"))
    job.config_path.write_text("[drain\n")

    job.seen()

    until(lambda: watcher.said("terminate: done;"))
    assert set(job.outcomes().values()) == {"done"}
    assert job.answers() == ["CONTINUE"]
    assert job.commands_run() == ["one", "two"]


def test_with_no_configuration_left_at_all_the_group_is_answered(job: Job) -> None:
    watcher = job.start("run", STATE_DIRECTORY=str(job.directory / "state"))  # as systemd sets it
    until(lambda: watcher.said("the group wants this instance InService"))
    job.config_path.unlink()
    (job.directory / "run" / "config.json").write_text('{"values": {"drain": 7}}')

    job.seen()

    until(lambda: job.answers() == ["CONTINUE"])
    until(lambda: watcher.said("the group is answered, and that is all"))
    assert watcher.stop() == 0


def test_a_runtime_directory_that_cannot_be_written_costs_the_lock_and_not_the_job(job: Job) -> None:
    (job.directory / "run").write_text("a file")

    ran = job.run(*job.transition_of(job.seen()))

    assert "going on without the lock" in ran.err
    assert ran.code == 0
    assert job.answers() == ["CONTINUE"]


def test_another_transition_that_hangs_is_waited_for_with_heartbeats_and_then_passed_by(job: Job) -> None:
    job.configure_all(timeout="8s")
    holding = f"""
import pathlib, sys, time
from lifecycle_agent.transition.lock import TransitionLock
assert TransitionLock(pathlib.Path({str(job.directory / "run")!r})).acquire("terminate")
print("held", flush=True)
time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", holding], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGSTOP)
        assert TransitionLock(job.directory / "run").holder() == Holder(holder.pid, "terminate")

        ran = job.run(*job.transition_of(job.seen()))

        assert (
            f"process {holder.pid}, terminate does not come to its end: going on without the lock" in ran.err
        )
        assert job.answers() == ["CONTINUE"]
        assert not job.registered()
        calls = [call.operation for call in job.group.calls]
        assert "RecordLifecycleActionHeartbeat" in calls[: calls.index("CompleteLifecycleAction")]
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout and holder.stdout.close()


def test_the_metadata_service_gone_in_the_middle_does_not_keep_the_answer(job: Job) -> None:
    """The credentials are from there, too: they are asked for until they can be had."""
    notice = job.seen()
    job.imds.fail(Trouble.HANG, times=3)

    ran = job.run(*job.transition_of(notice))

    assert ran.code == 0, ran
    assert job.answers() == ["CONTINUE"]


def test_a_secret_that_is_gone_since_the_start_costs_the_notices_alone(job: Job) -> None:
    watcher = job.start("run")
    until(lambda: watcher.said("the group wants this instance InService"))
    (job.directory / "webhook-url").unlink()

    job.seen()

    until(lambda: watcher.said("terminate: done;"))
    assert set(job.outcomes().values()) == {"done"}
    assert job.commands_run() == ["one", "two"]
    assert job.called["/notice"] == 0
    assert job.answers() == ["CONTINUE"]


@pytest.mark.parametrize("obstacle", ["lock", "journal", "status", "upload"])
def test_no_file_in_the_way_hangs_or_stops_it(job: Job, obstacle: str) -> None:
    (job.directory / "run").mkdir()
    (job.directory / "state").mkdir()
    match obstacle:
        case "lock":
            (job.directory / "run" / "transition.lock").mkdir()
        case "journal":
            os.mkfifo(job.directory / "state" / "journal.jsonl")
        case "status":
            os.mkfifo(job.directory / "run" / "status.json")
            os.mkfifo(job.directory / "run" / ".status.lock")
        case "upload":
            os.mkfifo(job.directory / "state" / "upload.jsonl")
    watcher = job.start("run")
    until(lambda: watcher.said("the group wants this instance InService"))

    job.seen()

    until(lambda: watcher.said("terminate: done"))
    assert job.answers() == ["CONTINUE"]
    assert job.manifest()
    assert job.commands_run() == ["one", "two"]


def test_what_was_begun_by_hand_gives_way_to_the_group(job: Job) -> None:
    """The app's own commands are not repeated, everything else is seen to once more."""
    there = job.directory / "there"
    job.configure_all(f"""
        [[drain.command]]
        argv = ["/bin/sh", "-c", "test -e {there} || {{ touch {there}; exec sleep 600; }}"]
        timeout = "1h"
        """)
    by_hand = job.start("drain")
    until(there.exists)

    ran = job.run(*job.transition_of(job.seen()))

    assert by_hand.wait() == 143, by_hand.lines
    assert ran.code == 0, ran
    assert job.answers() == ["CONTINUE"]
    assert job.commands_run() == ["one", "two"]
    assert job.outcomes()["discovery.out_of_service"] == "done"


def test_a_termination_after_a_drain_by_hand_does_not_call_the_stopped_app_again(job: Job) -> None:
    assert job.by_hand("drain").code == 0

    ran = job.run(*job.transition_of(job.seen()))

    assert ran.code == 0, ran
    assert job.commands_run() == ["one", "two"]
    assert job.called["/pause"] == 1
    assert job.answers() == ["CONTINUE"]


def test_an_answer_that_failed_is_tried_again_by_the_next_start(job: Job) -> None:
    job.configure_all(timeout="8s")
    job.group.fail(Fault("CompleteLifecycleAction", "AccessDenied", times=None))
    assert job.run(*job.transition_of(job.seen())).code == DONE_WITH_FAILURES
    before = len(job.boundaries())
    job.group.heal()

    assert job.run(*job.transition_of(job.seen())).code == 0

    assert job.answers() == ["CONTINUE"]
    assert [each for each in job.boundaries()[before:] if each.startswith("started")] == ["started complete"]


def test_nobody_goes_back_into_service_whom_the_group_takes_away(job: Job) -> None:
    job.group.terminate(INSTANCE)
    what, _ = job.by_hand("undrain").assert_two_lines()
    assert "it cannot go back into service" in what


def test_an_undrain_during_a_drain_is_done_after_it(job: Job) -> None:
    job.configure_all(settle="3s")
    drain = job.start("drain")
    until(lambda: job.transition().get("step") == "discovery.settle")
    undrain = job.start("undrain")
    assert drain.wait() == 0
    until(lambda: job.transition().get("kind") == "undrain")
    job.register()
    assert undrain.wait() == 0
    assert job.status_in_registry() == "UP"

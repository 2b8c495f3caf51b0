"""The group has its answer, whatever became of configuration, lock and directories since the start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_agent.rehearsal.imds import Trouble
from lifecycle_agent.transition.lock import TransitionLock
from tests.fleet.job import Job
from tests.stage import until


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
assert TransitionLock(pathlib.Path({str(job.directory / "run")!r})).acquire()
print("held", flush=True)
time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", holding], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGSTOP)
        assert TransitionLock(job.directory / "run").holder() == holder.pid

        ran = job.run(*job.transition_of(job.seen()))

        assert f"process {holder.pid} does not come to its end: going on without the lock" in ran.err
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

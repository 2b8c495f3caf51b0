"""The real watcher with `[logs] ship = "closed"`: what goes while it waits, and what is left for the end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pytest

from tests.stage import INSTANCE, Agent, Stage, until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

IN_SERVICE = "waiting: the group wants this instance InService"
ROTATED = b"2026-01-01 an order\n" * 5000
LARGE = 16 << 20  # random bytes: two minutes at 1 Mbit/s


class Bucket:
    """A bucket that keeps whatever is ever put there.

    Args:
        stage: where it is; it is made by `make`.
    """

    def __init__(self, stage: Stage) -> None:
        self.name = f"logs-{uuid4()}"
        session = boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test")
        self.client: S3Client = session.client("s3", region_name="us-east-1", endpoint_url=stage.group.url)

    def make(self) -> None:
        self.client.create_bucket(Bucket=self.name)
        self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})

    def puts(self) -> list[str]:
        """A key for each time that something was put there."""
        return [one["Key"] for one in self.client.list_object_versions(Bucket=self.name).get("Versions", [])]

    def unfinished(self) -> list[str]:
        """The keys of multipart uploads."""
        uploads = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [one["Key"] for one in uploads]

    def text(self, key: str) -> str:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read().decode()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path) as stage:
        (tmp_path / "app").mkdir()
        yield stage


@pytest.fixture
def bucket(stage: Stage) -> Bucket:
    bucket = Bucket(stage)
    bucket.make()
    configure(stage, bucket.name)
    return bucket


def configure(stage: Stage, bucket: str) -> None:
    stage.configure(
        f'[logs]\nbucket = "{bucket}"\npaths = ["{stage.directory}/app/*"]\n'
        'ship = "closed"\nship_interval = "10s"\nship_rate = 1'
    )


def write(stage: Stage, name: str, content: bytes, age: float = 0.0) -> Path:
    path = stage.directory / "app" / name
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)
    return path


def shipper(agent: Agent) -> int | None:
    """The process that ships, which then gets on as fast as others: this machine may be busy."""
    for child in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split():
        with suppress(OSError):
            if b"\0ship\0" in Path(f"/proc/{child}/cmdline").read_bytes():
                hurry(int(child))
                return int(child)
    return None


def hurry(process: int) -> None:
    with suppress(OSError):
        for task in os.listdir(f"/proc/{process}/task"):
            os.sched_setscheduler(int(task), os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, int(task), 0)


def over(stage: Stage, agent: Agent, bucket: str) -> dict[str, Any]:
    """What the step saved, once the transition is over and `logs verify` finds nothing to complain of."""
    until(stage.completed_at)
    until(lambda: stage.transition().get("outcome"))
    logs = next(step for step in stage.transition()["ended"] if step["name"] == "logs")
    saved: dict[str, Any] = logs["data"]
    url = f"s3://{bucket}/{saved['prefix']}"
    verify = stage.start("logs", "verify", "--json", url, AWS_REGION="us-east-1")
    assert verify.wait() == 0, verify.lines
    assert not agent.said("Traceback")
    assert (saved["incomplete"], saved["manifest_written"]) == (0, True)
    return saved


def test_what_is_closed_goes_while_it_waits_and_the_tail_at_the_end(stage: Stage, bucket: Bucket) -> None:
    write(stage, "app.log", b"now\n")
    write(stage, "app.log.1", ROTATED, age=3600)
    agent = stage.start()
    until(lambda: shipper(agent))
    until(lambda: shipper(agent) is None)
    assert agent.said("shipped 1 closed log files, 100000 bytes as "), agent.lines

    (key,) = bucket.puts()
    assert key.startswith(f"asg/rehearsal/{INSTANCE}/closed/files{stage.directory}/app/app.log.1~~")
    assert stage.transition() == {}
    assert stage.status.read()["watcher"]["sentence"] == IN_SERVICE

    os.rename(stage.directory / "app" / "app.log.1", stage.directory / "app" / "app.log.2")
    stage.group.terminate(INSTANCE)
    saved = over(stage, agent, bucket.name)

    files = [each for each in bucket.puts() if "/files/" in each]
    assert sorted(files) == [f"{saved['prefix']}/files{stage.directory}/app/app.log.zst", key]
    manifest = bucket.text(saved["manifest_key"])
    assert f'"{key}"' in manifest
    assert f'"{stage.directory}/app/app.log.2"' in manifest
    assert agent.stop() == 0


def test_a_transition_does_not_wait_for_what_is_being_shipped(stage: Stage, bucket: Bucket) -> None:
    write(stage, "app.log", b"now\n")
    write(stage, "app.log.1", os.urandom(LARGE), age=3600)
    agent = stage.start()
    until(lambda: shipper(agent) and bucket.unfinished())

    stage.group.terminate(INSTANCE)
    until(stage.transition)
    assert shipper(agent) is None, "it still runs"
    saved = over(stage, agent, bucket.name)

    assert saved["bytes"] > LARGE
    assert bucket.unfinished() == []
    assert not agent.said("ended early")
    assert agent.stop() == 0


def test_it_stands_back_and_ends_with_the_watcher(stage: Stage, bucket: Bucket) -> None:
    write(stage, "app.log", b"now\n")
    write(stage, "app.log.1", os.urandom(LARGE), age=3600)
    by_hand = stage.start("ship")  # as the watcher starts it, less what that knows already
    until(lambda: os.sched_getscheduler(by_hand.pid) == os.SCHED_IDLE)
    until(lambda: Path(f"/proc/{by_hand.pid}/oom_score_adj").read_text() == "1000\n")
    by_hand.process.kill()

    agent = stage.start()
    child = until(lambda: shipper(agent))
    assert agent.stop() == 0
    until(lambda: not os.path.exists(f"/proc/{child}"))


def test_with_nothing_closed_aws_is_not_asked_and_botocore_stays_out(stage: Stage) -> None:
    configure(stage, "no-such-bucket")
    write(stage, "app.log", b"now\n")
    imports = stage.start("ship", PYTHONPROFILEIMPORTTIME="1")
    assert imports.wait() == 0
    assert imports.said("lifecycle_agent.steps.logs.ship")
    for heavy in ("botocore", "boto3", "requests", "zstandard"):
        assert not imports.said(f" {heavy}"), heavy
    assert stage.group.calls == []
    assert not [path for path in stage.imds.requests if path.startswith("iam/")]


def test_what_keeps_it_from_shipping_is_one_line(stage: Stage) -> None:
    configure(stage, "no-such-bucket")
    write(stage, "app.log", b"now\n")
    write(stage, "app.log.1", ROTATED, age=3600)
    child = stage.start("ship")
    assert child.wait() == 1
    (line,) = child.lines
    assert (
        "closed logs are not shipped: there is no bucket 'no-such-bucket' (NoSuchBucket); create it" in line
    )

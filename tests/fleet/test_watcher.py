"""The real watcher, a process, beside services on loopback: what it survives, says, and leaves alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lifecycle_agent.rehearsal.imds import TARGET_STATE, TOKEN, Imds, Trouble
from tests.stage import APP, INSTANCE, PATIENCE, Stage, until

IN_SERVICE = "waiting: the group wants this instance InService"


class Systemd:
    """systemd's end of NOTIFY_SOCKET: the messages that came so far."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "notify")
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(PATIENCE)

    def next(self) -> str:
        """The next message; a service that stays silent is a failure."""
        message = self._socket.recv(4096).decode()
        self.heard.append(message)
        return message

    def until(self, text: str) -> str:
        """Listen on until a message with `text` in it."""
        give_up = time.monotonic() + PATIENCE
        while text not in (message := self.next()):
            assert time.monotonic() < give_up, f"never heard {text!r}, but: {self.heard[-20:]}"
        return message

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path) as stage:
        stage.configure()
        yield stage


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    systemd = Systemd(tmp_path)
    yield systemd
    systemd.close()


def test_systemd_hears_that_it_is_up_what_it_does_and_that_it_lives(stage: Stage, systemd: Systemd) -> None:
    agent = stage.start(NOTIFY_SOCKET=systemd.path, WATCHDOG_USEC="900000")

    assert systemd.next() == "READY=1"
    assert systemd.next() == f"STATUS={IN_SERVICE}\nWATCHDOG=1"
    assert [systemd.next() for _ in range(5)] == ["WATCHDOG=1"] * 5
    assert stage.status.read()["watcher"]["sentence"] == IN_SERVICE
    assert stage.status.read()["watcher"]["instance_id"] == INSTANCE

    assert agent.stop() == 0
    systemd.until("STOPPING=1")


def test_it_survives_whatever_the_metadata_service_does(stage: Stage, systemd: Systemd) -> None:
    agent = stage.start(NOTIFY_SOCKET=systemd.path)
    systemd.until(IN_SERVICE)
    faults: list[tuple[Trouble | int, str]] = [
        *((status, TARGET_STATE) for status in (401, 429, 500, 503)),
        *((trouble, TARGET_STATE) for trouble in Trouble),
        *((fault, TOKEN) for fault in (401, 403, 503, Trouble.EMPTY, Trouble.GARBAGE, Trouble.RESET)),
    ]
    for kind, path in faults:
        stage.imds.fail(kind, path)
        stage.imds.expire_tokens()
        assert "InService" not in systemd.until("STATUS=waiting: ")
        stage.imds.heal()
        systemd.until(IN_SERVICE)
    stage.imds.set(TARGET_STATE, None)
    systemd.until("STATUS=waiting: no group has said yet")
    stage.imds.set(TARGET_STATE, "Terminatd")
    systemd.until("'Terminatd', which is no documented word")
    stage.imds.set(TARGET_STATE, "InService")
    systemd.until(IN_SERVICE)

    assert stage.transition() == {}, "a strange answer started a transition"
    assert stage.eureka.requests == []
    assert agent.stop() == 0
    assert not agent.said("Traceback")


def test_nothing_is_asked_of_aws_while_nothing_happens(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as aws:
        aws.setblocking(False)
        agent = stage.start(AWS_ENDPOINT_URL="http://127.0.0.1:{1}".format(*aws.getsockname()))
        until(lambda: stage.imds.requests[TARGET_STATE] >= 10)
        assert agent.stop() == 0

        with pytest.raises(BlockingIOError):
            aws.accept()
    assert stage.group.calls == []
    assert stage.eureka.requests == []
    polls = stage.imds.requests.pop(TARGET_STATE)
    assert polls >= 10
    once = [TOKEN, "instance-id", "dynamic/instance-identity/document", "local-ipv4", "local-hostname"]
    # It is no spot instance, so nobody asks for interruptions; for what is scheduled once a minute.
    once += ["tags/instance/", "instance-life-cycle", "events/maintenance/scheduled"]
    assert stage.imds.requests == dict.fromkeys(once, 1)


def test_stopping_leaves_the_app_alone(stage: Stage) -> None:
    agent = stage.start()
    until(lambda: agent.said(IN_SERVICE))

    assert agent.stop() == 0

    assert agent.said("stopped; the app is left as it is")
    assert stage.status.read()["watcher"]["pid"] is None
    assert stage.eureka.requests == []
    assert not agent.said("Traceback")


def test_a_hang_up_does_no_harm(stage: Stage, systemd: Systemd) -> None:
    agent = stage.start(NOTIFY_SOCKET=systemd.path)
    systemd.until(IN_SERVICE)
    for _ in range(3):
        os.kill(agent.pid, signal.SIGHUP)
        systemd.until("WATCHDOG=1")

    assert agent.process.poll() is None
    assert agent.stop() == 0


def test_a_metadata_service_that_comes_late(stage: Stage, systemd: Systemd) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # and does not listen: refused
        port = reserved.getsockname()[1]
        agent = stage.start(
            NOTIFY_SOCKET=systemd.path, AWS_EC2_METADATA_SERVICE_ENDPOINT=f"http://127.0.0.1:{port}"
        )
        assert systemd.next() == "READY=1"
        assert "cannot be connected to" in systemd.next()
        assert systemd.next() == "WATCHDOG=1"
    assert agent.process.poll() is None

    with Imds(INSTANCE, port=port) as imds:
        imds.set(TARGET_STATE, "InService")
        systemd.until(IN_SERVICE)

    systemd.until("STATUS=waiting: the instance metadata service")
    assert agent.stop() == 0


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[agent]\npol_interval = '1s'", "agent.pol_interval"),
        ("[agent]\npoll_interval = '1 second'", "agent.poll_interval"),
        ("[logs]\npaths = ['/var/log/*']", "logs.bucket"),
        ("[agent", "TOML"),
        (None, "config.toml"),
    ],
)
def test_a_broken_configuration_keeps_it_down(stage: Stage, text: str | None, wrong: str) -> None:
    if text is None:
        stage.config_path.unlink()
    else:
        stage.config_path.write_text(text)

    agent = stage.start()

    assert agent.wait() == 2
    what, hint = agent.lines
    assert wrong in what
    assert str(stage.config_path) in what
    assert hint.startswith("  do: ")
    assert not stage.imds.requests


def test_a_transition_that_is_killed_is_started_again(stage: Stage, systemd: Systemd) -> None:
    agent = stage.start(NOTIFY_SOCKET=systemd.path)
    systemd.until(IN_SERVICE)
    stage.eureka.hang()
    stage.group.terminate(INSTANCE)
    child = 0
    for death in (1, 2):
        child = another_process(stage, child)
        os.kill(child, signal.SIGKILL)
        died = f"killed by signal 9), death {death};"
        until(partial(agent.said, died))
    stage.eureka.heal()

    until(stage.completed_at)
    systemd.until("STATUS=terminate: done")
    assert stage.asked("DELETE", f"/apps/{APP}/")
    assert [call.operation for call in stage.group.calls].count("CompleteLifecycleAction") == 1
    assert agent.process.poll() is None, "the watcher stays"
    assert agent.stop() == 0
    assert not agent.said("Traceback")


def test_stopped_in_the_middle_it_goes_on_with_the_next_start(stage: Stage) -> None:
    stage.configure(settle="30s")
    agent = stage.start()
    until(lambda: agent.said(IN_SERVICE))
    stage.group.terminate(INSTANCE)
    until(lambda: stage.transition().get("step") == "discovery.settle")
    child = stage.transition()["pid"]

    assert agent.stop() == 0

    assert not os.path.exists(f"/proc/{child}"), "the transition's process is left behind"
    assert stage.asked("DELETE", "/apps/") == []
    assert stage.completed_at() is None
    events = [json.loads(line)["event"] for line in journal(stage)]
    assert events[-1] == "interrupted"

    stage.configure(settle="0s")
    stage.start()
    until(stage.completed_at)
    assert len(stage.asked("PUT", "status?value=OUT_OF_SERVICE")) == 1, "a step that had finished ran again"
    began = [each for each in map(json.loads, journal(stage)) if each["event"] == "notice"]
    assert [each["notice"]["kind"] for each in began] == ["found", "terminate"]


def another_process(stage: Stage, before: int) -> int:
    """The transition's process, once one is in the middle of a step that is not `before`."""

    def find() -> int | None:
        shown = stage.transition()
        return shown["pid"] if shown.get("step") and shown["pid"] != before else None

    found: int = until(find)
    return found


def journal(stage: Stage) -> list[str]:
    return (stage.directory / "state" / "journal.jsonl").read_text().splitlines()

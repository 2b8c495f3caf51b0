"""The rehearsal itself: with the agent nobody notices, without it people do, and the world can tell."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.model import ActionResult
from lifecycle_agent.rehearsal import proof, scenario, settings
from lifecycle_agent.rehearsal.machine import Process
from lifecycle_agent.rehearsal.pace import Pace
from lifecycle_agent.rehearsal.timeline import Lane, Timeline
from lifecycle_agent.rehearsal.world import OURS, World

SPEED = 30.0
SECONDS = 60.0  # far above what anything here takes: a test that waits so long has failed


def rehearse(*arguments: str, speed: float = SPEED) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Run the command; its exit code, the events and the verdict."""
    ran = subprocess.run(
        [sys.executable, "-m", "lifecycle_agent", "rehearse", "--json", f"--speed={speed}", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ran.stderr == ""
    *events, verdict = [json.loads(line) for line in ran.stdout.splitlines()]
    return ran.returncode, events, verdict


def test_with_the_agent_nothing_is_lost() -> None:
    """The main job end to end: the agent's own `run`, as systemd would start it."""
    code, events, verdict = rehearse(speed=15.0)
    assert verdict["requests"]["lost"] == 0, verdict
    assert verdict["requests"]["sent"] > 50
    assert verdict["logs"]["proven"], verdict
    assert verdict["logs"]["bytes"] > 1_000_000
    assert (verdict["hook"]["result"], verdict["hook"]["answered_by"]) == ("CONTINUE", "instance ID")
    assert verdict["hook"]["left"] > 0
    assert verdict["notices"]["received"] == 2
    assert verdict["verdict"] == "passed"
    assert code == 0
    assert {"group", "registry", "app", "callers", "agent"} <= {event["lane"] for event in events}
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)


def test_without_the_agent_requests_are_lost_logs_gone_and_the_hook_times_out() -> None:
    code, _, verdict = rehearse("--without-agent")
    assert verdict["requests"]["lost"] > 0
    assert verdict["logs"]["proven"] is False
    assert len(verdict["logs"]["missing"]) == verdict["logs"]["files"] > 0
    assert verdict["hook"]["answered_by"] == "heartbeat timeout"
    assert verdict["registry"]["registered"]
    assert verdict["verdict"] == "failed"
    assert code == 1


def test_the_users_own_settings_are_rehearsed(tmp_path: Path) -> None:
    """What names something outside is replaced: no secret is read, no command run, no unit stopped."""
    marker = tmp_path / "was-run"
    file = tmp_path / "config.toml"
    file.write_text(
        f"""
        [hooks]
        terminate = "goodbye"
        [eureka]
        urls = ["https://eureka.example.com/eureka"]
        app = "billing"
        username = "agent"
        password_file = "not-there"
        ca_file = "not-there-either.pem"
        settle = "75s"
        [drain]
        units = ["billing.service"]
        [[drain.command]]
        argv = ["/usr/bin/touch", "{marker}"]
        [[drain.http]]
        url = "http://localhost:9000/internal/stop-polling"
        [logs]
        bucket = "billing-logs"
        prefix = "billing/{{instance_id}}"
        paths = ["/var/log/billing/*.log"]
        journal_units = ["billing.service"]
        compression = "gzip"
        [[notify]]
        kind = "slack"
        url_file = "slack-url"
        """
    )
    code, events, verdict = rehearse(f"--config={file}")
    texts = "\n".join(event["text"] for event in events)
    assert code == 0, texts + str(verdict)
    assert verdict["logs"]["proven"]
    assert "hook goodbye says CONTINUE" in texts
    assert "BILLING/ip-127-0-0-11" in texts
    assert "asked POST /internal/stop-polling" in texts
    assert f"rehearsed: /usr/bin/touch {marker}" in texts
    assert "slack: " in texts
    assert "stopped after" in texts
    assert not marker.exists()
    settle = next(step for step in verdict["steps"] if step["name"] == "discovery.settle")
    assert settle["seconds"] > 60 / SPEED  # 75 s were asked for, and 60 s are the default


def test_a_signal_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lifecycle_agent", "rehearse", "--json", "--speed=2"]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "waits up to" in line or "scales in" in line:
                break
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        running.send_signal(signal.SIGTERM)
        running.stdout.read()
        assert running.wait(SECONDS) == 130
    assert len(children) == 3  # two apps and the agent
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert list(tmp_path.iterdir()) == []


def test_without_its_packages_it_says_what_to_install() -> None:
    hide = "import sys; sys.modules['moto'] = None; sys.argv = ['lifecycle-agent', 'rehearse', '--json']"
    ran = subprocess.run(
        [sys.executable, "-c", f"{hide}; from lifecycle_agent.cli import main; main()"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.splitlines() == [
        "error: the emulated world cannot be built: the Python package 'moto' is not installed",
        "  do: pip install '.[rehearsal]' in the project's checkout installs it",
    ]


def test_an_agent_that_will_not_start_ends_the_rehearsal_at_once() -> None:
    default = settings.default()
    impossible = replace(default, eureka=replace(default.eureka, settle=default.drain.timeout + 1))
    timeline = Timeline()
    with pytest.raises(LifecycleAgentError, match="exit code 2"):
        scenario.terminate(scenario.Options(SPEED, impossible), timeline, lambda world: None)
    assert any("eureka.settle" in event.text for event in timeline.events() if event.lane is Lane.AGENT)


# -- the app by itself


def test_an_app_that_is_told_to_stop_answers_what_is_in_flight(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    heard = threading.Condition()

    def hears(line: str) -> None:
        with heard:
            told.append(json.loads(line))
            heard.notify_all()

    def event(name: str) -> dict[str, Any]:
        with heard:
            heard.wait_for(lambda: any(one["event"] == name for one in told), SECONDS)
            return next(one for one in told if one["event"] == name)

    nowhere = "http://127.0.0.1:1/eureka"
    arguments = [
        "--instance-id=i-1",
        f"--eureka={nowhere}",
        f"--logs={tmp_path / 'logs'}",
        "--work",
        "0.5",
        "0.5",
    ]
    app = Process(
        [sys.executable, "-m", "lifecycle_agent.rehearsal.app", *arguments],
        {"PATH": os.defpath},
        hears,
        log=tmp_path / "app.out",
    )
    try:
        port = event("serving")["port"]
        busy = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        for connection in (busy, idle):
            connection.request("GET", "/actuator/health")
            connection.getresponse().read()
        busy.request("GET", "/orders/1")
        idle.request("POST", "/actuator/shutdown")
        assert idle.getresponse().status == 200
        answer = busy.getresponse()
        assert (answer.status, answer.read()) == (200, b'{"order": "1"}')
        assert event("stopped") == {"event": "stopped", "served": 4, "cut_off": 0}
        with pytest.raises(ConnectionRefusedError):
            http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS).connect()
        deadline = Deadline.after(SECONDS)
        while app.exit_code is None and not deadline.passed:
            time.sleep(0.01)
        assert app.exit_code == 0
    finally:
        app.kill()
    assert "stopped after 4 requests, 0 cut off" in (tmp_path / "logs" / "app.log").read_text()


# -- the world by itself


@pytest.fixture
def world() -> Iterator[World]:
    config = settings.compress(settings.default(), SPEED)
    with World(config, Pace.of(SPEED), Timeline(), real_commands=True) as world:
        world.wait("callers are served", lambda: world.callers.tally().ok > 20, SECONDS)
        yield world


def post(world: World, path: str) -> None:
    port = world.registration.rpartition(":")[2]
    request = urllib.request.Request(f"http://{world.ours.address}:{port}{path}", b"", method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


def out_of_service(world: World) -> None:
    url = f"{world.eureka.url}/apps/{world.app_name}/{world.registration}/status?value=OUT_OF_SERVICE"
    with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5) as answer:
        assert answer.status == 200


def some_more(world: World) -> None:
    sent = world.callers.tally().sent
    world.wait("callers go on", lambda: world.callers.tally().sent > sent + 20, SECONDS)


def test_a_perfect_drain_by_hand_loses_nothing(world: World) -> None:
    world.group.terminate(OURS)
    out_of_service(world)
    world.wait("no caller holds the old registry", lambda: not world.followed, SECONDS)
    post(world, "/actuator/shutdown")
    world.wait("the app stopped", lambda: world.app_stopped, SECONDS)
    world.wait("the group asks", lambda: world.group.state(OURS) == "Terminating:Wait", SECONDS)
    with world.group.turn() as model:
        model.complete(world.hook, ActionResult.CONTINUE, instance_id=OURS)
    world.wait("the machine is gone", world.ours.dead.is_set, SECONDS)
    some_more(world)
    tally = world.callers.stop()
    assert tally.lost == []
    assert tally.ok > 40


def test_an_app_that_stops_while_it_is_called_loses_requests_however_gracefully(world: World) -> None:
    post(world, "/actuator/shutdown")
    world.wait("the app stopped", lambda: world.app_stopped, SECONDS)
    some_more(world)
    lost = world.callers.stop().lost
    assert {one.instance for one in lost} == {world.registration}


def test_an_app_that_outlives_its_registration_registers_again(world: World) -> None:
    url = f"{world.eureka.url}/apps/{world.app_name}/{world.registration}"
    with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=5) as answer:
        assert answer.status == 200
    world.wait("it is registered again", lambda: world.registered, SECONDS)


def test_a_machine_that_is_gone_takes_its_processes_and_its_disk_with_it(world: World) -> None:
    (app,) = world.ours.processes
    world.ours.die()
    assert app.exit_code == -signal.SIGKILL
    assert not world.ours.disk.exists()
    assert "app.log" in proof.truth(world.ours.where(world.ours.logs))


def test_an_agent_needs_nothing_but_a_configuration_and_standard_variables(
    world: World, tmp_path: Path
) -> None:
    """World and agent are started apart: nothing but addresses passes between them."""
    environ = {
        "PATH": os.defpath,
        "AWS_ENDPOINT_URL": world.group.url,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": world.imds.url,
        "RUNTIME_DIRECTORY": str(tmp_path / "run"),
    }
    state, logs = tmp_path / "state", tmp_path / "logs"
    logs.mkdir()
    (logs / "one.log").write_text("the last line\n")
    file = tmp_path / "config.toml"
    file.write_text(
        f"""
        [agent]
        poll_interval = "200ms"
        state_dir = "{state}"
        [eureka]
        urls = ["{world.eureka.url}"]
        settle = "2s"
        [drain]
        timeout = "30s"
        [[drain.http]]
        url = "http://{world.ours.address}:{world.registration.rpartition(":")[2]}/actuator/shutdown"
        [logs]
        bucket = "{world.bucket.name}"
        paths = ["{logs}/*.log"]
        """
    )
    said: list[str] = []
    agent = Process(
        [sys.executable, "-m", "lifecycle_agent", "--config", str(file), "run"],
        environ,
        said.append,
        log=tmp_path / "agent.out",
        of_errors=True,
    )
    try:
        world.wait("the agent watches", lambda: world.watched, SECONDS)
        world.group.terminate(OURS)
        world.wait("the instance is gone", world.ours.dead.is_set, SECONDS)
        world.wait("the report is written", (state / "report.json").exists, SECONDS)
    finally:
        agent.kill()
    action = world.group.action(OURS)
    assert action is not None, said
    assert (action.result, action.answered_by) == (ActionResult.CONTINUE, "instance ID"), said
    assert world.callers.stop().lost == []
    assert proof.prove(world.bucket, logs, logs).proven
    assert not world.registered

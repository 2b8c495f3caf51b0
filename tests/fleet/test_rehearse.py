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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.model import ActionResult
from lifecycle_agent.rehearsal import play_through, proof, settings
from lifecycle_agent.rehearsal.ec2 import Ec2
from lifecycle_agent.rehearsal.machine import Process
from lifecycle_agent.rehearsal.pace import Pace
from lifecycle_agent.rehearsal.play import Play
from lifecycle_agent.rehearsal.scenario import Act
from lifecycle_agent.rehearsal.scenarios import SCENARIOS
from lifecycle_agent.rehearsal.scene import Scene
from lifecycle_agent.rehearsal.timeline import Lane, Timeline
from lifecycle_agent.rehearsal.verdict import judged
from lifecycle_agent.rehearsal.world import OURS, World

SPEED = 30.0
SECONDS = 60.0  # far above what anything here takes: a test that waits so long has failed


def rehearse(
    *arguments: str, speed: float = SPEED, seconds: float = SECONDS
) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Run the command; its exit code, the events and the verdict."""
    ran = subprocess.run(
        [sys.executable, "-m", "lifecycle_agent", "rehearse", "--json", f"--speed={speed}", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
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


# -- every other way in which an instance comes and goes

OTHERS = [name for name in SCENARIOS if name != "terminate"]
AT_ONCE = 3  # worlds: most of their time is waiting
SCENARIO_SECONDS = 120.0  # far above what the longest of them takes


class Played:
    """A scenario as a process of its own, begun before anybody asks how it went."""

    def __init__(self, pool: ThreadPoolExecutor, name: str) -> None:
        self._future = pool.submit(rehearse, "--scenario", name, speed=SPEED, seconds=SCENARIO_SECONDS)

    def verdict(self) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
        """Exit code, events and verdict, once it is over."""
        return self._future.result()


@pytest.fixture(scope="module")
def played() -> Iterator[dict[str, Played]]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: Played(pool, name) for name in OTHERS}
        pool.shutdown(cancel_futures=True)


@pytest.mark.once
@pytest.mark.parametrize("name", OTHERS)
def test_nobody_notices(played: dict[str, Played], name: str) -> None:
    code, events, verdict = played[name].verdict()
    assert verdict["verdict"] == "passed", "\n".join(f"{one['at']} {one['text']}" for one in events)
    assert code == 0
    assert verdict["scenario"] == name
    acts = verdict.get("acts", [verdict])
    assert len(acts) == len(SCENARIOS[name].acts)
    for act in acts:
        assert act["requests"]["lost"] == 0
        assert act["requests"]["sent"] > 50
    assert {one["scenario"] for one in events} == {name}
    assert {one.get("act", "") for one in events} == {act.title for act in SCENARIOS[name].acts}


def usage_error(*arguments: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-m", "lifecycle_agent", "rehearse", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    return ran.stderr.splitlines()


def test_a_scenario_that_makes_no_sense_says_so_in_two_lines(tmp_path: Path) -> None:
    assert usage_error("--scenario", "standby", "--without-agent") == [
        "error: there is nothing to see of 'standby' without the agent: nobody would do anything",
        "  do: leave out --without-agent, or choose --scenario terminate or spot",
    ]
    (tmp_path / "config.toml").write_text('[standby]\naction = "ignore"\n')
    assert usage_error("--scenario", "standby", f"--config={tmp_path / 'config.toml'}") == [
        "error: 'standby' cannot be rehearsed with this configuration: [standby] action is \"ignore\"",
        "  do: change the configuration, or choose another --scenario",
    ]


@pytest.mark.once
def test_all_of_them_end_with_one_verdict_and_what_makes_no_sense_is_left_out(tmp_path: Path) -> None:
    """Without the agent and spot notices one is left, which is quick; and it fails, as it should."""
    (tmp_path / "config.toml").write_text('[spot]\naction = "ignore"\n')
    config = f"--config={tmp_path / 'config.toml'}"
    code, events, verdict = rehearse("--scenario", "all", "--without-agent", config, speed=60.0)
    assert [one["scenario"] for one in events if "verdict" in one] == ["terminate"]
    assert verdict["scenario"] == "all"
    assert verdict["scenarios"] == {"terminate": "failed"}
    assert set(verdict["left_out"]) == set(SCENARIOS) - {"terminate"}
    assert (verdict["verdict"], code) == ("failed", 1)


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
    options = play_through.Options(SPEED, impossible)
    with pytest.raises(LifecycleAgentError, match="exit code 2"):
        play_through.rehearse(SCENARIOS["terminate"], options, lambda act: timeline, lambda world: None)
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


def test_how_a_process_ended_can_be_asked_while_another_thread_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process([sys.executable, "-c", "import time; time.sleep(60)"], {}, print, log=tmp_path / "out")
    real = os.waitid

    def reaped_before(*arguments: Any) -> Any:
        monkeypatch.undo()
        process.kill()
        return real(*arguments)

    monkeypatch.setattr(os, "waitid", reaped_before)
    assert process.exit_code == -signal.SIGKILL


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


def test_an_instance_that_is_launched_is_called_once_its_app_is_healthy() -> None:
    """The world's own part of it, without the agent: the app says STARTING, and UP when it is so."""
    config = settings.compress(settings.launching(settings.default()), SPEED)
    with World(config, Pace.of(SPEED), Timeline(), Scene(arrives=True)) as world:
        assert world.moment().state == world.status == ""
        world.group.launch(OURS)
        world.wait("the group asks", lambda: world.group.state(OURS) == "Pending:Wait", SECONDS)
        subprocess.run(world.manager.command(world.ours.disk), check=True, timeout=SECONDS)
        world.wait("the app starts", lambda: world.status == "STARTING", SECONDS)
        world.wait("the app is healthy", lambda: world.app == "up", SECONDS)
        world.wait("callers call it", lambda: world.called > 0, SECONDS)
        course = world.watching.course()
    apps = [moment.app for moment in course]
    assert apps.index("down") < apps.index("starting") < apps.index("up")
    assert all(moment.called == 0 for moment in course if moment.app != "up")


def test_a_machine_that_is_switched_off_keeps_its_disk_and_boots_again(world: World) -> None:
    ec2 = Ec2(world)
    ec2.switch_off()
    assert world.app == "down"
    assert not world.ours.dead.is_set()
    assert world.ours.logs.is_dir()
    ec2.boot()
    world.wait("the app is healthy again", lambda: world.app == "up", SECONDS)


def test_a_group_that_became_another_one_asks_its_own_hook(world: World) -> None:
    world.group.detach(OURS)
    world.wait("it is detached", lambda: world.group.state(OURS) == "Detached", SECONDS)
    world.found_group("orders-blue", "goodbye")
    world.group.attach(OURS)
    world.wait("it is attached", lambda: world.group.state(OURS) == "InService", SECONDS)
    world.group.terminate(OURS)
    world.wait("the group asks", lambda: len(world.asked()) == 1, SECONDS)
    assert world.asked()[0].hook.name == "goodbye"
    assert world.group.event(OURS)["detail"]["AutoScalingGroupName"] == "orders-blue"


def test_a_world_begins_with_an_empty_bucket(world: World) -> None:
    """Else the proof would find the manifest of the act before it."""
    world.bucket._request("PUT", "/asg/x/manifest.json")
    assert world.bucket.listing() == ["asg/x/manifest.json"]
    world.bucket.create()
    assert world.bucket.listing() == []


def test_what_is_waited_for_in_vain_is_a_verdict_and_no_crash() -> None:
    """An act whose script comes to no end fails, and says where it stood."""

    def never(play: Play) -> None:
        play.wait("pigs fly", lambda: False, seconds=0.1)

    act = Act("", never, lambda outcome: [])
    options = play_through.Options(SPEED, with_agent=False)
    outcome = play_through.perform(act, settings.default(), options, Timeline(), lambda world: None)
    assert outcome.in_vain == "the rehearsal waited 0 s in vain: pigs fly"
    assert judged("", [], outcome).failed == ("course",)


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
        world.wait("the agent watches", lambda: world.polls > 0, SECONDS)
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

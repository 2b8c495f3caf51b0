"""The real agent with `[eureka.register]`, and an app that knows nothing of Eureka."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent.model import LifecycleTransition
from lifecycle_agent.rehearsal.eureka import EmulatedEureka
from lifecycle_agent.rehearsal.group_faults import Fault
from lifecycle_agent.rehearsal.imds import TARGET_STATE, Imds
from tests.stage import INSTANCE, Stage, until

pytestmark = pytest.mark.once

ADDRESS = "127.0.0.7"  # loopback, as the agent looks at the app on the machine's own address
LEASE = 3.0
SERVING = """
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), SimpleHTTPRequestHandler).serve_forever()
"""


class App:
    """A process that serves on its port, and does nothing else."""

    def __init__(self) -> None:
        with socket.create_server((ADDRESS, 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", SERVING, ADDRESS, str(self.port)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._serves)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _serves(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((ADDRESS, self.port)) == 0


class Registry(Stage):
    """A stage with an app that does not register itself, and a registry that soon drops what has expired."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.imds = Imds(INSTANCE, local_ipv4=ADDRESS, local_hostname="ip-127-0-0-7.ec2.internal")
        self.eureka = EmulatedEureka(cache_seconds=0.2, eviction_seconds=0.1)
        self.app = App()

    def __enter__(self) -> Registry:
        super().__enter__()
        self._stack.callback(self.app.kill)
        self.app.start()
        self.configure(f'[eureka.register]\nport = {self.app.port}\nlease = "{LEASE:g}s"')
        return self

    def register(self) -> None:
        """The app does not."""

    def instance(self) -> dict[str, Any]:
        """What the registry has of the app; empty if it has nothing."""
        found = self.eureka.registry.instance("ORDERS", f"ip-127-0-0-7.ec2.internal:orders:{self.app.port}")
        return dict(found or {})

    def is_up(self) -> bool:
        return self.instance().get("status") == "UP"

    def kept_for(self) -> float:
        """Seconds between the registration and the last renewal, less what a renewal is ahead of its time."""
        terms = self.instance().get("leaseInfo")
        if not terms:
            return 0.0
        seconds: float = (terms["lastRenewalTimestamp"] - terms["registrationTimestamp"]) / 1000
        return seconds - LEASE


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path) as stage:
        yield stage


def kept(stage: Registry, seconds: float) -> None:
    """Wait until one and the same registration has been kept for so long."""
    until(stage.is_up)
    registered = stage.instance()["leaseInfo"]["registrationTimestamp"]
    until(lambda: stage.kept_for() >= seconds)
    assert stage.is_up()
    assert stage.instance()["leaseInfo"]["registrationTimestamp"] == registered, "it was gone meanwhile"


def gone(stage: Registry) -> None:
    until(lambda: not stage.instance())
    assert stage.asked("DELETE", "") == [], "the registry itself dropped it"


def test_an_app_that_does_not_register_itself_is_up_for_as_long_as_it_lives(stage: Registry) -> None:
    agent = stage.start()
    kept(stage, 3 * LEASE)
    stage.app.kill()
    gone(stage)
    until(lambda: agent.said("does not answer on port"))
    assert sum("does not answer on port" in line for line in agent.lines) == 1
    stage.app.start()
    until(stage.is_up)


def test_the_lease_ends_with_the_agent(stage: Registry) -> None:
    agent = stage.start()
    kept(stage, LEASE)
    agent.process.kill()
    gone(stage)


@pytest.mark.parametrize("watched", [True, False], ids=["beside the service", "alone"])
def test_undrain_registers_the_app_and_the_watcher_keeps_that(stage: Registry, watched: bool) -> None:
    if watched:
        agent = stage.start()
        until(stage.is_up)
    drained = stage.start("drain")
    assert drained.wait() == 0, drained.lines
    assert not stage.instance()
    undrained = stage.start("undrain")
    assert undrained.wait() == 0, undrained.lines
    assert stage.transition()["outcome"] == "done", stage.transition()
    outcomes = {step["name"]: step["outcome"] for step in stage.transition()["ended"]}
    assert outcomes["discovery.register"] == outcomes["discovery.back_in_service"] == "done"
    assert stage.asked("POST", "/apps/ORDERS")
    if watched:
        kept(stage, 2 * LEASE)
        assert agent.process.poll() is None
    else:
        until(lambda: not stage.instance())  # nobody renews it


def test_a_drained_app_is_not_registered_again_although_it_still_answers(stage: Registry) -> None:
    stage.start()
    until(stage.is_up)
    drained = stage.start("drain")
    assert drained.wait() == 0, drained.lines
    assert not stage.instance()
    looks = stage.imds.requests[TARGET_STATE] + 3 * LEASE / 0.2
    until(lambda: stage.imds.requests[TARGET_STATE] > looks)
    assert not stage.instance()


def test_a_new_instance_is_not_registered_before_anybody_has_said_that_it_is_in_service(
    stage: Registry,
) -> None:
    """It may be on its way through the launch, and its app up long before it is ready."""
    stage.imds.set(TARGET_STATE, None)
    stage.start()
    looks = 3 * LEASE / 0.2
    until(lambda: stage.imds.requests[TARGET_STATE] > looks)
    assert not stage.instance()
    stage.imds.set(TARGET_STATE, "InService")
    until(stage.is_up)


def test_while_a_launch_waits_for_the_group_the_lease_is_kept(stage: Registry) -> None:
    stage.configure(
        f"""
        [eureka.register]
        port = {stage.app.port}
        lease = "{LEASE:g}s"
        [launch.ready]
        argv = ["/bin/true"]
        """
    )
    stage.group.add_hook("warm-up", LifecycleTransition.LAUNCHING, heartbeat_timeout=600)
    stage.group.launch(INSTANCE)
    stage.group.fail(Fault("CompleteLifecycleAction", times=None))
    agent = stage.start()
    kept(stage, 2 * LEASE)
    assert stage.group.state(INSTANCE) == "Pending:Wait"
    assert stage.transition()["kind"] == "launch"
    stage.group.heal()
    until(lambda: agent.said("the group wants this instance InService"))
    kept(stage, stage.kept_for() + LEASE)


def test_a_termination_deletes_it_for_good(stage: Registry) -> None:
    stage.start()
    until(stage.is_up)
    stage.group.terminate(INSTANCE)
    until(stage.completed_at)
    assert not stage.instance()
    assert stage.asked("DELETE", "ip-127-0-0-7")


def test_trouble_of_the_metadata_service_is_not_the_apps(stage: Registry) -> None:
    agent = stage.start()
    until(stage.is_up)
    stage.imds.stop()
    kept(stage, stage.kept_for() + 2 * LEASE)
    assert agent.process.poll() is None

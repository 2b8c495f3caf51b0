"""The smallest world an agent can live in: one instance with one registration, a group with one hook."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lifecycle_agent.files import StatusFile
from lifecycle_agent.rehearsal.eureka import Asked, EmulatedEureka
from lifecycle_agent.rehearsal.group import Group
from lifecycle_agent.rehearsal.imds import TARGET_STATE, Imds

INSTANCE, APP, ADDRESS, HOOK = "i-0123456789abcdef0", "ORDERS", "10.0.0.7", "drain"

PATIENCE = 30.0  # seconds: an interpreter's start on a machine that is busy with other tests takes some


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until `condition` is true, and give back what it said."""
    give_up = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > give_up:
            raise TimeoutError("waited in vain")
        time.sleep(0.005)
    return found


class Agent:
    """A `lifecycle-agent` process and what it writes to standard error."""

    def __init__(self, environ: dict[str, str], *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lifecycle_agent", *arguments],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self, text: str) -> bool:
        """Whether a line has `text` in it."""
        return any(text in line for line in self.lines)

    def wait(self) -> int:
        """Its exit code, once it has ended and all that it said is here."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.terminate()
        return self.wait()

    def close(self) -> None:
        """Leave nothing of it behind, a transition's process included."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))


class Stage:
    """IMDS, registry and group (S3 is at the same address) on loopback; a context manager.

    Args:
        directory: for the configuration and what the agent writes.
        imds_port: 0 for a free one.
    """

    def __init__(self, directory: Path, imds_port: int = 0) -> None:
        self.directory = directory
        self.config_path = directory / "config.toml"
        self.status = StatusFile(directory / "run")
        self.imds = Imds(INSTANCE, local_ipv4=ADDRESS, local_hostname="ip-10-0-0-7", port=imds_port)
        self.eureka = EmulatedEureka()
        self.group = Group()
        self._stack = ExitStack()

    def __enter__(self) -> Stage:
        for service in (self.imds, self.eureka, self.group):
            self._stack.enter_context(service)
        self.group.add_hook(HOOK, heartbeat_timeout=600)
        self.group.place(INSTANCE)
        # as for an instance that the group has launched itself
        self.imds.set(TARGET_STATE, lambda: self.group.target_state(INSTANCE) or "InService")
        self.register()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def register(self) -> None:
        """The app registers."""
        center = {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"}
        instance = {"app": APP, "hostName": "ip-10-0-0-7", "ipAddr": ADDRESS, "dataCenterInfo": center}
        self.eureka.registry.register(APP, {"instance": {**instance, "instanceId": "orders:1"}})

    def keep_renewing(self) -> None:
        """What a live app's client does: it renews the lease, and registers again where that is refused."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(0.1):
                there = self.eureka.registry.anywhere("orders:1") is not None
                if there and not self.eureka.registry.renew(APP, "orders:1"):
                    self.register()

        renewing = threading.Thread(target=renew, daemon=True)
        renewing.start()
        self._stack.callback(renewing.join)
        self._stack.callback(over.set)

    def configure(self, text: str = "", settle: str = "0s", poll: str = "200ms") -> None:
        """Write the configuration: the registry, an app that needs no draining, and `text`."""
        self.config_path.write_text(
            f'[agent]\npoll_interval = "{poll}"\nstate_dir = "{self.directory}/state"\n'
            f'[eureka]\nurls = ["{self.eureka.url}"]\napp = "{APP}"\nsettle = "{settle}"\n{text}\n'
        )

    def environ(self, **more: str) -> dict[str, str]:
        """What tells an agent where everything is."""
        return {
            **os.environ,
            "AWS_ENDPOINT_URL": self.group.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url,
            "RUNTIME_DIRECTORY": str(self.directory / "run"),
            **more,
        }

    def start(self, *arguments: str, **environ: str) -> Agent:
        """Start an agent (`run`, unless told otherwise) that is gone when the stage is."""
        agent = Agent(self.environ(**environ), "--config", str(self.config_path), *(arguments or ("run",)))
        self._stack.callback(agent.close)
        return agent

    def transition(self) -> dict[str, Any]:
        """What `status` knows of the transition; empty before there is one."""
        return self.status.read().get("transition", {})

    def asked(self, method: str, part: str) -> list[Asked]:
        """The registry's answered requests of a method with `part` in their path."""
        return [each for each in self.eureka.requests if each.method == method and part in each.path]

    def completed_at(self) -> float | None:
        """When the group accepted the answer, on the boot clock."""
        with contextlib.suppress(StopIteration):
            accepted = ("CompleteLifecycleAction", "ok")
            return next(each.at for each in self.group.calls if (each.operation, each.outcome) == accepted)
        return None

"""The app that machines run in the tests: a real service, registered in Eureka, with logs of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.machine.box import Box
from tests.machine.container import wait_for
from tests.machine.network import ADDRESS

AGENT = "lifecycle-agent.service"
ORDERS = "orders.service"
# What the agent says while there is nothing to do.
READY = "waiting: the group wants this instance InService"
# The app's, too: its log is saved, and nobody stops it but systemd.
AUDIT = "audit.service"

UNIT = f"""[Unit]
Description=Takes orders
After=network.target
[Service]
ExecStart=/opt/lifecycle-agent/bin/python -m lifecycle_agent.rehearsal.app --instance-id %i --renew 1 \\
    --address {ADDRESS} --port 8080 --eureka http://eureka-a:8761/eureka --logs /var/log/orders
Restart=always
[Install]
WantedBy=multi-user.target
"""

CONFIG = """[eureka]
urls = ["http://eureka-a:8761/eureka"]
app = "ORDERS"
settle = "1s"
[drain]
units = ["orders.service"]
[drain.idle]
ports = [8080]
quiet = "0s"
[logs]
bucket = "acme-logs"
paths = ["/var/log/orders/**/*"]
journal_units = ["orders.service", "audit.service"]
"""

# A command that says that it ran, and ends when it is told to: in the middle of it anything can be done.
PAUSE = """[[drain.command]]
argv = ["/bin/sh", "-c", "echo ran >>/var/tmp/ran; until [ -e /var/tmp/go ]; do sleep 0.1; done"]
timeout = "2m"
on_failure = "fail"
"""


class Orders:
    """A machine of the service `orders`: the app on it, and the agent beside it.

    Args:
        box: a machine with the agent installed, that was not switched on yet.
        config: what is added to the agent's configuration.
        unit: what is added to the agent's unit, as an administrator's own drop-in.
    """

    def __init__(self, box: Box, config: str = "", unit: str = "") -> None:
        self.box, self.world = box, box.world
        self.world.in_service()
        box.write(f"etc/systemd/system/{ORDERS}", UNIT.replace("%i", box.instance_id))
        box.write(f"etc/systemd/system/{AUDIT}", "[Service]\nExecStart=/bin/sleep infinity\n")
        box.write("etc/lifecycle-agent/config.toml", CONFIG + config)
        if unit:
            box.write(f"etc/systemd/system/{AGENT}.d/50-test.conf", unit)
        box.boot()
        box.wait_until_up()
        box.check("systemctl", "enable", "--now", ORDERS)
        box.check("systemctl", "start", AUDIT)
        box.check("/opt/lifecycle-agent/bin/lifecycle-agent", "install")
        self.wait_until_in_service()

    def status(self) -> str:
        """The app's status in the registry as callers see it; empty when it is not registered."""
        statuses = [lease.status for lease in self.world.eureka.registry]
        assert len(statuses) < 2
        return statuses[0] if statuses else ""

    def wait_until_in_service(self) -> None:
        wait_for(lambda: self.status() == "UP", "the app to be UP in the registry")
        self.wait_until_says(READY)

    def wait_until_says(self, sentence: str) -> None:
        wait_for(lambda: sentence in self.box.show(AGENT, "StatusText"), f"the agent to say: {sentence}")

    def terminate(self) -> None:
        self.world.group.terminate(self.box.instance_id)

    @property
    def answer(self) -> str | None:
        """The group's answer from our hook."""
        return self.world.answer

    def wait_until_answered(self) -> None:
        wait_for(lambda: self.answer, "the group to have its answer")
        self.wait_until_says("see `lifecycle-agent status`")

    def pauses(self) -> int:
        """How often the command PAUSE has been run."""
        ran = self.box.root / "var/tmp/ran"
        return len(ran.read_text().splitlines()) if ran.exists() else 0

    def go(self) -> None:
        """Let PAUSE end."""
        self.box.write("var/tmp/go", "")

    def report(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(self.box.read("var/lib/lifecycle-agent/report.json"))
        return found

    def outcomes(self) -> dict[str, str]:
        """How each step of the last transition ended."""
        return {step["name"]: step["outcome"] for step in self.report()["steps"]}

    def lines(self) -> list[dict[str, Any]]:
        """What the machine's journal has of its last boot, a line each."""
        lines = [json.loads(line) for line in self.box.journal(output="json").splitlines()]
        return [line for line in lines if line["_BOOT_ID"] == lines[-1]["_BOOT_ID"]]

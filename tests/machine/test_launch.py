"""New instances on a booted machine: what starts before what, and what does not start at all."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from lifecycle_agent.deadline import boottime
from lifecycle_agent.model import ActionResult, LifecycleTransition
from lifecycle_agent.rehearsal.lifecycle import LifecycleAction
from tests.machine.box import Box, Image
from tests.machine.conftest import MakeBox
from tests.machine.container import wait_for
from tests.machine.network import ADDRESS
from tests.machine.orders import AGENT, CONFIG, ORDERS, UNIT, Orders
from tests.machine.test_service import first

pytestmark = [pytest.mark.machine, pytest.mark.once, pytest.mark.timeout(600)]

HOOK, CODE_DEPLOY = "warm-up", "CodeDeploy-managed-automatic-launch-deployment-hook-orders"
DEPLOY = "deploy.service"
ABANDONED = "complete: hook warm-up, ABANDON"
LIFECYCLE_AGENT = ["/opt/lifecycle-agent/bin/lifecycle-agent"]
INSTALL = [*LIFECYCLE_AGENT, "install"]

# It stands for the CodeDeploy agent: it brings the app and starts it.
DEPLOYS = f"""[Unit]
Description=Brings the app
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo deployed >>/var/tmp/deployed; cp /opt/bundle/{ORDERS} /etc/systemd/system/'
ExecStart=systemctl daemon-reload
ExecStart=systemctl start --no-block {ORDERS}
[Install]
WantedBy=multi-user.target
"""

# Ready is what the app says, and what the test says.
LAUNCH = f"""[launch]
then_start = ["{DEPLOY}"]
[[launch.command]]
argv = ["/bin/sh", "/opt/bundle/warm-up"]
[launch.ready]
url = "http://{ADDRESS}:8080/actuator/health"
argv = ["/usr/bin/test", "-e", "/var/tmp/ready"]
units = ["{ORDERS}"]
timeout = "2m"
"""


def image(box: Box, config: str, **units: str) -> Image:
    """As an operator makes it: its units are enabled, the agent is installed, and never saw a group."""
    for name, unit in units.items():
        box.write(f"etc/systemd/system/{name}.service", unit)
    box.write("etc/lifecycle-agent/config.toml", CONFIG + config)
    box.boot()
    box.wait_until_up()
    box.check("systemctl", "enable", *(f"{name}.service" for name in units))
    box.check(*INSTALL)
    return box.keep()


class NewInstance(Orders):
    """A new instance: the group asks about it before its machine is switched on."""

    def __init__(self, box: Box, warm_up: str) -> None:
        self.box, self.world = box, box.world
        group = self.world.group
        for hook in (HOOK, CODE_DEPLOY):
            group.add_hook(hook, transition=LifecycleTransition.LAUNCHING, heartbeat_timeout=600)
        box.write(f"opt/bundle/{ORDERS}", UNIT.replace("%i", box.instance_id))
        box.write("opt/bundle/warm-up", warm_up)
        group.launch(box.instance_id)
        box.boot()

    def action(self, hook: str = HOOK) -> LifecycleAction:
        found = self.world.group.action(self.box.instance_id, hook)
        assert found is not None
        return found

    @property
    def answer(self) -> str | None:
        result = self.action().result
        return result.value if result is not None else None

    def wait_until_launched(self) -> None:
        wait_for(lambda: self.answer, "the group to have its answer")
        self.wait_until_in_service()

    def count(self, what: str) -> int:
        """How often something has been done, by its own record."""
        file = self.box.root / "var/tmp" / what
        return len(file.read_text().splitlines()) if file.exists() else 0

    def ready(self) -> float:
        """Say that the app is ready; when, on the boot clock."""
        now = boottime()
        self.box.write("var/tmp/ready", "")
        return now

    def in_service_at(self) -> float:
        """When the registry was told to send callers here."""
        asked = [each for each in self.world.eureka.requests if each.method == "DELETE"]
        assert all("/status" in each.path for each in asked), "nobody deregisters a new app"
        return asked[0].at


@pytest.fixture(scope="module")
def baked(installed: Image, suite: str, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    with Box(tmp_path_factory.mktemp("baked"), installed, wheels=wheelhouse) as box:
        return image(box, LAUNCH, deploy=DEPLOYS)


def new_id() -> str:
    return f"i-{uuid.uuid4().hex[:17]}"


def test_warm_up_then_the_deployment_then_ready_then_callers_then_the_answer(
    make_box: MakeBox, baked: Image
) -> None:
    new = NewInstance(make_box(baked, instance_id=new_id()), "echo warm >>/var/tmp/warm\n")
    box = new.box
    wait_for(lambda: new.status() == "OUT_OF_SERVICE", "the app, UP at once, to be held back")
    new.wait_until_says("waiting: /usr/bin/test ended with exit code 1")
    assert new.action().active
    assert box.show(ORDERS, "ActiveState") == "active"

    ready_at = new.ready()
    new.wait_until_launched()

    assert new.answer == "CONTINUE"
    assert new.status() == "UP"
    assert set(new.outcomes().values()) == {"done"}, new.report()
    answered_at = new.action().answered_at
    assert answered_at is not None
    assert ready_at < new.in_service_at() < answered_at
    lines = new.lines()
    order = [
        first(lines, "launch.command.1: /bin/sh is done"),
        first(lines, "Starting ", DEPLOY),
        first(lines, "Finished ", DEPLOY),
        first(lines, f"launch.then_start: started {DEPLOY}"),
        first(lines, "launch.ready: ready after"),
        first(lines, "discovery.back_in_service: in service"),
        first(lines, "complete: "),
    ]
    assert order == sorted(order)
    assert "skipped because of an unmet condition check" in box.journal(DEPLOY)
    # Somebody else's hook: the group goes on waiting for CodeDeploy.
    assert new.action(CODE_DEPLOY).active
    assert new.world.group.state(box.instance_id) == "Pending:Wait"
    with new.world.group.turn() as model:
        model.complete(CODE_DEPLOY, ActionResult.CONTINUE, instance_id=box.instance_id)

    box.reboot()
    new.wait_until_in_service()

    assert (new.count("warm"), new.count("deployed")) == (1, 2), "each boot deploys, and is warmed up once"


def test_when_the_warm_up_fails_nothing_is_deployed_and_the_logs_are_saved(
    make_box: MakeBox, baked: Image
) -> None:
    new = NewInstance(make_box(baked, instance_id=new_id()), "echo no database; exit 3\n")
    wait_for(lambda: new.answer, "the group to have its answer")
    wait_for(lambda: ABANDONED in new.box.journal(AGENT), "the agent to have said so")

    assert new.answer == "ABANDON"
    lines = new.lines()
    order = [
        first(lines, "launch.command.1: /bin/sh ended with exit code 3"),
        first(lines, "launch.then_start: skipped: after launch.command.1"),
        first(lines, "launch.ready: skipped: after launch.command.1"),
        first(lines, "logs: "),
        first(lines, ABANDONED),
    ]
    assert order == sorted(order)
    objects = new.world.objects()
    assert any(key.endswith("manifest.json") for key in objects)
    assert any("agent.log" in key for key in objects)
    # The group takes it away; nothing that comes of that starts what was held back.
    new.wait_until_says("terminate: ")
    assert new.count("deployed") == 0
    assert new.box.show(DEPLOY, "ActiveState") == "inactive"
    assert new.box.call("test", "-e", "/run/lifecycle-agent/launched").returncode != 0
    assert new.status() == ""


def test_an_app_that_is_held_back_itself_and_an_agent_restarted_while_it_starts(
    make_box: MakeBox, installed: Image
) -> None:
    """The service is ordered after the app, which it starts: no circle, and nobody waits for ever."""
    slow = 'ExecStartPre=/bin/sh -c "until test -e /var/tmp/go; do sleep 0.1; done"\nExecStart='
    instance_id = new_id()
    orders = UNIT.replace("%i", instance_id).replace("ExecStart=", slow)
    config = f'[launch]\nthen_start = ["{ORDERS}"]\n[launch.ready]\nunits = ["{ORDERS}"]\n'
    baked = image(make_box(installed), config, orders=orders)
    new = NewInstance(make_box(baked, instance_id=instance_id), "")
    box = new.box
    wait_for(lambda: box.show(ORDERS, "ActiveState") == "activating", "the agent to start the app")
    assert f"After={ORDERS}" in box.read("etc/systemd/system/lifecycle-agent.service.d/10-configuration.conf")

    box.check("systemctl", "restart", "--no-block", AGENT)
    wait_for(lambda: box.show(AGENT, "Job") != "" and box.show(AGENT, "MainPID") == "0", "it to be down")
    new.go()
    new.wait_until_launched()

    assert new.answer == "CONTINUE"
    assert new.status() == "UP"

    # Drained by hand over a boot: the way back lets it go, and starts it in its turn.
    box.check(*LIFECYCLE_AGENT, "drain")
    box.reboot()
    new.wait_until_says("drained by hand, and stays so until")
    assert box.show(ORDERS, "ActiveState") == "inactive"
    box.check(*LIFECYCLE_AGENT, "undrain")
    assert box.show(ORDERS, "ActiveState") == "active"
    assert new.status() == "UP"


def test_installed_on_a_live_machine_nothing_stops_and_everything_can_be_restarted(
    make_box: MakeBox, installed: Image
) -> None:
    orders = Orders(make_box(installed, instance_id=new_id()))
    box = orders.box
    box.unit(
        "helper.service", "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
    )
    box.check("systemctl", "enable", "--now", "helper.service")
    box.write("etc/lifecycle-agent/config.toml", CONFIG + '[launch]\nthen_start = ["helper.service"]\n')
    before = box.show("helper.service", "MainPID")

    said = box.check(*INSTALL)
    orders.wait_until_in_service()

    assert "wrote /run/lifecycle-agent/launched; helper.service: runs already" in said
    assert box.show("helper.service", "MainPID") == before
    box.check("systemctl", "restart", "helper.service")
    assert box.show("helper.service", "ActiveState") == "active"

    box.reboot()
    orders.wait_until_in_service()
    wait_for(
        lambda: box.show("helper.service", "ActiveState") == "active", "it to be let go in the next boot"
    )
    assert "skipped because of an unmet condition check" in box.journal("helper.service")

    box.check("/opt/lifecycle-agent/bin/lifecycle-agent", "uninstall")
    assert not (box.root / "etc/systemd/system/helper.service.d").exists()
    assert box.show("helper.service", "ActiveState") == "active"

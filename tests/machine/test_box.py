"""The machine in a box is one: what the other tests rely on."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import pytest

from lifecycle_agent.rehearsal.imds import TARGET_STATE
from tests.machine.box import AWS, Box, Image
from tests.machine.conftest import MakeBox
from tests.machine.container import wait_for

pytestmark = [pytest.mark.machine, pytest.mark.once, pytest.mark.timeout(600)]

ASK = """
import sys, urllib.request as web
token = web.Request("http://169.254.169.254/latest/api/token", method="PUT",
                    headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
headers = {"X-aws-ec2-metadata-token": web.urlopen(token, timeout=5).read().decode()}
asked = web.Request("http://169.254.169.254/" + sys.argv[1], headers=headers)
print(web.urlopen(asked, timeout=5).read().decode())
"""


def ask(box: Box, path: str) -> str:
    """What the machine is told by the metadata service."""
    return box.check("python3", "-c", ASK, path).strip()


def test_its_network_is_the_systems_own(make_box: MakeBox) -> None:
    box = make_box()
    box.boot()
    box.wait_until_up()
    box.check("/lib/systemd/systemd-networkd-wait-online", "--timeout=30")

    assert ask(box, "latest/meta-data/instance-id") == box.instance_id
    box.world.in_service()
    assert ask(box, f"latest/meta-data/{TARGET_STATE}") == "InService"
    assert box.check("getent", "hosts", "eureka-a").split()[0] == "10.0.0.1"
    assert "configured" in box.check("networkctl", "list", "host0")
    assert f"AWS_ENDPOINT_URL={AWS}" in box.check("systemctl", "show-environment") + box.check(
        "systemd-run", "--pipe", "--wait", "--quiet", "env"
    )
    assert not box.check("systemctl", "--failed", "--plain", "--no-legend").strip()


def test_a_reboot_keeps_the_disk_and_brings_the_network_back(make_box: MakeBox) -> None:
    box = make_box()
    box.boot()
    box.wait_until_up()
    box.check("sh", "-c", "echo here >/var/lib/marker; echo gone >/run/marker")
    before = box.check("cat", "/proc/sys/kernel/random/boot_id", "/proc/1/stat")

    box.reboot()

    assert box.boots == 2
    assert box.check("cat", "/var/lib/marker") == "here\n"
    assert box.call("cat", "/run/marker").returncode != 0
    assert box.check("cat", "/proc/sys/kernel/random/boot_id", "/proc/1/stat") != before
    box.check("/lib/systemd/systemd-networkd-wait-online", "--timeout=30")
    assert ask(box, "latest/meta-data/instance-id") == box.instance_id
    assert "Reached target reboot.target" in box.journal()


def test_a_cut_cable_and_a_mended_one(make_box: MakeBox) -> None:
    box = make_box()
    box.network.cut()
    box.boot()
    box.wait_until_up()
    assert "10.0.0.7" not in box.check("ip", "address")

    box.network.mend()

    wait_for(lambda: "10.0.0.7" in box.check("ip", "address"), "an address")
    assert ask(box, "latest/meta-data/instance-id") == box.instance_id


def test_a_copy_has_what_the_kept_one_had_and_the_kept_one_nothing_of_the_copy(
    make_box: MakeBox, suite: str
) -> None:
    first = make_box()
    first.boot()
    first.wait_until_up()
    first.check("sh", "-c", "echo kept >/var/lib/marker; rm /etc/motd")
    image = first.keep()
    assert image.suite == suite

    copies = [make_box(image, instance_id=f"i-{uuid.uuid4().hex[:17]}") for _ in range(2)]
    for copy in copies:
        copy.boot()
    for copy in copies:
        copy.wait_until_up()
        assert copy.check("cat", "/var/lib/marker") == "kept\n"
        assert copy.call("test", "-e", "/etc/motd").returncode != 0
        copy.check("/lib/systemd/systemd-networkd-wait-online", "--timeout=30")
        assert ask(copy, "latest/meta-data/instance-id") == copy.instance_id
    copies[0].check("sh", "-c", "echo changed >/var/lib/marker")
    copies[0].kill()

    assert copies[1].check("cat", "/var/lib/marker") == "kept\n"
    assert make_box(image).read("/var/lib/marker") == "kept\n"


def test_a_failed_test_leaves_the_journal(make_box: MakeBox, suite: str) -> None:
    box = make_box(Image(suite))
    box.boot()
    box.wait_until_up()
    box.check("sh", "-c", "echo the last words | systemd-cat")
    box.power_off()
    box.close()

    said = SimpleNamespace(**dict(line.split(": ") for line in box.evidence()))

    with open(said.journal) as journal:
        text = journal.read()
    assert "the last words" in text
    assert "Reached target poweroff.target" in text
    with open(said.console) as console:
        assert "Debian GNU/Linux" in console.read()

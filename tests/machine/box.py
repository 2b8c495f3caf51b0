"""A machine in a box: a booted Debian on a disk of its own, in a network where everything of AWS answers.

Nothing in it knows that: it finds the metadata service where every instance finds it, and is told the
address of the AWS API the way an operator tells it, for the whole machine.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import lifecycle_agent
from tests.machine.container import LIMIT, REBOOT, Container, need, wait_for
from tests.machine.network import ADDRESS, INTERFACE, WORLD, Network
from tests.machine.tree import BOOKWORM, TRIXIE, tree
from tests.machine.world import AWS_PORT, HOST_NAME, World
from tests.stage import INSTANCE

AGENT = Path(lifecycle_agent.__file__).parent.parent
JOURNAL = Path("var/log/journal")
AWS = f"http://{WORLD}:{AWS_PORT}"

# What an image for EC2 has: a network, the metadata service for cloud-init, and a VPC's endpoint.
IMAGE = {
    "etc/hostname": f"{HOST_NAME}\n",
    "etc/hosts": f"127.0.0.1 localhost\n{ADDRESS} {HOST_NAME}\n{WORLD} eureka-a eureka-b\n",
    "etc/resolv.conf": "# nobody answers: what has a name here is in /etc/hosts\n",
    "etc/systemd/network/10-vpc.network": f"""[Match]
Name={INTERFACE}
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
""",
    "etc/systemd/system.conf.d/aws.conf": f"[Manager]\nDefaultEnvironment=AWS_ENDPOINT_URL={AWS}\n",
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/cloud/cloud.cfg.d/90-ec2.cfg": """datasource_list: [Ec2]
datasource: {Ec2: {strict_id: false, metadata_urls: ["http://169.254.169.254"]}}
network: {config: disabled}
locale: C.UTF-8
""",
    "etc/pip.conf": "[global]\nno-index = true\nfind-links = /wheels\ndisable-pip-version-check = true\n",
}
# A machine has a boot id of its own. This one is a container's, laid over the kernel's: with systemd 252 (not
# with 257) a service with a /proc of its own sees the kernel's, and takes this boot's messages for another's.
BOOT_ID = {
    "etc/tmpfiles.d/boot-id.conf": "C /run/boot_id - - - - /proc/sys/kernel/random/boot_id\n",
    "usr/lib/systemd/system/lifecycle-agent.service.d/00-box.conf": (
        "[Service]\nBindReadOnlyPaths=/run/boot_id:/proc/sys/kernel/random/boot_id\n"
    ),
}
CLOUD_INIT_OFF = Path("etc/cloud/cloud-init.disabled")
# Xen shows an instance here that it is one of EC2's; cloud-init believes it, and asks as version 2 wants.
HYPERVISOR = "ec2e1916-9099-7caf-fd21-012345abcdef"


@dataclass(frozen=True)
class Image:
    """What a disk begins as.

    Args:
        layers: what kept machines have written, the last one first.
    """

    suite: str = BOOKWORM
    layers: tuple[Path, ...] = ()


class Box:
    """A machine, its disk and its network; a context manager.

    Its disk stays from one boot to the next. `shared` is `/shared` in it, and `wheels`, if given, is
    `/wheels`, where pip finds everything.

    Args:
        directory: for the disk, and for what is left of a machine when a test has failed.
        user_data: what cloud-init gets to do; None keeps cloud-init out of the boot.
        binds: paths in the machine (with `:ro` behind them, read-only), and what is there.
    """

    used: ClassVar[list[Box]] = []  # those that are there, and those of the test that runs now

    def __init__(
        self,
        directory: Path,
        image: Image | None = None,
        *,
        instance_id: str = INSTANCE,
        user_data: str | None = None,
        wheels: Path | None = None,
        binds: Mapping[str, Path] | None = None,
    ) -> None:
        need()
        self.image = image or Image()
        self.instance_id = instance_id
        self.name = f"box-{uuid.uuid4().hex[:8]}"
        self.directory = directory
        self.root, self._upper, self.shared = (directory / name for name in ("root", "upper", "shared"))
        self.console = directory / "console"
        self.boots = 0
        self.closed = False
        self._kept = False
        self._is_evidence = False
        self._container: Container | None = None
        self._watcher: threading.Thread | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._leave_overlay()
        for path in (self.root, self._upper, self.shared, directory / "work"):
            path.mkdir()
        (directory / "uuid").write_text(HYPERVISOR + "\n")
        self._binds = {
            "/shared": self.shared,
            "/sys/hypervisor/uuid:ro": directory / "uuid",
            **({"/wheels:ro": wheels} if wheels else {}),
            **(binds or {}),
        }
        with contextlib.ExitStack() as undo:
            self._mount()
            undo.callback(self._unmount)
            self.network = Network()
            undo.callback(self.network.close)
            self.world = World(self.network, instance_id, user_data)
            undo.callback(self.world.close)
            self._prepare(user_data is not None)
            self._undo = undo.pop_all()
        Box.used.append(self)

    # -- its disk

    def _leave_overlay(self) -> None:
        """Where this directory is on an overlay itself (in a container), the disk is in memory instead."""
        kind = ["stat", "--file-system", "--format=%T", str(self.directory)]
        if subprocess.run(kind, capture_output=True, text=True, timeout=LIMIT).stdout.strip() == "overlayfs":
            memory = ["mount", "-t", "tmpfs", self.name, str(self.directory)]
            subprocess.run(memory, timeout=LIMIT, check=True)

    def _mount(self) -> None:
        lower = ":".join(str(path) for path in (*self.image.layers, tree(self.image.suite)))
        options = f"lowerdir={lower},upperdir={self._upper},workdir={self.directory / 'work'}"
        mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)]
        done = subprocess.run(mount, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == 0, done.stderr

    def _unmount(self) -> None:
        subprocess.run(["umount", str(self.root)], timeout=LIMIT, check=True)

    def _prepare(self, cloud_init: bool) -> None:
        if not self.image.layers:
            for path, text in {**IMAGE, **(BOOT_ID if self.image.suite != TRIXIE else {})}.items():
                self.write(path, text)
            self.write("etc/machine-id", uuid.uuid4().hex + "\n")
            (self.root / JOURNAL).mkdir(exist_ok=True)
            networkd = ["systemctl", f"--root={self.root}", "enable", "systemd-networkd.service"]
            subprocess.run(networkd, capture_output=True, timeout=LIMIT, check=True)
        (self.root / CLOUD_INIT_OFF).unlink(missing_ok=True)
        if not cloud_init:
            self.write(str(CLOUD_INIT_OFF), "")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file on its disk, switched on or off (nothing below /run and /tmp, which are in memory)."""
        file = self.root / path.lstrip("/")
        assert file.resolve().is_relative_to(self.root.resolve()), (
            f"{path} is a link that leads out of the disk"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def read(self, path: str) -> str:
        """A file on its disk, switched on or off."""
        return (self.root / path.lstrip("/")).read_text()

    def unit(self, name: str, text: str) -> None:
        """Write a unit, as an administrator does."""
        self.write(f"etc/systemd/system/{name}", text)
        if self.running:
            self.check("systemctl", "daemon-reload")

    def keep(self) -> Image:
        """Switch it off for good; what other machines are booted on that are to be copies of it."""
        if self.running:
            self.power_off()
        kept = self.directory / "kept"
        self.close()
        self._upper.rename(kept)
        self._upper = kept
        self._kept = True
        return Image(self.image.suite, (kept, *self.image.layers))

    # -- on and off

    @property
    def running(self) -> bool:
        return self._watcher is not None and self._watcher.is_alive()

    def boot(self) -> None:
        """Switch it on; returns at once."""
        assert not self.running, "it is on"
        self._switch_on()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _switch_on(self) -> None:
        self._container = Container(self.name, self.root, self.network, self.console, self._binds)
        self.boots += 1

    def _watch(self) -> None:
        """Boot it again as often as it wants to be."""
        while self._container is not None and self._container.wait() == REBOOT:
            self._switch_on()

    def wait_until_up(self, limit: float = LIMIT) -> None:
        """Until its boot is complete, cloud-init's last stage included."""

        def up() -> bool:
            assert self.running, f"it is off again: see {self.console}"
            return self.call("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

        wait_for(up, "the machine to boot", limit)

    def power_off(self) -> None:
        """The way down with everything that systemd does on it."""
        self.call("systemctl", "poweroff", "--no-block")
        self.wait_until_off()

    def wait_until_off(self, limit: float = LIMIT) -> None:
        wait_for(lambda: not self.running, "the machine to be off", limit)

    def reboot(self) -> None:
        """All the way down and up again."""
        before = self.boots
        self.call("systemctl", "reboot", "--no-block")
        wait_for(lambda: self.boots > before, "the machine to go down")
        self.wait_until_up()

    def kill(self) -> None:
        """Pull its plug."""
        if self._container is not None:
            self._container.kill()
        self.wait_until_off()

    # -- in it

    def argv(self, *argv: str) -> list[str]:
        """What runs `argv` in it, as root, outside of any unit."""
        assert self._container is not None, "it was never switched on"
        return self._container.argv(
            ["env", "-i", "HOME=/root", "LANG=C.UTF-8", f"AWS_ENDPOINT_URL={AWS}",
             "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *argv]
        )  # fmt: skip

    def call(self, *argv: str, limit: float = LIMIT) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        return subprocess.run(self.argv(*argv), capture_output=True, text=True, timeout=limit, check=False)

    def check(self, *argv: str, limit: float = LIMIT) -> str:
        """Run a command that has to succeed; what it printed."""
        ran = self.call(*argv, limit=limit)
        assert ran.returncode == 0, f"{' '.join(argv)} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def show(self, unit: str, key: str) -> str:
        """A property of a unit, such as `ActiveState` or `StatusText`."""
        return self.call("systemctl", "show", unit, f"--property={key}", "--value").stdout.strip()

    def journal(self, unit: str | None = None, output: str = "short-precise") -> str:
        """What its journal has, of a unit or of all, whether it is on or not."""
        if self.running:
            self.call("journalctl", "--sync")
        home = (self.root if self.root.is_mount() else self._upper) / JOURNAL
        command = ["journalctl", f"--directory={home}", f"--output={output}", "--no-pager", "--utc"]
        command += [f"--unit={unit}"] if unit else []
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False).stdout

    def evidence(self) -> list[str]:
        """Leave its journal as text, and keep its disk: a test has failed. Says where."""
        self._is_evidence = True
        text = self.directory / "journal.txt"
        text.write_text(self.journal())
        return [f"journal: {text}", f"console: {self.console}", f"disk: {self._upper}"]

    # -- the end

    def __enter__(self) -> Box:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Switch it off the short way. Its disk is left, unmounted; `discard` takes it away."""
        if self.closed:
            return
        self.closed = True
        if self._container is not None:
            self.kill()
            self._container.tidy()
        self._undo.close()

    def discard(self) -> bool:
        """Take the disk of a closed machine away, unless it was kept or is evidence. Always true."""
        if not (self._kept or self._is_evidence):
            for path in (self.root, self._upper, self.directory / "work"):
                shutil.rmtree(path, ignore_errors=True)
            if self.directory.is_mount():
                subprocess.run(["umount", "--lazy", str(self.directory)], timeout=LIMIT, check=True)
        return True

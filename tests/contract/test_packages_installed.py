"""The packages' scripts where an image is built: in a Debian tree that is not booted, by dpkg and rpm."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lifecycle_agent import __version__
from tests.machine.tree import BOOKWORM
from tests.machine.tree import tree as machine_tree
from tests.packages import BUILD_SECONDS, ROOT, Packages, carried_rpm, packages

pytestmark = [pytest.mark.machine, pytest.mark.once, pytest.mark.timeout(BUILD_SECONDS + 800)]

UNIT = "lifecycle-agent.service"
CONFIG = "/etc/lifecycle-agent/config.toml"
STATE = "/var/lib/lifecycle-agent/journal.jsonl"
# What package managers and the tree itself write down: who was there, caches, times.
BOOKKEEPING = (
    *("/var/lib/dpkg/", "/var/lib/rpm", "/var/log/", "/var/cache/"),
    *("/tmp", "/proc/", "/sys/", "/dev/"),
)

# There is no network in here: of apt-get only what `install FILE` comes to.
APT_GET = '#!/bin/sh\ncase "$*" in *install*) exec dpkg -i /tmp/lifecycle-agent.deb ;; esac\n'
OF_ONE_MACHINE = (
    STATE,
    "/etc/ssh/ssh_host_rsa_key",
    "/root/.ssh/authorized_keys",
    "/var/lib/cloud/instances/i-1/user-data.txt",
    "/var/lib/systemd/random-seed",
    "/var/log/journal/0123/system.journal",
)

# In namespaces of its own everything is gone with the last process: mounts, and what a script has started.
ENTER = """mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount --rbind /dev "$2/root/dev"
tree=$2/root; shift 2
exec chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
"""


class Tree:
    """A Debian on a disk of its own that nobody booted; there is no network."""

    def __init__(self, directory: Path, made: Packages) -> None:
        self.directory = directory
        self._lower = machine_tree(BOOKWORM)
        for name in ("upper/tmp", "work", "root"):
            (directory / name).mkdir(parents=True)
        shutil.copy(made.deb, directory / "upper/tmp/lifecycle-agent.deb")
        shutil.copy(made.rpm, directory / "upper/tmp/lifecycle-agent.rpm")
        self._rpm: list[str] = []

    def call(self, *argv: str) -> subprocess.CompletedProcess[str]:
        enter = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-ec", ENTER, "sh"]
        command = [*enter, str(self._lower), str(self.directory), *argv]
        return subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)

    def run(self, *argv: str) -> str:
        """What a command prints that has to succeed."""
        done = self.call(*argv)
        assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def shell(self, script: str) -> str:
        return self.run("sh", "-ec", script)

    def rpm(self) -> list[str]:
        """The command."""
        self._rpm = self._rpm or carried_rpm(self.directory / "upper/tmp/rpm", "/tmp/rpm")
        return self._rpm

    def write(self, path: str, text: str) -> None:
        file = self.directory / "upper" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def paths(self) -> set[str]:
        """Everything that is there, but for what is written down about it."""
        found = self.run("find", "/", "-xdev", "-not", "-type", "c").splitlines()
        return {path for path in found if not path.startswith(BOOKKEEPING)}

    def has(self, path: str) -> bool:
        return self.call("test", "-e", path).returncode == 0


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    missing = [tool for tool in ("debootstrap", "unshare", "chroot") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root, and the programs {missing or ''}: a tree is mounted")
    return Tree(tmp_path, packages())


def install(tree: Tree, kind: str) -> str:
    return tree.run(*installing(tree, kind))


def installing(tree: Tree, kind: str) -> list[str]:
    package = f"/tmp/lifecycle-agent.{kind}"
    return ["dpkg", "-i", package] if kind == "deb" else [*tree.rpm(), "-U", "--replacepkgs", package]


def remove(tree: Tree, kind: str) -> None:
    tree.run(*(["dpkg", "-r"] if kind == "deb" else [*tree.rpm(), "-e"]), "lifecycle-agent")


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_installed_and_removed_leaves_nothing_but_state(tree: Tree, kind: str) -> None:
    before = tree.paths()
    install(tree, kind)
    assert tree.run("lifecycle-agent", "--version").strip() == __version__
    assert tree.run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert tree.has(f"/etc/systemd/system/{UNIT}.d/10-configuration.conf")
    assert tree.has(CONFIG)
    assert not tree.has(f"/etc/systemd/system/{UNIT}")  # the package's own is in force
    code = "/opt/lifecycle-agent/lib/site-packages/lifecycle_agent/watch/__pycache__/daemon.cpython-311.pyc"
    assert tree.has(code), "a service that cannot write there compiles everything at each start"

    tree.write(STATE, "{}\n")
    remove(tree, kind)
    assert tree.paths() - before == {str(Path(STATE).parent), STATE}
    assert not before - tree.paths()


def test_purged_takes_state_and_configuration(tree: Tree) -> None:
    before = tree.paths()
    tree.write(CONFIG, '[agent]\npoll_interval = "2s"\n')
    tree.write(STATE, "{}\n")
    install(tree, "deb")
    remove(tree, "deb")
    assert tree.has(CONFIG)
    assert tree.has(STATE)
    tree.run("dpkg", "-P", "lifecycle-agent")
    assert before - tree.paths() <= {"/opt"}  # empty, and no package's: dpkg takes it as well
    assert not tree.paths() - before


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_a_broken_configuration_is_shown_and_no_obstacle(tree: Tree, kind: str) -> None:
    tree.write(CONFIG, "[drain]\ntimeuot = 3\n")
    said = install(tree, kind)
    assert "timeuot" in said
    assert "mend the above, then run 'lifecycle-agent install'" in said
    assert tree.run("lifecycle-agent", "--version").strip() == __version__
    if kind == "deb":
        assert "install ok installed" in tree.run("dpkg-query", "-s", "lifecycle-agent")
    remove(tree, kind)
    assert not tree.has("/opt/lifecycle-agent")
    assert tree.has(CONFIG)


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_an_upgrade_leaves_a_disabled_service_disabled(tree: Tree, kind: str) -> None:
    install(tree, kind)
    tree.run("systemctl", "disable", UNIT)
    stale = "/opt/lifecycle-agent/lib/site-packages/gone/__pycache__"
    tree.shell(f"mkdir -p {stale} && touch {stale}/gone.cpython-311.pyc")
    install(tree, kind)
    assert tree.call("systemctl", "is-enabled", UNIT).stdout.strip() == "disabled"
    assert not tree.has(stale)
    assert not tree.has("/opt/lifecycle-agent/.before-upgrade")
    tree.run("systemctl", "enable", UNIT)
    install(tree, kind)
    assert tree.run("systemctl", "is-enabled", UNIT).strip() == "enabled"


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_a_venv_in_its_place_is_refused(tree: Tree, kind: str) -> None:
    tree.shell("python3 -m venv --without-pip /opt/lifecycle-agent")
    done = tree.call(*installing(tree, kind))
    assert done.returncode != 0
    assert "error: /opt/lifecycle-agent is a virtual environment that pip has filled\n  do: " in done.stderr
    assert not tree.has("/usr/bin/lifecycle-agent")


def test_removed_when_its_python_is_gone(tree: Tree) -> None:
    install(tree, "deb")
    tree.shell("mkdir /tmp/python && mv /usr/bin/python3* /tmp/python")
    done = tree.call("lifecycle-agent", "status")
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no Python 3.10 to 3.14 in /usr/bin\n  do: install one")
    tree.run("dpkg", "-r", "lifecycle-agent")
    assert not tree.has("/opt/lifecycle-agent")
    assert not tree.has(f"/etc/systemd/system/multi-user.target.wants/{UNIT}")


def test_a_python_that_is_too_old_is_passed_over(tree: Tree) -> None:
    """As on Amazon Linux 2023, where `python3` is 3.9 and a newer one lies beside it."""
    install(tree, "deb")
    tree.shell("printf '#!/bin/sh\\nexit 1\\n' >/usr/bin/python3.9 && chmod +x /usr/bin/python3.9")
    tree.run("ln", "-sf", "python3.9", "/usr/bin/python3")
    assert tree.run("lifecycle-agent", "--version").strip() == __version__


def test_baked_into_an_image(tree: Tree) -> None:
    """packer/bake.sh, with the package and the configuration where the template puts them."""
    tree.write("/tmp/bake.sh", (ROOT / "packaging/packer/bake.sh").read_text())
    tree.write("/tmp/lifecycle-agent.toml", (ROOT / "packaging/packer/config.toml").read_text())
    tree.write("/etc/machine-id", "0123\n")
    tree.shell("rm /tmp/lifecycle-agent.rpm")
    for of_this_machine in OF_ONE_MACHINE:
        tree.write(of_this_machine, "0123\n")
    tree.write("/tmp/bin/apt-get", APT_GET)
    tree.shell("chmod +x /tmp/bin/apt-get && PATH=/tmp/bin:$PATH sh /tmp/bake.sh")

    assert tree.run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert "app.service" in tree.run("cat", f"/etc/systemd/system/{UNIT}.d/10-configuration.conf")
    assert tree.run("cat", "/etc/machine-id") == ""
    assert not [path for path in OF_ONE_MACHINE if tree.has(path)]


def test_nothing_broken_is_baked(tree: Tree) -> None:
    tree.write("/tmp/bake.sh", (ROOT / "packaging/packer/bake.sh").read_text())
    tree.write("/tmp/lifecycle-agent.toml", "[drain]\ntimeuot = 3\n")
    tree.write("/tmp/bin/apt-get", APT_GET)
    tree.shell("rm /tmp/lifecycle-agent.rpm; chmod +x /tmp/bin/apt-get")
    done = tree.call("sh", "-c", "PATH=/tmp/bin:$PATH sh /tmp/bake.sh")
    assert done.returncode == 2
    assert "timeuot" in done.stderr

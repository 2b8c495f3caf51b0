"""What is in the deb and the rpm, and that each Python runs it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lifecycle_agent import __version__
from tests.packages import BUILD_SECONDS, ROOT, Packages, packages

pytestmark = pytest.mark.timeout(BUILD_SECONDS + 120)

HOME = "/opt/lifecycle-agent"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
FILES = {
    "/usr/bin/lifecycle-agent",
    "/usr/lib/systemd/system/lifecycle-agent.service",
    *(f"/usr/share/doc/lifecycle-agent/{name}" for name in ("README.md", "copyright", "changelog.gz")),
}


@pytest.fixture(scope="module")
def made() -> Packages:
    return packages()


@pytest.fixture(scope="module")
def entries(made: Packages) -> dict[str, str]:
    """Every path of the deb, and `mode owner`."""
    listed = subprocess.run(["dpkg-deb", "-c", made.deb], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in listed.splitlines():
        mode, owner, _size, _date, _time, path = line.split(maxsplit=5)
        found[path.split(" -> ")[0].removeprefix(".").rstrip("/")] = f"{mode} {owner}"
    return found


@pytest.fixture(scope="module")
def tree(made: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent's directory, unpacked, with the Python of this test in it; a machine's is in /usr/bin."""
    if THIS_PYTHON not in PYTHONS:
        pytest.fail(f"nothing for Python {THIS_PYTHON} is in the packages: add it to packaging/build, opt/")
    unpacked = tmp_path_factory.mktemp("deb")
    subprocess.run(["dpkg-deb", "-x", made.deb, unpacked], check=True)
    home = unpacked / HOME.lstrip("/")
    this = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    python = home / f"bin/python{THIS_PYTHON}"
    python.unlink()
    python.symlink_to(this)
    settings = home / "pyvenv.cfg"
    settings.write_text(settings.read_text().replace("home = /usr/bin\n", f"home = {this.parent}\n"))
    return home


def run(tree: Path, *argv: str) -> str:
    """What the unpacked tree's Python prints."""
    command = [str(tree / f"bin/python{THIS_PYTHON}"), "-I", *argv]
    environ = {"PATH": os.defpath, "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.once
def test_nothing_is_put_elsewhere(entries: dict[str, str]) -> None:
    outside = {path for path, mode in entries.items() if mode[0] != "d" and not path.startswith(f"{HOME}/")}
    documents = {path for path in outside if path.startswith("/usr/share/doc/lifecycle-agent/")}
    assert outside - documents <= FILES <= outside


@pytest.mark.once
def test_everything_is_roots_and_nobody_else_writes(entries: dict[str, str]) -> None:
    right = re.compile(r"(l.{9}|[-d]rw[-x]r-[-x]r-[-x]) root/root")
    assert not {path: mode for path, mode in entries.items() if not right.fullmatch(mode)}


@pytest.mark.once
def test_only_what_is_used_is_in_it(entries: dict[str, str]) -> None:
    unwanted = re.compile(r"__pycache__|\.pyc$|/(pip|setuptools|pytest|moto)[-/]|/tests?/|direct_url|\.egg")
    assert not [path for path in entries if unwanted.search(path)]
    # whoever ships others' work ships their licences
    site = f"{HOME}/lib/site-packages"
    for distribution in {path.split("/")[5] for path in entries if ".dist-info/" in path}:
        names = [path for path in entries if path.startswith(f"{site}/{distribution}/")]
        assert any(re.search(r"licen[cs]e|copying", name, re.I) for name in names), distribution


@pytest.mark.once
def test_what_is_compiled_is_there_for_every_python(entries: dict[str, str]) -> None:
    modules: dict[str, set[str]] = {}
    for path in entries:
        if found := re.fullmatch(r"(.*)\.cpython-3(\d+)-(\w+)-linux-gnu\.so", path):
            modules.setdefault(found[1], set()).add(f"3.{found[2]}")
            assert found[3] == platform.machine()
    assert f"{HOME}/lib/site-packages/zstandard/backend_c" in modules
    for module, pythons in modules.items():
        assert pythons == set(PYTHONS), module
    assert {path for path in entries if path.startswith(f"{HOME}/bin/python")} == {
        f"{HOME}/bin/python{python}" for python in PYTHONS
    }


@pytest.mark.once
def test_the_rpm_has_the_same_files(made: Packages, entries: dict[str, str]) -> None:
    listed = subprocess.run(["rpm", "-qpl", made.rpm], capture_output=True, text=True, check=True).stdout
    files = {path for path, mode in entries.items() if mode[0] != "d"}
    assert files <= set(listed.split("\n")[:-1]) <= set(entries)


@pytest.mark.once
def test_what_the_packages_say_of_themselves(made: Packages) -> None:
    fields = subprocess.run(["dpkg-deb", "-f", made.deb], capture_output=True, text=True, check=True).stdout
    assert f"\nVersion: {__version__}\n" in fields
    assert "\nDepends: python3 (>= 3.10), systemd\n" in fields
    ask = ["rpm", "-qp", "--nosignature", "--requires", "--qf", "%{version}", str(made.rpm)]
    said = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    assert __version__ in said
    assert f"({' or '.join(f'python{version}' for version in (*PYTHONS[1:], PYTHONS[0]))})" in said


@pytest.mark.once
def test_both_have_the_scripts(made: Packages, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-e", made.deb, tmp_path / "control"], check=True)
    ask = ["rpm", "-qp", "--nosignature", "--scripts", str(made.rpm)]
    said = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    scripts = ROOT / "packaging/scripts"
    for name, deb, rpm in (
        ("before-install", "preinst", "preinstall scriptlet"),
        ("after-install", "postinst", "posttrans scriptlet"),  # not %post: see packaging/nfpm.yaml
        ("before-remove", "prerm", "preuninstall scriptlet"),
        ("after-remove", "postrm", "postuninstall scriptlet"),
    ):
        text = (scripts / name).read_text()
        assert (tmp_path / "control" / deb).read_text() == text
        assert f"{rpm} (using /bin/sh):\n{text}" in said
    assert "postinstall scriptlet" not in said


@pytest.mark.once
@pytest.mark.parametrize(
    "script",
    [
        *(f"scripts/{name}" for name in ("before-install", "after-install", "before-remove", "after-remove")),
        "opt/bin/lifecycle-agent",
        "packer/bake.sh",
    ],
)
def test_a_posix_shell_reads_the_script(script: str) -> None:
    assert (ROOT / "packaging" / script).read_text().startswith("#!/bin/sh\n")
    subprocess.run([shutil.which("dash") or "sh", "-n", ROOT / "packaging" / script], check=True)


def test_this_python_runs_it(tree: Path) -> None:
    assert run(tree, "-m", "lifecycle_agent", "--version") == __version__


def test_it_is_a_virtual_environment(tree: Path) -> None:
    asked = "import sys, sysconfig as s; print(sys.executable, sys.prefix, s.get_path('scripts'), *sys.path)"
    executable, prefix, scripts, *paths = run(tree, "-c", asked).split()
    assert executable == f"{tree}/bin/python{THIS_PYTHON}"  # what the agent starts its children with
    assert prefix == str(tree)
    assert scripts == f"{tree}/bin"  # where `lifecycle-agent install` finds the launcher
    assert [path for path in paths if path.endswith("-packages")] == [
        f"{tree}/lib/python{THIS_PYTHON}/site-packages"
    ]


def test_compiled_modules_load(tree: Path) -> None:
    asked = "import zstandard as z; print(z.backend, z.ZstdDecompressor().decompress(z.compress(b'logs')))"
    assert run(tree, "-c", asked) == "cext b'logs'"


def test_models_that_are_left_make_clients(tree: Path) -> None:
    """With a resolved endpoint each: the agent's two services, and those that credentials come from."""
    asked = """
from lifecycle_agent.clients.aws import make_client
for name in ("autoscaling", "s3", "sts", "sso", "sso-oidc", "signin"):
    client = make_client(name, "cn-north-1", 1, 1)
    print(name, client.meta.endpoint_url)
print(make_client("s3", "eu-west-1", 1, 1).can_paginate("list_objects_v2"))
"""
    said = run(tree, "-c", asked)
    assert "autoscaling https://autoscaling.cn-north-1.amazonaws.com.cn\n" in said
    assert "s3 https://s3.cn-north-1.amazonaws.com.cn\n" in said
    assert said.endswith("True")


@pytest.mark.once
@pytest.mark.parametrize("python", PYTHONS)
def test_nothing_that_is_needed_is_missing(tree: Path, python: str) -> None:
    """pip holds `python_version < "3.11"` against the Python that runs it, not the one asked for."""
    found = {
        re.sub("[-_.]+", "-", distribution.metadata["Name"]).lower(): distribution
        for distribution in importlib.metadata.distributions(path=[str(tree / "lib/site-packages")])
    }
    assert len(found) > 10
    marks = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    for distribution in found.values():
        for requirement in map(Requirement, distribution.requires or []):
            if requirement.marker is None or requirement.marker.evaluate(marks):
                there = found.get(re.sub("[-_.]+", "-", requirement.name).lower())
                assert there is not None, f"{distribution.name} needs {requirement} on Python {python}"
                assert requirement.specifier.contains(there.version, prereleases=True)


@pytest.mark.once
@pytest.mark.parametrize("options", [[], ["-syntax-only"]], ids=["validate", "syntax only"])
def test_packer_accepts_the_template(made: Packages, options: list[str], tmp_path: Path) -> None:
    if shutil.which("packer") is None:
        pytest.skip("needs packer")
    # as root without any network: nothing is asked of AWS, and no credentials are there
    alone = ["unshare", "--net"] if os.geteuid() == 0 else []
    variables = [] if options else [f"-var=packages={made.deb.parent}", f"-var=version={__version__}"]
    environ = {"PATH": os.environ["PATH"], "CHECKPOINT_DISABLE": "1"}
    environ |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [*alone, "packer", "validate", *options, *variables, "packaging/packer"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.once
def test_packers_default_version_is_ours() -> None:
    template = (ROOT / "packaging/packer/lifecycle-agent.pkr.hcl").read_text()
    default = re.search(r'variable "version" {\s+type\s+= string\s+default\s+= "(.*)"', template)
    assert default is not None
    assert default[1] == __version__

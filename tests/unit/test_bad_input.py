"""Bad input, given to the real command: one line that says what is wrong, one what to do, an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lifecycle_agent.model import LifecycleTransition
from lifecycle_agent.rehearsal.group import Group
from lifecycle_agent.rehearsal.imds import Imds

ME = "i-0123456789abcdef0"

# Every command that reads the configuration.
CONFIGURED = [
    ["run"],
    ["drain"],
    ["drain", "--dry-run"],
    ["undrain"],
    ["complete", "--result", "CONTINUE"],
    ["heartbeat"],
]


@dataclass(frozen=True)
class Refusal:
    """How a command ended: its exit code and the two lines."""

    code: int
    what: str
    hint: str


class Shell:
    """Runs `lifecycle-agent` with a configuration in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "config.toml"
        self.config.write_text("")
        self.environ = {**os.environ, "RUNTIME_DIRECTORY": str(directory), "STATE_DIRECTORY": str(directory)}

    def refuses(self, *arguments: str) -> Refusal:
        """Run a command that is to fail with two lines on standard error and no traceback."""
        run = subprocess.run(
            [sys.executable, "-m", "lifecycle_agent", "--config", str(self.config), *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
        )
        lines = run.stderr.splitlines()
        if "rehearse" not in arguments:  # its headline comes first, before it knows anything
            assert run.stdout == ""
        assert len(lines) == 2, run.stderr
        assert lines[0].startswith("error: ")
        assert lines[1].startswith("  do: ")
        return Refusal(run.returncode, lines[0].removeprefix("error: "), lines[1].removeprefix("  do: "))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize("command", CONFIGURED, ids=" ".join)
def test_every_command_refuses_a_broken_configuration(shell: Shell, command: list[str]) -> None:
    shell.config.write_text("[hooks]\nterminat = 'drain'")

    refusal = shell.refuses(*command)

    assert refusal == Refusal(
        2, f"{shell.config}: hooks.terminat is not a known key", 'did you mean "terminate"?'
    )


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("agnet.x = 1", "agnet is not a known key", 'did you mean "agent"?'),
        ("drain.units = 'a.service'", "drain.units is not a list", "[ ... ]"),
        ("[logs]", "logs.bucket is missing", "no default"),
        ("eureka.settle = '60'", 'eureka.settle is not a duration: "60"', '"90s"'),
        (
            "[[notify]]\nkind = 'slack'\nurl_file = 'slack-url'",
            "notify[1].url_file cannot be read: ",
            "credential",
        ),
        ("drain.timeout = '30s'\neureka.urls = ['http://a/eureka']", "eureka.settle of 60 s", "longer"),
        ("[agent", "is not TOML", "mend"),
    ],
    ids=["unknown key", "type", "bucket", "duration", "secret", "together", "syntax"],
)
def test_what_is_wrong_in_the_configuration(shell: Shell, text: str, what: str, hint: str) -> None:
    shell.config.write_text(text)

    refusal = shell.refuses("run")

    assert refusal.code == 2
    assert refusal.what.startswith(f"{shell.config}: {what}")
    assert hint in refusal.hint


def test_a_rehearsal_refuses_a_broken_configuration(shell: Shell) -> None:
    shell.config.write_text("[hooks]\nterminat = 'drain'")

    refusal = shell.refuses("rehearse", "--config", str(shell.config))

    assert refusal.code == 2
    assert refusal.what == f"{shell.config}: hooks.terminat is not a known key"


def test_the_service_stays_down_with_a_broken_configuration(shell: Shell) -> None:
    shell.config.write_text("[agent")
    unit = (Path(__file__).parents[2] / "systemd" / "lifecycle-agent.service").read_text()

    assert f"RestartPreventExitStatus={shell.refuses('run').code}\n" in unit


def test_a_drop_in_is_named(shell: Shell) -> None:
    drop_in = shell.config.parent / "config.d" / "50-local.toml"
    drop_in.parent.mkdir()
    drop_in.write_text("spot.action = 'run away'")

    assert shell.refuses("run").what == f'{drop_in}: spot.action is "run away"'


def test_a_configuration_that_is_not_there(shell: Shell) -> None:
    shell.config.unlink()

    refusal = shell.refuses("drain")

    assert refusal.code == 2
    assert refusal.what == f"{shell.config}: cannot be read: No such file or directory"
    assert "--config" in refusal.hint


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["drian"], "No such command 'drian'"),
        (["drain", "--dry-rnu"], "No such option"),
        (["drain", "now"], "unexpected extra argument"),
        (["complete"], "Missing option '--result'"),
        (["complete", "--result", "MAYBE"], "'MAYBE' is not one of 'CONTINUE', 'ABANDON'"),
        (["--config"], "Option '--config' requires an argument"),
        ([], "Missing command"),
    ],
    ids=" ".join,
)
def test_wrong_usage(shell: Shell, arguments: list[str], what: str) -> None:
    refusal = shell.refuses(*arguments)

    assert refusal.code == 2
    assert what in refusal.what
    assert "--help" in refusal.hint


def test_no_command_at_all() -> None:
    command = [sys.executable, "-m", "lifecycle_agent"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)

    longest = max(len(line) for line in run.stderr.splitlines())
    assert run.returncode == 2
    assert longest < 200, "the help is not an error message of one line"


@pytest.mark.parametrize(
    "command",
    [["drain"], ["drain", "--complete"], ["undrain"], ["heartbeat"], ["complete", "--result", "ABANDON"]],
    ids=" ".join,
)
def test_no_metadata_service(shell: Shell, command: list[str]) -> None:
    refusal = shell.refuses(*command)

    assert refusal.code == 4
    assert shell.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] in refusal.what
    assert "EC2" in refusal.hint


@pytest.fixture
def group(shell: Shell) -> Iterator[Group]:
    """A group in which this instance waits for an answer; it has no hook yet."""
    with Imds(ME) as imds, Group() as group:
        shell.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = imds.url
        shell.environ["AWS_ENDPOINT_URL_AUTO_SCALING"] = group.url
        group.place(ME, "Terminating:Wait")
        yield group


@pytest.mark.parametrize("command", [["heartbeat"], ["complete", "--result", "CONTINUE"]], ids=" ".join)
class TestHooks:
    def test_none(self, shell: Shell, group: Group, command: list[str]) -> None:
        group.add_hook("warm-up", LifecycleTransition.LAUNCHING)
        group.add_hook("CodeDeploy-managed-automatic-launch-deployment-hook")

        refusal = shell.refuses(*command)

        assert refusal.code == 1
        assert refusal.what == (
            "group rehearsal has no lifecycle hook of transition autoscaling:EC2_INSTANCE_TERMINATING"
        )
        assert "[hooks]" in refusal.hint

    def test_two(self, shell: Shell, group: Group, command: list[str]) -> None:
        group.add_hook("drain")
        group.add_hook("backup")

        refusal = shell.refuses(*command)

        assert refusal.code == 2
        assert "several hooks: " in refusal.what
        assert {"drain", "backup"} <= set(refusal.what.replace(",", "").split())
        assert "hooks.terminate" in refusal.hint

    def test_not_the_one_that_is_configured(self, shell: Shell, group: Group, command: list[str]) -> None:
        shell.config.write_text("hooks.terminate = 'drian'")
        group.add_hook("drain")

        refusal = shell.refuses(*command)

        assert refusal.code == 2
        assert refusal.what.startswith("hooks.terminate = 'drian': the group has no such hook")
        assert "drain" in refusal.what

    def test_an_instance_that_is_in_no_group(self, shell: Shell, group: Group, command: list[str]) -> None:
        with Imds("i-0fedcba9876543210") as other:
            shell.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = other.url

            refusal = shell.refuses(*command)

        assert refusal.code == 1
        assert "i-0fedcba9876543210" in refusal.what

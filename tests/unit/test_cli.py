"""The command line as a user meets it: the real command in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lifecycle_agent import __version__
from lifecycle_agent.cli import COMMANDS

ROOT = Path(__file__).parents[2]


def lifecycle_agent(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lifecycle-agent")
    return subprocess.run(
        [command, *args],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
        check=False,
    )


def test_help_names_every_command() -> None:
    answer = lifecycle_agent("--help")
    assert answer.returncode == 0
    listed = re.findall(r"^  ([a-z-]+)  ", answer.stdout.split("Commands:")[1], re.MULTILINE)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_is_in_the_readme(command: str) -> None:
    answer = lifecycle_agent(command, "--help")
    assert answer.returncode == 0
    assert "Traceback" not in answer.stderr
    assert f"`lifecycle-agent {command}" in (ROOT / "README.md").read_text()


def test_version() -> None:
    assert lifecycle_agent("--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    "words", [["drian"], ["drain", "--dry"], ["complete"], ["complete", "--result", "MAYBE"], []]
)
def test_wrong_usage_is_two_lines_and_exit_code_2(words: list[str]) -> None:
    answer = lifecycle_agent(*words)
    assert answer.returncode == 2
    if words:
        what, do = answer.stderr.splitlines()
        assert what.startswith("error: ")
        assert do.startswith("  do: ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_for(shell: str) -> None:
    answer = lifecycle_agent(_LIFECYCLE_AGENT_COMPLETE=f"{shell}_source")
    assert answer.returncode == 0
    assert f"_LIFECYCLE_AGENT_COMPLETE={shell}_complete" in answer.stdout


def test_completes_commands_and_options() -> None:
    def complete(line: str) -> set[str]:
        answer = lifecycle_agent(
            _LIFECYCLE_AGENT_COMPLETE="bash_complete",
            COMP_WORDS=line,
            COMP_CWORD=str(len(line.split(" ")) - 1),
        )
        return {each.partition(",")[2] for each in answer.stdout.splitlines()}

    assert complete("lifecycle-agent ") == set(COMMANDS)
    assert complete("lifecycle-agent un") == {"undrain", "uninstall"}
    assert {"--dry-run", "--complete", "--no-wait"} <= complete("lifecycle-agent drain --")
    assert "--notice" not in complete("lifecycle-agent drain --")
    assert complete("lifecycle-agent complete --result ") == {"CONTINUE", "ABANDON"}

"""The rules in conftest.py hold: each is broken here on purpose, in a pytest run of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

CONFTEST = Path(__file__).parents[1] / "conftest.py"


def outcome(directory: Path, test: str, **environ: str) -> str:
    """What pytest says about a module of tests under our conftest."""
    shutil.copy(CONFTEST, directory)
    (directory / "test_it.py").write_text("import os, socket, pytest\n" + test)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "markers=machine"],
        cwd=directory,
        env={**os.environ, "CI": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return run.stdout


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('192.0.2.1', 80), timeout=0.1)",
        "socket.socket().connect_ex(('192.0.2.1', 80))",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 53))",
        "socket.getaddrinfo('example.com', 80)",
    ],
)
def test_leaving_loopback_fails_even_when_swallowed(attempt: str, tmp_path: Path) -> None:
    swallowed = f"def test_it():\n    try:\n        {attempt}\n    except OSError:\n        pass\n"

    assert "left loopback" in outcome(tmp_path, swallowed)


def test_loopback_and_unix_sockets_are_fine(tmp_path: Path) -> None:
    test = """
def test_it(tmp_path):
    for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, str(tmp_path / "s"))):
        with socket.socket(family) as server, socket.socket(family) as client:
            server.bind(address)
            server.listen()
            client.connect(server.getsockname())
    with pytest.raises(socket.gaierror):
        socket.create_connection(("eureka.invalid", 80))
"""
    assert "1 passed" in outcome(tmp_path, test)


def test_nothing_of_the_outside_aws_settings_gets_in(tmp_path: Path) -> None:
    test = """
def test_it():
    assert "AWS_PROFILE" not in os.environ
    assert "https_proxy" not in os.environ
    assert os.environ["AWS_SHARED_CREDENTIALS_FILE"] == "/dev/null"
    host, port = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"].removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
"""
    assert "1 passed" in outcome(tmp_path, test, AWS_PROFILE="mine", https_proxy="http://192.0.2.1")


@pytest.mark.parametrize(
    "skipped",
    [
        "def test_it():\n    pytest.skip('no such thing')",
        "@pytest.mark.skip(reason='no such thing')\ndef test_it(): pass",
        "pytest.skip('no such thing', allow_module_level=True)",
    ],
)
def test_a_skip_is_a_failure_in_ci(skipped: str, tmp_path: Path) -> None:
    assert "1 skipped" in outcome(tmp_path, skipped)

    in_ci = outcome(tmp_path, skipped, CI="true")

    assert "no such thing" in in_ci
    assert "1 failed" in in_ci or "1 error" in in_ci


def test_an_expected_failure_is_none_in_ci(tmp_path: Path) -> None:
    assert "1 xfailed" in outcome(tmp_path, "@pytest.mark.xfail\ndef test_it(): assert False", CI="true")

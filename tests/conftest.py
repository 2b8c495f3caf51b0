"""What holds for every test: nothing leaves loopback, nothing of the outside AWS settings gets in."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Generator
from typing import Any

import pytest

# Bound and never listening: a connection is refused at once, and no other process gets the port.
_no_metadata_service = socket.socket()


def pytest_configure() -> None:
    """Clean the environment before any test module is imported; the processes that tests start inherit it."""
    _no_metadata_service.bind(("127.0.0.1", 0))
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(
        AWS_CONFIG_FILE="/dev/null",
        AWS_SHARED_CREDENTIALS_FILE="/dev/null",
        AWS_EC2_METADATA_SERVICE_ENDPOINT="http://127.0.0.1:{1}".format(*_no_metadata_service.getsockname()),
    )


def _stays_here(host: object) -> bool:
    """Whether a host, by name or address, is this machine."""
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    if name in ("localhost", socket.gethostname()) or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


class SocketGuard:
    """Refuses, and remembers, whatever this process sends to another machine, looking up its name included.

    An audit hook sees every call whoever makes it, and can't be taken out again by a test. Processes
    that a test starts are not seen: the environment that they inherit points them at loopback.
    """

    def __init__(self) -> None:
        self.armed = True
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed or not event.startswith("socket."):
            return
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            address = arguments[1]  # a path for a Unix socket, None on a socket already connected
            host = address[0] if isinstance(address, tuple) else None
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            host = arguments[0]
        else:
            return
        if str(host).endswith(".invalid"):  # RFC 6761: no such host, and nobody needs to be asked
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if not _stays_here(host):
            self.seen.append(f"{event} {host}")
            raise PermissionError(f"a test may not reach {host}: only loopback")


guard = SocketGuard()
sys.addaudithook(guard)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test of a machine has a network of its own, and so have the fixtures that are made for it."""
    guard.armed = item.get_closest_marker("machine") is None


@pytest.fixture(autouse=True)
def _only_loopback() -> Generator[None, None, None]:
    """Fail a test that tried to reach another machine, even if the code under test swallowed the refusal."""
    guard.seen.clear()
    yield
    guard.armed = True
    assert not guard.seen, "left loopback: " + "; ".join(guard.seen)


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With CI=true nothing may be left out silently: a skip is a failure that shows its reason."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CI=true, and this did not run: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hold skipped tests against the rule."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Hold skipped modules against the rule."""
    report = yield
    _fail_if_skipped(report)
    return report

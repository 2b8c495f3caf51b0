"""The registries that the contract tests run against: Spring's, built from tests/eureka-server, and ours."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_agent.rehearsal.eureka import EmulatedEureka
from tests.machine.evidence import pytest_runtest_makereport  # noqa: F401 - the hook

PROJECT = Path(__file__).parent.parent / "eureka-server"
# Seconds between two turns of the response cache and of the eviction: short, as tests wait for them.
CACHE_SECONDS = 1.0
EVICTION_SECONDS = 0.2
# Seconds a build may take that downloads everything, and a start on a machine that is busy with tests.
BUILD_LIMIT = 900
START_LIMIT = 120


def _cached_jar() -> Path:
    """Where the server is, or will be, for these very sources."""
    sources = hashlib.sha256()
    for path in sorted((PROJECT / "pom.xml", *(PROJECT / "src").rglob("*.*"))):
        if path.is_file():
            sources.update(f"{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    given = os.environ.get("LIFECYCLE_AGENT_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(given) if given else home / "lifecycle-agent"
    return cache / f"eureka-server-{sources.hexdigest()[:16]}" / "eureka-server.jar"


def _build(jar: Path) -> None:
    """Build it aside and move it into place whole; whoever comes second waits, and finds it there."""
    jar.parent.mkdir(parents=True, exist_ok=True)
    with open(jar.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jar.exists():
            return
        maven = shutil.which("mvn")
        if maven is None:
            pytest.skip("no Maven (mvn) here to build the real Eureka server with")
        with tempfile.TemporaryDirectory(dir=jar.parent) as work:
            project = Path(work) / "eureka-server"
            shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target"))
            built = subprocess.run(
                [maven, "-q", "-B", "package"],
                cwd=project,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=BUILD_LIMIT,
                check=False,
            )
            if built.returncode:
                pytest.fail(f"the Eureka server does not build:\n{(built.stdout + built.stderr)[-3000:]}")
            (project / "target" / "eureka-server.jar").rename(jar)


def _base_url(log: Path, server: subprocess.Popen[bytes]) -> str:
    """Wait until the server has said its port and answers."""
    give_up = time.monotonic() + START_LIMIT
    while server.poll() is None and time.monotonic() < give_up:
        if started := re.search(r"Tomcat started on port (\d+)", log.read_text(errors="replace")):
            url = f"http://127.0.0.1:{started[1]}/eureka"
            try:
                urllib.request.urlopen(f"{url}/apps", timeout=5).close()
            except OSError:
                pass
            else:
                return url
        time.sleep(0.05)
    pytest.fail(f"the Eureka server does not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="session")
def real_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a real Eureka server."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("no Java (java) here to run the real Eureka server with")
    jar = _cached_jar()
    _build(jar)
    log = tmp_path_factory.mktemp("eureka-server") / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                *(java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-jar", str(jar), "--server.port=0"),
                f"--eureka.server.response-cache-update-interval-ms={CACHE_SECONDS * 1000:.0f}",
                f"--eureka.server.eviction-interval-timer-in-ms={EVICTION_SECONDS * 1000:.0f}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _base_url(log, server)
    finally:
        server.kill()  # it has nothing to keep, and its orderly end takes seconds
        server.wait()


@pytest.fixture(scope="session")
def emulated_registry() -> Iterator[str]:
    """The base URL of the rehearsal's Eureka server."""
    with EmulatedEureka(cache_seconds=CACHE_SECONDS, eviction_seconds=EVICTION_SECONDS) as eureka:
        yield eureka.url


@pytest.fixture(scope="session", params=["emulated", "real"])
def registry_url(request: pytest.FixtureRequest) -> str:
    """The base URL of each in turn."""
    url: str = request.getfixturevalue(f"{request.param}_registry")
    return url

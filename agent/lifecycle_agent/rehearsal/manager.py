"""Starts our instance's app when it is told to: what systemd does for a service on a real machine.

The world has no systemd of its own, and the one of this machine is nobody's to rehearse with.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from flask import Flask, Response

from lifecycle_agent.rehearsal.http import Served

_COMMAND = """\
import urllib.request
direct = urllib.request.build_opener(urllib.request.ProxyHandler({{}}))
direct.open(urllib.request.Request("{url}/start", b"", method="POST"), timeout=10).close()
print("the app is started")
"""


class Manager:
    """On loopback: `POST url/start`.

    Args:
        start: starts the app, where it does not run.
    """

    def __init__(self, start: Callable[[], None]) -> None:
        app = Flask(__name__)

        @app.post("/start")
        def take() -> Response:
            start()
            return Response("started")

        self._served = Served(app)
        self.url = self._served.url

    def start(self) -> None:
        """Listen from now on."""
        self._served.start()

    def stop(self) -> None:
        """Listen no more."""
        self._served.stop()

    def command(self, disk: Path) -> tuple[str, ...]:
        """A command on that disk which starts the app, as a person would put it into a configuration."""
        program = disk / "opt" / "orders" / "bin" / "start"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(_COMMAND.format(url=self.url))
        return (sys.executable, str(program))

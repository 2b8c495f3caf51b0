"""An app that is always started again by whoever calls it, with a Eureka client in it."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from werkzeug.wrappers import Response

from lifecycle_agent.rehearsal.http import Served
from tests.stage import ADDRESS, APP

REGISTRATION = "orders:1"


class App:
    """The app: socket-activated, so that the first request after it was stopped starts it again.

    It registers as STARTING, and as UP once it is ready; it renews its lease, and registers again on a 404.
    Stopped, it does nothing of that. Its own requests to the registry are no others than POST and PUT of the
    registration.
    """

    def __init__(self, registry: str, say: Callable[[str], None]) -> None:
        self._registry = urlsplit(registry)
        self._say = say
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._served = Served(self._answer)
        self.url = self._served.url
        self.alive = False
        self.ill = False
        self.takes = 0.3  # seconds from its start until it is ready
        self._began = 0.0
        self._registered = ""
        self.ready_said_at = -1.0  # monotonic; when it last told somebody that it is ready
        self.stopped_at = -1.0
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> App:
        self._served.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._served.stop()

    @property
    def ready(self) -> bool:
        """What its health says."""
        return self.alive and not self.ill and time.monotonic() >= self._began + self.takes

    def begin(self) -> None:
        """Start it."""
        with self._lock:
            if not self.alive:
                self.alive, self._began, self._registered = True, time.monotonic(), ""
                self._say("the app starts")

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        status = 200
        if environ["PATH_INFO"] == "/stop":
            with self._lock:
                self.alive, self.stopped_at = False, time.monotonic()
                self._say("the app is told to stop")
        else:
            self.begin()
            if self.ready:
                self.ready_said_at = time.monotonic()
            else:
                status = 503
        return Response("", status)(environ, start_response)

    def _live(self) -> None:
        while not self._over.wait(0.1):
            with self._lock:
                if self.alive:
                    self._renew("UP" if self.ready else "STARTING")

    def _renew(self, status: str) -> None:
        base = f"{self._registry.path}/apps/{APP}"
        with contextlib.suppress(OSError, http.client.HTTPException):  # a registry that is down: next time
            if self._registered == status and self._ask("PUT", f"{base}/{REGISTRATION}") != 404:
                return
            center = {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"}
            instance = {"app": APP, "hostName": "ip-10-0-0-7", "ipAddr": ADDRESS, "dataCenterInfo": center}
            document = {"instance": {**instance, "instanceId": REGISTRATION, "status": status}}
            if self._ask("POST", base, json.dumps(document)) == 204:
                self._registered = status

    def _ask(self, method: str, path: str, body: str | None = None) -> int:
        connection = http.client.HTTPConnection(self._registry.netloc, timeout=1.0)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()

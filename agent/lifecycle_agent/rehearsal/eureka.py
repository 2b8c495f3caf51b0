"""An emulated Eureka server: what the agent, an app and callers can tell of the real one.

Each behaviour here was seen on Spring's server (spring-cloud-starter-netflix-eureka-server 4.3.0), and
`tests/contract/test_eureka.py` holds the two together. Left out: peers, self preservation, XML bodies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask, Request, Response, jsonify, request

from lifecycle_agent.deadline import boottime
from lifecycle_agent.rehearsal.http import Served
from lifecycle_agent.rehearsal.registry import BadInstance, Registry

# Who did what, for people.
Timeline = Callable[[str, str], None]


@dataclass(frozen=True)
class Asked:
    """One request as it came in.

    Args:
        at: seconds on the boot clock, when it was answered.
        path: with the query, below the base URL: `/apps/ORDERS/a:1/status?value=OUT_OF_SERVICE`.
        status: what it was answered; 0 when it was left hanging.
    """

    at: float
    method: str
    path: str
    status: int


class EmulatedEureka:
    """A registry on loopback; `url` is its base URL, and works with `/v2` behind it, too.

    Args:
        timeline: told about changes of the registry, not about renewals and readers.
        cache_seconds: how often the response cache catches up; the real one's default is 30 s.
        eviction_seconds: how often expired leases are looked for; the real one's default is 60 s.
        auth: user name and password asked for, None for nobody's.
        host: the address to bind.
    """

    def __init__(
        self,
        timeline: Timeline = lambda who, what: None,
        *,
        cache_seconds: float = 30.0,
        eviction_seconds: float = 60.0,
        auth: tuple[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.requests: list[Asked] = []
        self.registry = Registry()
        self._timeline = timeline
        self._auth = auth
        self._timers = ((cache_seconds, self._refresh), (eviction_seconds, self._evict))
        self._lock = threading.Lock()
        self._cached: dict[str, Any] = {}
        self._stopped = threading.Event()
        self._fault: int | None = None
        self._released = threading.Event()
        self._threads: list[threading.Thread] = []
        self.app = self._flask()
        self._served = Served(self.app, host=host, port=port)
        self.url = f"{self._served.url}/eureka"

    # Serving

    def start(self) -> None:
        """Serve, and let the timers run."""
        self._served.start()
        for seconds, action in self._timers:
            thread = threading.Thread(target=self._every, args=(seconds, action), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop serving, for good: callers are refused."""
        self._stopped.set()
        self._released.set()
        self._served.stop()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> EmulatedEureka:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Faults

    def fail(self, status: int = 503) -> None:
        """Answer every request with `status` until `heal`."""
        self._fault = status

    def hang(self) -> None:
        """Answer nothing at all until `heal`; what hangs then is answered with 503."""
        self._released.clear()
        self._fault = 0

    def heal(self) -> None:
        """Be well again."""
        self._fault = None
        self._released.set()

    # Timers

    def _every(self, seconds: float, action: Callable[[], None]) -> None:
        while not self._stopped.wait(seconds):
            with self._lock:
                action()

    def _refresh(self) -> None:
        """The read-only cache takes over what the registry says now, for the answers somebody asked for."""
        for name in self._cached:
            self._cached[name] = self._read(name)

    def _evict(self) -> None:
        for lease in self.registry.evict():
            self._note(f"evicts {lease}: its lease expired")

    def _read(self, name: str) -> Any:
        if name == "apps":
            return self.registry.applications()
        if name == "apps/delta":
            return self.registry.delta()
        return self.registry.application(name.removeprefix("apps/"))

    def _from_cache(self, name: str) -> Response:
        """The cached answer, also the cached absence of one; the first to ask fills it."""
        with self._lock:
            if name not in self._cached:
                self._cached[name] = self._read(name)
            document = self._cached[name]
        return _missing() if document is None else jsonify(document)

    def _note(self, what: str) -> None:
        self._timeline("registry", what)

    # Requests

    def _flask(self) -> Flask:
        app = Flask(__name__)
        # As the real server writes it: InstanceInfo's own order, nothing sorted.
        app.json.sort_keys = False  # type: ignore[attr-defined]
        app.before_request(self._before)
        app.after_request(self._log)
        for base in ("/eureka", "/eureka/v2"):
            for rule, view, methods in (
                ("/apps", self._apps, ["GET"]),
                ("/apps/", self._apps, ["GET"]),
                ("/apps/delta", self._delta, ["GET"]),
                ("/apps/<app>", self._app, ["GET"]),
                ("/apps/<app>", self._register, ["POST"]),
                ("/apps/<app>/<id_>", self._instance, ["GET"]),
                ("/apps/<app>/<id_>", self._renew, ["PUT"]),
                ("/apps/<app>/<id_>", self._cancel, ["DELETE"]),
                ("/apps/<app>/<id_>/status", self._override, ["PUT"]),
                ("/apps/<app>/<id_>/status", self._remove_override, ["DELETE"]),
                ("/instances/<id_>", self._anywhere, ["GET"]),
            ):
                app.add_url_rule(base + rule, f"{base}{rule}{methods}", view, methods=methods)
        return app

    def _before(self) -> Response | None:
        if self._fault == 0:
            self._released.wait()
            return Response(status=503)
        if self._fault is not None:
            return Response(status=self._fault)
        given = request.authorization
        if self._auth and (given is None or (given.username, given.password) != self._auth):
            return Response(status=401, headers={"WWW-Authenticate": 'Basic realm="Realm"'})
        if "%2f" in str(request.environ.get("REQUEST_URI", "")).lower():
            return Response(status=400)  # Tomcat's word on it; Flask would take it for a slash
        if request.method == "GET" and not _wants_json(request):
            # The real one answers in XML here; nobody in the rehearsal reads that.
            return Response("the emulated server speaks JSON alone", 406)
        return None

    def _log(self, response: Response) -> Response:
        path = request.full_path.removesuffix("?").removeprefix("/eureka").removeprefix("/v2")
        self.requests.append(Asked(boottime(), request.method, path, response.status_code))
        return response

    def _apps(self) -> Response:
        return self._from_cache("apps")

    def _delta(self) -> Response:
        return self._from_cache("apps/delta")

    def _app(self, app: str) -> Response:
        return self._from_cache(f"apps/{app.upper()}")

    def _instance(self, app: str, id_: str) -> Response:
        with self._lock:
            return _one(self.registry.instance(app, id_))

    def _anywhere(self, id_: str) -> Response:
        with self._lock:
            return _one(self.registry.anywhere(id_))

    def _register(self, app: str) -> Response:
        try:
            with self._lock:
                lease = self.registry.register(app, request.get_json(force=True, silent=True))
        except BadInstance as bad:
            return Response(str(bad), 400, content_type="application/json")
        self._note(f"{lease} registers as {lease.status}")
        return Response(status=204)

    def _renew(self, app: str, id_: str) -> Response:
        with self._lock:
            known = self.registry.renew(app, id_, request.args.get("lastDirtyTimestamp", type=int))
        return Response(status=200) if known else _missing()

    def _cancel(self, app: str, id_: str) -> Response:
        with self._lock:
            known = self.registry.cancel(app, id_)
        if known:
            self._note(f"{app.upper()}/{id_} is deleted")
        return Response(status=200) if known else _missing()

    def _override(self, app: str, id_: str) -> Response:
        with self._lock:
            if self.registry.instance(app, id_) is None:
                return _missing()
            try:
                self.registry.override(app, id_, request.args.get("value", ""))
            except ValueError:
                return _failed()
        self._note(f"{app.upper()}/{id_} is set to {request.args['value']}")
        return Response(status=200)

    def _remove_override(self, app: str, id_: str) -> Response:
        with self._lock:
            if self.registry.instance(app, id_) is None:
                return _missing()
            try:
                self.registry.remove_override(app, id_, request.args.get("value", "UNKNOWN"))
            except ValueError:
                return _failed()
        self._note(f"{app.upper()}/{id_} loses its override")
        return Response(status=200)


def _wants_json(asked: Request) -> bool:
    """Only who names JSON gets it: the real server's answer to `*/*` is XML."""
    return "json" in asked.headers.get("Accept", "")


def _one(instance: Mapping[str, Any] | None) -> Response:
    return _missing() if instance is None else jsonify({"instance": instance})


def _missing() -> Response:
    return _error(404, "Not Found")


def _failed() -> Response:
    return _error(500, "Internal Server Error")


def _error(status: int, error: str) -> Response:
    response = jsonify({"status": status, "error": error, "path": request.path})
    response.status_code = status
    return response

"""The callers of the app: they follow the registry with a cache, and every request of theirs counts.

A caller asks the registry now and then, keeps the answer, takes the instances that are UP in turn and
keeps connections open, as Netflix's Ribbon and Spring's load balancer do. It never tries again: a
request that fails is lost, and is written down with when, where and how.
"""

from __future__ import annotations

import http.client
import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lifecycle_agent.deadline import Clock
from lifecycle_agent.rehearsal.net import DIRECT, credentials

PATIENCE = 2.0  # seconds for an answer: far above the 60 ms that a request takes at most
REGISTRY_SECONDS = 2.0
MOST_REGISTRY_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Instance:
    """One instance as the registry describes it."""

    name: str
    address: str
    port: int


@dataclass(frozen=True)
class Lost:
    """A request that failed: `at` seconds on the callers' clock, at which instance, and how."""

    at: float
    instance: str
    how: str


@dataclass
class Tally:
    """What all callers have counted so far.

    Args:
        last_answer: by instance, when it answered a caller last.
    """

    ok: int = 0
    lost: list[Lost] = field(default_factory=list)
    by_instance: Counter[str] = field(default_factory=Counter)
    last_answer: dict[str, float] = field(default_factory=dict)

    @property
    def sent(self) -> int:
        """Requests with an outcome."""
        return self.ok + len(self.lost)


# What a caller saw when it asked the registry: instances that appeared and that went.
Follower = Callable[[frozenset[str], frozenset[str]], None]


def instances_up(registry: str, app: str, seconds: float = REGISTRY_SECONDS) -> list[Instance]:
    """The instances of `app` that are UP, from `GET apps`: the way of Eureka's own clients, cached.

    Raises:
        OSError: the registry did not answer.
        ValueError: it answered something else.
    """
    base, headers = credentials(registry)
    headers["Accept"] = "application/json"
    request = urllib.request.Request(f"{base}/apps", headers=headers)  # noqa: S310 - http, ours
    with DIRECT.open(request, timeout=seconds) as answer:
        document = json.loads(answer.read(MOST_REGISTRY_BYTES))
    try:
        found = [
            Instance(entry["instanceId"], entry["ipAddr"], int(entry["port"]["$"]))
            for application in document["applications"]["application"]
            if application["name"] == app
            for entry in application["instance"]
            if entry["status"] == "UP"
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a list of applications: {error!r}") from error
    return sorted(found, key=lambda instance: instance.name)


class Callers:
    """Several callers, a thread each, from `start` to `stop`.

    Args:
        registry: Eureka's base URL, with user and password in it where it asks for them.
        app: the application's name, upper case.
        clock: seconds; what `Lost.at` is on.
        fetch: seconds between two looks at the registry (Eureka's clients: 30).
        count: how many callers.
        rate: requests a second of each.
        patience: seconds a caller waits for an answer.
        followed: told when a caller's view of the registry changes.
    """

    def __init__(
        self,
        registry: str,
        app: str,
        clock: Clock,
        *,
        fetch: float = 30.0,
        count: int = 4,
        rate: float = 10.0,
        patience: float = PATIENCE,
        followed: Follower = lambda came, went: None,
    ) -> None:
        self.registry = registry
        self.app = app
        self.clock = clock
        self.fetch = fetch
        self.period = 1 / rate
        self.patience = patience
        self.followed = followed
        self.stopping = threading.Event()
        self._tally = Tally()
        self._lock = threading.Lock()
        self._callers = [_Caller(self, number / count) for number in range(count)]

    def start(self) -> None:
        """Begin to call; returns at once."""
        for caller in self._callers:
            caller.start()

    def stop(self) -> Tally:
        """Let every caller finish its request; what they counted."""
        self.stopping.set()
        for caller in self._callers:
            caller.join(self.patience + 2 * REGISTRY_SECONDS)
        return self.tally()

    def tally(self) -> Tally:
        """What was counted until now: a copy."""
        with self._lock:
            now = self._tally
            return Tally(now.ok, list(now.lost), Counter(now.by_instance), dict(now.last_answer))

    def views(self) -> list[frozenset[str]]:
        """The instances that each caller takes for UP just now."""
        return [caller.view.names for caller in self._callers]

    def looks(self) -> int:
        """How often every one of them has asked the registry by now."""
        return min(caller.view.looks for caller in self._callers)

    def count(self, instance: str, failure: str | None) -> None:
        """Write down one request's outcome; `failure` is None when it was answered."""
        with self._lock:
            now = self.clock()
            self._tally.by_instance[instance] += 1
            if failure is None:
                self._tally.ok += 1
                self._tally.last_answer[instance] = now
            else:
                self._tally.lost.append(Lost(now, instance, failure))


class _View(threading.Thread):
    """What one caller knows of the registry, renewed in the background as Eureka's client does it.

    Args:
        first: seconds until the second look; it keeps callers from all looking at the same moment.
    """

    def __init__(self, callers: Callers, first: float) -> None:
        super().__init__(daemon=True)
        self._all = callers
        self._first = first
        self.instances: tuple[Instance, ...] = ()
        self.looks = 0

    @property
    def names(self) -> frozenset[str]:
        return frozenset(instance.name for instance in self.instances)

    def run(self) -> None:
        next_look = self._all.clock() + self._first
        while not self._all.stopping.wait(max(0.0, next_look - self._all.clock())):
            self.look()
            next_look = max(next_look + self._all.fetch, self._all.clock())

    def look(self) -> None:
        """Ask the registry; when it does not answer, the old view is better than none."""
        try:
            instances = instances_up(self._all.registry, self._all.app)
        except (OSError, ValueError, http.client.HTTPException):
            return
        before, self.instances = self.names, tuple(instances)
        self.looks += 1
        if self.names != before:
            self._all.followed(self.names - before, before - self.names)


class _Caller(threading.Thread):
    """One caller; `phase` (0 to 1) keeps callers from doing everything at the same moment."""

    def __init__(self, callers: Callers, phase: float) -> None:
        super().__init__(daemon=True)
        self._all = callers
        self._phase = phase
        self._connections: dict[Instance, http.client.HTTPConnection] = {}
        self._turn = 0
        self.view = _View(callers, callers.fetch * (1 - phase))

    def run(self) -> None:
        callers = self._all
        self.view.look()
        self.view.start()
        next_call = callers.clock() + callers.period * self._phase
        while not callers.stopping.wait(max(0.0, next_call - callers.clock())):
            self._call()
            next_call = max(next_call + callers.period, callers.clock())
        self._keep(())
        self.view.join(REGISTRY_SECONDS)

    def _call(self) -> None:
        instances = self.view.instances
        self._keep(instances)
        if not instances:
            self._all.count("", "no instance is up")
            return
        self._turn += 1
        instance = instances[self._turn % len(instances)]
        failure = self._request(instance)
        if failure is not None:
            self._connections.pop(instance).close()
        self._all.count(instance.name, failure)

    def _keep(self, instances: Sequence[Instance]) -> None:
        """Close connections to instances that are not offered any more, as gRPC's balancers do."""
        for instance in self._connections.keys() - set(instances):
            self._connections.pop(instance).close()

    def _request(self, instance: Instance) -> str | None:
        """Send one request; how it failed, or None."""
        connection = self._connections.get(instance)
        if connection is None:
            connection = http.client.HTTPConnection(
                instance.address, instance.port, timeout=self._all.patience
            )
            self._connections[instance] = connection
        try:
            connection.request("GET", f"/orders/{self._turn}")
            answer = connection.getresponse()
            answer.read()
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "timed out"
        except (OSError, http.client.HTTPException):
            return "reset"
        return None if answer.status == 200 else f"status {answer.status}"

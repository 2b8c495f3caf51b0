"""The callers of the rehearsal: what they count must be worth believing."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lifecycle_agent.deadline import boottime
from lifecycle_agent.rehearsal.callers import Callers


class Loopback(ThreadingHTTPServer):
    """A registry at /eureka/apps and an app everywhere else, which behaves as `manner` says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.manner = "well"
        self.entries: list[dict[str, object]] = []
        self.registry_answers = True
        self.asked = 0
        self.requests = 0
        self.connections: set[object] = set()
        self.released = threading.Event()
        self.offer("a", self.server_port)

    @property
    def registry(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/eureka"

    def offer(self, name: str, port: int, status: str = "UP") -> None:
        self.entries.append(
            {"instanceId": name, "ipAddr": "127.0.0.1", "port": {"$": port}, "status": status}
        )

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Loopback

    def do_GET(self) -> None:
        if self.path == "/eureka/apps":
            self.server.asked += 1
            app = {"name": "ORDERS", "instance": self.server.entries}
            status = 200 if self.server.registry_answers else 503
            return self.answer(status, {"applications": {"application": [app]}})
        self.server.requests += 1
        self.server.connections.add(self.client_address)
        if self.server.manner == "hangs":
            self.server.released.wait()
        elif self.server.manner == "resets":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
        elif self.server.manner == "hangs up":
            self.close_connection = True
        else:
            self.answer(200 if self.server.manner == "well" else int(self.server.manner), {})
        return None

    def answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def world() -> Iterator[Loopback]:
    server = Loopback()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def calling(world: Loopback, **settings: float) -> Callers:
    settings = {"count": 1, "rate": 200.0, "fetch": 3600.0, "patience": 0.2, **settings}
    return Callers(world.registry, "ORDERS", boottime, **settings)  # type: ignore[arg-type]


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.005)


def test_answered_requests_are_counted_and_none_is_lost(world: Loopback) -> None:
    callers = calling(world, count=3)
    callers.start()
    until(lambda: callers.tally().ok >= 30)
    tally = callers.stop()
    assert tally.lost == []
    assert tally.ok == tally.sent == world.requests == tally.by_instance["a"]


def test_a_caller_keeps_its_connection(world: Loopback) -> None:
    callers = calling(world, count=2)
    callers.start()
    until(lambda: callers.tally().ok >= 20)
    callers.stop()
    assert len(world.connections) == 2


@pytest.mark.parametrize(
    ("manner", "how"),
    [
        ("503", "status 503"),
        ("500", "status 500"),
        ("404", "status 404"),
        ("resets", "reset"),
        ("hangs up", "reset"),
        ("hangs", "timed out"),
    ],
)
def test_every_failed_request_is_lost_and_never_tried_again(world: Loopback, manner: str, how: str) -> None:
    world.manner = manner
    callers = calling(world)
    callers.start()
    until(lambda: callers.tally().sent >= 3)
    tally = callers.stop()
    assert tally.ok == 0
    assert {(one.instance, one.how) for one in tally.lost} == {("a", how)}
    assert world.requests == len(tally.lost)


def test_a_refused_connection_is_a_lost_request(world: Loopback) -> None:
    with socket.socket() as never_listens:
        never_listens.bind(("127.0.0.1", 0))
        world.entries.clear()
        world.offer("b", never_listens.getsockname()[1])
        callers = calling(world)
        callers.start()
        until(lambda: callers.tally().sent >= 3)
        assert {one.how for one in callers.stop().lost} == {"refused"}


def test_requests_that_have_nowhere_to_go_are_lost(world: Loopback) -> None:
    world.entries[0]["status"] = "OUT_OF_SERVICE"
    callers = calling(world)
    callers.start()
    until(lambda: callers.tally().sent >= 3)
    assert {one.how for one in callers.stop().lost} == {"no instance is up"}


def test_instances_that_are_up_are_called_in_turn(world: Loopback) -> None:
    world.offer("b", world.server_port)
    world.offer("c", world.server_port, "OUT_OF_SERVICE")
    callers = calling(world)
    callers.start()
    until(lambda: callers.tally().ok >= 20)
    tally = callers.stop()
    assert set(tally.by_instance) == {"a", "b"}
    assert abs(tally.by_instance["a"] - tally.by_instance["b"]) <= 1


def test_the_registry_is_followed_through_a_cache(world: Loopback) -> None:
    callers = calling(world)  # looks again in an hour
    callers.start()
    until(lambda: callers.tally().ok >= 3)
    world.entries[0]["status"] = "OUT_OF_SERVICE"
    before = callers.tally().ok
    until(lambda: callers.tally().ok >= before + 5)
    assert callers.stop().lost == []
    assert world.asked == 1


def test_a_caller_leaves_an_instance_that_is_out_of_service(world: Loopback) -> None:
    seen: list[tuple[frozenset[str], frozenset[str]]] = []
    world.offer("b", world.server_port)
    callers = Callers(
        world.registry,
        "ORDERS",
        boottime,
        fetch=0.02,
        count=1,
        rate=200.0,
        followed=lambda came, went: seen.append((came, went)),
    )
    callers.start()
    until(lambda: callers.tally().by_instance["a"] >= 3)
    world.entries[0]["status"] = "OUT_OF_SERVICE"
    until(lambda: callers.views() == [frozenset("b")])
    called = callers.tally().by_instance
    until(lambda: callers.tally().by_instance["b"] >= called["b"] + 5)
    tally = callers.stop()
    assert tally.by_instance["a"] <= called["a"] + 1  # one may have been under way
    assert tally.lost == []
    assert seen == [(frozenset("ab"), frozenset()), (frozenset(), frozenset("a"))]


def test_a_registry_that_does_not_answer_changes_nothing(world: Loopback) -> None:
    callers = calling(world, fetch=0.01)
    callers.start()
    until(lambda: callers.tally().ok >= 3)
    world.registry_answers = False
    asked = world.asked
    until(lambda: world.asked >= asked + 3)
    assert callers.views() == [frozenset("a")]
    assert callers.stop().lost == []

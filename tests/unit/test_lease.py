"""The watcher's part in a registration: renewals, and what may stand in their way."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from lifecycle_agent import registrant
from lifecycle_agent.config import EurekaSection, RegisterSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.model import Machine
from lifecycle_agent.rehearsal.eureka import EmulatedEureka
from lifecycle_agent.values import Secret
from lifecycle_agent.watch import lease as module
from lifecycle_agent.watch.lease import Lease
from tests.unit.test_eureka_client import answering, certificate, drip, refused, saying

__all__ = ["certificate"]  # a fixture

MACHINE = Machine("i-0123456789abcdef0", "eu-west-1", ("10.0.0.5",), ("host-a",))
SECTION = RegisterSection(port=8080)
ID = "host-a:orders:8080"
RENEWAL = ("PUT", f"/apps/ORDERS/{ID}")
FIRST_LOOK = [("GET", f"/apps/ORDERS/{ID}"), ("GET", "/apps/ORDERS")]
DOCUMENT = registrant.document(SECTION, "ORDERS", MACHINE)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watch:
    """A watcher's cycles, with an app that is there or not."""

    def __init__(self, *urls: str, **more: Any) -> None:
        self.clock = Clock()
        self.alive = True
        self.looks = 0
        config = EurekaSection(**{"urls": urls, "app": "ORDERS", "register": SECTION, **more})
        self.lease = Lease(config, self.clock, self._answers)

    def _answers(self, section: RegisterSection, machine: Machine, deadline: Deadline) -> bool:
        self.looks += 1
        return self.alive

    def cycle(self, seconds: float = 0.0, in_service: bool = True) -> None:
        """So many seconds later, one cycle, and what it started to its end."""
        self.clock.now += seconds
        self.lease.check(MACHINE, in_service)
        thread = self.lease._thread  # not from `renewals`: one that ends is listed no more, and still there
        if thread is not None:
            thread.join(20)
            assert not thread.is_alive()

    def cycles(self, seconds: int) -> None:
        for _ in range(seconds):
            self.cycle(1.0)


def renewals() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lease"]


@pytest.fixture
def eureka() -> Iterator[EmulatedEureka]:
    with EmulatedEureka() as server:
        yield server


@pytest.fixture
def watch(eureka: EmulatedEureka) -> Watch:
    return Watch(eureka.url)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("lifecycle_agent"), "propagate", True)
    caplog.set_level(logging.INFO, "lifecycle_agent")
    return caplog


def register(eureka: EmulatedEureka, **more: Any) -> None:
    eureka.registry.register("ORDERS", {"instance": {**DOCUMENT, **more}})


def asked(eureka: EmulatedEureka) -> list[tuple[str, str]]:
    """What the registry was asked since the last time."""
    found = [(each.method, each.path) for each in eureka.requests]
    eureka.requests.clear()
    return found


def test_a_lease_is_renewed_every_third_of_it(eureka: EmulatedEureka, watch: Watch) -> None:
    register(eureka)
    watch.cycle()
    assert asked(eureka) == [FIRST_LOOK[0], RENEWAL]
    watch.cycles(29)
    assert asked(eureka) == []
    watch.cycles(61)
    assert asked(eureka) == [RENEWAL] * 3
    assert watch.looks == 4, "the app is looked at before each"


def test_without_the_section_nothing_is_done(eureka: EmulatedEureka) -> None:
    watch = Watch(eureka.url, register=None)
    watch.cycles(100)
    assert asked(eureka) == []
    assert watch.looks == 0


def test_what_the_registry_does_not_have_is_registered_by_the_same_document(
    eureka: EmulatedEureka, watch: Watch, log: pytest.LogCaptureFixture
) -> None:
    watch.cycle()
    assert asked(eureka) == [*FIRST_LOOK, RENEWAL, ("POST", "/apps/ORDERS")]
    registered = eureka.registry.instance("ORDERS", ID)
    assert registered is not None
    assert {key: registered[key] for key in DOCUMENT if key != "leaseInfo"} == {
        key: value for key, value in DOCUMENT.items() if key != "leaseInfo"
    }
    eureka.registry.cancel("ORDERS", ID)  # a registry that was started anew, say
    watch.cycle(30)
    assert asked(eureka) == [RENEWAL, ("POST", "/apps/ORDERS")]
    assert eureka.registry.instance("ORDERS", ID) is not None
    assert [each for each in log.messages if each.startswith("registered as ORDERS")]


def test_an_override_is_kept_and_one_that_was_removed_makes_it_up_again(
    eureka: EmulatedEureka, watch: Watch
) -> None:
    register(eureka)
    eureka.registry.override("ORDERS", ID, "OUT_OF_SERVICE")
    watch.cycle()
    lease = next(iter(eureka.registry))
    assert lease.status == "OUT_OF_SERVICE"
    eureka.registry.remove_override("ORDERS", ID, "UNKNOWN")
    watch.cycle(30)
    assert next(iter(eureka.registry)).status == "UP"


def test_out_of_service_or_in_a_transition_nothing_is_renewed_and_at_once_after_it(
    eureka: EmulatedEureka, watch: Watch
) -> None:
    register(eureka)
    watch.cycle(in_service=False)
    watch.cycle(100, in_service=False)
    assert asked(eureka) == []
    watch.cycle(1)
    assert RENEWAL in asked(eureka)
    watch.cycle(1, in_service=False)
    watch.cycle(1)
    assert RENEWAL in asked(eureka)


def test_a_silent_app_is_not_renewed_which_is_said_once_and_is_again_when_it_is_back(
    eureka: EmulatedEureka, watch: Watch, log: pytest.LogCaptureFixture
) -> None:
    register(eureka)
    watch.cycle()
    watch.alive = False
    asked(eureka)
    watch.cycles(300)
    assert asked(eureka) == []
    silent = [each for each in log.messages if "does not answer on port 8080" in each]
    assert len(silent) == 1
    eureka.registry.cancel("ORDERS", ID)  # evicted meanwhile
    watch.alive = True
    watch.cycles(11)
    assert asked(eureka) == [RENEWAL, ("POST", "/apps/ORDERS")]
    assert log.messages[-1] == f"the lease of ORDERS/{ID} is renewed every 30 s"


@pytest.mark.parametrize("own", [ID, "orders-a"])
def test_an_app_that_registers_itself_is_left_alone(
    eureka: EmulatedEureka, watch: Watch, own: str, log: pytest.LogCaptureFixture
) -> None:
    register(eureka, instanceId=own, metadata={})
    watch.cycles(100)
    assert not {method for method, _ in asked(eureka)} & {"PUT", "POST"}
    assert log.messages == [f"the app registers itself, as {own}: its lease is left to it"]
    eureka.registry.cancel("ORDERS", own)  # it deregisters itself, and is about to stop
    watch.cycles(100)
    assert asked(eureka) == []


def test_who_else_is_listed_is_another_machine_or_another_port_or_gone(
    eureka: EmulatedEureka, watch: Watch
) -> None:
    register(eureka, instanceId="elsewhere", ipAddr="10.0.0.6", metadata={})
    register(eureka, instanceId="admin", port={"$": 9090, "@enabled": "true"}, metadata={})
    register(eureka, instanceId="gone", metadata={})
    assert Watch(eureka.url).lease._registered_by_the_app(DOCUMENT, Deadline.after(20)) == "gone"
    eureka.registry.cancel("ORDERS", "gone")  # the list still has it
    watch.cycle()
    assert eureka.registry.instance("ORDERS", ID) is not None


def test_a_list_too_long_to_hold_keeps_nobody_from_being_registered(
    eureka: EmulatedEureka, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 2000)
    for number in range(5):
        register(eureka, instanceId=f"elsewhere-{number}", ipAddr="10.0.0.6", metadata={})
    watch.cycle()
    assert eureka.registry.instance("ORDERS", ID) is not None


def test_a_server_that_is_down_is_left_for_the_next_in_time_for_the_lease(
    eureka: EmulatedEureka, log: pytest.LogCaptureFixture
) -> None:
    register(eureka)
    with EmulatedEureka() as sick:
        sick.fail(503)
        watch = Watch(refused(), sick.url, eureka.url)
        watch.cycles(30)
        assert asked(eureka) == [FIRST_LOOK[0], RENEWAL]
        watch.cycle(30)
        assert asked(eureka) == [RENEWAL], "the one that answered stays the one that is asked"
    troubles = [each for each in log.messages if "is not renewed" in each]
    assert len(troubles) == 1


def test_a_registry_that_hangs_does_not_hold_a_cycle_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUND_SECONDS", 20.0)
    with EmulatedEureka() as silent:
        silent.hang()
        watch = Watch(silent.url)
        for _ in range(100):
            watch.clock.now += 30
            watch.lease.check(MACHINE, True)
        (only,) = renewals()
        assert only.is_alive(), "one at a time, and nobody waits for it"
        silent.heal()
        only.join(20)
        assert not only.is_alive()


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x", id="headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" ", id="body"),
        pytest.param(b"", b"", id="nothing"),
    ],
)
def test_a_renewal_is_bounded_as_a_whole(
    start: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "ROUND_SECONDS", 0.5)
    with answering(drip(start, piece)) as url:
        Watch(url).cycle()
    assert "no answer in time" in log.text


def test_an_endless_answer_is_not_read_to_its_end(log: pytest.LogCaptureFixture) -> None:
    written = []

    def flood(write: Any, over: threading.Event) -> None:
        write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for _ in range(1024):
            written.append(write(b" " * (1 << 16)))

    with answering(flood) as url:
        Watch(url).cycle()
    assert len(written) < 1024
    assert "is not a registry's JSON" in log.text


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"instance":3}',
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_no_registry_is_said_to_be_trouble(answer: str, log: pytest.LogCaptureFixture) -> None:
    with saying(answer) as url:
        Watch(url).cycle()
    (said,) = log.messages
    assert said.startswith("the app's lease is not renewed: ")


def test_what_goes_wrong_unexpectedly_is_trouble_and_tried_again(
    eureka: EmulatedEureka, log: pytest.LogCaptureFixture
) -> None:
    watch = Watch(eureka.url)
    watch.lease._answers = lambda *_: 1 / 0  # type: ignore[assignment]
    watch.cycle()
    assert "ZeroDivisionError" in log.text
    watch.lease._answers = watch._answers
    watch.cycles(11)
    assert eureka.registry.instance("ORDERS", ID) is not None
    watch.lease.check(replace(MACHINE, addresses=()), True)
    watch.clock.now += 31
    watch.lease.check(replace(MACHINE, addresses=()), True)
    for thread in renewals():
        thread.join(20)
    assert "no private IPv4 address" in log.messages[-1]


def test_basic_auth_and_what_is_said_of_a_wrong_one(log: pytest.LogCaptureFixture) -> None:
    with EmulatedEureka(auth=("agent", "s3cr@tü")) as strict:
        Watch(strict.url, username="agent", password_file=Secret("hunter2")).cycle()
        assert list(strict.registry) == []
        assert "password_file" in log.messages[-1]
        assert "hunter2" not in log.text
        Watch(strict.url, username="agent", password_file=Secret("s3cr@tü")).cycle()
        assert len(list(strict.registry)) == 1


def test_https_with_a_certificate_authority_of_ones_own(
    eureka: EmulatedEureka, certificate: Path, log: pytest.LogCaptureFixture
) -> None:
    pair = (str(certificate), str(certificate))
    server = make_server("127.0.0.1", 0, eureka.app, threaded=True, ssl_context=pair)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        url = f"https://127.0.0.1:{server.server_port}/eureka"
        Watch(url).cycle()
        assert list(eureka.registry) == []
        assert "ca_file" in log.messages[-1]
        Watch(url, ca_file=certificate).cycle()
        assert len(list(eureka.registry)) == 1
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_nobody_is_registered_any_more_once_a_transition_has_begun(
    eureka: EmulatedEureka, watch: Watch
) -> None:
    """What began before it must not bring the app back that it takes out of service."""
    register(eureka)
    watch.cycle()
    eureka.registry.cancel("ORDERS", ID)
    looked, go = threading.Event(), threading.Event()

    def answers(*_: Any) -> bool:
        looked.set()
        return go.wait(20)

    watch.lease._answers = answers
    watch.clock.now += 30
    watch.lease.check(MACHINE, True)
    assert looked.wait(20)
    watch.lease.check(MACHINE, False)
    go.set()
    for thread in renewals():
        thread.join(20)
    assert list(eureka.registry) == []


def test_the_app_itself_is_asked(eureka: EmulatedEureka) -> None:
    with socket.create_server(("127.0.0.1", 0)) as app:
        section = RegisterSection(port=app.getsockname()[1])
        lease = Lease(EurekaSection(urls=(eureka.url,), app="ORDERS", register=section))
        lease.check(Machine("i-1", "r", ("127.0.0.1",)), True)
        for thread in renewals():
            thread.join(20)
    assert [each.status for each in eureka.registry] == ["UP"]

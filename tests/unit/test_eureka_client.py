"""The registry client against servers that misbehave, and answers that others' serializers write."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from werkzeug.serving import make_server

from lifecycle_agent.clients import eureka as eureka_module
from lifecycle_agent.clients.eureka import EurekaClient, RegistryError
from lifecycle_agent.clients.registration import Key, Registration, parse_all
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import UsageError
from lifecycle_agent.model import Machine
from lifecycle_agent.rehearsal.eureka import EmulatedEureka

MACHINE = Machine("i-0123456789abcdef0", "eu-west-1", ("10.0.0.5",), ("host-a",))
KEY = Key("ORDERS", "10.0.0.5:orders:8080")
INSTANCE = {
    "instanceId": KEY.instance_id,
    "app": "ORDERS",
    "hostName": "host-a",
    "ipAddr": "10.0.0.5",
    "status": "UP",
    "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"},
}

Write = Callable[[bytes], Any]


def soon() -> Deadline:
    return Deadline.after(20)


@pytest.fixture
def eureka() -> Iterator[EmulatedEureka]:
    with EmulatedEureka() as server:
        yield server


@contextlib.contextmanager
def answering(behave: Callable[[Write, threading.Event], None]) -> Iterator[str]:
    """The base URL of a server that reads a request and then writes what `behave` likes.

    `behave` gets an event that is set when the test is over.
    """
    over = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            with contextlib.suppress(OSError):  # the client went away, as it should
                behave(self.wfile.write, over)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/eureka"
        finally:
            over.set()
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def saying(text: str) -> Iterator[str]:
    with answering(lambda write, over: write(text.encode())) as url:
        yield url


def body(document: object) -> str:
    text = json.dumps(document)
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"


def refused() -> str:
    """The base URL of a port that nobody listens on."""
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        return f"http://127.0.0.1:{server.server_address[1]}/eureka"


# Several servers


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_sick_server_sends_the_call_to_the_next_which_is_asked_first_from_then_on(
    eureka: EmulatedEureka, status: int
) -> None:
    with EmulatedEureka() as sick:
        sick.fail(status)
        client = EurekaClient([sick.url, eureka.url])
        client.register(INSTANCE, soon())
        assert client.out_of_service(KEY, soon())
        assert [each.method for each in sick.requests] == ["POST"]
        assert [each.method for each in eureka.requests] == ["POST", "PUT"]


def test_a_refused_connection_sends_the_call_to_the_next(eureka: EmulatedEureka) -> None:
    client = EurekaClient([refused(), eureka.url])
    client.register(INSTANCE, soon())
    assert client.get(KEY, soon()) is not None


def test_a_404_is_an_answer_and_the_next_is_not_asked(eureka: EmulatedEureka) -> None:
    with EmulatedEureka() as second:
        assert not EurekaClient([eureka.url, second.url]).deregister(KEY, soon())
        assert second.requests == []


def test_a_silent_server_leaves_time_for_the_next(eureka: EmulatedEureka) -> None:
    with EmulatedEureka() as silent:
        silent.hang()
        client = EurekaClient([silent.url, eureka.url])
        client.register(INSTANCE, Deadline.after(4))
        assert client.get(KEY, soon()) is not None


def test_when_all_fail_the_last_one_says_why(eureka: EmulatedEureka) -> None:
    eureka.fail(503)
    with pytest.raises(RegistryError, match="503") as caught:
        EurekaClient([refused(), eureka.url]).get(KEY, soon())
    assert not caught.value.final
    assert caught.value.hint


def test_a_server_that_is_no_registry_is_left_for_the_next(eureka: EmulatedEureka) -> None:
    """A maintenance page, say, or one server that wants another password."""

    def page(write: Write, over: threading.Event) -> None:
        write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>back soon</html>")

    EurekaClient([eureka.url]).register(INSTANCE, soon())
    with answering(page) as url, EmulatedEureka() as strict:
        strict.fail(401)
        client = EurekaClient([url, strict.url, eureka.url])
        assert client.get(KEY, soon()) is not None
        assert client.out_of_service(KEY, soon()), "and that goes to the one that answered"
        assert client.find(MACHINE, KEY.app, soon())
        found = client.get(KEY, soon())
        assert found is not None
        assert found.out_of_service


def test_when_each_refuses_for_good_it_is_for_good(eureka: EmulatedEureka) -> None:
    eureka.fail(401)
    with EmulatedEureka() as second:
        second.fail(401)
        with pytest.raises(RegistryError) as caught:
            EurekaClient([eureka.url, second.url]).get(KEY, soon())
    assert caught.value.final


def test_without_time_nobody_is_asked(eureka: EmulatedEureka) -> None:
    with pytest.raises(RegistryError, match="no time was left"):
        EurekaClient([eureka.url]).get(KEY, Deadline.after(0))
    assert eureka.requests == []


# Answers that are none


def drip(start: bytes, piece: bytes) -> Callable[[Write, threading.Event], None]:
    """Never silent for long, so that no read times out; far longer than the deadline."""

    def behave(write: Write, over: threading.Event) -> None:
        write(start)
        for _ in range(600):
            write(piece)
            if over.wait(0.05):
                return
        write(b"\r\n\r\n")

    return behave


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x", id="headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" ", id="body"),
    ],
)
def test_the_whole_call_is_bounded_not_each_read(start: bytes, piece: bytes) -> None:
    with answering(drip(start, piece)) as url, pytest.raises(RegistryError, match="in time"):
        EurekaClient([url]).get(KEY, Deadline.after(0.5))


def test_a_late_body_is_not_read_on_behind_the_callers_back() -> None:
    def behave(write: Write, over: threading.Event) -> None:
        try:
            drip(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" " * (1 << 16))(write, over)
        finally:
            gone.set()

    gone = threading.Event()
    with answering(behave) as url:
        with pytest.raises(RegistryError):
            EurekaClient([url]).get(KEY, Deadline.after(0.3))
        assert gone.wait(10), "the connection is still read"


def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eureka_module, "MOST_BYTES", 1 << 20)

    def flood(write: Write, over: threading.Event) -> None:
        write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for _ in range(64):
            write(b" " * (1 << 16))

    with answering(flood) as url, pytest.raises(RegistryError, match="longer than 1 MiB"):
        EurekaClient([url]).find(MACHINE, None, soon())


def test_a_redirect_is_not_followed(eureka: EmulatedEureka) -> None:
    away = f"HTTP/1.1 302 Found\r\nLocation: {eureka.url}/apps\r\nContent-Length: 0\r\n\r\n"
    with saying(away) as url, pytest.raises(RegistryError, match="302") as caught:
        EurekaClient([url]).find(MACHINE, None, soon())
    assert caught.value.final
    assert eureka.requests == []


@pytest.mark.parametrize("answer", ["<html>", "[]", '"x"', '{"instance": 3}', "null", "{}"])
def test_what_is_no_registrys_json_is_said_to_be_none(answer: str) -> None:
    text = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n{answer}"
    with saying(text) as url:
        client = EurekaClient([url])
        with pytest.raises(RegistryError, match="not a registry's JSON"):
            client.get(KEY, soon())
        with pytest.raises(RegistryError, match="not a registry's JSON"):
            client.find(MACHINE, None, soon())


@pytest.mark.parametrize("answer", ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "nonsense\r\n\r\n"])
def test_a_torn_answer_is_an_error(answer: str) -> None:
    with saying(answer) as url, pytest.raises(RegistryError):
        EurekaClient([url]).get(KEY, soon())


# Secrets, TLS, settings


@pytest.mark.parametrize("in_url", [True, False])
def test_basic_auth(in_url: bool) -> None:
    with EmulatedEureka(auth=("agent", "s3/cr@tü")) as eureka:
        if in_url:
            client = EurekaClient([eureka.url.replace("//", "//agent:s3%2Fcr%40t%C3%BC@")])
        else:
            client = EurekaClient([eureka.url], auth=("agent", "s3/cr@tü"))
        client.register(INSTANCE, soon())
        assert client.get(KEY, soon()) is not None


def test_a_wrong_password_is_final_and_never_shown() -> None:
    with EmulatedEureka(auth=("agent", "right")) as eureka:
        client = EurekaClient([eureka.url.replace("//", "//agent:hunter2@")])
        with pytest.raises(RegistryError, match="401") as caught:
            client.get(KEY, soon())
    assert caught.value.final
    assert "hunter2" not in repr((caught.value, caught.value.hint, caught.value.message))
    assert "password_file" in caught.value.hint


def test_a_password_in_the_url_of_a_server_that_is_down_is_never_shown() -> None:
    client = EurekaClient([refused().replace("//", "//agent:hunter2@")])
    with pytest.raises(RegistryError) as caught:
        client.get(KEY, soon())
    shown = [str(caught.value), str(caught.value.__cause__)]
    assert not [text for text in shown if "hunter2" in text]


@pytest.mark.parametrize(
    "url", ["eureka:8761/eureka", "ftp://e/eureka", "agent:hunter2@e:1/", "http://[::1", ""]
)
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        EurekaClient([url])
    assert "hunter2" not in caught.value.message


def test_proxies_in_the_environment_are_not_for_the_registry(
    eureka: EmulatedEureka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", refused())
    monkeypatch.setenv("http_proxy", refused())
    assert EurekaClient([eureka.url]).get(KEY, soon()) is None


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that is its own authority, and its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a registry's own CA")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "registry.pem"
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_tls_with_a_certificate_authority_of_ones_own(eureka: EmulatedEureka, certificate: Path) -> None:
    server = make_server(
        "127.0.0.1", 0, eureka.app, threaded=True, ssl_context=(str(certificate), str(certificate))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        url = f"https://127.0.0.1:{server.server_port}/eureka"
        assert EurekaClient([url], ca_file=str(certificate)).get(KEY, soon()) is None
        with pytest.raises(RegistryError, match="TLS") as caught:
            EurekaClient([url]).get(KEY, soon())
        assert "ca_file" in caught.value.hint
        with pytest.raises(RegistryError, match=r"no-such\.pem") as caught:
            EurekaClient([url], ca_file="/no-such.pem").get(KEY, soon())
        assert "ca_file" in caught.value.hint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_importing_it_does_not_import_requests() -> None:
    code = "import sys, lifecycle_agent.steps.discovery; sys.exit('requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Reading


@pytest.mark.parametrize(
    "document",
    [
        {"applications": {"application": {"name": "ORDERS", "instance": INSTANCE}}},
        {"applications": {"application": [{"name": "ORDERS", "instance": [INSTANCE]}]}},
        {"application": {"name": "ORDERS", "instance": INSTANCE}},
        {"application": {"name": "ORDERS", "instance": [INSTANCE]}},
    ],
)
def test_a_list_of_one_may_be_written_as_the_one(document: object) -> None:
    (found,) = parse_all(document)
    assert found == Registration("ORDERS", KEY.instance_id, "host-a", "10.0.0.5", "UP")


@pytest.mark.parametrize("nothing", [None, [], ""])
def test_an_empty_list_may_be_written_as_nothing(nothing: object) -> None:
    assert list(parse_all({"applications": {"application": nothing}})) == []
    assert list(parse_all({"application": {"name": "ORDERS", "instance": nothing}})) == []


def test_netflix_own_server_spells_the_override_in_lower_case() -> None:
    (found,) = parse_all(
        {"application": {"name": "ORDERS", "instance": {**INSTANCE, "overriddenstatus": "OUT_OF_SERVICE"}}}
    )
    assert found.out_of_service


@pytest.mark.parametrize(
    ("more", "ours"),
    [
        ({}, True),
        ({"hostName": "HOST-A", "ipAddr": "172.17.0.2"}, True),
        ({"hostName": "x", "ipAddr": "10.0.0.50"}, False),
        ({"instanceId": "i-0123456789abcdef0:orders", "hostName": "x", "ipAddr": "x"}, True),
        ({"hostName": "i-0123456789abcdef0.eu-west-1.compute.internal", "ipAddr": "x"}, True),
        ({"instanceId": "i-0ffffffffffffffff:orders"}, False),
        ({"dataCenterInfo": {"name": "Amazon", "metadata": {"instance-id": "i-0ffffffffffffffff"}}}, False),
        ({"instanceId": "web-i-0fffffffffff"}, True),
    ],
)
def test_whose_a_registration_is(more: dict[str, Any], ours: bool) -> None:
    (found,) = parse_all({"application": {"name": "ORDERS", "instance": {**INSTANCE, **more}}})
    assert found.belongs_to(MACHINE) is ours

"""What is registered for an app, and whether it is there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from werkzeug.wrappers import Response

from lifecycle_agent import registrant
from lifecycle_agent.clients.registration import parse_one
from lifecycle_agent.config import RegisterSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.model import Machine
from lifecycle_agent.rehearsal.http import Served

MACHINE = Machine("i-0123456789abcdef0", "eu-west-1", ("127.0.0.7",), ("ip-127-0-0-7.ec2.internal",))


@contextmanager
def listening(host: str) -> Iterator[int]:
    """The port of somebody who takes connections."""
    with socket.create_server((host, 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def app(status: int = 200) -> Iterator[int]:
    """The port of an app whose health is at /health."""

    def answer(environ: Any, start_response: Any) -> Any:
        good = environ["PATH_INFO"] == "/health"
        return Response(status=status if good else 404)(environ, start_response)

    with Served(answer) as served:
        yield served.port


def answers(port: int, **more: Any) -> bool:
    return registrant.answers(RegisterSection(port=port, **more), MACHINE, Deadline.after(10))


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_the_document_is_what_eurekas_clients_send() -> None:
    document = registrant.document(RegisterSection(port=8080), "Orders", MACHINE)

    assert document == {
        "instanceId": "ip-127-0-0-7.ec2.internal:orders:8080",
        "app": "ORDERS",
        "hostName": "ip-127-0-0-7.ec2.internal",
        "ipAddr": "127.0.0.7",
        "status": "UP",
        "port": {"$": 8080, "@enabled": "true"},
        "securePort": {"$": 443, "@enabled": "false"},
        "vipAddress": "orders",
        "secureVipAddress": "orders",
        "homePageUrl": "http://ip-127-0-0-7.ec2.internal:8080/",
        "dataCenterInfo": {
            "@class": "com.netflix.appinfo.AmazonInfo",
            "name": "Amazon",
            "metadata": {
                "instance-id": MACHINE.instance_id,
                "local-ipv4": "127.0.0.7",
                "local-hostname": "ip-127-0-0-7.ec2.internal",
            },
        },
        "leaseInfo": {"renewalIntervalInSecs": 30, "durationInSecs": 90},
        "metadata": {"registered-by": "lifecycle-agent"},
    }


def test_what_can_be_configured_is_in_the_document() -> None:
    section = RegisterSection(
        port=8443,
        vip="orders.example",
        secure=True,
        health_path="/health",
        status_path="/info",
        metadata={"zone": "a"},
        lease=4,
    )
    document = registrant.document(section, "ORDERS", MACHINE)

    base = "https://ip-127-0-0-7.ec2.internal:8443"
    assert document["port"]["@enabled"] == "false"
    assert document["securePort"] == {"$": 8443, "@enabled": "true"}
    assert document["vipAddress"] == document["secureVipAddress"] == "orders.example"
    assert (document["homePageUrl"], document["statusPageUrl"]) == (f"{base}/", f"{base}/info")
    assert document["secureHealthCheckUrl"] == f"{base}/health"
    assert "healthCheckUrl" not in document
    assert document["metadata"] == {"zone": "a", "registered-by": "lifecycle-agent"}
    assert document["leaseInfo"] == {"renewalIntervalInSecs": 1, "durationInSecs": 4}


def test_without_a_host_name_it_goes_by_its_address_and_without_that_not_at_all() -> None:
    document = registrant.document(RegisterSection(port=80), "ORDERS", Machine("i-1", "r", ("127.0.0.7",)))
    assert (document["instanceId"], document["hostName"]) == ("127.0.0.7:orders:80", "127.0.0.7")
    with pytest.raises(LifecycleAgentError, match="no private IPv4 address"):
        registrant.document(RegisterSection(port=80), "ORDERS", Machine("i-1", "r"))


def test_a_registration_of_ours_is_known_and_is_the_machines() -> None:
    document = registrant.document(RegisterSection(port=8080), "ORDERS", MACHINE)
    ours = parse_one(document, "ORDERS")
    assert ours.belongs_to(MACHINE)
    assert (ours.by_agent, ours.ports) == (True, (8080,))
    theirs = parse_one({**document, "metadata": {"@class": "java.util.Collections$EmptyMap"}}, "ORDERS")
    assert not theirs.by_agent


@pytest.mark.parametrize(
    ("instance", "ports"),
    [
        ({}, ()),
        ({"port": {"$": 80, "@enabled": "true"}, "securePort": {"$": 443, "@enabled": True}}, (80, 443)),
        ({"port": {"$": "80", "@enabled": "true"}, "securePort": {"$": 443, "@enabled": "false"}}, (80,)),
        ({"port": 80, "securePort": {"$": None, "@enabled": "true"}}, ()),
        ({"port": None, "securePort": {"@enabled": "true"}}, ()),
    ],
)
def test_the_ports_that_are_enabled(instance: dict[str, Any], ports: tuple[int, ...]) -> None:
    assert registrant.ports(instance) == ports


@pytest.mark.parametrize("metadata", [None, [], "x", {}, {"registered-by": "somebody"}])
def test_what_is_not_marked_is_not_ours(metadata: object) -> None:
    assert not registrant.is_ours({"metadata": metadata})


def test_an_app_that_takes_connections_is_there_wherever_it_listens() -> None:
    with listening("127.0.0.1") as port:
        assert answers(port)
    with listening("127.0.0.7") as port:
        assert answers(port)
    assert not answers(free())


@pytest.mark.parametrize(("status", "there"), [(200, True), (204, True), (302, False), (503, False)])
def test_an_app_with_a_health_path_is_there_when_it_answers_2xx(status: int, there: bool) -> None:
    with app(status) as port:
        assert answers(port, health_path="/health") is there
        assert not answers(port, health_path="/elsewhere")


def test_an_app_that_takes_a_connection_and_says_nothing_is_not_there() -> None:
    with listening("127.0.0.1") as port:
        section = RegisterSection(port=port, health_path="/health")
        assert not registrant.answers(section, MACHINE, Deadline.after(0.3))


def test_what_is_no_http_is_no_answer() -> None:
    with listening("127.0.0.1") as port:
        assert not registrant.answers(
            RegisterSection(port=port, health_path="/health", secure=True), MACHINE, Deadline.after(0.3)
        )

"""`[eureka.register]`: what it may say."""

from __future__ import annotations

import pytest

from lifecycle_agent.config import RegisterSection, load
from tests.unit.configuration import Files, refused

EUREKA = '[eureka]\nurls = ["http://e/eureka"]\napp = "ORDERS"\n[eureka.register]\n'


def test_a_port_is_enough(configuration: Files) -> None:
    eureka = load(configuration(EUREKA + "port = 8080"), {}).eureka
    assert eureka.register == RegisterSection(port=8080)
    assert (eureka.register.lease, eureka.register.renew_every, eureka.register.secure) == (90, 30, False)


def test_without_the_section_the_app_registers_itself(configuration: Files) -> None:
    assert load(configuration('[eureka]\nurls = ["http://e/eureka"]'), {}).eureka.register is None


def test_all_of_it(configuration: Files) -> None:
    text = """
        port = 8443
        vip = "orders,orders.example:8443"
        secure = true
        health_path = "/actuator/health"
        status_path = "/actuator/info"
        lease = "30s"
        metadata = { zone = "a", "management.port" = "9090", empty = "" }
    """
    assert load(configuration(EUREKA + text), {}).eureka.register == RegisterSection(
        8443,
        "orders,orders.example:8443",
        True,
        "/actuator/health",
        "/actuator/info",
        {"zone": "a", "management.port": "9090", "empty": ""},
        30,
    )


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("", "eureka.register.port", "is missing"),
        ("port = 0", "eureka.register.port", "is 0"),
        ('port = "8080"', "eureka.register.port", 'is "8080"'),
        ('port = 80\nsecure = "no"', "eureka.register.secure", 'is not a boolean: "no"'),
        ("port = 80\nsecure = 1", "eureka.register.secure", "is not a boolean: 1"),
        ('port = 80\nvip = "a b"', "eureka.register.vip", 'cannot be "a b"'),
        ('port = 80\nhealth_path = "health"', "eureka.register.health_path", 'cannot be "health"'),
        ('port = 80\nstatus_path = "/a b"', "eureka.register.status_path", 'cannot be "/a b"'),
        ('port = 80\nlease = "1s"', "eureka.register.lease", "out of range"),
        ('port = 80\nlease = "11m"', "eureka.register.lease", "out of range"),
        ('port = 80\nmetadata = { "a b" = "" }', "eureka.register.metadata", 'cannot be "a b"'),
        ('port = 80\nmetadata = { "XmlA" = "" }', "eureka.register.metadata", 'cannot be "XmlA"'),
        ("port = 80\nmetadata = { a = 1 }", "eureka.register.metadata", "is not a string: 1"),
        (f'port = 80\nmetadata = {{ a = "{"x" * 1025}" }}', "eureka.register.metadata", "cannot be"),
        ('port = 80\nlease = "2s"', "eureka.register.lease", "agent.poll_interval is 1 s"),
        ("port = 80\nports = [80]", "eureka.register.ports", "is not a known key"),
    ],
)
def test_what_is_wrong_is_said(configuration: Files, text: str, key: str, what: str) -> None:
    error = refused(configuration(EUREKA + text))
    assert f": {key} " in str(error)
    assert what in str(error)


def test_it_needs_the_apps_name(configuration: Files) -> None:
    error = refused(configuration('[eureka]\nurls = ["http://e/eureka"]\n[eureka.register]\nport = 80'))
    assert "eureka.register is set without eureka.app" in str(error)


def test_it_needs_a_registry(configuration: Files) -> None:
    assert "eureka.app is set without eureka.urls" in str(
        refused(configuration('[eureka]\napp = "ORDERS"\n[eureka.register]\nport = 80'))
    )


def test_a_short_lease_goes_with_a_short_poll_interval(configuration: Files) -> None:
    text = f'agent.poll_interval = "200ms"\n{EUREKA}port = 80\nlease = "2s"'
    register = load(configuration(text), {}).eureka.register
    assert register is not None
    assert register.lease == 2

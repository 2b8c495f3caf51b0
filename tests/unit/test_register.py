"""The step that registers an app, against a registry of a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from lifecycle_agent import registrant
from lifecycle_agent.clients.eureka import RegistryError
from lifecycle_agent.clients.registration import OUT_OF_SERVICE, UNKNOWN, UP, Key, Registration, parse_one
from lifecycle_agent.config import EurekaSection, RegisterSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import StepFailed
from lifecycle_agent.model import Machine
from lifecycle_agent.steps import Done
from lifecycle_agent.steps.discovery import BackInService
from lifecycle_agent.steps.register import Register
from tests.unit.test_discovery import FakeRegistry, FakeWork, down, fail

MACHINE = Machine("i-0123456789abcdef0", "eu-west-1", ("10.0.0.5",))
EUREKA = EurekaSection(urls=("http://e/eureka",), app="orders", register=RegisterSection(port=8080))
KEY = Key("ORDERS", "10.0.0.5:orders:8080")
DATA = {"registrations": [{"app": "ORDERS", "id": KEY.instance_id}]}


class Registry(FakeRegistry):
    """One that can be registered with; what is registered is not listed at once."""

    def register(self, instance: Mapping[str, Any], deadline: Deadline) -> None:
        self._answer()
        new = parse_one(instance, "")
        self.calls.append(("register", new.key))
        known = self.now.get(new.key)
        if known is not None and known.status == OUT_OF_SERVICE:
            new = replace(new, status=OUT_OF_SERVICE, overridden_status=known.overridden_status)
        self.now[new.key] = new
        self.hidden.add(new.key)

    def renew(self, key: Key, deadline: Deadline) -> bool:
        self._answer()
        self.calls.append(("renew", key))
        return key in self.now and self.now[key].status != UNKNOWN


class App:
    """An app that answers from the so-many-th look on."""

    def __init__(self, after: int = 0) -> None:
        self.after = after

    def __call__(self, section: RegisterSection, machine: Machine, deadline: Deadline) -> bool:
        assert (section, machine) == (EUREKA.register, MACHINE)
        self.after -= 1
        return self.after < 0


def ours(**more: Any) -> Registration:
    section = EUREKA.register
    assert section is not None
    return replace(parse_one(registrant.document(section, EUREKA.app, MACHINE), ""), **more)


def run(registry: Registry, work: FakeWork | None = None, app: App | None = None) -> Done:
    return Register(registry, MACHINE, EUREKA, app or App()).run(work or FakeWork())


def test_what_is_not_registered_is() -> None:
    registry, work = Registry(), FakeWork()
    done = run(registry, work)
    assert registry.calls == [("register", KEY)]
    assert registry.now[KEY].status == UP
    assert (done.detail, done.data) == (f"registered as UP: {KEY}", DATA)
    assert work.waited == 0


def test_done_twice_it_is_registered_once() -> None:
    registry = Registry()
    run(registry)
    done = run(registry)
    assert registry.calls == [("register", KEY), ("renew", KEY)]
    assert done.data == DATA


@pytest.mark.parametrize("own", [KEY.instance_id, "orders-a"])
def test_an_app_that_registers_itself_is_left_alone(own: str) -> None:
    registry = Registry(ours(instance_id=own, by_agent=False, status="STARTING"))
    done = run(registry)
    assert registry.calls == []
    assert done.detail == f"the app registers itself: ORDERS/{own}"
    assert done.data == {"registrations": [{"app": "ORDERS", "id": own}]}


def test_another_apps_port_on_this_machine_is_not_this_one() -> None:
    registry = Registry(ours(instance_id="orders-admin", by_agent=False, ports=(9090,)))
    run(registry)
    assert registry.calls == [("register", KEY)]


@pytest.mark.parametrize("override", [OUT_OF_SERVICE, UNKNOWN])
def test_one_of_ours_that_is_out_of_service_is_made_anew(override: str) -> None:
    registry = Registry(ours(status=OUT_OF_SERVICE, overridden_status=override))
    run(registry)
    assert registry.calls == [("delete", KEY), ("register", KEY)]
    assert registry.now[KEY].status == UP


def test_what_a_human_has_said_of_it_stays() -> None:
    registry = Registry(ours(status="DOWN", overridden_status="DOWN"))
    run(registry)
    assert registry.calls == [("renew", KEY)]


def test_it_waits_for_the_app() -> None:
    registry, work = Registry(), FakeWork()
    run(registry, work, App(after=3))
    assert registry.calls == [("register", KEY)]
    assert work.waited > 0
    assert work.said == ["waiting for the app to answer on port 8080"] * 3


def test_an_app_that_is_not_there_is_not_registered() -> None:
    registry, work = Registry(), FakeWork(5)
    with pytest.raises(StepFailed, match="does not answer on port 8080") as caught:
        run(registry, work, App(after=10**6))
    assert "[eureka.register]" in caught.value.hint
    assert registry.calls == []


def test_a_registry_that_is_down_is_asked_again_and_a_refusal_is_not() -> None:
    registry, work = Registry(), FakeWork()
    registry.error = down(503)
    work.then(5, fail(registry, None))
    run(registry, work)
    assert registry.calls == [("register", KEY)]
    registry.error = RegistryError("no", "password", 401)
    with pytest.raises(StepFailed, match="no"):
        run(registry)


def test_a_machine_without_an_address_is_said_to_have_none() -> None:
    with pytest.raises(StepFailed, match="no private IPv4 address"):
        Register(Registry(), Machine("i-1", "r"), EUREKA, App()).run(FakeWork())


def test_back_in_service_does_not_wait_until_it_is_listed() -> None:
    registry, work = Registry(), FakeWork()
    done = run(registry)
    BackInService(registry, MACHINE, EUREKA.app, earlier=done.data).run(work)
    assert work.waited == 0

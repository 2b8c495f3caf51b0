"""The registry steps, against a registry of a few lines and a clock that only waiting moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from lifecycle_agent.clients.eureka import RegistryError
from lifecycle_agent.clients.registration import OUT_OF_SERVICE, UNKNOWN, UP, Key, Registration
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import StepFailed
from lifecycle_agent.model import Machine
from lifecycle_agent.steps.discovery import (
    SEARCH,
    BackInService,
    Deregister,
    OutOfService,
    Own,
    Settle,
    Verify,
)

MACHINE = Machine("i-0123456789abcdef0", "eu-west-1", ("10.0.0.5",))
KEY = Key("ORDERS", "a:1")
DATA = {"registrations": [{"app": "ORDERS", "id": "a:1"}]}
UP_ORDERS = Registration("ORDERS", "a:1", status=UP)
OUT_ORDERS = replace(UP_ORDERS, status=OUT_OF_SERVICE, overridden_status=OUT_OF_SERVICE)


class FakeRegistry:
    """Keeps registrations as Eureka does; `hidden` ones are not listed yet, `stale` ones are still."""

    def __init__(self, *registrations: Registration) -> None:
        self.now = {each.key: each for each in registrations}
        self.hidden: set[Key] = set()
        self.stale: list[Registration] = []
        self.error: RegistryError | None = None
        self.calls: list[tuple[str, Key]] = []

    def find(self, machine: Machine, app: str | None, deadline: Deadline) -> Sequence[Registration]:
        self._answer()
        return [*(each for key, each in self.now.items() if key not in self.hidden), *self.stale]

    def get(self, key: Key, deadline: Deadline) -> Registration | None:
        self._answer()
        return self.now.get(key)

    def out_of_service(self, key: Key, deadline: Deadline) -> bool:
        self._answer()
        self.calls.append(("out", key))
        if key in self.now:
            self.now[key] = replace(self.now[key], status=OUT_OF_SERVICE, overridden_status=OUT_OF_SERVICE)
        return key in self.now

    def remove_override(self, key: Key, deadline: Deadline) -> bool:
        self._answer()
        self.calls.append(("remove", key))
        if key in self.now:
            self.now[key] = replace(self.now[key], status=UNKNOWN, overridden_status=UNKNOWN)
        return key in self.now

    def deregister(self, key: Key, deadline: Deadline) -> bool:
        self._answer()
        self.calls.append(("delete", key))
        return self.now.pop(key, None) is not None

    def _answer(self) -> None:
        if self.error is not None:
            raise self.error


class FakeWork:
    """Its clock stands still but in `wait`; `then` is called at given seconds."""

    def __init__(self, seconds: float = 100.0, now: float = 1000.0) -> None:
        self.time = self.began = now
        self.deadline = Deadline.after(seconds, lambda: self.time)
        self.said: list[str] = []
        self._events: list[tuple[float, Callable[[], object]]] = []

    def then(self, seconds: float, event: Callable[[], object]) -> None:
        self._events.append((self.began + seconds, event))

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        self.said.append(text)

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.time += min(seconds, self.deadline.remaining())
        for due in [each for each in self._events if each[0] <= self.time]:
            self._events.remove(due)
            due[1]()

    @property
    def waited(self) -> float:
        return self.time - self.began


class FakeGroup:
    def __init__(self, waiting: bool | None = None) -> None:
        self.word = waiting

    def waiting(self) -> bool | None:
        return self.word

    def arrive(self) -> None:
        self.word = True


def down(status: int | None = None) -> RegistryError:
    return RegistryError("the registry is down", "start it", status)


def fail(registry: FakeRegistry, error: RegistryError | None) -> Callable[[], None]:
    return lambda: setattr(registry, "error", error)


# Out of service


def test_every_registration_is_put_out_of_service() -> None:
    registry = FakeRegistry(UP_ORDERS, Registration("ADMIN", "a:2", status=UP))
    work = FakeWork()
    done = OutOfService(registry, MACHINE, None).run(work)
    assert {each.status for each in registry.now.values()} == {OUT_OF_SERVICE}
    assert done.detail == "out of service: ORDERS/a:1, ADMIN/a:2"
    assert done.data == {
        "registrations": [{"app": "ORDERS", "id": "a:1"}, {"app": "ADMIN", "id": "a:2"}],
        "out_at": 1000.0,
    }


def test_no_registration_is_no_failure() -> None:
    registry = FakeRegistry()
    registry.stale = [UP_ORDERS]
    done = OutOfService(registry, MACHINE, None).run(FakeWork())
    assert "no registration" in done.detail
    assert done.data["registrations"] == []


def test_a_registry_that_is_down_is_asked_again() -> None:
    registry, work = FakeRegistry(UP_ORDERS), FakeWork()
    registry.error = down(503)
    work.then(5, fail(registry, None))
    done = OutOfService(registry, MACHINE, None).run(work)
    assert done.data["out_at"] == work.time >= 1005
    assert any("trying again" in text for text in work.said)


def test_out_of_service_fails_when_its_time_is_up() -> None:
    registry, work = FakeRegistry(UP_ORDERS), FakeWork(10)
    registry.error = down()
    with pytest.raises(StepFailed, match="the registry is down") as caught:
        OutOfService(registry, MACHINE, None).run(work)
    assert caught.value.hint == "start it"
    assert work.waited == 10


def test_a_refusal_is_not_repeated() -> None:
    registry, work = FakeRegistry(UP_ORDERS), FakeWork()
    registry.error = down(401)
    with pytest.raises(StepFailed):
        OutOfService(registry, MACHINE, None).run(work)
    assert work.waited == 0


# Settle


def settle(registry: FakeRegistry | None, group: FakeGroup, data: dict[str, object] | None = None) -> Settle:
    own = None if registry is None else Own(registry, MACHINE, None)
    return Settle(own, 60, group, DATA | {"out_at": 990.0} if data is None else data)


def test_it_waits_for_the_caches_from_when_it_went_out_of_service() -> None:
    work = FakeWork()
    registry = FakeRegistry(OUT_ORDERS)
    registry.stale = [UP_ORDERS]  # what the response cache still has is not believed
    done = settle(registry, FakeGroup()).run(work)
    assert work.waited == 50
    assert work.said[0] == "callers' caches, 50 s to go"
    assert registry.calls == []
    assert done.warnings == ()


def test_the_group_is_waited_for_side_by_side() -> None:
    work, group = FakeWork(), FakeGroup(False)
    work.then(70, group.arrive)
    settle(FakeRegistry(OUT_ORDERS), group).run(work)
    assert math.isclose(work.waited, 70, abs_tol=1)
    assert work.said[0] == (
        "callers' caches, 50 s to go; the group is still deregistering from its load balancer"
    )
    assert work.said[-1] == "the group is still deregistering from its load balancer"


def test_a_group_that_was_there_first_shortens_nothing() -> None:
    work = FakeWork()
    settle(FakeRegistry(OUT_ORDERS), FakeGroup(True)).run(work)
    assert work.waited == 50


def test_without_a_registry_only_the_group_is_waited_for() -> None:
    work, group = FakeWork(), FakeGroup(False)
    work.then(8, group.arrive)
    settle(None, group, {}).run(work)
    assert work.waited == pytest.approx(8, abs=0.1)
    idle = FakeWork()
    settle(None, FakeGroup(None), {}).run(idle)
    assert idle.waited == 0


def test_a_registration_that_comes_to_light_is_put_out_and_counts_from_then() -> None:
    work = FakeWork()
    late = Registration("ADMIN", "a:2", status=UP)
    registry = FakeRegistry(OUT_ORDERS, late)
    registry.hidden.add(late.key)
    work.then(20, registry.hidden.clear)
    done = settle(registry, FakeGroup()).run(work)
    assert registry.calls == [("out", late.key)]
    assert 80 <= work.waited <= 20 + SEARCH + 60
    assert done.warnings == ("out of service only while settling: ADMIN/a:2",)
    assert {"app": "ADMIN", "id": "a:2"} in done.data["registrations"]


def test_a_status_that_was_reset_is_put_out_again() -> None:
    work, registry = FakeWork(), FakeRegistry(OUT_ORDERS)
    registry.hidden.add(KEY)  # known from before, so it need not be listed
    work.then(10, lambda: registry.now.update({KEY: UP_ORDERS}))
    settle(registry, FakeGroup()).run(work)
    assert registry.calls == [("out", KEY)]
    assert work.waited >= 70


@pytest.mark.parametrize(
    "calm",
    [
        replace(OUT_ORDERS, status="DOWN"),
        replace(OUT_ORDERS, overridden_status=UNKNOWN),
    ],
)
def test_an_app_that_reports_down_meanwhile_or_went_out_by_itself_is_left_alone(calm: Registration) -> None:
    work, registry = FakeWork(), FakeRegistry(calm)
    settle(registry, FakeGroup()).run(work)
    assert registry.calls == []
    assert work.waited == 50


def test_after_a_failed_out_of_service_the_registry_is_tried_until_it_answers() -> None:
    work, registry = FakeWork(200), FakeRegistry(UP_ORDERS)
    registry.error = down(503)
    work.then(30, fail(registry, None))
    done = settle(registry, FakeGroup(), {}).run(work)
    assert registry.calls == [("out", KEY)]
    assert 90 <= work.waited <= 96
    assert done.data["registrations"] == DATA["registrations"]


def test_a_registry_that_was_never_told_is_a_failure() -> None:
    work, registry = FakeWork(200), FakeRegistry(UP_ORDERS)
    registry.error = down(503)
    with pytest.raises(StepFailed, match="never told"):
        settle(registry, FakeGroup(), {}).run(work)
    assert work.waited == 60


def test_a_registry_that_goes_down_later_is_a_warning() -> None:
    work, registry = FakeWork(), FakeRegistry(OUT_ORDERS)
    work.then(10, fail(registry, down()))
    done = settle(registry, FakeGroup()).run(work)
    assert work.waited == 50
    assert "did not answer at the last look" in done.warnings[0]


def test_a_registry_that_answered_once_and_had_nothing_to_put_out_is_no_failure_later() -> None:
    work, registry = FakeWork(), FakeRegistry()
    work.then(10, fail(registry, down()))
    done = settle(registry, FakeGroup(), {}).run(work)
    assert work.waited == 60
    assert "did not answer at the last look" in done.warnings[0]


def test_time_that_is_up_ends_the_settling_with_warnings() -> None:
    work = FakeWork(20)
    done = settle(FakeRegistry(OUT_ORDERS), FakeGroup(False)).run(work)
    assert work.waited == 20
    assert len(done.warnings) == 2


def test_a_time_from_before_a_reboot_is_not_believed() -> None:
    work = FakeWork()
    settle(FakeRegistry(OUT_ORDERS), FakeGroup(), DATA | {"out_at": 5000.0}).run(work)
    assert work.waited == 60


# Deregister


def test_known_and_found_registrations_are_deleted() -> None:
    registry = FakeRegistry(OUT_ORDERS, Registration("ADMIN", "a:2", status=UP))
    registry.hidden.add(KEY)
    done = Deregister(registry, MACHINE, None, DATA).run(FakeWork())
    assert registry.now == {}
    assert done.detail == "2 registrations deleted"
    assert len(done.data["registrations"]) == 2


def test_what_is_gone_already_is_a_success() -> None:
    done = Deregister(FakeRegistry(), MACHINE, None, DATA).run(FakeWork())
    assert done.detail == "0 registrations deleted, 1 gone before"


def test_one_that_is_back_at_once_is_deleted_once_more() -> None:
    registry, work = Lively(OUT_ORDERS, lives=2), FakeWork()
    done = Deregister(registry, MACHINE, None, DATA).run(work)
    assert done.detail == "1 registration deleted"
    assert registry.calls == [("delete", KEY)] * 3


def test_one_that_always_comes_back_is_a_failure_that_says_what_to_do() -> None:
    registry, work = Lively(OUT_ORDERS, lives=10**6), FakeWork(5)
    with pytest.raises(StepFailed, match="ORDERS/a:1") as caught:
        Deregister(registry, MACHINE, None, DATA).run(work)
    assert "[drain]" in caught.value.hint


def test_deletion_goes_on_with_what_is_known_when_the_listing_fails() -> None:
    registry, work = Unlisted(OUT_ORDERS), FakeWork()
    done = Deregister(registry, MACHINE, None, DATA).run(work)
    assert registry.now == {}
    assert work.waited < 5
    assert "known from before" in done.warnings[0]


def test_a_deletion_without_a_registry_is_a_failure() -> None:
    registry = FakeRegistry(OUT_ORDERS)
    registry.error = down(503)
    with pytest.raises(StepFailed):
        Deregister(registry, MACHINE, None, DATA).run(FakeWork(10))


class Lively(FakeRegistry):
    """Its app registers again at once, a number of times."""

    def __init__(self, *registrations: Registration, lives: int) -> None:
        super().__init__(*registrations)
        self.lives = lives

    def deregister(self, key: Key, deadline: Deadline) -> bool:
        before = self.now[key]
        super().deregister(key, deadline)
        if self.lives:
            self.lives -= 1
            self.now[key] = before
        return True


class Unlisted(FakeRegistry):
    def find(self, machine: Machine, app: str | None, deadline: Deadline) -> Sequence[Registration]:
        raise down(503)


# Verify


def test_nothing_registered_is_what_it_wants() -> None:
    registry = FakeRegistry()
    registry.stale = [UP_ORDERS]
    assert "nothing" in Verify(registry, MACHINE, None, DATA).run(FakeWork()).detail


def test_an_app_that_is_back_is_found_past_the_cache_and_kept_out_of_service() -> None:
    registry = FakeRegistry(UP_ORDERS)
    registry.hidden.add(KEY)
    with pytest.raises(StepFailed, match=r"ORDERS/a:1 still runs") as caught:
        Verify(registry, MACHINE, None, DATA).run(FakeWork())
    assert registry.now[KEY].out_of_service
    assert "[drain]" in caught.value.hint


# Back in service


def test_the_override_is_removed_and_the_apps_own_up_waited_for() -> None:
    registry, work = FakeRegistry(OUT_ORDERS), FakeWork()
    work.then(20, lambda: registry.now.update({KEY: UP_ORDERS}))  # its next renewal
    done = BackInService(registry, MACHINE, None).run(work)
    assert registry.calls == [("remove", KEY)]
    assert 20 <= work.waited < 22
    assert done.detail == "in service: ORDERS/a:1"
    assert "waiting for UP: ORDERS/a:1 is UNKNOWN" in work.said


def test_an_app_that_has_not_registered_is_waited_for() -> None:
    registry, work = FakeRegistry(), FakeWork()
    work.then(20, lambda: registry.now.update({KEY: UP_ORDERS}))
    BackInService(registry, MACHINE, None).run(work)
    assert registry.calls == []
    assert 20 <= work.waited <= 26
    assert "waiting for the app to register" in work.said


@pytest.mark.parametrize("word", ["DOWN", "STARTING", "UNKNOWN"])
def test_an_app_that_never_is_up_is_a_failure(word: str) -> None:
    registry, work = FakeRegistry(replace(UP_ORDERS, status=word)), FakeWork()
    with pytest.raises(StepFailed, match=f"ORDERS/a:1 is {word}"):
        BackInService(registry, MACHINE, None).run(work)
    assert work.waited == 100


def test_another_override_than_ours_is_left_to_the_human_who_made_it() -> None:
    registry = FakeRegistry(replace(UP_ORDERS, status="DOWN", overridden_status="DOWN"))
    with pytest.raises(StepFailed):
        BackInService(registry, MACHINE, None).run(FakeWork(10))
    assert registry.calls == []


def test_one_that_comes_back_again_and_again_does_not_hold_up_the_drain_that_would_end_it() -> None:
    class Flapping(FakeRegistry):
        def get(self, key: Key, deadline: Deadline) -> Registration | None:
            return UP_ORDERS

    work = FakeWork(seconds=1000)
    done = settle(Flapping(UP_ORDERS), FakeGroup()).run(work)
    assert 60 < work.waited <= 2 * 60
    assert [warning for warning in done.warnings if warning.count(str(UP_ORDERS.key)) == 1], "named once"

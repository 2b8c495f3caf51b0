"""The registry's part in a transition: callers are kept away first, the registration is deleted last."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from lifecycle_agent.clients.eureka import RegistryError
from lifecycle_agent.clients.registration import OUT_OF_SERVICE, UP, Key, Registration
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import StepFailed
from lifecycle_agent.model import Machine
from lifecycle_agent.steps import Done, Work

# Seconds before asking a registry again that did not answer: with half of it as jitter, a fleet that drains
# at once does not come back at once.
PAUSE = 1.0
# Seconds between two looks at the own registrations while waiting. Well within the renewals (30 s) that could
# bring one back and the callers' fetches (30 s) that would see it.
LOOK = 5.0
# Seconds, less up to half of it, between two searches for more of them: what the server's response cache
# hides is seen when that is renewed (30 s), and a search reads the whole app, or even the whole registry.
SEARCH = 30.0
# Seconds between two looks at what ends the wait, and at the display.
TICK = 1.0
# The same when only the group is waited for: asking costs nothing, and people wait for what comes after.
GROUP_TICK = 0.05

T = TypeVar("T")


class Registry(Protocol):
    """What the steps ask of the registry; raises `RegistryError` when it can't be reached or refuses."""

    def find(self, machine: Machine, app: str | None, deadline: Deadline) -> Sequence[Registration]:
        """The machine's registrations, up to 30 s old."""
        ...

    def get(self, key: Key, deadline: Deadline) -> Registration | None:
        """One registration as it is now."""
        ...

    def out_of_service(self, key: Key, deadline: Deadline) -> bool:
        """Keep callers away; False when it is not registered."""
        ...

    def remove_override(self, key: Key, deadline: Deadline) -> bool:
        """Let the app's own status count; False when it is not registered."""
        ...

    def deregister(self, key: Key, deadline: Deadline) -> bool:
        """Delete it; False when it was gone."""
        ...


class Group(Protocol):
    """What the settling asks of the Auto Scaling group."""

    def waiting(self) -> bool | None:
        """Whether the group waits for the lifecycle action's answer; None when that is not known, or
        nothing to wait for. Asked every second: must not take long.
        """
        ...


class Own:
    """The registrations of this machine.

    Args:
        app: the app's name, None for all registrations that are the machine's.
    """

    def __init__(self, registry: Registry, machine: Machine, app: str | None) -> None:
        self.registry = registry
        self._machine = machine
        self._app = app

    def keys(self, deadline: Deadline, known: Iterable[Key] = ()) -> list[Key]:
        """The `known` ones and those found now, each once; some may be gone by now."""
        found = (each.key for each in self.registry.find(self._machine, self._app, deadline))
        return list(dict.fromkeys([*known, *found]))

    def now(self, deadline: Deadline, known: Iterable[Key] = ()) -> list[Registration]:
        """The same as they are now, past the response cache."""
        looked = (self.registry.get(key, deadline) for key in self.keys(deadline, known))
        return [each for each in looked if each is not None]


class OutOfService:
    """Tells the registry to send no more callers here. The seconds until this is done are what users feel.

    Done's data: `registrations`, a list of {app, id}, and `out_at`, seconds on the boot clock.

    Args:
        expected: whether the app has just come up, and is waited for until it is listed.
        earlier: data of `Ready`, which may have seen registrations that are not listed yet.
        deleted: whether the agent itself has deleted the registration, and nothing has come back since.
    """

    def __init__(
        self,
        registry: Registry,
        machine: Machine,
        app: str | None,
        expected: bool = False,
        earlier: Mapping[str, Any] | None = None,
        deleted: bool = False,
    ) -> None:
        self._own = Own(registry, machine, app)
        self._expected = expected
        self._deleted = deleted
        self._known = _keys(earlier or {})

    def run(self, work: Work) -> Done:
        """Put every registration out of service.

        Raises:
            StepFailed: the registry could not be reached or refused.
        """
        keys = persist(work, self._put_out)
        while self._expected and not keys and work.deadline.remaining() > LOOK:
            work.say("waiting for the app to be listed")
            work.wait(TICK)  # callers that look now are sent to it
            keys = persist(work, self._put_out)
        data = as_data(keys) | {"out_at": work.deadline.now()}
        if not keys and self._deleted:
            return Done("the registration has been deleted already", data)
        if not keys:
            nothing = "the registry has no registration of this machine"
            return Done(nothing, data, (f"{nothing}: if there should be one, check [eureka] app and urls",))
        return Done(f"out of service: {names_of(keys)}", data)

    def _put_out(self, deadline: Deadline) -> list[Key]:
        registry = self._own.registry
        keys = self._own.keys(deadline, self._known)
        return [key for key in keys if registry.out_of_service(key, deadline)]


class Settle:
    """Waits until no caller can still hold an old copy of the registry, and the group is waiting for us.

    Meanwhile it looks for own registrations that callers would find: one that registered a moment ago and
    was hidden by the response cache, one that was reset, or all of them when the registry was down before.
    Those are put out of service, too, and the caches' time counts from the last one.

    Args:
        own: None where there is no registry; then only the group is waited for.
        seconds: how long callers' caches hold.
        earlier: data of `OutOfService`, empty when it failed.
    """

    def __init__(
        self, own: Own | None, seconds: float, group: Group, earlier: Mapping[str, Any], look: float = LOOK
    ) -> None:
        self._own = own
        self._seconds = seconds if own is not None else 0.0
        self._group = group
        self._known = _keys(earlier)
        self._out_at: float | None = earlier.get("out_at")
        self._look = look
        self._next_search = 0.0
        self._trouble: RegistryError | None = None
        self._late: list[Key] = []

    def run(self, work: Work) -> Done:
        """Wait.

        Raises:
            StepFailed: the registry never learned that no callers should come.
        """
        began = since = work.deadline.now()
        if self._out_at is not None and self._out_at <= began:
            since = self._out_at  # not after a reboot, which sets the boot clock back
        next_look = began
        while True:
            now = work.deadline.now()
            if self._own is not None and now >= next_look:
                # A registry that hangs must not make the wait longer than it is.
                limit = max(self._look, since + self._seconds - now)
                if self._put_out_again(self._own, work.deadline.within(limit)):
                    # One that is put out again and again must not hold the drain up, which may end it.
                    since = min(work.deadline.now(), began + self._seconds)
                now = work.deadline.now()
                next_look = now + self._look
            to_go = max(0.0, since + self._seconds - now)
            held = self._group.waiting() is False
            if (to_go == 0 and not held) or work.deadline.passed:
                break
            work.say(_waits_for(to_go, held))
            work.wait(min(TICK, to_go) if to_go else GROUP_TICK)
        return self._settled(to_go, held, work.deadline.now() - began)

    def _put_out_again(self, own: Own, deadline: Deadline) -> bool:
        """Whether some registration was put out of service only now."""
        try:
            open_ = [each.key for each in self._look_at(own, deadline) if not each.out_of_service]
            put = [key for key in open_ if own.registry.out_of_service(key, deadline)]
        except RegistryError as error:
            self._trouble = error
            return False
        self._trouble = None
        self._known = list(dict.fromkeys([*self._known, *put]))
        self._late = list(dict.fromkeys([*self._late, *put]))
        if put or self._out_at is None:
            self._out_at = deadline.now()
        return bool(put)

    def _look_at(self, own: Own, deadline: Deadline) -> list[Registration]:
        """The own registrations as they are now: those known, and at times whatever else there is."""
        if self._out_at is not None and deadline.now() < self._next_search:
            looked = (own.registry.get(key, deadline) for key in self._known)
            return [each for each in looked if each is not None]
        found = own.now(deadline, self._known)
        self._known = list(dict.fromkeys([*self._known, *(each.key for each in found)]))
        self._next_search = deadline.now() + SEARCH * random.uniform(0.5, 1.0)  # noqa: S311
        return found

    def _settled(self, to_go: float, held: bool, seconds: float) -> Done:
        if self._out_at is None and self._trouble is not None:
            raise StepFailed(
                f"callers may still come, the registry was never told: {self._trouble}", self._trouble.hint
            )
        warnings = []
        if to_go:
            warnings.append(f"{to_go:.0f} s short of the {self._seconds:.0f} s that callers' caches hold")
        if held:
            warnings.append("the group was not waiting for this machine yet when the time was up")
        if self._late:
            warnings.append(f"out of service only while settling: {names_of(self._late)}")
        if self._trouble is not None:
            warnings.append(f"the registry did not answer at the last look: {self._trouble}")
        data = as_data(self._known) | {"out_at": self._out_at}
        return Done(f"waited {seconds:.0f} s for {_awaited(self._own is not None)}", data, tuple(warnings))


class Deregister:
    """Deletes the registrations and makes sure, past the response cache, that they are gone.

    The app has stopped before: one still alive registers again with its next renewal.

    Args:
        earlier: data of `OutOfService` or `Settle`, empty when they failed.
    """

    def __init__(
        self, registry: Registry, machine: Machine, app: str | None, earlier: Mapping[str, Any]
    ) -> None:
        self._own = Own(registry, machine, app)
        self._known = _keys(earlier)

    def run(self, work: Work) -> Done:
        """Delete them.

        Raises:
            StepFailed: the registry could not be reached or refused, or they come back at once.
        """
        warnings: list[str] = []
        try:
            keys = persist(work, lambda deadline: self._own.keys(deadline, self._known), bool(self._known))
        except StepFailed as failed:
            if not self._known:
                raise
            keys = self._known
            warnings.append(f"only the registrations known from before were deleted: {failed}")
        deleted: set[Key] = set()
        while left := persist(work, lambda deadline: self._delete(keys, deleted, deadline)):
            if work.deadline.passed:
                raise StepFailed(f"registered again at once: {names_of(left)}", _STILL_RUNS)
            work.say(f"registered again, deleting once more: {names_of(left)}")
            work.wait(_pause())
        gone = len(keys) - len(deleted)
        detail = f"{_count(len(deleted))} deleted" + (f", {gone} gone before" if gone else "")
        return Done(detail, as_data(keys), tuple(warnings))

    def _delete(self, keys: Sequence[Key], deleted: set[Key], deadline: Deadline) -> list[Key]:
        """The ones that are there all the same."""
        registry = self._own.registry
        deleted.update(key for key in keys if registry.deregister(key, deadline))
        return [key for key in keys if registry.get(key, deadline) is not None]


class Verify:
    """Looks once more, just before the end, for an app that renewed its lease and so is registered again.

    It is put out of service and not deleted: the override outlives its renewals, while after a deletion it
    would be back in service with the next one. The lease ends by itself once the machine is gone.

    Args:
        earlier: data of `Deregister`, or of a step before it.
    """

    def __init__(
        self, registry: Registry, machine: Machine, app: str | None, earlier: Mapping[str, Any]
    ) -> None:
        self._own = Own(registry, machine, app)
        self._known = _keys(earlier)

    def run(self, work: Work) -> Done:
        """Look.

        Raises:
            StepFailed: the registry could not be asked, or there is one.
        """
        back = persist(work, lambda deadline: self._own.now(deadline, self._known))
        if not back:
            return Done("nothing of this machine is registered")
        keys = [each.key for each in back]
        registry = self._own.registry
        persist(work, lambda deadline: [registry.out_of_service(key, deadline) for key in keys])
        raise StepFailed(
            f"registered again after the deletion: {names_of(keys)} still runs and renews its lease; "
            "it is out of service",
            _STILL_RUNS,
        )


class BackInService:
    """Lets callers come again: waits for the registration and for the app's own UP, without any override.

    Args:
        earlier: data of `Register`, which has registrations that are not listed yet.
    """

    def __init__(
        self,
        registry: Registry,
        machine: Machine,
        app: str | None,
        look: float = LOOK,
        earlier: Mapping[str, Any] | None = None,
    ) -> None:
        self._own = Own(registry, machine, app)
        self._look = look
        self._known = _keys(earlier or {})
        self._next_look = 0.0

    def run(self, work: Work) -> Done:
        """Remove the overrides and wait until every registration is UP.

        Raises:
            StepFailed: the registry could not be reached or refused, or there is no registration that is
                UP when the time is over.
        """
        while True:
            found = persist(work, self._release)
            down = [each for each in found if each.status != UP]
            if found and not down:
                keys = [each.key for each in found]
                return Done(f"in service: {names_of(keys)}", as_data(keys))
            states = ", ".join(f"{each.key} is {each.status}" for each in down)
            if work.deadline.passed:
                raise StepFailed(
                    states or "the registry has no registration of this machine",
                    "does the app run, is it healthy, and does it register under this address or host name?",
                )
            work.say(f"waiting for UP: {states}" if states else "waiting for the app to register")
            work.wait(_pause())

    def _release(self, deadline: Deadline) -> list[Registration]:
        """The registrations as they are now, none of them with an override of ours."""
        if deadline.now() >= self._next_look:
            self._known = self._own.keys(deadline, self._known)
            self._next_look = deadline.now() + self._look
        found = []
        for key in self._known:
            each = self._own.registry.get(key, deadline)
            # Another override than ours is a human's.
            if each is not None and each.overridden_status == OUT_OF_SERVICE:
                self._own.registry.remove_override(key, deadline)
                each = self._own.registry.get(key, deadline)
            if each is not None:
                found.append(each)
        return found


_STILL_RUNS = "stop the app before it is deregistered: name its unit under units in section [drain]"


def persist(work: Work, ask: Callable[[Deadline], T], briefly: bool = False) -> T:
    """What the registry answers, asked again until it does or time is up; `briefly` for three times at most.

    Raises:
        StepFailed: it refused, or never answered.
    """
    tries = 0
    while True:
        try:
            return ask(work.deadline)
        except RegistryError as error:
            tries += 1
            if error.final or work.deadline.passed or (briefly and tries == 3):
                raise StepFailed(error.message, error.hint) from error
            work.say(f"the registry does not answer, trying again: {error}")
        work.wait(_pause())


def _pause() -> float:
    return PAUSE * random.uniform(0.5, 1.0)  # noqa: S311 - to spread a fleet, not to keep a secret


def _waits_for(to_go: float, held: bool) -> str:
    parts = []
    if to_go:
        parts.append(f"callers' caches, {to_go:.0f} s to go")
    if held:
        parts.append("the group is still deregistering from its load balancer")
    return "; ".join(parts)


def _awaited(registry: bool) -> str:
    return "callers' caches and the group" if registry else "the group"


def as_data(keys: Iterable[Key]) -> dict[str, Any]:
    """Registrations as the data of a step."""
    return {"registrations": [{"app": key.app, "id": key.instance_id} for key in keys]}


def _keys(data: Mapping[str, Any]) -> list[Key]:
    return [Key(each["app"], each["id"]) for each in data.get("registrations", ())]


def names_of(keys: Iterable[Key]) -> str:
    """Registrations for people."""
    return ", ".join(map(str, keys))


def _count(number: int) -> str:
    return f"{number} registration" + ("" if number == 1 else "s")

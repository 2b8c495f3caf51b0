"""Registers an app that has no Eureka client of its own. The watcher then renews its lease."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lifecycle_agent import registrant
from lifecycle_agent.clients.registration import OUT_OF_SERVICE, UNKNOWN, UP, Key
from lifecycle_agent.config import EurekaSection, RegisterSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError, StepFailed
from lifecycle_agent.model import Machine
from lifecycle_agent.steps import Done, Work, discovery
from lifecycle_agent.steps.discovery import Own, as_data, names_of, persist

# Seconds between two looks at an app that is not there yet.
LOOK = 0.5


class Registry(discovery.Registry, Protocol):
    """What is asked of the registry beyond that."""

    def register(self, instance: Mapping[str, Any], deadline: Deadline) -> None:
        """Register an instance, InstanceInfo in JSON."""
        ...

    def renew(self, key: Key, deadline: Deadline) -> bool:
        """Renew its lease; False when it has to be registered anew."""
        ...


class Register:
    """Registers the app as UP, once it answers; leaves alone one that registers itself.

    Done's data: `registrations`, a list of {app, id}: ours, or the app's own.

    Args:
        eureka: with its `register`, and so with its `app`.
        answers: whether the app is there.
    """

    def __init__(
        self,
        registry: Registry,
        machine: Machine,
        eureka: EurekaSection,
        answers: Callable[[RegisterSection, Machine, Deadline], bool] = registrant.answers,
    ) -> None:
        if eureka.register is None:
            raise AssertionError("planned without [eureka.register]")
        self._registry = registry
        self._own = Own(registry, machine, eureka.app)
        self._machine = machine
        self._app = eureka.app
        self._section = eureka.register
        self._answers = answers

    def run(self, work: Work) -> Done:
        """Register it.

        Raises:
            StepFailed: the app does not answer, or the registry could not be reached or refused.
        """
        try:
            instance = registrant.document(self._section, self._app, self._machine)
        except LifecycleAgentError as error:
            raise StepFailed(error.message, error.hint) from error
        self._await_app(work)
        keys, what = persist(work, lambda deadline: self._see_to_it(instance, deadline))
        return Done(f"{what}: {names_of(keys)}", as_data(keys))

    def _await_app(self, work: Work) -> None:
        section = self._section
        while not self._answers(section, self._machine, work.deadline):
            where = f"port {section.port}{section.health_path and ', ' + section.health_path}"
            if work.deadline.passed:
                raise StepFailed(
                    f"the app does not answer on {where}",
                    "does it run, and are port and health_path in section [eureka.register] the app's?",
                )
            work.say(f"waiting for the app to answer on {where}")
            work.wait(LOOK)

    def _see_to_it(self, instance: Mapping[str, Any], deadline: Deadline) -> tuple[list[Key], str]:
        """Whose registrations there are now, and what was done."""
        key = Key(instance["app"], instance["instanceId"])
        found = self._own.now(deadline, [key])
        own = [each.key for each in found if not each.by_agent and self._section.port in each.ports]
        if own:
            return own, "the app registers itself"
        ours = next((each for each in found if each.key == key), None)
        if ours is not None and ours.status != UP and ours.overridden_status in (OUT_OF_SERVICE, UNKNOWN):
            # Out of service, it would stay so whatever a newer registration says: the server goes by what
            # it had before. Another override is a human's, and stays.
            self._registry.deregister(key, deadline)
            ours = None
        if ours is not None and self._registry.renew(key, deadline):
            return [key], "was registered, its lease is renewed"
        self._registry.register(instance, deadline)
        return [key], "registered as UP"

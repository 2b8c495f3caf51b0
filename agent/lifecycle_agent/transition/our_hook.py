"""Whom we owe an answer: which group the instance is in, and which of its hooks is ours."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from lifecycle_agent.clients.autoscaling import GroupError, Membership, Refusal
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.logline import logger
from lifecycle_agent.model import ActionResult, Hook, LifecycleTransition, NamedAction
from lifecycle_agent.transition.completion import choose_hook

LOOK_SECONDS = 1.0  # first pause between two calls; grows
LONGEST_BUSY_SECONDS = 30.0  # ... to this while the service says that it is too much

# Until what cannot be asked for is taken at its word: a configured hook without its numbers, the group's name
# in the metadata. As long as the shortest heartbeat timeout.
AT_ITS_WORD_SECONDS = 30.0

T = TypeVar("T")


class GroupClient(Protocol):
    """The calls to Auto Scaling; each raises `GroupError` (see `clients.autoscaling.AutoScaling`)."""

    def membership(self, deadline: Deadline) -> Membership | None:
        """DescribeAutoScalingInstances."""

    def hooks(self, group: str, deadline: Deadline) -> list[Hook]:
        """DescribeLifecycleHooks."""

    def complete(
        self, group: str, hook: str, result: ActionResult, deadline: Deadline, token: str = ""
    ) -> None:
        """CompleteLifecycleAction."""

    def heartbeat(self, group: str, hook: str, deadline: Deadline, token: str = "") -> None:
        """RecordLifecycleActionHeartbeat."""


@dataclass(frozen=True)
class Asked:
    """Whom we owe an answer, and through whom it is given.

    Args:
        token: of the lifecycle action, where an event has named it; else it is the instance's.
    """

    client: GroupClient
    group: str
    hook: Hook
    token: str = ""


class OurHook:
    """Finds the group and our hook in it.

    Args:
        connect: makes the client; called by `find`, for it imports boto3.
        configured: the hook's name in the configuration, or empty.
        group: the group's name where the metadata has it.
        stopped: ends the waiting between two tries.
        action: what an event has named: these are group and hook then, and only its numbers are asked for.
    """

    def __init__(
        self,
        connect: Callable[[], GroupClient],
        transition: LifecycleTransition,
        configured: str,
        group: str | None,
        stopped: threading.Event,
        action: NamedAction | None = None,
    ) -> None:
        self.group = action.group if action is not None else group
        self._connect = connect
        self._transition = transition
        self._configured = configured
        self._stopped = stopped
        self._action = action

    def find(self, until: Deadline) -> Asked | None:
        """Find them, through whatever can pass.

        Returns:
            None when no answer is owed: no group knows the instance, or it has no hook for this.

        Raises:
            LifecycleAgentError: they cannot be found, or there are several hooks to choose from.
        """
        client = self._connect()
        if self._action is not None:
            return self._told(client, until.within(AT_ITS_WORD_SECONDS), until)
        try:
            # The name in the metadata is as old as the watcher: the instance may be in another group.
            for_group = until.within(AT_ITS_WORD_SECONDS) if self.group is not None else until
            membership = self._patiently(lambda: client.membership(until), for_group)
            if membership is None:
                logger.warning("no group knows this instance (any more): no answer is owed")
                return None
            self.group = membership.group
        except GroupError as error:
            if self.group is None:
                raise
            logger.warning("%s; taking the group's name in the metadata", error.message)
        group = self.group
        for_numbers = until.within(AT_ITS_WORD_SECONDS) if self._configured else until
        try:
            hooks = self._patiently(lambda: client.hooks(group, until), for_numbers)
            hook = choose_hook(hooks, self._configured, self._transition)
        except GroupError as error:
            if not self._configured:
                raise
            hook = self._at_its_word(self._configured, error.message)
        if hook is None:
            logger.warning("group %s has no lifecycle hook for this: no answer is owed", group)
            return None
        logger.info("group %s, hook %s, heartbeat timeout %.0f s", group, hook.name, hook.heartbeat_timeout)
        return Asked(client, group, hook)

    def _told(self, client: GroupClient, for_numbers: Deadline, until: Deadline) -> Asked:
        """What the event has named."""
        action = self._action
        if action is None:
            raise AssertionError("there is no event")
        try:
            hooks = self._patiently(lambda: client.hooks(action.group, until), for_numbers)
            hook = next((each for each in hooks if each.name == action.hook), None)
            problem = f"group {action.group} does not list the event's hook"
        except GroupError as error:
            hook, problem = None, error.message
        hook = hook or self._at_its_word(action.hook, problem)
        timeout = hook.heartbeat_timeout
        logger.info(
            "by the event: group %s, hook %s, heartbeat timeout %.0f s", action.group, hook.name, timeout
        )
        return Asked(client, action.group, hook, action.token)

    def _at_its_word(self, name: str, problem: str) -> Hook:
        """A hook whose name is known and whose numbers are not: AWS's smallest are safe."""
        logger.warning("%s; taking the hook %r at its word", problem, name)
        return Hook(name, self._transition, 30.0, 3000.0, ActionResult.ABANDON)

    def _patiently(self, call: Callable[[], T], until: Deadline) -> T:
        """Make a call through whatever can pass."""
        pause = LOOK_SECONDS
        while True:
            try:
                return call()
            except GroupError as error:
                if error.refusal is not Refusal.TRANSIENT or until.passed or self._stopped.is_set():
                    raise
                logger.warning("%s; trying again", error.message)
            self._stopped.wait(min(pause * random.uniform(0.5, 1.0), until.timeout(pause)))  # noqa: S311
            pause = min(LONGEST_BUSY_SECONDS, pause * 2)

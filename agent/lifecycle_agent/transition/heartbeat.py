"""The group's side, kept up beside the steps: until it asks, then a heartbeat every third of its timeout."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from lifecycle_agent.clients.autoscaling import GroupError, Membership, Refusal
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.logline import logger
from lifecycle_agent.model import ActionResult, Hook, LifecycleTransition
from lifecycle_agent.transition.completion import answer, choose_hook

LOOK_SECONDS = 1.0  # first pause between two looks at the instance's state; grows to
LONGEST_LOOK_SECONDS = 5.0  # ... this, for a fleet of hundreds shares the account's request rate
RETRY_SECONDS = 2.0  # after a failed heartbeat: several tries fit the last third of the shortest timeout

T = TypeVar("T")


class GroupClient(Protocol):
    """The calls to Auto Scaling; each raises `GroupError` (see `clients.autoscaling.AutoScaling`)."""

    def membership(self, deadline: Deadline) -> Membership | None:
        """DescribeAutoScalingInstances."""

    def hooks(self, group: str, deadline: Deadline) -> list[Hook]:
        """DescribeLifecycleHooks."""

    def complete(self, group: str, hook: str, result: ActionResult, deadline: Deadline) -> None:
        """CompleteLifecycleAction."""

    def heartbeat(self, group: str, hook: str, deadline: Deadline) -> None:
        """RecordLifecycleActionHeartbeat."""


@dataclass(frozen=True)
class Asked:
    """Whom we owe an answer: the group, and our hook in it."""

    group: str
    hook: Hook


class GroupSide(threading.Thread):
    """The group's side of a transition that answers a lifecycle action.

    The thread finds the group and our hook, watches for the moment in which the group asks, and
    sends heartbeats from then on. The runner asks it for what it found, and to complete.

    Args:
        connect: makes the client; called in the thread, for it imports botocore.
        configured: the hook's name in the configuration, or empty.
        group: the group's name where the metadata has it.
    """

    def __init__(
        self,
        connect: Callable[[], GroupClient],
        transition: LifecycleTransition,
        configured: str,
        group: str | None,
        deadline: Deadline,
    ) -> None:
        super().__init__(name="group", daemon=True)
        self._connect = connect
        self._transition = transition
        self._configured = configured
        self._group = group
        self._deadline = deadline
        self._found = threading.Event()
        self._stopped = threading.Event()
        self._client: GroupClient | None = None
        self._asked: Asked | None = None
        self._waiting: bool | None = False
        self._problem: LifecycleAgentError | None = None

    @property
    def group(self) -> str | None:
        """The group's name as far as it is known."""
        return self._asked.group if self._asked else self._group

    def waiting(self) -> bool | None:
        """Whether the group waits for our answer; None when that is not known, or no answer is owed."""
        return self._waiting

    def run(self) -> None:
        """Find the hook, wait for the group to ask, then keep the action alive."""
        try:
            self._find()
        except LifecycleAgentError as error:
            self._problem = error
            logger.error("%s; %s", error.message, error.hint)
        except Exception as error:  # the thread's last line: the steps go on whatever happens here
            self._problem = LifecycleAgentError(f"looking for the hook: {error!r}", "see the log")
            logger.exception("looking for the lifecycle hook")
        finally:
            if self._asked is None:
                self._waiting = None
            self._found.set()
        if self._asked is not None and self._client is not None:
            self._until_asked(self._client)
            self._keep_alive(self._client, self._asked)

    def stop(self) -> None:
        """No more heartbeats."""
        self._stopped.set()

    def complete(
        self,
        result: ActionResult,
        deadline: Deadline,
        asking: Deadline,
        sleep: Callable[[float], None],
        say: Callable[[str], None],
    ) -> str:
        """Answer the group; see `completion.answer` for the arguments.

        Returns:
            One sentence about the answer.

        Raises:
            LifecycleAgentError: it could not be answered.
        """
        if not self._found.wait(deadline.remaining()):
            raise LifecycleAgentError(
                "the hook could not be found in time: the Auto Scaling service does not answer",
                "nothing more can be done from here; the hook's default result decides",
            )
        if self._problem is not None:
            raise self._problem
        if self._asked is None or self._client is None:
            return "no answer is owed: the group has no lifecycle hook for this"
        client, asked = self._client, self._asked
        told = answer(
            lambda: client.complete(asked.group, asked.hook.name, result, asking),
            lambda: client.membership(asking),
            deadline,
            asking,
            sleep,
            say,
        )
        return f"hook {asked.hook.name}, {result.value}: {told}"

    def _find(self) -> None:
        """Find the group and our hook in it, however often it takes."""
        client = self._connect()
        if self._group is None:
            membership = self._patiently(lambda: client.membership(self._deadline))
            if membership is None:
                logger.warning("no group knows this instance: no answer is owed")
                return
            self._group = membership.group
        group = self._group
        try:
            hooks = self._patiently(lambda: client.hooks(group, self._deadline))
            hook = choose_hook(hooks, self._configured, self._transition)
        except GroupError as error:
            if not self._configured:
                raise
            # The name is known and only the numbers are not: AWS's smallest are safe.
            logger.warning("%s; taking the hook %r at its word", error.message, self._configured)
            hook = Hook(self._configured, self._transition, 30.0, 3000.0, ActionResult.ABANDON)
        if hook is None:
            logger.warning("group %s has no lifecycle hook for this: no answer is owed", group)
            return
        logger.info("group %s, hook %s, heartbeat timeout %.0f s", group, hook.name, hook.heartbeat_timeout)
        self._asked = Asked(group, hook)
        self._client = client

    def _patiently(self, call: Callable[[], T]) -> T:
        """Make a call through whatever can pass, until the deadline."""
        pause = LOOK_SECONDS
        while True:
            try:
                return call()
            except GroupError as error:
                if error.refusal is not Refusal.TRANSIENT or self._deadline.passed or self._stopped.is_set():
                    raise
                logger.warning("%s; trying again", error.message)
            self._stopped.wait(_jitter(pause))
            pause = min(LONGEST_LOOK_SECONDS, pause * 2)

    def _until_asked(self, client: GroupClient) -> None:
        """Return when the group waits for our answer, or when nobody needs to know any more."""
        pause = LOOK_SECONDS
        while not self._stopped.is_set():
            try:
                membership = client.membership(self._deadline)
            except GroupError as error:
                if error.refusal is Refusal.DENIED:
                    # Not knowing must not hold up the steps; heartbeats are tried all the same.
                    logger.warning("%s; not waiting for the group to ask", error.message)
                    self._waiting = None
                    return
            else:
                state = membership.state if membership else None
                if state is None or not state.arriving:
                    self._waiting = True
                    if state is not None and state.waiting:
                        logger.info("the group asks: %s", state.word)
                    return
            self._stopped.wait(_jitter(pause))
            pause = min(LONGEST_LOOK_SECONDS, pause * 1.5)

    def _keep_alive(self, client: GroupClient, asked: Asked) -> None:
        """Heartbeats, the first at once, until stopped, refused, or past what a heartbeat can extend."""
        timeout = asked.hook.heartbeat_timeout
        ends = self._deadline.now() + asked.hook.global_timeout
        if self._deadline.tighten(ends):
            logger.warning("the hook's global timeout leaves %.0f s", asked.hook.global_timeout)
        last, accepted = self._deadline.now(), False
        while not self._stopped.is_set() and self._deadline.now() < ends:
            try:
                client.heartbeat(asked.group, asked.hook.name, self._deadline)
                last, accepted = self._deadline.now(), True
                self._stopped.wait(_jitter(timeout / 3))
            except GroupError as error:
                if accepted and error.refusal is Refusal.NOT_ACTIVE:
                    logger.info("no more heartbeats: the group does not wait any more")
                    return
                late = self._deadline.now() - last > timeout * 2 / 3
                if (late or error.refusal is Refusal.DENIED) and self._deadline.tighten(last + timeout):
                    logger.error("%s; the answer is due in %.0f s", error.message, self._deadline.remaining())
                else:
                    logger.warning("%s", error.message)
                self._stopped.wait(_jitter(RETRY_SECONDS))


def _jitter(seconds: float) -> float:
    """Up to a fifth less, so that a fleet that was told at once does not ask at once."""
    return seconds * random.uniform(0.8, 1.0)  # noqa: S311

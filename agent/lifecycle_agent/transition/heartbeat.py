"""The group's side, kept up beside the steps: until it asks, then a heartbeat every third of its timeout."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from lifecycle_agent.clients.autoscaling import GroupError, Refusal
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.logline import logger
from lifecycle_agent.model import POOL, ActionResult, LifecycleState, LifecycleTransition, NamedAction
from lifecycle_agent.transition.completion import (
    FIRST_PAUSE,
    GIVEN,
    LONGEST_PAUSE,
    Next,
    after_refusal,
    answer,
)
from lifecycle_agent.transition.our_hook import (
    LONGEST_BUSY_SECONDS,
    LOOK_SECONDS,
    Asked,
    GroupClient,
    OurHook,
)
from lifecycle_agent.transition.plan import ANSWER_SECONDS

LONGEST_LOOK_SECONDS = (
    5.0  # between two looks at the instance's state: a fleet shares the account's request rate
)
RETRY_SECONDS = 2.0  # after a failed heartbeat: several tries fit the last third of the shortest timeout

# Seconds for which a group is waited for that need not ask, and was not found while everything else was done.
IF_ASKED_SECONDS = 3.0

# Seconds, and share of the deadline, for which the steps are held up by a group that cannot be asked, or that
# does not know yet that it takes the instance away. A throttled minute passes within it, with room to spare.
PATIENCE = (120.0, 0.25)


class GroupSide(threading.Thread):
    """The group's side of a transition that answers a lifecycle action.

    The thread finds the group and our hook, watches for the moment in which the group asks, and
    sends heartbeats from then on. The runner asks it for what it found, and to complete.

    Args:
        connect: makes the client; called in the thread, for it imports boto3.
        configured: the hook's name in the configuration, or empty.
        group: the group's name where the metadata has it.
        deadline: the transition's; brought forward when the group will not wait as long.
        tightened: told where to, for a resumed transition to know.
        if_asked: whether the group is answered only where it happens to ask; there is time to wait for
            that where the machine stays.
        stopped: what ends the heartbeats; tests hand in one that tells the time.
        action: the action that an event has named.
        machine_goes: whether the machine goes at the deadline, whatever the group has come to.
    """

    def __init__(
        self,
        connect: Callable[[], GroupClient],
        transition: LifecycleTransition,
        configured: str,
        group: str | None,
        deadline: Deadline,
        tightened: Callable[[float], None],
        stopped: threading.Event | None = None,
        if_asked: bool = False,
        action: NamedAction | None = None,
        machine_goes: bool = False,
    ) -> None:
        super().__init__(name="group", daemon=True)
        self._machine_goes = machine_goes
        self._transition = transition
        self._if_asked = if_asked and machine_goes
        self._deadline = deadline
        self._tightened = tightened
        self._found = threading.Event()
        self._stopped = stopped or threading.Event()
        self._ours = OurHook(connect, transition, configured, group, self._stopped, action)
        self._asked: Asked | None = None
        self._waiting: bool | None = False
        seconds, share = PATIENCE
        self._patience = deadline.within(min(seconds, share * deadline.remaining()))

    def group(self, seconds: float = 0.0) -> str | None:
        """The group's name as far as it is known; waited for `seconds` once the thread has started."""
        if self._ours.group is None and self.ident is not None:
            self._found.wait(seconds)
        return self._ours.group

    def waiting(self) -> bool | None:
        """Whether the group waits for our answer; None when that is not known, or no answer is owed."""
        if self._waiting is False and self._patience.passed:
            self._waiting = None
            logger.warning("the group does not say where this instance is: not waiting for its load balancer")
        return self._waiting

    def run(self) -> None:
        """Find the hook, wait for the group to ask, then keep the action alive."""
        try:
            until = Deadline.after(self._deadline.remaining() + ANSWER_SECONDS, self._deadline.now)
            self._asked = self._ours.find(until)
            if self._asked is None:
                self._waiting = None
                return
            self._found.set()
            since = self._until_asked(self._asked)
            if since is not None:
                self._keep_alive(self._asked, since)
        except LifecycleAgentError as error:
            logger.error("%s; %s", error.message, error.hint)
            self._waiting = None
        except Exception:  # the thread's last line: the steps and the answer go on whatever happens here
            logger.exception("the group's side")
            self._waiting = None
        finally:
            self._found.set()

    def stop(self) -> None:
        """No more heartbeats."""
        self._stopped.set()

    def complete(
        self,
        result: ActionResult,
        deadline: Deadline,
        patience: Deadline,
        sleep: Callable[[float], None],
        say: Callable[[str], None],
    ) -> str:
        """Answer the group; see `completion.answer` for the arguments.

        Returns:
            One sentence about the answer.

        Raises:
            LifecycleAgentError: it could not be answered.
        """
        if self.ident is not None:
            self._found.wait(patience.timeout(IF_ASKED_SECONDS) if self._if_asked else patience.remaining())
        if self._if_asked and not self._found.is_set():
            return "not known whether an answer is owed: the group cannot be asked"
        if self._asked is None:
            self._asked = self._find(deadline, patience, sleep, say)
        if self._asked is None:
            return "no answer is owed: the group has no lifecycle hook for this"
        asked, client = self._asked, self._asked.client
        told = answer(
            lambda: client.complete(asked.group, asked.hook.name, result, patience, asked.token),
            lambda: client.membership(patience),
            self._transition,
            deadline,
            patience,
            sleep,
            say,
            self._if_asked and self._waiting is not True,
            self._machine_goes,
        )
        return f"hook {asked.hook.name}, {result.value}: {told}" if told == GIVEN else told

    def _find(
        self,
        deadline: Deadline,
        patience: Deadline,
        sleep: Callable[[float], None],
        say: Callable[[str], None],
    ) -> Asked | None:
        """Once more: an answer that is owed is not skipped for a bad moment, or for a policy on its way."""
        # One that takes the place of a launch has it from there that the group asks; a machine that is
        # switched off and may not ask the group at all must not wait for that.
        owed = not self._if_asked or self._transition is LifecycleTransition.LAUNCHING
        pause = FIRST_PAUSE
        while True:
            try:
                return self._ours.find(patience)
            except GroupError as error:
                if error.refusal is not Refusal.DENIED or not owed or deadline.passed:
                    raise
                say(error.message)
            sleep(max(0.01, min(_jitter(pause), deadline.remaining())))
            pause = min(LONGEST_PAUSE, pause * 2)

    def _until_asked(self, asked: Asked) -> float | None:
        """Return when the group waits for our answer, or when nobody needs to know any more.

        With an event that is at once: the group sends it when it begins to wait.

        Returns:
            Since when it may have been waiting, in seconds on the boot clock; None where it does not wait
            for an answer any more, or never has.
        """
        pause = LOOK_SECONDS
        since = self._deadline.now()
        if asked.token:
            self._waiting = True
            return since
        while not self._stopped.is_set():
            looked = self._deadline.now()
            try:
                membership = asked.client.membership(self._deadline)
            except GroupError as error:
                if error.refusal is Refusal.DENIED:
                    # Not knowing must not hold up the steps; heartbeats are tried all the same.
                    logger.warning("%s; not waiting for the group to ask", error.message)
                    self._waiting = None
                    break
            else:
                state = membership.state if membership else None
                following = after_refusal(state, self._transition)
                if following in (Next.AGAIN, Next.ANSWERED, Next.RETAINED) and not self._may_ask_yet(state):
                    self._waiting = True
                    logger.info("%s (%s)", following.value, state.word if state else "gone")
                    return since if following is Next.AGAIN else None
                since = looked
                if following is Next.WAIT:
                    # It is on its way to asking: that holds until it says something else.
                    self._patience = self._deadline
                    self._waiting = False
                pause = min(LONGEST_LOOK_SECONDS, pause)
            self._stopped.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(LONGEST_BUSY_SECONDS, pause * 1.5)
        return since

    def _may_ask_yet(self, state: LifecycleState | None) -> bool:
        """Whether it rests in the warm pool: out of there the group asks, and says so a moment later."""
        resting = state is not None and state.word in [each.value for each in POOL]
        return resting and self._transition is LifecycleTransition.LAUNCHING

    def _keep_alive(self, asked: Asked, since: float) -> None:
        """Heartbeats, the first at once, until stopped, refused, or past what a heartbeat can extend.

        Args:
            since: when the group began to wait, or somewhat before.
        """
        timeout = asked.hook.heartbeat_timeout
        ends = since + asked.hook.global_timeout
        if self._tighten(ends):
            logger.warning("the hook's global timeout leaves %.0f s", self._deadline.remaining())
        last, accepted, pause = since, False, RETRY_SECONDS
        while not self._stopped.is_set() and self._deadline.now() < ends:
            sent = self._deadline.now()
            try:
                asked.client.heartbeat(asked.group, asked.hook.name, self._deadline, asked.token)
            except GroupError as error:
                if accepted and error.refusal is Refusal.NOT_ACTIVE:
                    logger.info("no more heartbeats: the group does not wait any more")
                    return
                # Only a refusal is for good: the next heartbeat that is accepted gives all the time again.
                if error.refusal is Refusal.DENIED and self._tighten(last + timeout):
                    logger.error("%s; the answer is due in %.0f s", error.message, self._deadline.remaining())
                else:
                    logger.warning("%s", error.message)
                self._stopped.wait(_jitter(pause))
                # A long timeout leaves time to be gentler.
                pause = min(pause * 1.5, max(RETRY_SECONDS, timeout / 12))
            else:
                last, accepted, pause = sent, True, RETRY_SECONDS
                self._stopped.wait(_jitter(timeout / 3))

    def _tighten(self, at: float) -> bool:
        """Bring the transition's end forward; False if that is where it is already, or before it."""
        if not self._deadline.tighten(at):
            return False
        self._tightened(at)
        return True


def _jitter(seconds: float) -> float:
    """Up to a fifth less, so that a fleet that was told at once does not ask at once."""
    return seconds * random.uniform(0.8, 1.0)  # noqa: S311

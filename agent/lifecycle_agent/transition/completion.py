"""Answering the group: which hook is ours, and what to make of a refusal."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from enum import Enum

from lifecycle_agent.clients.autoscaling import GroupError, Membership, Refusal
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError, UsageError
from lifecycle_agent.model import Hook, LifecycleState, LifecycleTransition

CODEDEPLOY_PREFIX = "CodeDeploy-managed-"  # CodeDeploy's own hooks: answered by its agent, never by us

GIVEN = "the group has the answer"
NOT_ASKED = "no answer was owed: the machine goes before the group has asked"

FIRST_PAUSE = 0.2  # seconds; the group's own state changes take about as long
LONGEST_PAUSE = 5.0  # seconds; still six tries within the shortest heartbeat timeout, 30 s

# Seconds for which the group may call an instance InService that its metadata already calls Terminated: the
# two are not told at once. Many times what that takes; by hand nobody waits longer for a wrong command.
EARLY_SECONDS = 30.0


class Next(Enum):
    """What follows when the group says that no lifecycle action is active."""

    WAIT = "the group does not ask yet"
    EARLY = "the group does not take this instance away"
    AGAIN = "the group asks"
    ANSWERED = "the group has its answer"
    RETAINED = "the group keeps the instance for a human"


def after_refusal(state: LifecycleState | None, transition: LifecycleTransition) -> Next:
    """What to make of "No active Lifecycle Action": only the instance's state tells.

    The refusal covers too early, already done and no such hook (see the design, "Rules of completion").

    Args:
        state: None when no group knows the instance.
        transition: whose hook was to be answered.
    """
    if state is None:
        return Next.ANSWERED
    if state.retained:
        return Next.RETAINED
    launching = transition is LifecycleTransition.LAUNCHING
    if launching and state.replacing:
        return Next.WAIT  # it is launched anew on its new root volume
    if launching and "Terminating" in state.word:
        return Next.ANSWERED  # it is taken away, and its launch is not waited for any more
    if not launching and state.word in _BEFORE_TERMINATING:
        return Next.EARLY
    if state.waiting:
        return Next.AGAIN
    return Next.WAIT if state.arriving else Next.ANSWERED


# Where an instance may be from which it is taken away. The group's word for it may be an older one than the
# metadata's, and what it waits for there is another hook's answer.
_BEFORE_TERMINATING = (
    "Pending",
    "Pending:Wait",
    "InService",
    "Standby",
    "EnteringStandby",
    "Quarantined",
    "Pending:Proceed",
    "ReplacingRootVolume",
    "ReplacingRootVolume:Proceed",
    "RootVolumeReplaced",
)


def choose_hook(hooks: Sequence[Hook], configured: str, transition: LifecycleTransition) -> Hook | None:
    """Our hook among the group's: the configured one, else the only one of the transition.

    Returns:
        None when the group has no hook of that transition besides CodeDeploy's: no answer is owed. The
        first instances of a group may be there before its hooks are.

    Raises:
        UsageError: the configured hook is not among several, or none is configured and there are several.
    """
    key = "hooks.terminate" if transition is LifecycleTransition.TERMINATING else "hooks.launch"
    candidates = [hook for hook in hooks if hook.transition is transition]
    if configured:
        for hook in candidates:
            if hook.name == configured:
                return hook
    ours = [hook for hook in candidates if not hook.name.startswith(CODEDEPLOY_PREFIX)]
    if configured and ours:
        names = ", ".join(hook.name for hook in ours)
        raise UsageError(
            f"{key} = {configured!r}: the group has no such hook (of this transition it has: {names})",
            f"mend {key}, or create the lifecycle hook",
        )
    if len(ours) > 1:
        names = ", ".join(hook.name for hook in ours)
        raise UsageError(f"{key} is not set and the group has several hooks: {names}", f"set {key} to ours")
    return ours[0] if ours else None


def answer(
    complete: Callable[[], None],
    membership: Callable[[], Membership | None],
    transition: LifecycleTransition,
    deadline: Deadline,
    patience: Deadline,
    sleep: Callable[[float], None],
    say: Callable[[str], None],
    if_asked: bool = False,
    machine_goes: bool = False,
) -> str:
    """Complete the lifecycle action, through whatever can pass.

    Args:
        complete: one CompleteLifecycleAction.
        membership: one DescribeAutoScalingInstances.
        transition: whose hook it is.
        deadline: until when it is tried although the group says that it asks and refuses the answer.
        patience: until when the group is waited for that does not ask yet, or cannot be reached.
        sleep: waits for so many seconds.
        say: what it waits for, for people.
        if_asked: whether no answer is owed by an instance that the group does not take away.
        machine_goes: whether `patience` ends with the machine itself, whatever the group has come to.

    Returns:
        One sentence: how it came out well.

    Raises:
        LifecycleAgentError: it did not; the group's default result will decide.
    """
    limits = {Next.AGAIN: deadline, Next.EARLY: patience.within(EARLY_SECONDS)}
    pause, following = FIRST_PAUSE, None
    while True:
        limit = patience
        try:
            complete()
            return GIVEN
        except GroupError as error:
            refused = error
        if refused.refusal is Refusal.DENIED:
            # A policy on its way, a clock being set, credentials being rotated: these pass, too.
            limit = deadline
            say(refused.message)
        elif refused.refusal is Refusal.NOT_ACTIVE:
            following = _look(membership, transition)
            if following is Next.EARLY and if_asked:
                return "no answer is owed: the group does not take this instance away"
            if following is Next.ANSWERED:
                return "nothing to answer any more: the group has moved on"
            if following is Next.RETAINED:
                raise LifecycleAgentError(
                    "the group keeps this instance (Terminating:Retained) after an ABANDON or a timeout",
                    "look at it, then call TerminateInstanceInAutoScalingGroup: it is billed until then",
                )
            limit = limits.get(following, patience)
            say(following.value)
        elif if_asked:
            # It has been asked all the while, and the machine goes.
            return f"not known whether an answer is owed: {refused.message}"
        else:
            say(refused.message)
        if limit.passed and machine_goes and following is Next.WAIT:
            return NOT_ASKED
        if limit.passed:
            raise LifecycleAgentError(
                f"the lifecycle action could not be completed in time: {refused.message}", refused.hint
            )
        # Not less than the clock can tell, so that it never asks without a pause.
        sleep(max(0.01, min(pause * random.uniform(0.5, 1.0), limit.remaining())))  # noqa: S311
        pause = min(LONGEST_PAUSE, pause * 2)


def _look(membership: Callable[[], Membership | None], transition: LifecycleTransition) -> Next:
    """What the instance's state makes of a refusal; not knowing it is no reason to give up."""
    try:
        found = membership()
    except GroupError:
        return Next.AGAIN
    return after_refusal(found.state if found is not None else None, transition)

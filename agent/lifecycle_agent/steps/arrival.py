"""Whether the instance is a new one, which only the group knows."""

from __future__ import annotations

import random
from typing import Protocol

from lifecycle_agent.clients.autoscaling import GroupError, Membership, Refusal
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.model import ENOUGH, POOL, UNKNOWN
from lifecycle_agent.steps import Done, Work

# Seconds between two questions, at first and at most, less up to half of it: a scaled-out fleet asks at once.
PAUSE = (1.0, 15.0)
# Seconds for which a group that does not know the instance is asked again: what it says is a moment old.
UNKNOWN_SECONDS = 10.0
# Seconds for which it is asked again when the group may not be asked: a policy may be on its way.
DENIED_SECONDS = 30.0
# Seconds since the boot for which an instance may be in its launch: the longest HeartbeatTimeout of a hook.
NEW_SECONDS = 7200.0

_RESTS = tuple(state.value for state in POOL)
_NEW_VOLUME = ("ReplacingRootVolume:Proceed", "RootVolumeReplaced")  # launched anew, as it boots from that
_LAUNCHING = ("Pending", "Pending:Wait", "Warmed:Pending", "Warmed:Pending:Wait")


class Group(Protocol):
    """What is asked of the group; raises `GroupError`."""

    def membership(self, deadline: Deadline) -> Membership | None:
        """Where the group says the instance is; None when no group knows it."""
        ...


class Arrival:
    """Asks the group where the instance is: a new one is prepared, one found in service is put on record.

    Args:
        held_back: whether units still wait for the launch. Then this machine was started with the agent on
            it, and the group has not waited for it: it is prepared all the same.
        leaving: whether it comes out of the warm pool: then it is only waited for until the group says so,
            for before that an answer would mean nothing.
    """

    def __init__(self, group: Group, held_back: bool = False, leaving: bool = False) -> None:
        self._group = group
        self._held_back = held_back
        self._leaving = leaving

    def run(self, work: Work) -> Done:
        """Ask, through whatever can pass. A group that never answers is asked anew by the next transition."""
        pause, longest = PAUSE
        denied = Deadline.after(DENIED_SECONDS, work.deadline.now)
        unknown = Deadline.after(UNKNOWN_SECONDS, work.deadline.now)
        while True:
            try:
                found = self._group.membership(work.deadline)
            except GroupError as error:
                warnings = (f"{error.message}; {error.hint}",)
                if error.refusal is Refusal.DENIED and self._seems_new(work.deadline.now()):
                    return Done("taken for a new instance", warnings=warnings)
                if error.refusal is Refusal.DENIED and denied.passed:
                    detail = "taken for one that is in service: put on record"
                    return Done(detail, {ENOUGH: True}, warnings)
                if work.deadline.passed:
                    return Done("not known whether it is new: tried again", {UNKNOWN: True}, warnings)
                work.say(f"asking again: {error.message}")
            else:
                if found is not None and (not self._rests(found) or unknown.passed):
                    return self._found(found)
                if found is None and unknown.passed:
                    if self._leaving:
                        return Done("no group knows this instance: taken into service all the same")
                    return Done("no group knows this instance: put on record", {ENOUGH: True})
            work.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(longest, pause * 1.5)

    def _seems_new(self, booted_since: float) -> bool:
        """By what is known without the group: nothing is on record of it, and how long it runs."""
        return self._leaving or self._held_back or booted_since < NEW_SECONDS

    def _rests(self, found: Membership) -> bool:
        """Whether it is to leave the pool, and the group's own word is older than the metadata's."""
        return self._leaving and found.state.word in _RESTS

    def _found(self, found: Membership) -> Done:
        word = found.state.word
        # In the pool already: without a hook nobody waits for us, and the app is to be kept out of the
        # registry all the same.
        new = (*_RESTS, "Warmed:Pending:Proceed", *_LAUNCHING, *_NEW_VOLUME)
        if self._leaving or word in new:
            return Done(f"group {found.group} has it in {word}", {"state": word})
        if self._held_back and not word.removeprefix("Warmed:").startswith(("Terminat", "Detach")):
            warning = "the group has not waited for it: is there a launching hook?"
            return Done(f"units wait for the launch; {warning}", {"state": word}, (warning,))
        detail = f"found in group {found.group} in {word}: put on record, and nothing else is done"
        return Done(detail, {ENOUGH: True, "state": word})

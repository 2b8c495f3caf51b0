"""Whether an instance is new: what the group says, and what it does not say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lifecycle_agent.clients.autoscaling import GroupError, Membership, Refusal
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import StepFailed
from lifecycle_agent.model import ENOUGH, LifecycleState
from lifecycle_agent.steps import Done
from lifecycle_agent.steps.arrival import UNKNOWN_SECONDS, Arrival

Says = Callable[[], Membership | None]


class World:
    """A clock that the waiting moves, and a group that says what it is told to, again and again."""

    def __init__(self, *says: str | GroupError | None) -> None:
        self.now = 0.0
        self.says = list(says)
        self.deadline = Deadline(60.0, lambda: self.now)

    def membership(self, deadline: Deadline) -> Membership | None:
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, GroupError):
            raise said
        return None if said is None else Membership("orders", LifecycleState(said))

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        pass

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def arrives(self, held_back: bool = False, leaving: bool = False) -> Done:
        return Arrival(self, held_back, leaving).run(self)


def refused(refusal: Refusal) -> GroupError:
    return GroupError("DescribeAutoScalingInstances: no", "hint", refusal)


@pytest.mark.parametrize(
    "word",
    [
        *("Pending", "Pending:Wait", "Warmed:Pending", "Warmed:Pending:Wait"),
        # without a hook it is there before anybody has asked
        *("Warmed:Stopped", "Warmed:Running", "Warmed:Hibernated", "Warmed:Pending:Proceed"),
    ],
)
def test_one_that_the_group_is_launching_is_new(word: str) -> None:
    done = World(word).arrives()
    assert ENOUGH not in done.data
    assert word in done.detail


@pytest.mark.parametrize(
    "word",
    [
        *("InService", "Pending:Proceed", "Standby", "Terminating:Wait", "ReplacingRootVolume:Wait"),
        *("RootVolumeReplaced", "Quarantined", "Detached"),
    ],
)
def test_any_other_is_put_on_record(word: str) -> None:
    done = World(word).arrives()
    assert done.data[ENOUGH]
    assert f"found in group orders in {word}" in done.detail


def test_one_whose_units_still_wait_is_prepared_though_nobody_has_waited_for_it() -> None:
    """The first ones of a group may be there before its hook, with units that a baked drop-in holds back."""
    done = World("InService").arrives(held_back=True)
    assert ENOUGH not in done.data
    assert done.warnings == ("the group has not waited for it: is there a launching hook?",)
    assert World("Terminating:Wait").arrives(held_back=True).data[ENOUGH]


def test_one_that_leaves_the_pool_waits_for_the_groups_word() -> None:
    late = World("Warmed:Running", "Warmed:Running", "Pending:Wait")
    assert late.arrives(leaving=True).data == {"state": "Pending:Wait"}
    never = World("Warmed:Stopped")
    assert never.arrives(leaving=True).data == {"state": "Warmed:Stopped"}
    assert UNKNOWN_SECONDS <= never.now < UNKNOWN_SECONDS + 2
    assert World("InService").arrives(leaving=True).data == {"state": "InService"}


def test_one_that_no_group_knows_is_asked_for_again_for_a_while() -> None:
    late = World(None, None, "Pending:Wait")
    assert ENOUGH not in late.arrives().data
    never = World(None)
    assert never.arrives().data[ENOUGH]
    assert UNKNOWN_SECONDS <= never.now < UNKNOWN_SECONDS + 2


def test_a_throttled_group_is_asked_again() -> None:
    busy = refused(Refusal.TRANSIENT)
    assert ENOUGH not in World(busy, busy, "Pending").arrives().data
    with pytest.raises(StepFailed, match="DescribeAutoScalingInstances: no"):
        World(busy).arrives()


def test_one_that_may_not_ask_is_taken_for_new_and_says_so() -> None:
    done = World(refused(Refusal.DENIED)).arrives()
    assert ENOUGH not in done.data
    assert done.warnings == ("DescribeAutoScalingInstances: no; hint",)

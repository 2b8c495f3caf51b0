"""Whether an instance is new: what the group says, and what it does not say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lifecycle_agent.clients.autoscaling import GroupError, Membership, Refusal
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.model import ENOUGH, UNKNOWN, LifecycleState
from lifecycle_agent.steps import Done
from lifecycle_agent.steps.arrival import DENIED_SECONDS, NEW_SECONDS, UNKNOWN_SECONDS, Arrival

Says = Callable[[], Membership | None]


class World:
    """A clock that the waiting moves, and a group that says what it is told to, again and again."""

    def __init__(self, *says: str | GroupError | None) -> None:
        self.now, self.asked = 0.0, 0
        self.says = list(says)
        self.deadline = Deadline(NEW_SECONDS + 60.0, lambda: self.now)

    def membership(self, deadline: Deadline) -> Membership | None:
        self.asked += 1
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
        # it boots from a new root volume
        *("ReplacingRootVolume:Proceed", "RootVolumeReplaced"),
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
        *("Quarantined", "Detached"),
    ],
)
def test_any_other_is_put_on_record(word: str) -> None:
    done = World(word).arrives()
    assert done.data[ENOUGH]
    assert f"found in group orders in {word}" in done.detail


@pytest.mark.parametrize("word", ["InService", "Pending:Proceed", "Standby"])
def test_one_whose_units_still_wait_is_prepared_though_nobody_has_waited_for_it(word: str) -> None:
    """The first ones of a group may be there before its hook, with units that a baked drop-in holds back."""
    done = World(word).arrives(held_back=True)
    assert ENOUGH not in done.data
    assert done.warnings == ("the group has not waited for it: is there a launching hook?",)
    assert World("Terminating:Wait").arrives(held_back=True).data[ENOUGH]


def test_one_that_leaves_the_pool_waits_for_the_groups_word() -> None:
    late = World("Warmed:Running", "Warmed:Running", "Pending:Wait")
    assert late.arrives(leaving=True).data == {"state": "Pending:Wait"}
    never = World("Warmed:Stopped")
    assert never.arrives(leaving=True).data == {"state": "Warmed:Stopped"}
    assert UNKNOWN_SECONDS <= never.now < UNKNOWN_SECONDS + 15
    assert World("InService").arrives(leaving=True).data == {"state": "InService"}


def test_one_that_no_group_knows_is_asked_for_again_for_a_while() -> None:
    late = World(None, None, "Pending:Wait")
    assert ENOUGH not in late.arrives().data
    never = World(None)
    assert never.arrives().data[ENOUGH]
    assert UNKNOWN_SECONDS <= never.now < UNKNOWN_SECONDS + 15


def test_one_that_leaves_the_pool_and_no_group_knows_is_taken_into_service() -> None:
    """Put on record only, it would be told to leave the pool again and again."""
    assert World(None).arrives(leaving=True) == Done(
        "no group knows this instance: taken into service all the same"
    )


def test_a_throttled_group_is_asked_again() -> None:
    busy = refused(Refusal.TRANSIENT)
    assert ENOUGH not in World(busy, busy, "Pending").arrives().data


def test_a_group_that_cannot_be_asked_at_all_decides_nothing() -> None:
    """An instance in service must not be launched for it, nor a new one be abandoned."""
    world = World(refused(Refusal.TRANSIENT))
    done = world.arrives()
    assert done.data == {UNKNOWN: True}
    assert done.warnings == ("DescribeAutoScalingInstances: no; hint",)
    assert world.asked < world.now / 7, "a fleet that is throttled asks less and less"


@pytest.mark.parametrize(
    ("booted", "held_back", "leaving", "new"),
    [
        (60.0, False, False, True),
        (NEW_SECONDS + 1, False, False, False),
        (NEW_SECONDS + 1, True, False, True),
        (NEW_SECONDS + 1, False, True, True),
    ],
)
def test_one_that_may_not_ask_is_told_by_how_long_it_runs_and_says_so(
    booted: float, held_back: bool, leaving: bool, new: bool
) -> None:
    world = World(refused(Refusal.DENIED))
    world.now = booted
    done = world.arrives(held_back, leaving)
    assert (ENOUGH not in done.data) == new
    assert (world.now >= booted + DENIED_SECONDS) is not new, "a policy may be on its way"
    assert done.warnings == ("DescribeAutoScalingInstances: no; hint",)

"""Answering the group: what a refusal means, which hook is ours, and the answer through whatever can pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lifecycle_agent.clients.autoscaling import GroupError, Membership, Refusal
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted, LifecycleAgentError, UsageError
from lifecycle_agent.model import ActionResult, Hook, LifecycleState, LifecycleTransition
from lifecycle_agent.transition.completion import EARLY_SECONDS, Next, after_refusal, answer, choose_hook

TERMINATING, LAUNCHING = LifecycleTransition.TERMINATING, LifecycleTransition.LAUNCHING

# Every LifecycleState of DescribeAutoScalingInstances, and what it means for an answer to a terminating
# hook and to a launching one.
WORDS = {
    "Pending": (Next.EARLY, Next.WAIT),
    "Pending:Wait": (Next.EARLY, Next.AGAIN),
    "Pending:Proceed": (Next.EARLY, Next.ANSWERED),
    "Quarantined": (Next.EARLY, Next.ANSWERED),
    "InService": (Next.EARLY, Next.ANSWERED),
    "Terminating": (Next.WAIT, Next.ANSWERED),
    "Terminating:Wait": (Next.AGAIN, Next.ANSWERED),
    "Terminating:Proceed": (Next.ANSWERED, Next.ANSWERED),
    "Terminating:Retained": (Next.RETAINED, Next.RETAINED),
    "Terminated": (Next.ANSWERED, Next.ANSWERED),
    "Detaching": (Next.ANSWERED, Next.ANSWERED),
    "Detached": (Next.ANSWERED, Next.ANSWERED),
    "EnteringStandby": (Next.EARLY, Next.ANSWERED),
    "Standby": (Next.EARLY, Next.ANSWERED),
    "ReplacingRootVolume": (Next.EARLY, Next.WAIT),
    "ReplacingRootVolume:Wait": (Next.AGAIN, Next.WAIT),
    "ReplacingRootVolume:Proceed": (Next.EARLY, Next.WAIT),
    "RootVolumeReplaced": (Next.EARLY, Next.WAIT),
    "Warmed:Pending": (Next.WAIT, Next.WAIT),
    "Warmed:Pending:Wait": (Next.AGAIN, Next.AGAIN),
    "Warmed:Pending:Proceed": (Next.ANSWERED, Next.ANSWERED),
    "Warmed:Pending:Retained": (Next.RETAINED, Next.RETAINED),
    "Warmed:Terminating": (Next.WAIT, Next.ANSWERED),
    "Warmed:Terminating:Wait": (Next.AGAIN, Next.ANSWERED),
    "Warmed:Terminating:Proceed": (Next.ANSWERED, Next.ANSWERED),
    "Warmed:Terminating:Retained": (Next.RETAINED, Next.RETAINED),
    "Warmed:Terminated": (Next.ANSWERED, Next.ANSWERED),
    "Warmed:Stopped": (Next.ANSWERED, Next.ANSWERED),
    "Warmed:Running": (Next.ANSWERED, Next.ANSWERED),
    "Warmed:Hibernated": (Next.ANSWERED, Next.ANSWERED),
}


@pytest.mark.parametrize(("word", "expected"), WORDS.items(), ids=WORDS)
def test_what_a_refusal_means_in_each_state(word: str, expected: tuple[Next, Next]) -> None:
    state = LifecycleState(word)
    assert (after_refusal(state, TERMINATING), after_refusal(state, LAUNCHING)) == expected


def test_an_instance_that_no_group_knows_has_been_answered_for() -> None:
    assert after_refusal(None, TERMINATING) is Next.ANSWERED


def test_the_table_has_every_word_of_the_services_model() -> None:
    import botocore.session

    model = botocore.session.get_session().get_service_model("autoscaling")
    shape = model.shape_for("LifecycleState")
    assert set(shape.enum) <= set(WORDS)  # type: ignore[attr-defined]


# -- which hook


def hook(name: str, transition: LifecycleTransition = TERMINATING) -> Hook:
    return Hook(name, transition, 300.0, 30000.0, ActionResult.ABANDON)


DRAIN, OTHER, WARM_UP = hook("drain"), hook("other"), hook("warm-up", LAUNCHING)
CODEDEPLOY = hook("CodeDeploy-managed-automatic-terminate-deployment-group-hook-1-abc")


@pytest.mark.parametrize(
    ("hooks", "configured", "expected"),
    [
        ([DRAIN, OTHER, WARM_UP], "drain", DRAIN),
        ([DRAIN, WARM_UP], "", DRAIN),
        ([CODEDEPLOY, DRAIN], "", DRAIN),
        ([CODEDEPLOY], "", None),
        ([WARM_UP], "", None),
        ([], "", None),
        # The first instances of a group may be there before the hook is.
        ([], "drain", None),
        ([CODEDEPLOY, WARM_UP], "drain", None),
        ([CODEDEPLOY], CODEDEPLOY.name, CODEDEPLOY),  # whoever names it means it
    ],
)
def test_our_hook(hooks: list[Hook], configured: str, expected: Hook | None) -> None:
    assert choose_hook(hooks, configured, TERMINATING) is expected


@pytest.mark.parametrize(
    ("hooks", "configured", "said"),
    [
        ([DRAIN, OTHER], "", "hooks.terminate is not set and the group has several hooks: drain, other"),
        ([OTHER], "drain", "hooks.terminate = 'drain': the group has no such hook"),
        ([OTHER], "drain", "it has: other"),
    ],
)
def test_no_hook_is_guessed(hooks: list[Hook], configured: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_hook(hooks, configured, TERMINATING)
    assert said in caught.value.message
    assert "hooks.terminate" in caught.value.hint


def test_the_launching_hooks_key_is_named_for_it() -> None:
    with pytest.raises(UsageError, match=r"hooks\.launch"):
        choose_hook([WARM_UP], "drain", LAUNCHING)


# -- the answer


NOT_ACTIVE = GroupError("CompleteLifecycleAction: not active", "hint", Refusal.NOT_ACTIVE)
BUSY = GroupError("CompleteLifecycleAction: Throttling", "hint", Refusal.TRANSIENT)
DENIED = GroupError("CompleteLifecycleAction: AccessDenied", "allow it", Refusal.DENIED)


class Scene:
    """A group that does what a function of the seconds since the beginning says, and a clock that only
    sleeping moves.
    """

    def __init__(
        self, refuses: Callable[[float], GroupError | None], state: Callable[[float], str | GroupError | None]
    ) -> None:
        self.now = 0.0
        self.refuses = refuses
        self.state = state
        self.tries: list[float] = []
        self.said: list[str] = []

    def complete(self) -> None:
        self.tries.append(self.now)
        refused = self.refuses(self.now)
        if refused is not None:
            raise refused

    def membership(self) -> Membership | None:
        state = self.state(self.now)
        if isinstance(state, GroupError):
            raise state
        return None if state is None else Membership("orders", LifecycleState(state))

    def sleep(self, seconds: float) -> None:
        assert seconds > 0, "asked without a pause"
        self.now += seconds

    def answer(
        self,
        deadline: float = 20.0,
        patience: float = 3600.0,
        if_asked: bool = False,
        machine_goes: bool = False,
    ) -> str:
        def clock() -> float:
            return self.now

        return answer(
            self.complete,
            self.membership,
            TERMINATING,
            Deadline(deadline, clock),
            Deadline(patience, clock),
            self.sleep,
            self.said.append,
            if_asked,
            machine_goes,
        )


def until(seconds: float, error: GroupError) -> Callable[[float], GroupError | None]:
    return lambda now: error if now < seconds else None


def always(error: GroupError) -> Callable[[float], GroupError]:
    return lambda now: error


def test_the_group_that_asks_is_answered_at_once() -> None:
    scene = Scene(lambda now: None, lambda now: "Terminating:Wait")
    assert scene.answer() == "the group has the answer"
    assert scene.tries == [0.0]


@pytest.mark.parametrize("minutes", [1, 20])
def test_throttled_for_minutes_it_is_tried_on_also_past_the_deadline(minutes: int) -> None:
    scene = Scene(until(60.0 * minutes, BUSY), lambda now: "Terminating:Wait")
    assert scene.answer(deadline=20.0) == "the group has the answer"
    assert scene.now - 60 * minutes <= 5, "and notices soon that it has passed"
    assert 60 * minutes / 5 < len(scene.tries) < 60 * minutes / 2, "gently"
    assert "Throttling" in scene.said[0]


def test_out_of_reach_for_good_it_ends_with_the_reason() -> None:
    scene = Scene(always(BUSY), lambda now: BUSY)
    with pytest.raises(LifecycleAgentError, match="in time: CompleteLifecycleAction: Throttling"):
        scene.answer()
    assert scene.now == pytest.approx(3600, abs=10)


def test_a_refusal_may_pass_too_until_the_deadline() -> None:
    """A policy that takes a minute to be in force everywhere, say."""
    scene = Scene(until(60.0, DENIED), lambda now: "Terminating:Wait")
    assert scene.answer(deadline=100.0) == "the group has the answer"


def test_a_refusal_for_good_ends_with_the_deadline_and_not_with_the_patience() -> None:
    scene = Scene(always(DENIED), lambda now: "Terminating:Wait")
    with pytest.raises(LifecycleAgentError, match=DENIED.message):
        scene.answer(deadline=100.0)
    assert 100 <= scene.tries[-1] < 110


def test_a_load_balancer_is_waited_for_past_the_deadline() -> None:
    """All steps are done and the group is in `Terminating` still: too early, and owed all the same."""
    scene = Scene(until(3000.0, NOT_ACTIVE), lambda now: "Terminating" if now < 3000 else "Terminating:Wait")
    assert scene.answer(deadline=0.0) == "the group has the answer"
    assert scene.said[0] == "the group does not ask yet"


def test_the_groups_word_may_come_later_than_the_metadatas() -> None:
    """InService still while IMDS says Terminated: an answer skipped now would be missing later."""
    scene = Scene(until(10.0, NOT_ACTIVE), lambda now: "InService" if now < 5 else "Terminating:Wait")
    assert scene.answer() == "the group has the answer"


def test_a_group_that_does_not_take_the_instance_away_is_not_waited_for_long() -> None:
    scene = Scene(always(NOT_ACTIVE), lambda now: "InService")
    with pytest.raises(LifecycleAgentError, match="not active"):
        scene.answer(deadline=600.0)
    assert scene.now == pytest.approx(EARLY_SECONDS, abs=1)


def test_one_that_need_not_ask_is_owed_no_answer() -> None:
    scene = Scene(always(NOT_ACTIVE), lambda now: "InService")

    assert scene.answer(if_asked=True) == "no answer is owed: the group does not take this instance away"
    assert scene.now == 0


def test_nor_is_it_waited_for_when_it_cannot_be_asked() -> None:
    scene = Scene(always(BUSY), lambda now: BUSY)

    assert scene.answer(if_asked=True).startswith("not known whether an answer is owed: ")
    assert scene.now == 0


@pytest.mark.parametrize("before", ["Terminating", "Terminating:Wait"])
def test_one_that_asks_gets_its_answer_also_when_it_need_not(before: str) -> None:
    scene = Scene(until(10.0, NOT_ACTIVE), lambda now: before)

    assert scene.answer(if_asked=True) == "the group has the answer"


def test_refused_while_the_group_asks_it_is_tried_to_the_deadline() -> None:
    scene = Scene(until(15.0, NOT_ACTIVE), lambda now: "Terminating:Wait")
    assert scene.answer(deadline=20.0) == "the group has the answer"
    hopeless = Scene(always(NOT_ACTIVE), lambda now: "Terminating:Wait")
    with pytest.raises(LifecycleAgentError):
        hopeless.answer(deadline=20.0)
    assert hopeless.now == pytest.approx(20, abs=5)


def test_an_answer_that_got_lost_on_its_way_back_is_found_given() -> None:
    scene = Scene(lambda now: BUSY if now == 0 else NOT_ACTIVE, lambda now: "Terminating:Proceed")
    assert "moved on" in scene.answer()
    assert len(scene.tries) == 2


@pytest.mark.parametrize("state", ["Terminating:Proceed", "Terminated", None])
def test_a_group_that_has_moved_on_needs_no_answer(state: str | None) -> None:
    assert "moved on" in Scene(always(NOT_ACTIVE), lambda now: state).answer()


def test_a_machine_that_goes_before_the_group_has_asked_owes_no_answer() -> None:
    """A spot interruption in the middle of a termination: the load balancer takes longer than there is."""
    scene = Scene(always(NOT_ACTIVE), lambda now: "Terminating")
    assert "before the group has asked" in scene.answer(patience=60.0, machine_goes=True)
    with pytest.raises(LifecycleAgentError):
        Scene(always(NOT_ACTIVE), lambda now: "Terminating").answer(patience=60.0)
    with pytest.raises(LifecycleAgentError):
        Scene(always(NOT_ACTIVE), lambda now: "Terminating:Wait").answer(patience=60.0, machine_goes=True)


def test_a_retained_instance_is_an_alert() -> None:
    with pytest.raises(LifecycleAgentError, match="keeps this instance") as caught:
        Scene(always(NOT_ACTIVE), lambda now: "Terminating:Retained").answer()
    assert "TerminateInstanceInAutoScalingGroup" in caught.value.hint


@pytest.mark.parametrize("trouble", [BUSY, DENIED], ids=["busy", "denied"])
def test_not_knowing_the_state_is_no_reason_to_give_up(trouble: GroupError) -> None:
    scene = Scene(until(10.0, NOT_ACTIVE), always(trouble))
    assert scene.answer() == "the group has the answer"


def test_told_to_stop_it_stops() -> None:
    scene = Scene(always(BUSY), lambda now: "Terminating:Wait")

    def stopped(seconds: float) -> None:
        raise Interrupted

    scene.sleep = stopped  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        scene.answer()

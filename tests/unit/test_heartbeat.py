"""The group's side of a transition: the hook, the moment of asking, heartbeats, and the answer."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from lifecycle_agent.clients.autoscaling import GroupError, Membership, Refusal
from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError, UsageError
from lifecycle_agent.model import (
    ActionResult,
    Hook,
    LifecycleState,
    LifecycleTransition,
    Machine,
    NamedAction,
    Notice,
    NoticeKind,
)
from lifecycle_agent.transition import parts
from lifecycle_agent.transition.heartbeat import PATIENCE, GroupSide
from lifecycle_agent.transition.our_hook import AT_ITS_WORD_SECONDS, LONGEST_BUSY_SECONDS

BUSY = GroupError("Throttling", "hint", Refusal.TRANSIENT)
BROKEN = GroupError("InternalFailure", "hint", Refusal.TRANSIENT)
NOT_ACTIVE = GroupError("No active Lifecycle Action found", "hint", Refusal.NOT_ACTIVE)
DENIED = GroupError("AccessDenied", "allow it", Refusal.DENIED)

Says = Callable[[float], "GroupError | str | None"]


def hook(timeout: float = 300.0, whole: float = 30000.0, name: str = "drain") -> Hook:
    return Hook(name, LifecycleTransition.TERMINATING, timeout, whole, ActionResult.ABANDON)


class Passing:
    """In place of the event that ends the thread: waiting for it moves the clock, `stop_at` sets it."""

    def __init__(self, stop_at: float) -> None:
        self.now = 0.0
        self.stop_at = stop_at

    def __call__(self) -> float:
        return self.now

    def is_set(self) -> bool:
        return self.now >= self.stop_at

    def set(self) -> None:
        self.stop_at = self.now

    def wait(self, seconds: float) -> bool:
        assert seconds > 0, "asked without a pause"
        self.now = min(self.now + seconds, max(self.now, self.stop_at))
        return self.is_set()


class FakeGroup:
    """A group as functions of the time; keeps what was called, and when."""

    def __init__(self, clock: Passing) -> None:
        self.clock = clock
        self.state: Says = lambda now: "Terminating:Wait"
        self.beat: Says = lambda now: None
        self.listing: Says = lambda now: None
        self.completing: Says = lambda now: None
        self.found = [hook()]
        self.looks: list[float] = []
        self.beats: list[float] = []  # accepted
        self.tried: list[float] = []
        self.completed: list[tuple[str, str, ActionResult]] = []
        self.tokens: list[str] = []  # of heartbeats and answers

    def _ask(self, says: Says) -> str | None:
        said = says(self.clock.now)
        if isinstance(said, GroupError):
            raise said
        return said

    def membership(self, deadline: Deadline) -> Membership | None:
        self.looks.append(self.clock.now)
        state = self._ask(self.state)
        return None if state is None else Membership("orders", LifecycleState(state))

    def hooks(self, group: str, deadline: Deadline) -> list[Hook]:
        assert group == "orders"
        self._ask(self.listing)
        return self.found

    def heartbeat(self, group: str, hook: str, deadline: Deadline, token: str = "") -> None:
        assert (group, hook) == ("orders", "drain")
        self.tried.append(self.clock.now)
        self._ask(self.beat)
        self.beats.append(self.clock.now)
        self.tokens.append(token)

    def complete(
        self, group: str, hook: str, result: ActionResult, deadline: Deadline, token: str = ""
    ) -> None:
        self._ask(self.completing)
        self.completed.append((group, hook, result))
        self.tokens.append(token)


class Scene:
    """The group's side on a clock that only waiting moves; `run` is the thread's."""

    def __init__(self, seconds: float = 600.0, stop_at: float = 600.0) -> None:
        self.clock = Passing(stop_at)
        self.client = FakeGroup(self.clock)
        self.deadline = Deadline.after(seconds, self.clock)
        self.tightened: list[float] = []
        self.connect: Callable[[], FakeGroup] = lambda: self.client
        self.stopped: threading.Event | None = None
        self.action: NamedAction | None = None
        self.transition = LifecycleTransition.TERMINATING
        self.if_asked = False

    def side(self, configured: str = "", group: str | None = "orders") -> GroupSide:
        return GroupSide(
            lambda: self.connect(),
            self.transition,
            configured,
            group,
            self.deadline,
            self.tightened.append,
            self.stopped or self.clock,  # type: ignore[arg-type]
            if_asked=self.if_asked,
            action=self.action,
            machine_goes=self.if_asked,
        )

    def run(self, configured: str = "", group: str | None = "orders") -> GroupSide:
        side = self.side(configured, group)
        side.run()
        return side

    def complete(self, side: GroupSide, result: ActionResult = ActionResult.CONTINUE) -> str:
        self.clock.stop_at = float("inf")

        def sleep(seconds: float) -> None:
            self.clock.wait(seconds)

        return side.complete(
            result,
            Deadline.after(20.0, self.clock),
            Deadline.after(3600.0, self.clock),
            sleep,
            lambda text: None,
        )


@pytest.fixture
def scene() -> Scene:
    return Scene()


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


# -- heartbeats


def test_every_third_of_the_timeout_with_jitter(scene: Scene) -> None:
    scene.run()
    assert scene.client.beats[0] == 0, "the first at once"
    between = gaps(scene.client.beats)
    assert len(between) >= 6
    assert all(80 <= gap <= 100 for gap in between)
    assert len(set(between)) > 1, "a fleet told at once does not ask at once"
    assert scene.deadline.at == 600


def test_through_throttling_and_server_errors(scene: Scene) -> None:
    scene.client.beat = lambda now: BUSY if 50 < now < 110 else BROKEN if 110 <= now < 150 else None
    scene.run()
    assert max(gaps(scene.client.beats)) < 200, "another one in the last third"
    assert scene.deadline.at == 600, "nothing was lost"


def test_a_refusal_after_a_success_ends_them(scene: Scene) -> None:
    scene.client.beat = lambda now: NOT_ACTIVE if now > 250 else None
    scene.run()
    assert scene.client.tried[-1] < 350
    assert len(scene.client.tried) == len(scene.client.beats) + 1


def test_a_refusal_before_any_success_does_not(scene: Scene) -> None:
    """Seen in the field: no active action, while the group says that it waits."""
    scene.client.beat = lambda now: NOT_ACTIVE if now < 40 else None
    scene.run()
    assert len(scene.client.beats) >= 5
    assert scene.client.beats[0] < 70


@pytest.mark.parametrize(("timeout", "most"), [(30.0, 700), (3600.0, 60)])
def test_refused_over_and_over_it_asks_as_gently_as_the_timeout_lets_it(timeout: float, most: int) -> None:
    scene = Scene(seconds=1200, stop_at=1200)
    scene.client.found = [hook(timeout)]
    scene.client.beat = lambda now: NOT_ACTIVE
    scene.run()
    assert len(scene.client.tried) < most


def test_never_past_the_global_timeout_and_the_end_is_brought_forward(scene: Scene) -> None:
    scene.client.found = [hook(60.0, whole=200.0)]
    scene.run()
    assert scene.client.beats[-1] < 200
    assert scene.deadline.at == 200
    assert scene.tightened == [200.0], "a resumed transition must know"


def test_a_global_timeout_beyond_the_deadline_changes_nothing(scene: Scene) -> None:
    scene.client.found = [hook(60.0, whole=6000.0)]
    scene.run()
    assert scene.tightened == []


def test_denied_heartbeats_leave_one_timeout_from_the_asking_on(scene: Scene) -> None:
    scene.client.beat = lambda now: DENIED
    scene.run()
    assert scene.tightened == [300.0]
    assert scene.deadline.at == 300


def test_a_service_that_is_busy_for_long_takes_no_time_from_the_transition(scene: Scene) -> None:
    """The next heartbeat that is accepted gives all of it again."""
    scene.client.beat = lambda now: BUSY if 100 < now < 390 else None
    scene.run()
    assert scene.client.beats[-1] > 390
    assert scene.tightened == []


def test_after_the_stop_no_more(scene: Scene) -> None:
    side = scene.side()

    def stopped(now: float) -> None:
        if now > 250:
            side.stop()

    scene.client.beat = stopped
    side.run()
    assert scene.client.tried[-1] < 350


# -- the moment of asking


def test_behind_a_load_balancer_the_steps_wait_and_no_heartbeat_is_sent(scene: Scene) -> None:
    side = scene.side()
    told: list[tuple[float, bool | None]] = []

    def state(now: float) -> str:
        told.append((now, side.waiting()))
        return "Terminating" if now < 400 else "Terminating:Wait"

    scene.client.state = state
    side.run()
    assert {waiting for _, waiting in told} == {False}, "however long it takes"
    assert side.waiting() is True
    assert 400 <= scene.client.beats[0] < 406
    assert gaps(scene.client.looks)[-1] <= 5


def test_the_end_is_reckoned_from_when_the_group_may_have_begun_to_wait(scene: Scene) -> None:
    scene.client.found = [hook(60.0, whole=100.0)]
    scene.client.state = lambda now: "Terminating" if now < 50 else "Terminating:Wait"
    scene.run()
    assert len(scene.tightened) == 1
    assert 145 <= scene.tightened[0] <= 150, "the look before: never later than the truth"


def test_a_group_that_cannot_be_asked_holds_the_steps_up_for_a_while_only(scene: Scene) -> None:
    side = scene.side()
    seen: dict[float, bool | None] = {}

    def state(now: float) -> GroupError:
        seen[now] = side.waiting()
        return BUSY

    scene.client.state = state
    side.run()
    assert {waiting for now, waiting in seen.items() if now < PATIENCE[0]} == {False}
    assert {waiting for now, waiting in seen.items() if now > PATIENCE[0]} == {None}


def test_a_throttled_minute_is_sat_out(scene: Scene) -> None:
    side = scene.side()
    seen: set[bool | None] = set()

    def state(now: float) -> GroupError | str:
        seen.add(side.waiting())
        return BUSY if 100 < now < 160 else "Terminating" if now < 300 else "Terminating:Wait"

    scene.client.state = state
    side.run()
    assert seen == {False}
    assert side.waiting() is True


def test_a_short_transition_has_less_patience() -> None:
    scene = Scene(seconds=100.0)
    side = scene.side()
    scene.clock.now = 26.0
    assert side.waiting() is None


def test_a_group_that_speaks_again_is_waited_for_again(scene: Scene) -> None:
    side = scene.side()
    seen: dict[float, bool | None] = {}

    def state(now: float) -> GroupError | str:
        seen[now] = side.waiting()
        return BUSY if now < 200 else "Terminating" if now < 300 else "Terminating:Wait"

    scene.client.state = state
    side.run()
    assert seen[max(now for now in seen if now < 200)] is None
    assert seen[max(now for now in seen if now < 300)] is False


def test_without_permission_to_look_the_steps_go_on_and_heartbeats_are_sent(scene: Scene) -> None:
    scene.client.state = lambda now: DENIED
    side = scene.run()
    assert side.waiting() is None
    assert scene.client.beats


def test_whatever_breaks_in_the_thread_nobody_waits_for_it(scene: Scene) -> None:
    def broken(now: float) -> str:
        raise ZeroDivisionError

    scene.client.state = broken
    assert scene.run().waiting() is None


# -- finding the hook


def test_the_group_is_asked_for_where_the_metadata_has_it_not(scene: Scene) -> None:
    side = scene.side(group=None)
    assert side.group() is None
    side.run()
    assert side.group() == "orders"


def test_late_credentials_and_throttling_at_the_beginning_pass(scene: Scene) -> None:
    scene.client.state = lambda now: BUSY if now < 60 else "Terminating:Wait"
    scene.client.listing = lambda now: BUSY if now < 120 else None
    side = scene.run(group=None)
    assert scene.client.beats[0] < 120 + LONGEST_BUSY_SECONDS + 5
    assert scene.complete(side) == "hook drain, CONTINUE: the group has the answer"


def test_a_configured_hook_is_taken_at_its_word_where_hooks_cannot_be_listed(scene: Scene) -> None:
    scene.client.listing = lambda now: DENIED
    side = scene.run("drain")
    assert scene.client.beats[0] == 0
    assert all(gap <= 10 for gap in gaps(scene.client.beats)), "AWS's shortest timeout is safe"
    scene.complete(side, ActionResult.ABANDON)
    assert scene.client.completed == [("orders", "drain", ActionResult.ABANDON)]


def test_a_configured_hook_is_not_waited_for_long_where_listing_is_busy(scene: Scene) -> None:
    scene.client.listing = lambda now: BUSY
    scene.run("drain")
    assert AT_ITS_WORD_SECONDS <= scene.client.beats[0] < AT_ITS_WORD_SECONDS + 6


def test_no_hook_no_answer_and_nobody_waits(scene: Scene) -> None:
    scene.client.found = []
    side = scene.run()
    assert side.waiting() is None
    assert scene.client.tried == []
    assert scene.complete(side).startswith("no answer is owed")
    assert scene.client.completed == []


def test_several_hooks_are_an_error_at_the_end_and_no_hurdle_before(scene: Scene) -> None:
    scene.client.found = [hook(), hook(name="other")]
    side = scene.run()
    assert side.waiting() is None
    with pytest.raises(UsageError, match="drain, other"):
        scene.complete(side)


# -- the answer: a bad moment at the beginning must not cost it


@pytest.mark.parametrize("trouble", [DENIED, NOT_ACTIVE], ids=["denied", "odd"])
def test_what_was_refused_at_the_beginning_is_tried_again_at_the_end(
    scene: Scene, trouble: GroupError
) -> None:
    scene.client.listing = lambda now: trouble
    side = scene.run()
    scene.client.listing = lambda now: None
    scene.complete(side)
    assert scene.client.completed == [("orders", "drain", ActionResult.CONTINUE)]


def test_a_group_that_did_not_know_us_for_a_moment_is_asked_again_at_the_end(scene: Scene) -> None:
    scene.client.state = lambda now: None
    side = scene.run(group=None)
    scene.client.state = lambda now: "Terminating:Wait"
    scene.complete(side)
    assert len(scene.client.completed) == 1


def test_a_client_that_could_not_be_made_is_made_at_the_end(scene: Scene) -> None:
    def no_client() -> FakeGroup:
        raise ImportError("cannot read")

    scene.connect = no_client
    side = scene.run()
    assert side.waiting() is None
    scene.connect = lambda: scene.client
    scene.complete(side)
    assert len(scene.client.completed) == 1


def test_a_side_that_never_ran_answers_too(scene: Scene) -> None:
    scene.complete(scene.side())
    assert len(scene.client.completed) == 1


def test_what_is_refused_at_the_end_as_well_is_the_reason(scene: Scene) -> None:
    scene.client.listing = lambda now: DENIED
    side = scene.run()
    with pytest.raises(LifecycleAgentError, match="AccessDenied"):
        scene.complete(side)


def test_what_is_refused_for_a_while_at_the_end_is_tried_until_it_is_not(scene: Scene) -> None:
    """A policy that is on its way."""
    scene.client.state = lambda now: DENIED if now < 10 else "Terminating:Wait"
    side = scene.run(group=None)
    scene.complete(side)
    assert scene.client.completed == [("orders", "drain", ActionResult.CONTINUE)]


@pytest.mark.parametrize(
    ("transition", "tried"), [(LifecycleTransition.LAUNCHING, True), (LifecycleTransition.TERMINATING, False)]
)
def test_one_that_need_not_be_asked_is_not_kept_by_it_unless_it_is_in_its_launch(
    transition: LifecycleTransition, tried: bool
) -> None:
    scene = Scene()
    scene.transition, scene.if_asked = transition, True
    scene.client.found = [replace(hook(), transition=transition)]
    scene.client.state = lambda now: DENIED if now < 10 else "Pending:Wait"
    side = scene.run(group=None)
    if tried:
        scene.complete(side)
    else:
        with pytest.raises(LifecycleAgentError, match="AccessDenied"):
            scene.complete(side)
    assert len(scene.client.completed) == tried


@pytest.mark.parametrize("ends", [None, 100.0])
def test_a_launch_that_is_done_anew_has_the_time_for_its_answer(
    ends: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a spot interruption that has passed; one that is still to come has not."""
    scene = Scene()
    monkeypatch.setattr(parts, "AutoScaling", lambda *_: scene.client)
    scene.client.found = [replace(hook(), transition=LifecycleTransition.LAUNCHING)]
    scene.client.state = lambda now: "Pending:Wait"
    scene.client.completing = lambda now: BUSY if now < 10 else None
    launching = LifecycleTransition.LAUNCHING
    notice = Notice(NoticeKind.LAUNCH, "again", 0.0, launching, if_asked=True, ends=ends)
    side = parts.group_side(notice, Machine("i-1", "r", group="orders"), Config(), scene.deadline, print)
    assert side is not None
    said = scene.complete(side)
    assert said.startswith("not known" if ends else "hook drain, CONTINUE")
    assert len(scene.client.completed) == (ends is None)


def test_the_end_waits_for_a_thread_that_is_looking_still() -> None:
    """Short plans are done before boto3 is imported."""
    scene = Scene()
    released = threading.Event()

    made: list[FakeGroup] = []

    def slow() -> FakeGroup:
        made.append(scene.client)
        released.wait()
        return scene.client

    scene.connect = slow
    scene.stopped = threading.Event()
    side = scene.side()
    side.start()
    answered: list[str] = []
    thread = threading.Thread(target=lambda: answered.append(scene.complete(side)))
    thread.start()
    assert answered == []
    released.set()
    thread.join(30)
    side.stop()
    side.join(30)
    assert answered == ["hook drain, CONTINUE: the group has the answer"]
    assert len(made) == 1, "it did not look for itself meanwhile"


# -- with an event, which has named everything

EVENTS = NamedAction("orders", "drain", "630aa23f-48eb-45e7-aba6-799ea6093a0f")


def test_an_event_is_answered_by_its_token_and_nothing_is_searched_for() -> None:
    scene = Scene(stop_at=500.0)
    scene.action = EVENTS
    scene.client.found = [hook(), hook(name="other")]

    side = scene.run("configured", group="another")

    assert side.group() == "orders"
    assert side.waiting() is True
    assert scene.client.looks == []
    assert scene.client.beats[0] == 0.0
    assert len(scene.client.beats) >= 5
    assert scene.complete(side) == "hook drain, CONTINUE: the group has the answer"
    assert scene.client.completed == [("orders", "drain", ActionResult.CONTINUE)]
    assert set(scene.client.tokens) == {EVENTS.token}


@pytest.mark.parametrize("trouble", [DENIED, BUSY, "gone"], ids=str)
def test_an_events_hook_is_taken_at_its_word(trouble: GroupError | str) -> None:
    """Heartbeats come as often as the shortest timeout that a hook may have needs them."""
    scene = Scene(stop_at=300.0)
    scene.action = EVENTS
    if isinstance(trouble, GroupError):
        scene.client.listing = lambda now: trouble
    else:
        scene.client.found = []

    side = scene.run()

    beats = scene.client.beats
    assert beats[0] <= AT_ITS_WORD_SECONDS + LONGEST_BUSY_SECONDS
    assert max(later - sooner for sooner, later in itertools.pairwise(beats)) <= 10.0
    assert scene.complete(side).startswith("hook drain, CONTINUE")


def test_an_event_whose_action_is_over_ends_well() -> None:
    """The group has the answer already, from somebody else or by its default."""
    scene = Scene(stop_at=10.0)
    scene.action = EVENTS
    scene.client.beat = scene.client.completing = lambda now: NOT_ACTIVE
    scene.client.state = lambda now: "Terminating:Proceed"

    assert scene.complete(scene.run()) == "nothing to answer any more: the group has moved on"

"""Rules broken one at a time: each is found, by the shortest way there, which is printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lifecycle_agent.config import Config
from lifecycle_agent.model import (
    Hook,
    LifecycleState,
    LifecycleTransition,
    Notice,
    NoticeKind,
    Observation,
    Outcome,
    TargetState,
)
from lifecycle_agent.standing import Phase, Standing
from lifecycle_agent.transition import completion, heartbeat, our_hook, plan
from lifecycle_agent.transition.completion import Next
from lifecycle_agent.transition.runner import Runner
from lifecycle_agent.watch.decide import decide
from lifecycle_agent.watch.decision import Decision, Memory
from tests.explore.rules import Rules, TakenUp
from tests.explore.scopes import SCOPES, Scope
from tests.explore.world import Journal

pytestmark = pytest.mark.once

Break = Callable[[pytest.MonkeyPatch, Scope], Rules]


def _not_in_the_pool(patch: pytest.MonkeyPatch, scope: Scope) -> Rules:
    def blind(seen: Observation, memory: Memory, now: float, config: Config) -> Decision:
        if seen.target is TargetState.WARMED_TERMINATED:
            seen = replace(seen, target=None, problem="not known")
        return decide(seen, memory, now, config)

    return replace(scope.rules(), decide=blind)


def _answered_too_early(patch: pytest.MonkeyPatch, scope: Scope) -> Rules:
    right = completion.after_refusal

    def hasty(state: LifecycleState | None, transition: LifecycleTransition) -> Next:
        if state is not None and state.word == "Terminating":
            return Next.ANSWERED
        return right(state, transition)

    patch.setattr(completion, "after_refusal", hasty)
    patch.setattr(heartbeat, "after_refusal", hasty)
    return scope.rules()


def _any_hook(patch: pytest.MonkeyPatch, scope: Scope) -> Rules:
    def first(hooks: Sequence[Hook], configured: str, transition: LifecycleTransition) -> Hook | None:
        found = sorted((hook for hook in hooks if hook.transition is transition), key=lambda hook: hook.name)
        return found[0] if found else None

    patch.setattr(our_hook, "choose_hook", first)
    return scope.rules()


def _planned(change: Callable[[list[plan.PlannedStep]], list[plan.PlannedStep]]) -> Break:
    def broken(patch: pytest.MonkeyPatch, scope: Scope) -> Rules:
        def make(notice: Notice, config: Config, deaths: int = 0, total: float | None = None) -> plan.Plan:
            right = plan.make_plan(notice, config, deaths, total)
            return replace(right, steps=tuple(change(list(right.steps))))

        return replace(scope.rules(), make_plan=make)

    return broken


def _deregistered_first(steps: list[plan.PlannedStep]) -> list[plan.PlannedStep]:
    return sorted(steps, key=lambda step: step.name != plan.DEREGISTER)


def _not_ready(steps: list[plan.PlannedStep]) -> list[plan.PlannedStep]:
    return [step for step in steps if step.name != plan.READY]


def _forgotten_over_a_boot(patch: pytest.MonkeyPatch, scope: Scope) -> Rules:
    right = Standing._phase_after

    def phase_after(self: Standing, notice: Notice, outcome: Outcome | None, this_boot: bool) -> Phase:
        if notice.kind is NoticeKind.DRAIN and not this_boot:
            return Phase.OUT
        return right(self, notice, outcome, this_boot)

    patch.setattr(Standing, "_phase_after", phase_after)
    return scope.rules()


def _two_at_once(patch: pytest.MonkeyPatch, scope: Scope) -> Rules:
    return replace(scope.rules(), stops=False, locks=False)


def _silent_after_a_failure(patch: pytest.MonkeyPatch, scope: Scope) -> Rules:
    right = Runner._answer

    def answer(self: Runner) -> None:
        if self.outcome is not Outcome.FAILED:
            right(self)

    patch.setattr(Runner, "_answer", answer)
    return scope.rules()


class _Forgetful(Rules):
    """One that reads no ends of steps in its journal."""

    def _take_up(self, notice: Notice, journal: Journal) -> TakenUp:
        taken = super()._take_up(notice, journal)
        if taken.notice is None:
            return taken
        record = taken.journal.records[taken.page]._replace(ended=())
        return taken._replace(journal=taken.journal.with_record(taken.page, record))


def _from_the_beginning(patch: pytest.MonkeyPatch, scope: Scope) -> Rules:
    return _Forgetful(scope.config, scope.hooks)


def _spot_unseen(patch: pytest.MonkeyPatch, scope: Scope) -> Rules:
    def patient(seen: Observation, memory: Memory, now: float, config: Config) -> Decision:
        advised = memory.running is not None and memory.running.kind is NoticeKind.REBALANCE
        return decide(replace(seen, target=None) if advised else seen, memory, now, config)

    return replace(scope.rules(), decide=patient)


@dataclass(frozen=True)
class Mutation:
    """A broken rule.

    Args:
        scope: where it is looked for.
        rule: the invariant that it breaks.
        most: events in the shortest way there.
    """

    name: str
    scope: str
    rule: str
    most: int
    broken: Break


MUTATIONS = (
    Mutation(
        "the target Warmed:Terminated is ignored",
        "warm pool",
        "a waiting action is answered",
        6,
        _not_in_the_pool,
    ),
    Mutation(
        "Terminating counts as answered", "terminate", "a waiting action is answered", 14, _answered_too_early
    ),
    Mutation("CodeDeploy's hook is taken", "terminate", "only our own hook", 12, _any_hook),
    Mutation(
        "deregistered before the units are stopped",
        "terminate",
        "an app in service is never deregistered",
        6,
        _planned(_deregistered_first),
    ),
    Mutation("UP without having been ready", "launch", "UP only after ready", 6, _planned(_not_ready)),
    Mutation(
        "drained is forgotten over a boot",
        "by hand, machine",
        "drained stays drained",
        14,
        _forgotten_over_a_boot,
    ),
    Mutation(
        "a second one without stopping the first",
        "standby and detach",
        "at most one transition at a time",
        8,
        _two_at_once,
    ),
    Mutation(
        "no answer after a failure", "terminate", "a waiting action is answered", 14, _silent_after_a_failure
    ),
    Mutation(
        "a resumed transition begins anew",
        "terminate",
        "a finished step is never repeated",
        13,
        _from_the_beginning,
    ),
    Mutation(
        "a drain on advice is not interrupted by the group",
        "advice",
        "a waiting action is kept alive",
        7,
        _spot_unseen,
    ),
)


def _mutated(mutation: Mutation, patch: pytest.MonkeyPatch) -> Any:
    scope = next(each for each in SCOPES if each.name == mutation.scope)
    return scope.explore(mutation.broken(patch, scope))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name.replace(" ", "-"))
def test_a_broken_rule_is_found_by_the_shortest_way(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _mutated(mutation, monkeypatch)
    assert found.violation is not None, "it was not found"
    print(f"{mutation.name}, of {found.states} states:\n{found.violation}")
    assert found.violation.rule == mutation.rule
    assert len(found.violation.trace) <= mutation.most

"""An Auto Scaling group's lifecycle as a state machine: no threads, no network, a clock handed in.

Nothing happens between two calls: every call first carries out what has come due since the last one,
in order and at the time at which it was due, so the timers are exact however late anybody looks.
The states and their order are those of "Amazon EC2 Auto Scaling instance lifecycle" in AWS's user guide.
"""

from __future__ import annotations

from collections.abc import Callable

from lifecycle_agent.deadline import Clock, boottime
from lifecycle_agent.model import ActionResult, Hook, LifecycleTransition, TargetState
from lifecycle_agent.rehearsal.lifecycle import (
    ATTACH,
    DETACH,
    ENTER_STANDBY,
    EXIT_STANDBY,
    LAUNCH,
    LEAVE_POOL,
    REPLACE_ROOT,
    ROOT_REPLACED,
    TERMINATE,
    WARMED_TERMINATE,
    LifecycleAction,
    Member,
    Passage,
    Refusal,
    into_pool,
    return_to_pool,
)

# What DescribeLifecycleHooks shows as GlobalTimeout: 48 hours or 100 times the heartbeat timeout.
GLOBAL_TIMEOUT_MOST, GLOBAL_TIMEOUT_FACTOR = 48 * 3600, 100


class GroupModel:
    """The group: its instances, its hooks, the actions it waits for.

    Args:
        say: told every change in a sentence; must not take long.
        clock: seconds; anything monotonic.
        launch_delay: seconds in `Pending` before the hooks are asked.
        deregistration_delay: seconds in `Terminating` before `Terminating:Wait`, as behind a load balancer.
        proceed_delay: seconds from the last answer, or from a launch's ABANDON, to what comes next.
        retain_on_abandon: the instance lifecycle policy `TerminateHookAbandon=retain`.
        pool_state: how instances rest in the warm pool.
    """

    def __init__(
        self,
        say: Callable[[str], None] = lambda text: None,
        *,
        clock: Clock = boottime,
        launch_delay: float = 0.0,
        deregistration_delay: float = 0.0,
        proceed_delay: float = 0.0,
        retain_on_abandon: bool = False,
        pool_state: TargetState = TargetState.WARMED_STOPPED,
    ) -> None:
        self._say = say
        self._clock = clock
        self.launch_delay = launch_delay
        self.deregistration_delay = deregistration_delay
        self.proceed_delay = proceed_delay
        self.retain_on_abandon = retain_on_abandon
        self.pool_state = pool_state
        self.hooks: dict[str, Hook] = {}
        self.members: dict[str, Member] = {}
        self.actions: list[LifecycleAction] = []
        self.gone: list[str] = []  # terminated instances, in order

    # -- what an operator does

    def add_hook(
        self,
        name: str,
        transition: LifecycleTransition = LifecycleTransition.TERMINATING,
        *,
        heartbeat_timeout: int = 3600,
        default_result: ActionResult = ActionResult.ABANDON,
        global_timeout: int | None = None,
    ) -> Hook:
        """Put a hook in the group, of any timeout: what the API allows is the API's business.

        Both timeouts are in whole seconds, as the API shows nothing finer; without a `global_timeout`
        the hook has what AWS would make of its heartbeat timeout.
        """
        if global_timeout is None:
            global_timeout = min(GLOBAL_TIMEOUT_MOST, GLOBAL_TIMEOUT_FACTOR * heartbeat_timeout)
        hook = Hook(name, transition, heartbeat_timeout, global_timeout, default_result)
        self.hooks[name] = hook
        return hook

    def remove_hook(self, name: str) -> None:
        """Delete a hook; its open actions are answered: ABANDON for launching, CONTINUE for terminating
        instances (DeleteLifecycleHook's documentation).
        """
        self.advance()
        hook = self.hooks.pop(name)
        launching = hook.transition is LifecycleTransition.LAUNCHING
        result = ActionResult.ABANDON if launching else ActionResult.CONTINUE
        for action in self.actions:
            if action.active and action.hook.name == name:
                self._answer(action, result, "hook deleted", self._clock())
        self.advance()

    def launch(self, instance_id: str) -> None:
        """A new instance: `Pending`, the launching hooks, `InService`."""
        self._begin(self._new(instance_id), LAUNCH, self.launch_delay)

    def place(self, instance_id: str, state: str = "InService") -> None:
        """An instance that is there already, in service unless said otherwise; no hook is asked.

        IMDS has no target lifecycle state for an instance that never moved, as in the field.
        """
        self._new(instance_id).state = state

    def terminate(self, instance_id: str) -> None:
        """Take an instance away: scale-in, a failed health check, or TerminateInstanceInAutoScalingGroup."""
        self.advance()
        member = self._member(instance_id)
        if member.state.endswith(":Retained"):
            self._proceed(member, self._clock())
            self.advance()
        elif "Terminating" in member.state:
            raise Refusal("ScalingActivityInProgress", f"{instance_id} is being terminated already.")
        elif member.state.startswith("Warmed:"):
            self._begin(member, WARMED_TERMINATE, 0.0)
        else:
            self._begin(member, TERMINATE, self.deregistration_delay)

    def launch_into_pool(self, instance_id: str) -> None:
        """A new instance for the warm pool: the launching hooks are asked at `Warmed:Pending:Wait`."""
        self._begin(self._new(instance_id), into_pool(self.pool_state), self.launch_delay)

    def leave_pool(self, instance_id: str) -> None:
        """Out of the warm pool into service: the launching hooks are asked once more, at `Pending:Wait`."""
        self._begin(self._member(instance_id), LEAVE_POOL, self.launch_delay)

    def return_to_pool(self, instance_id: str) -> None:
        """Scale-in back into the warm pool: the terminating hooks are asked at `Warmed:Pending:Wait`."""
        self._begin(self._member(instance_id), return_to_pool(self.pool_state), self.deregistration_delay)

    def enter_standby(self, instance_id: str) -> None:
        """Into standby; no hook is asked."""
        self._begin(self._member(instance_id), ENTER_STANDBY, self.deregistration_delay)

    def exit_standby(self, instance_id: str) -> None:
        """Back from standby; no hook is asked."""
        self._begin(self._member(instance_id), EXIT_STANDBY, self.launch_delay)

    def replace_root(self, instance_id: str) -> None:
        """A new root volume, as an instance refresh has it; the terminating hook is asked."""
        self._begin(self._member(instance_id), REPLACE_ROOT, self.deregistration_delay)

    def root_replaced(self, instance_id: str) -> None:
        """The instance has booted from it; the launching hook is asked."""
        self._begin(self._member(instance_id), ROOT_REPLACED, self.launch_delay)

    def detach(self, instance_id: str) -> None:
        """Out of the group, but not away; no hook is asked."""
        self._begin(self._member(instance_id), DETACH, self.deregistration_delay)

    def attach(self, instance_id: str) -> None:
        """Into the group from outside; no hook is asked."""
        known = self.members.get(instance_id)
        self._begin(known or self._new(instance_id), ATTACH, self.launch_delay)

    # -- what an instance does

    def complete(self, hook: str, result: ActionResult, *, instance_id: str = "", token: str = "") -> None:
        """Answer a lifecycle action, named by its token or by the instance.

        Raises:
            Refusal: there is no such action, not yet or no longer.
        """
        self.advance()
        action = self._active(hook, instance_id, token)
        self._answer(action, result, "token" if token else "instance ID", self._clock())
        self.advance()

    def heartbeat(self, hook: str, *, instance_id: str = "", token: str = "") -> None:
        """Start the heartbeat timeout anew; the global timeout stays.

        Raises:
            Refusal: as for `complete`.
        """
        self.advance()
        action = self._active(hook, instance_id, token)
        action.heartbeats += 1
        action.expires = self._clock() + action.hook.heartbeat_timeout
        seconds = action.due - self._clock()
        self._say(f"{action.instance_id}: heartbeat for hook {hook}, waits another {seconds:.0f} s")

    # -- what can be seen

    def state(self, instance_id: str) -> str:
        """The lifecycle state's word; empty for an instance the group never had."""
        self.advance()
        member = self.members.get(instance_id)
        return member.state if member else ""

    def target_state(self, instance_id: str) -> TargetState | None:
        """What IMDS shows as target lifecycle state; None where it has none."""
        self.advance()
        member = self.members.get(instance_id)
        return member.target if member else None

    def action(self, instance_id: str, hook: str | None = None) -> LifecycleAction | None:
        """The instance's last lifecycle action, of the given hook or of any."""
        self.advance()
        for action in reversed(self.actions):
            if action.instance_id == instance_id and hook in (None, action.hook.name):
                return action
        return None

    def present(self) -> list[Member]:
        """The instances that are in the group now."""
        self.advance()
        over = ("Terminated", "Warmed:Terminated", "Detached")
        return [member for member in self.members.values() if member.state not in over]

    # -- time

    def next_due(self) -> float | None:
        """When something happens next by itself, on the clock; None when nothing will."""
        moments = [member.due for member in self.members.values() if member.due is not None]
        moments += [action.due for action in self.actions if action.active]
        return min(moments, default=None)

    def advance(self) -> None:
        """Carry out all that has come due, in order."""
        while (due := self.next_due()) is not None and due <= self._clock():
            action = next((a for a in self.actions if a.active and a.due == due), None)
            if action is not None:
                by = "global timeout" if action.ends <= action.expires else "heartbeat timeout"
                self._answer(action, action.hook.default_result, by, due)
            else:
                self._move_on(next(m for m in self.members.values() if m.due == due), due)

    # -- the machine itself

    def _new(self, instance_id: str) -> Member:
        self.advance()
        member = self.members[instance_id] = Member(instance_id, "")
        return member

    def _member(self, instance_id: str) -> Member:
        self.advance()
        for member in self.present():
            if member.instance_id == instance_id:
                return member
        # The text as reported from the field; the documentation has none.
        text = f"Instance Id not found - No managed instance found for instance ID: {instance_id}"
        raise Refusal("ValidationError", text)

    def _active(self, hook: str, instance_id: str, token: str) -> LifecycleAction:
        if not token and not instance_id:
            raise Refusal(
                "ValidationError", "Either the lifecycle action token or the instance ID is required."
            )
        for action in self.actions:
            named = action.token == token if token else action.instance_id == instance_id
            if action.active and named and action.hook.name == hook:
                return action
        what = f"token {token}" if token else f"instance ID {instance_id}"
        raise Refusal("ValidationError", f"No active Lifecycle Action found with {what}")

    def _begin(self, member: Member, passage: Passage, delay: float) -> None:
        now = self._clock()
        self._start(member, passage, now, now + delay)
        self.advance()

    def _start(self, member: Member, passage: Passage, at: float, due: float) -> None:
        for action in self.actions:
            if action.active and action.instance_id == member.instance_id:
                self._cancel(action, at)
        member.passage, member.target, member.due = passage, passage.target, due
        self._enter(member, passage.enters)

    def _enter(self, member: Member, state: str) -> None:
        before, member.state = member.state, state
        self._say(f"{member.instance_id}: {before or '(new)'} -> {state}")

    def _move_on(self, member: Member, at: float) -> None:
        passage, member.due = member.passage, None
        hooks = [hook for hook in self.hooks.values() if hook.transition is passage.asks]
        if member.state == passage.enters and hooks:
            self._enter(member, passage.waits)
            for hook in hooks:
                expires, ends = at + hook.heartbeat_timeout, at + hook.global_timeout
                self.actions.append(LifecycleAction(hook, member.instance_id, passage, at, expires, ends))
                seconds = min(hook.heartbeat_timeout, hook.global_timeout)
                self._say(f"{member.instance_id}: asks hook {hook.name}, waits up to {seconds:.0f} s")
        else:
            self._enter(member, passage.arrives)
            if passage.final:
                self.gone.append(member.instance_id)

    def _proceed(self, member: Member, at: float) -> None:
        self._enter(member, member.passage.proceeds)
        member.due = at + self.proceed_delay

    def _answer(self, action: LifecycleAction, result: ActionResult, by: str, at: float) -> None:
        action.result, action.answered_by, action.answered_at = result, by, at
        action.seconds_left = max(0.0, action.due - at)
        said = f"says {result.value}, {action.seconds_left:.1f} s left"
        if by not in ("instance ID", "token"):
            said = f"{by}: {result.value} by default"
        self._say(f"{action.instance_id}: hook {action.hook.name} {said}")
        others = [a for a in self.actions if a.active and a.instance_id == action.instance_id]
        if result is ActionResult.ABANDON:
            for other in others:
                self._cancel(other, at)
            self._abandon(self.members[action.instance_id], at)
        elif not others:
            self._proceed(self.members[action.instance_id], at)

    def _cancel(self, action: LifecycleAction, at: float) -> None:
        action.answered_by, action.answered_at = "cancelled", at
        action.seconds_left = max(0.0, action.due - at)
        self._say(f"{action.instance_id}: hook {action.hook.name} cancelled")

    def _abandon(self, member: Member, at: float) -> None:
        """An instance that could not be launched is terminated; one that could not be drained is kept
        where the group is told so, and terminated like any other where it is not.
        """
        if member.passage.asks is LifecycleTransition.LAUNCHING:
            warmed = member.passage.enters.startswith("Warmed:")
            self._start(member, WARMED_TERMINATE if warmed else TERMINATE, at, at + self.proceed_delay)
        elif self.retain_on_abandon:
            self._enter(member, member.passage.retained)
        else:
            self._proceed(member, at)

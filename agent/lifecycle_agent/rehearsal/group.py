"""The emulated Auto Scaling group: its model, kept going by a thread, behind an API on loopback."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

from lifecycle_agent.deadline import Clock, boottime
from lifecycle_agent.model import ActionResult, Hook, LifecycleTransition
from lifecycle_agent.rehearsal.group_api import group_app
from lifecycle_agent.rehearsal.group_faults import Call, Fault
from lifecycle_agent.rehearsal.group_model import GroupModel
from lifecycle_agent.rehearsal.http import Served
from lifecycle_agent.rehearsal.lifecycle import LifecycleAction

Timeline = Callable[[str, str], None]

_DETAIL_TYPE = {
    LifecycleTransition.LAUNCHING: "EC2 Instance-launch Lifecycle Action",
    LifecycleTransition.TERMINATING: "EC2 Instance-terminate Lifecycle Action",
}


class Group:
    """An Auto Scaling group that can be talked to with any AWS SDK; S3 is at the same `url`.

    A world in a hurry makes its hooks with `add_hook`, which takes timeouts shorter than the API allows.

    Args:
        timeline: told who did what; it is called in the middle of things and must not call back.
        host: the address to bind.
        clock: seconds; a clock that is not real needs `tick` after each change.
        on_terminated: told each instance that is gone, on a thread of the group's own.
        settings: what `GroupModel` takes: delays, `retain_on_abandon`, `pool_state`.
    """

    def __init__(
        self,
        timeline: Timeline = lambda who, what: None,
        *,
        name: str = "rehearsal",
        region: str = "us-east-1",
        clock: Clock = boottime,
        on_terminated: Callable[[str], None] = lambda instance_id: None,
        host: str = "127.0.0.1",
        port: int = 0,
        **settings: Any,
    ) -> None:
        self.name = name
        self.region = region
        self.on_terminated = on_terminated
        self.calls: list[Call] = []
        self._clock = clock
        self._model = GroupModel(lambda text: timeline("group", text), clock=clock, **settings)
        self._changed = threading.Condition(threading.RLock())
        self._faults: list[Fault] = []
        self._told = 0
        self._stopping = False
        self._ticker: threading.Thread | None = None
        self._served = Served(group_app(self), host=host, port=port)
        self.url = self._served.url

    # -- running it

    def start(self) -> None:
        """Serve the API and let time pass; returns at once."""
        self._served.start()
        if self._ticker is None:
            self._ticker = threading.Thread(target=self._let_time_pass, daemon=True)
            self._ticker.start()

    def stop(self) -> None:
        """Stop for good."""
        self._stopping = True
        with self.turn():
            pass  # wakes the thread
        if self._ticker is not None:
            self._ticker.join()
        self._served.stop()

    def __enter__(self) -> Group:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextlib.contextmanager
    def turn(self) -> Iterator[GroupModel]:
        """The model for oneself alone; what has come due is carried out before and after."""
        with self._changed:
            self._model.advance()
            try:
                yield self._model
            finally:
                self._model.advance()
                self._changed.notify_all()

    def tick(self) -> None:
        """Carry out what has come due: for clocks that are not real."""
        with self.turn():
            pass

    def _let_time_pass(self) -> None:
        while not self._stopping:
            with self._changed:
                self._model.advance()
                gone, self._told = self._model.gone[self._told :], len(self._model.gone)
                if not gone and not self._stopping:
                    due = self._model.next_due()
                    self._changed.wait(None if due is None else max(0.0, due - self._clock()))
            for instance_id in gone:
                self.on_terminated(instance_id)

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
        """Put a hook in the group, with any timeout in whole seconds."""
        with self.turn() as model:
            return model.add_hook(
                name,
                transition,
                heartbeat_timeout=heartbeat_timeout,
                default_result=default_result,
                global_timeout=global_timeout,
            )

    def place(self, instance_id: str, state: str = "InService") -> None:
        """An instance that is there already; no hook is asked."""
        with self.turn() as model:
            model.place(instance_id, state)

    def launch(self, instance_id: str) -> None:
        """A new instance, through the launching hooks into service."""
        with self.turn() as model:
            model.launch(instance_id)

    def terminate(self, instance_id: str) -> None:
        """Take an instance away, through the terminating hooks."""
        with self.turn() as model:
            model.terminate(instance_id)

    def launch_into_pool(self, instance_id: str) -> None:
        """A new instance, through the launching hooks into the warm pool."""
        with self.turn() as model:
            model.launch_into_pool(instance_id)

    def leave_pool(self, instance_id: str) -> None:
        """Out of the warm pool, through the launching hooks into service."""
        with self.turn() as model:
            model.leave_pool(instance_id)

    def return_to_pool(self, instance_id: str) -> None:
        """Scale-in, through the terminating hooks back into the warm pool."""
        with self.turn() as model:
            model.return_to_pool(instance_id)

    def enter_standby(self, instance_id: str) -> None:
        """Into standby; no hook is asked."""
        with self.turn() as model:
            model.enter_standby(instance_id)

    def replace_root(self, instance_id: str) -> None:
        """A new root volume; the terminating hook is asked."""
        with self.turn() as model:
            model.replace_root(instance_id)

    def root_replaced(self, instance_id: str) -> None:
        """The instance has booted from it; the launching hook is asked."""
        with self.turn() as model:
            model.root_replaced(instance_id)

    def exit_standby(self, instance_id: str) -> None:
        """Back from standby; no hook is asked."""
        with self.turn() as model:
            model.exit_standby(instance_id)

    def detach(self, instance_id: str) -> None:
        """Out of the group, but not away; no hook is asked."""
        with self.turn() as model:
            model.detach(instance_id)

    def attach(self, instance_id: str) -> None:
        """Into the group from outside; no hook is asked."""
        with self.turn() as model:
            model.attach(instance_id)

    # -- what can be seen

    def state(self, instance_id: str) -> str:
        """The lifecycle state's word; empty for an instance the group never had."""
        with self.turn() as model:
            return model.state(instance_id)

    def target_state(self, instance_id: str) -> str | None:
        """What IMDS shows as `autoscaling/target-lifecycle-state`; None where it has none."""
        with self.turn() as model:
            target = model.target_state(instance_id)
        return target.value if target else None

    def action(self, instance_id: str, hook: str | None = None) -> LifecycleAction | None:
        """The instance's last lifecycle action, of the given hook or of any."""
        with self.turn() as model:
            return model.action(instance_id, hook)

    def event(self, instance_id: str, hook: str | None = None) -> dict[str, Any]:
        """The EventBridge event of the instance's last lifecycle action.

        Raises:
            LookupError: the group never asked.
        """
        action = self.action(instance_id, hook)
        if action is None:
            raise LookupError(f"no lifecycle action of {instance_id}")
        arn = f"arn:aws:autoscaling:{self.region}:123456789012:autoScalingGroup"
        origin, destination = action.passage.way
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": _DETAIL_TYPE[action.hook.transition],
            "source": "aws.autoscaling",
            "account": "123456789012",
            "time": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
            "region": self.region,
            "resources": [f"{arn}:{uuid.UUID(int=0)}:autoScalingGroupName/{self.name}"],
            "detail": {
                "LifecycleActionToken": action.token,
                "AutoScalingGroupName": self.name,
                "LifecycleHookName": action.hook.name,
                "EC2InstanceId": instance_id,
                "LifecycleTransition": action.hook.transition.value,
                "Origin": origin,
                "Destination": destination,
                **({"Action": "ReplaceRootVolume"} if action.passage.replaces_root else {}),
            },
        }

    # -- what goes wrong

    def fail(self, fault: Fault) -> None:
        """Let the next calls of an operation fail."""
        with self._changed:
            self._faults.append(fault)

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        with self._changed:
            self._faults.clear()

    def fault(self, operation: str) -> Fault | None:
        """The fault that hits this call, counted down; the API asks."""
        with self._changed:
            for fault in self._faults:
                if fault.operation in (operation, "*"):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times <= 0:
                            self._faults.remove(fault)
                    return fault
        return None

    def note(self, operation: str, outcome: str, parameters: dict[str, Any]) -> None:
        """Put a call on record; the API does."""
        with self._changed:
            self.calls.append(Call(operation, outcome, self._clock(), parameters))

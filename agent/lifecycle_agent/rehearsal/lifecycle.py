"""The nouns of an emulated group: ways through the lifecycle, an instance, a lifecycle action, a refusal."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from lifecycle_agent.model import ActionResult, Hook, LifecycleTransition, TargetState


@dataclass(frozen=True)
class Passage:
    """One way from a resting state to the next.

    Args:
        enters: the state in which it begins; `:Wait`, `:Proceed` and `:Retained` are made from it.
        asks: the hooks that may hold it up, or None.
        target: what IMDS shows as target lifecycle state from the beginning on, and where it arrives.
        way: Origin and Destination in the lifecycle action's event.
        ends: the state in which it ends, where that is not the target's word.
    """

    enters: str
    asks: LifecycleTransition | None
    target: TargetState
    way: tuple[str, str] = ("EC2", "AutoScalingGroup")
    ends: str = ""

    @property
    def waits(self) -> str:
        """The state in which the hooks are asked."""
        return f"{self.enters}:Wait"

    @property
    def proceeds(self) -> str:
        """The state after the last answer."""
        return f"{self.enters}:Proceed"

    @property
    def retained(self) -> str:
        """The state in which an instance is kept for a human."""
        return f"{self.enters}:Retained"

    @property
    def arrives(self) -> str:
        """The state in which it ends."""
        return self.ends or self.target.value

    @property
    def replaces_root(self) -> bool:
        """Whether it is a part of the replacement of the instance's root volume, and its event says so."""
        return self.way == _STAYS

    @property
    def final(self) -> bool:
        """Whether the instance is gone afterwards."""
        return self.target in (TargetState.TERMINATED, TargetState.WARMED_TERMINATED)


_LAUNCHING, _TERMINATING = LifecycleTransition.LAUNCHING, LifecycleTransition.TERMINATING

LAUNCH = Passage("Pending", _LAUNCHING, TargetState.IN_SERVICE)
TERMINATE = Passage("Terminating", _TERMINATING, TargetState.TERMINATED, ("AutoScalingGroup", "EC2"))
WARMED_TERMINATE = Passage(
    "Warmed:Terminating", _TERMINATING, TargetState.WARMED_TERMINATED, ("WarmPool", "EC2")
)
LEAVE_POOL = Passage("Pending", _LAUNCHING, TargetState.IN_SERVICE, ("WarmPool", "AutoScalingGroup"))
ENTER_STANDBY = Passage("EnteringStandby", None, TargetState.STANDBY)
EXIT_STANDBY = Passage("Pending", None, TargetState.IN_SERVICE)
DETACH = Passage("Detaching", None, TargetState.DETACHED)
ATTACH = Passage("Pending", None, TargetState.IN_SERVICE)
# Before a new root volume, and after it. That IMDS shows InService all the while is an inference.
_STAYS = ("AutoScalingGroup", "AutoScalingGroup")
REPLACE_ROOT = Passage(
    "ReplacingRootVolume", _TERMINATING, TargetState.IN_SERVICE, _STAYS, "RootVolumeReplaced"
)
ROOT_REPLACED = Passage("Pending", _LAUNCHING, TargetState.IN_SERVICE, _STAYS)


def into_pool(rest: TargetState) -> Passage:
    """A new instance's way into the warm pool, where it rests stopped, running or hibernated."""
    return Passage("Warmed:Pending", _LAUNCHING, rest, ("EC2", "WarmPool"))


def return_to_pool(rest: TargetState) -> Passage:
    """The way back into the warm pool on scale-in.

    That IMDS shows the pool's word meanwhile is an inference; the documentation is silent about it.
    """
    return Passage("Warmed:Pending", _TERMINATING, rest, ("AutoScalingGroup", "WarmPool"))


class Refusal(Exception):
    """An error the group's API answers with.

    Args:
        code: AWS's error code.
        message: AWS's text where it is known from its documentation or from reports, else ours.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass
class LifecycleAction:
    """One question of the group to one instance, and what became of it. Times are on the group's clock.

    Args:
        expires: when the heartbeat timeout runs out; a heartbeat moves it.
        ends: when the global timeout runs out; nothing moves it.
        result: None while the group waits, and when another hook's ABANDON cancelled the action.
        answered_by: `instance ID` or `token` (how the caller named the action), `heartbeat timeout`,
            `global timeout`, `hook deleted` or `cancelled`; empty while the group waits.
        seconds_left: what was left of the timeout when it was answered; 0 when it ran out.
    """

    hook: Hook
    instance_id: str
    passage: Passage
    began: float
    expires: float
    ends: float
    token: str = field(default_factory=lambda: str(uuid.uuid4()))
    heartbeats: int = 0
    result: ActionResult | None = None
    answered_by: str = ""
    answered_at: float | None = None
    seconds_left: float | None = None

    @property
    def active(self) -> bool:
        """Whether the group still waits for the answer."""
        return not self.answered_by

    @property
    def due(self) -> float:
        """When the group stops waiting."""
        return min(self.expires, self.ends)


@dataclass
class Member:
    """An instance of the group; `due` is when its present state ends by itself, None if it does not."""

    instance_id: str
    state: str
    target: TargetState | None = None
    passage: Passage = LAUNCH
    due: float | None = None

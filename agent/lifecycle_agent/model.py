"""The nouns. No input, no output; imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class TargetState(str, Enum):
    """What the instance metadata service says the group wants this instance to be.

    The documented words of `autoscaling/target-lifecycle-state`; nothing else is ever acted on.
    """

    IN_SERVICE = "InService"
    TERMINATED = "Terminated"
    DETACHED = "Detached"
    STANDBY = "Standby"
    WARMED_HIBERNATED = "Warmed:Hibernated"
    WARMED_RUNNING = "Warmed:Running"
    WARMED_STOPPED = "Warmed:Stopped"
    WARMED_TERMINATED = "Warmed:Terminated"


class Ending(str, Enum):
    """Why the service is told to end."""

    STOP = "stop"  # `systemctl stop` or `restart`, an upgrade
    POWEROFF = "poweroff"  # or halt; an instance that is terminated or stopped in EC2 looks like this
    REBOOT = "reboot"  # or kexec


class LifecycleTransition(str, Enum):
    """The two occasions on which a group calls its lifecycle hooks."""

    LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
    TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"


class ActionResult(str, Enum):
    """The two answers to a lifecycle action."""

    CONTINUE = "CONTINUE"
    ABANDON = "ABANDON"


@dataclass(frozen=True)
class LifecycleState:
    """Where the group says the instance is: `LifecycleState` of DescribeAutoScalingInstances.

    Args:
        word: as the group spells it (`Terminating:Wait`, `Warmed:Pending:Wait`); empty when the group
            does not know the instance.
    """

    word: str

    @property
    def waiting(self) -> bool:
        """Whether the group waits for a lifecycle action's answer just now."""
        return self.word.endswith(":Wait")

    @property
    def arriving(self) -> bool:
        """Whether the group is on its way to asking, but does not yet: no answer is possible or owed."""
        return self.word in ("Terminating", "Pending", "Warmed:Pending", "Warmed:Terminating")

    @property
    def retained(self) -> bool:
        """Whether an ABANDON made the group keep the instance for a human."""
        return self.word.endswith(":Retained")


@dataclass(frozen=True)
class Hook:
    """A lifecycle hook of the group, as DescribeLifecycleHooks gives it.

    Args:
        heartbeat_timeout: seconds until the group stops waiting for an answer or a heartbeat.
        global_timeout: seconds after which no heartbeat helps any more.
    """

    name: str
    transition: LifecycleTransition
    heartbeat_timeout: float
    global_timeout: float
    default_result: ActionResult


@dataclass(frozen=True)
class Machine:
    """The machine we run on, as the instance metadata service describes it.

    Args:
        addresses: private IPv4 addresses as text; the first is the primary one.
        host_names: lower case.
        group: the Auto Scaling group's name where instance tags are in the metadata, else None.
    """

    instance_id: str
    region: str
    addresses: tuple[str, ...] = ()
    host_names: tuple[str, ...] = ()
    group: str | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Machine:
        """The machine that `dataclasses.asdict` made JSON of."""
        lists = {name: tuple(values[name]) for name in ("addresses", "host_names")}
        return cls(**{**values, **lists})


@dataclass(frozen=True)
class Observation:
    """What the metadata service said in one cycle.

    Args:
        target: None when the group has said nothing yet (404), or when `problem` is set.
        problem: one sentence when the answer cannot be used, else empty.
        known: whether it is known which instance this is.
        ending: why the service is told to end, once it is.
    """

    target: TargetState | None
    problem: str = ""
    known: bool = True
    ending: Ending | None = None


class NoticeKind(str, Enum):
    """Why a transition starts."""

    TERMINATE = "terminate"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    SHUTDOWN = "shutdown"
    REBOOT = "reboot"
    RETURN = "return"  # after one of the two before it, once the machine is up again


@dataclass(frozen=True)
class Notice:
    """What started a transition: seen once, carried through it, written to the journal.

    Args:
        reason: one sentence for people.
        seen_at: seconds on the boot clock.
        completes: the hook kind whose lifecycle action the transition answers, or None.
        if_asked: whether it answers only where the group happens to ask, and does not wait for that.
        ends: when the machine itself is gone, seconds on the boot clock; None where only the group's own
            patience and the configuration limit the time.
    """

    kind: NoticeKind
    reason: str
    seen_at: float
    completes: LifecycleTransition | None = None
    if_asked: bool = False
    ends: float | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Notice:
        """The notice that `dataclasses.asdict` made JSON of."""
        completes = values.get("completes")
        return cls(
            NoticeKind(values["kind"]),
            values["reason"],
            values["seen_at"],
            LifecycleTransition(completes) if completes else None,
            values.get("if_asked", False),
            values.get("ends"),
        )


COMPLETE = "complete"  # the name of the last step, the answer to the group; it outlives a reboot


class Outcome(str, Enum):
    """How a step, or a whole transition, ended."""

    DONE = "done"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class StepReport:
    """One step in the report; `seconds` is how long it took, None when it never started."""

    name: str
    outcome: Outcome
    detail: str
    seconds: float | None = None
    warnings: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What a transition did: `report.json`, the result notice and `status` are made from it.

    Args:
        transition_id: unique on this machine.
        started: wall clock, ISO 8601 in UTC, for people.
        seconds: from the notice to the end.
        completion: one sentence about the lifecycle action's answer, empty when none was owed.
    """

    transition_id: str
    instance_id: str
    notice: Notice
    started: str
    outcome: Outcome
    seconds: float
    steps: tuple[StepReport, ...]
    completion: str = ""
    attempts: int = 1

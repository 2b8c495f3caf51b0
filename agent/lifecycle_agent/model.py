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


# Where an instance rests in the warm pool.
POOL = (TargetState.WARMED_STOPPED, TargetState.WARMED_RUNNING, TargetState.WARMED_HIBERNATED)


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
    def replacing(self) -> bool:
        """Whether the instance gets a new root volume: asked as for a termination, launched anew after it.

        Source: "Replace root volumes during instance refresh" in the service's user guide.
        """
        return self.word.startswith(("ReplacingRootVolume", "RootVolumeReplaced"))

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
class Announced:
    """Something that EC2 announces of the machine: an interruption, a recommendation, a scheduled event.

    Args:
        event: what tells it from others of its kind.
        what: `terminate`, `stop` or `hibernate` of a spot interruption, the code of a scheduled event.
        at: when it happens, seconds on the boot clock; of a recommendation when it was made.
    """

    event: str
    what: str
    at: float


@dataclass(frozen=True)
class Observation:
    """What the metadata service said in one cycle.

    Args:
        target: None when the group has said nothing yet (404), or when `problem` is set.
        problem: one sentence when the answer cannot be used, else empty.
        known: whether it is known which instance this is.
        ending: why the service is told to end, once it is.
        spot: the spot interruption notice; None while there is none.
        rebalance: the rebalance recommendation; None while there is none.
        maintenance: the scheduled events that are still to come; None while that is not known.
    """

    target: TargetState | None
    problem: str = ""
    known: bool = True
    ending: Ending | None = None
    spot: Announced | None = None
    rebalance: Announced | None = None
    maintenance: tuple[Announced, ...] | None = None


class NoticeKind(str, Enum):
    """Why a transition starts; the words are in the journal and in the report, and stay as they are."""

    # what the group wants
    LAUNCH = "launch"  # a new instance, for service or for the warm pool
    TERMINATE = "terminate"
    ENTER_POOL = "enter-pool"  # out of service, back into the warm pool
    LEAVE_POOL = "leave-pool"
    STANDBY = "standby"
    REPLACE_ROOT = "replace-root"  # of which only its event tells
    # ... which is only put on record
    FOUND = "found"  # in service when the agent came
    DETACH = "detach"
    ATTACH = "attach"
    # what EC2 announces
    SPOT = "spot"
    REBALANCE = "rebalance"
    MAINTENANCE = "maintenance"
    # what becomes of the machine
    SHUTDOWN = "shutdown"
    REBOOT = "reboot"
    RETURN = "return"  # back into service, once the machine is up again
    STAY_DRAINED = "stay-drained"  # what was drained by hand, and was started again by a boot
    # what people want; the watcher has an app brought back in the same way
    DRAIN = "drain"
    UNDRAIN = "undrain"


# Kinds that take the app away from its callers and bring it to rest, whatever becomes of the machine.
DRAINING = (
    *(NoticeKind.TERMINATE, NoticeKind.ENTER_POOL, NoticeKind.STANDBY, NoticeKind.REPLACE_ROOT),
    *(NoticeKind.DRAIN, NoticeKind.STAY_DRAINED),
    *(NoticeKind.SPOT, NoticeKind.REBALANCE, NoticeKind.MAINTENANCE),
)

# Kinds that prepare an instance for the group, and answer its launching hook.
LAUNCHES = (NoticeKind.LAUNCH, NoticeKind.LEAVE_POOL)

# Kinds that bring the app into service, once it is ready.
INTO_SERVICE = (*LAUNCHES, NoticeKind.UNDRAIN, NoticeKind.RETURN)


@dataclass(frozen=True)
class NamedAction:
    """A lifecycle action as its event names it: nothing has to be found out before it is answered.

    Args:
        token: the lifecycle action's token, which identifies it alone.
    """

    group: str
    hook: str
    token: str


@dataclass(frozen=True)
class Notice:
    """What started a transition: seen once, carried through it, written to the journal.

    Args:
        reason: one sentence for people.
        seen_at: seconds on the boot clock.
        completes: the hook kind whose lifecycle action the transition answers, or None.
        if_asked: whether it is done wherever the group has the instance, and answers only where that asks; it
            does not wait for that where the machine goes.
        ends: when the machine itself is gone, seconds on the boot clock; None where only the group's own
            patience and the configuration limit the time.
        target: what the group wants of the instance, where that makes a difference.
        event: what EC2 calls the event that it is about; each is acted on once.
        only_told: whether people are told, and nothing else is done.
        action: the action to answer where an event has named it.
    """

    kind: NoticeKind
    reason: str
    seen_at: float
    completes: LifecycleTransition | None = None
    if_asked: bool = False
    ends: float | None = None
    target: TargetState | None = None
    event: str = ""
    only_told: bool = False
    action: NamedAction | None = None

    @property
    def into_pool(self) -> bool:
        """Whether the instance rests in the warm pool afterwards."""
        return self.target in POOL

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Notice:
        """The notice that `dataclasses.asdict` made JSON of."""
        completes, target, action = (values.get(key) for key in ("completes", "target", "action"))
        return cls(
            NoticeKind(values["kind"]),
            values["reason"],
            values["seen_at"],
            LifecycleTransition(completes) if completes else None,
            values.get("if_asked", False),
            values.get("ends"),
            TargetState(target) if target else None,
            values.get("event", ""),
            values.get("only_told", False),
            NamedAction(**action) if action else None,
        )


# In a step's data: whether it has found that nothing else is to be done, and no answer is owed to the group.
ENOUGH = "enough"
UNKNOWN = "unknown"  # ... or that it cannot be known: all of it is tried again
UNASKED = "unasked"  # ... of the answer: that the group has not asked yet, and may still do so
COMPLETE = "complete"  # the name of the last step, the answer to the group; it outlives a reboot


class Outcome(str, Enum):
    """How a step, or a whole transition, ended."""

    DONE = "done"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def well(self) -> bool:
        """Whether what was to be done is done."""
        return self in (Outcome.DONE, Outcome.WARNED)


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

"""What the world is like when the curtain rises."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle_agent.model import TargetState


@dataclass(frozen=True)
class Scene:
    """What differs from one act to another.

    Args:
        arrives: our instance is not there yet: the group is still to launch it.
        healthy: whether its app ever becomes so.
        pool: how instances rest in the warm pool.
        spot: ours is a spot instance.
        balancer: seconds, in real life, that the load balancer takes; None for the usual.
        asks_at_once: the group asks while the agent's processes are still to be started, and must not be in
            a greater hurry than the machine that rehearses can be.
        told_by_imds: whether the metadata have a target lifecycle state.
        leaves: whether the group has a terminating hook.
    """

    arrives: bool = False
    healthy: bool = True
    pool: TargetState = TargetState.WARMED_STOPPED
    spot: bool = False
    balancer: float | None = None
    asks_at_once: bool = False
    told_by_imds: bool = True
    leaves: bool = True

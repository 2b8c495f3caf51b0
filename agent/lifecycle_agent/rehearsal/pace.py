"""How fast the world's timers run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """The world's timers in seconds: the defaults of AWS and Eureka, divided by `speed`.

    Args:
        renew: eureka.instance.lease-renewal-interval-in-seconds; a lease lasts three of them.
        cache: eureka.server.response-cache-update-interval-ms.
        evict: eureka.server.eviction-interval-timer-in-ms.
        fetch: eureka.client.registry-fetch-interval-seconds, the callers'.
        balancer: how long the load balancer takes before `Terminating:Wait`; AWS's default is 300 s, and who
            deploys often sets it to 30 s or so.
        heartbeat: the hook's heartbeat timeout; AWS's default is an hour, of which nobody wants to see much.
        boot: from the start of the app's process until it is healthy, as a Java service takes it.
    """

    renew: float
    cache: float
    evict: float
    fetch: float
    balancer: float
    heartbeat: int
    boot: float

    @classmethod
    def of(cls, speed: float, balancer: float | None = None, least_heartbeat: int = 2) -> Pace:
        """Real life's, `speed` times faster.

        Args:
            balancer: in real life's seconds, where it is another than usual.
            least_heartbeat: seconds, however fast.
        """
        return cls(
            renew=30 / speed,
            cache=30 / speed,
            evict=60 / speed,
            fetch=30 / speed,
            balancer=(30 if balancer is None else balancer) / speed,
            heartbeat=max(least_heartbeat, round(120 / speed)),
            boot=20 / speed,
        )

"""The emulated registry itself: leases, overrides and what came of them. No HTTP, no threads, no locks.

It goes by the rules of Netflix's AbstractInstanceRegistry, as far as one server without peers and without
self preservation shows them.
"""

from __future__ import annotations

import copy
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lifecycle_agent.deadline import boottime

STATUSES = ("UP", "DOWN", "STARTING", "OUT_OF_SERVICE", "UNKNOWN")
# Seconds: defaults of InstanceInfo's leaseInfo, and of eureka.server.retentionTimeInMSInDeltaQueue.
RENEWAL_INTERVAL = 30
LEASE = 90
DELTA_RETENTION = 180.0
# eureka.server.renewalPercentThreshold: one eviction never takes more than what is above this share.
KEPT_BY_EVICTION = 0.85


class BadInstance(Exception):
    """What the server answers 400 to."""


@dataclass
class Lease:
    """A registration and until when it holds.

    Args:
        document: InstanceInfo as JSON, as it is shown.
        renewed: seconds on the boot clock. A renewal moves it a whole duration into the future, so a lease
            that was renewed lasts two; the real server's `Lease.isExpired` owns up to that.
    """

    app: str
    id: str
    document: dict[str, Any]
    duration: float
    renewed: float

    def __str__(self) -> str:
        return f"{self.app}/{self.id}"

    @property
    def status(self) -> str:
        """What callers see."""
        return str(self.document["status"])


class Registry:
    """All leases of one server, and the overrides that outlive their registrations' news."""

    def __init__(self, clock: Callable[[], float] = boottime) -> None:
        self._clock = clock
        self._leases: dict[tuple[str, str], Lease] = {}
        self._overrides: dict[str, str] = {}
        self._changed: deque[tuple[float, Lease]] = deque()
        self._deltas = 0

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._leases.values()))

    # Reading

    def instance(self, app: str, id_: str) -> Mapping[str, Any] | None:
        """One InstanceInfo."""
        lease = self._leases.get((app.upper(), id_))
        return None if lease is None else lease.document

    def anywhere(self, id_: str) -> Mapping[str, Any] | None:
        """One InstanceInfo of whichever app."""
        return next((lease.document for lease in self if lease.id == id_), None)

    def application(self, app: str) -> Mapping[str, Any] | None:
        """One app with all its instances."""
        found = [copy.deepcopy(lease.document) for lease in self if lease.app == app.upper()]
        return {"application": {"name": app.upper(), "instance": found}} if found else None

    def applications(self) -> Mapping[str, Any]:
        """Everything; its version is always 1."""
        return self._listing(list(self), 1)

    def delta(self) -> Mapping[str, Any]:
        """What changed of late. The hash code is the whole registry's, so that clients can compare."""
        self._deltas += 1
        while self._changed and self._changed[0][0] < self._clock() - DELTA_RETENTION:
            self._changed.popleft()
        return self._listing([lease for _, lease in self._changed], self._deltas)

    def _listing(self, leases: list[Lease], version: int) -> Mapping[str, Any]:
        apps: dict[str, list[dict[str, Any]]] = {}
        for lease in leases:
            apps.setdefault(lease.app, []).append(copy.deepcopy(lease.document))
        counts = Counter(lease.status for lease in self)
        return {
            "applications": {
                "versions__delta": str(version),
                "apps__hashcode": "".join(f"{status}_{counts[status]}_" for status in sorted(counts)),
                "application": [{"name": app, "instance": instances} for app, instances in apps.items()],
            }
        }

    # Writing

    def register(self, app: str, body: Any) -> Lease:
        """Take in a registration, or a newer word of a known one.

        Raises:
            BadInstance: a field that must be there is not.
        """
        instance = _checked(app, body)
        center = instance["dataCenterInfo"]
        machine = (center.get("metadata") or {}).get("instance-id")
        id_ = str(instance.get("instanceId") or machine or instance["hostName"])
        key = (app.upper(), id_)
        known = self._leases.get(key)
        now = _milliseconds()
        dirty = int(instance.get("lastDirtyTimestamp") or now)
        if known is not None and int(known.document["lastDirtyTimestamp"]) > dirty:
            instance = dict(known.document)  # an older word than the one we have
            dirty = int(instance["lastDirtyTimestamp"])
        if (given := instance.get("overriddenStatus", "UNKNOWN")) != "UNKNOWN":
            self._overrides.setdefault(id_, str(given))
        reported = str(instance.get("status", "UP"))
        status = self._effective(
            id_, reported if reported in STATUSES else "UNKNOWN", None if known is None else known.status
        )
        terms = instance.get("leaseInfo") or {}
        duration = int(terms.get("durationInSecs") or LEASE)
        up = 0 if known is None else int(known.document["leaseInfo"]["serviceUpTimestamp"])
        document = {
            **instance,
            "app": app.upper(),
            "status": status,
            "overriddenStatus": self._overrides.get(id_, "UNKNOWN"),
            "leaseInfo": {
                "renewalIntervalInSecs": int(terms.get("renewalIntervalInSecs") or RENEWAL_INTERVAL),
                "durationInSecs": duration,
                "registrationTimestamp": now,
                "lastRenewalTimestamp": now,
                "evictionTimestamp": 0,
                "serviceUpTimestamp": up or (now if status == "UP" else 0),
            },
            "metadata": instance.get("metadata") or {},
            "lastUpdatedTimestamp": str(now),
            "lastDirtyTimestamp": str(dirty),
            "actionType": "ADDED",
        }
        lease = Lease(app.upper(), id_, document, float(duration), self._clock())
        self._leases[key] = lease
        self._changed.append((self._clock(), lease))
        return lease

    def renew(self, app: str, id_: str, dirty: int | None = None) -> bool:
        """Renew a lease; False (404) tells the client to register again.

        That is so for an unknown lease, for one whose status is not known (its override was just removed),
        and where the client says by `dirty` (milliseconds) that it has news which we have not. The status
        that clients put into the query of a renewal is not looked at.
        """
        lease = self._leases.get((app.upper(), id_))
        if lease is None:
            return False
        status = self._effective(id_, lease.status, lease.status)
        if status == "UNKNOWN":
            return False
        lease.document["status"] = status
        self._prolong(lease)
        return dirty is None or dirty <= int(lease.document["lastDirtyTimestamp"])

    def cancel(self, app: str, id_: str, action: str = "DELETED") -> bool:
        """Drop the lease and its override; False when there is none."""
        lease = self._leases.pop((app.upper(), id_), None)
        if lease is None:
            return False
        self._overrides.pop(id_, None)
        lease.document["leaseInfo"]["evictionTimestamp"] = _milliseconds()
        self._change(lease, action)
        return True

    def override(self, app: str, id_: str, value: str) -> None:
        """Set a known instance's status over its app's head; it is a renewal, too.

        Raises:
            ValueError: no such status. Capitals count.
        """
        if value not in STATUSES:
            raise ValueError(value)
        lease = self._leases[app.upper(), id_]
        self._prolong(lease)
        if lease.status == value:
            return  # the real one does not even note the override then
        self._overrides[id_] = value
        lease.document.update(status=value, overriddenStatus=value)
        if value == "UP" and not lease.document["leaseInfo"]["serviceUpTimestamp"]:
            lease.document["leaseInfo"]["serviceUpTimestamp"] = _milliseconds()
        self._change(lease, "MODIFIED")

    def remove_override(self, app: str, id_: str, value: str) -> None:
        """Forget the override of a known instance; `value` is its status until the app says its own.

        Raises:
            ValueError: no such status.
        """
        if value not in STATUSES:
            raise ValueError(value)
        lease = self._leases[app.upper(), id_]
        self._prolong(lease)
        if self._overrides.pop(id_, None) is not None:
            lease.document.update(status=value, overriddenStatus="UNKNOWN")
            self._change(lease, "MODIFIED")

    def evict(self) -> list[Lease]:
        """Drop expired leases, oldest first, but never more than a share of all at once."""
        now = self._clock()
        expired = [lease for lease in self if now > lease.renewed + lease.duration]
        limit = len(self._leases) - int(len(self._leases) * KEPT_BY_EVICTION)
        gone = expired[:limit]
        for lease in gone:
            self.cancel(lease.app, lease.id)
        return gone

    def _effective(self, id_: str, reported: str, before: str | None) -> str:
        """Whose word counts: DOWN or STARTING from the app, then the override, then what was already UP or
        OUT_OF_SERVICE, then the app's.
        """
        if reported not in ("UP", "OUT_OF_SERVICE"):
            return reported
        if id_ in self._overrides:
            return self._overrides[id_]
        return before if before in ("UP", "OUT_OF_SERVICE") else reported

    def _prolong(self, lease: Lease) -> None:
        lease.renewed = self._clock() + lease.duration
        stamp = _milliseconds() + int(lease.duration * 1000)
        lease.document["leaseInfo"]["lastRenewalTimestamp"] = stamp

    def _change(self, lease: Lease, action: str) -> None:
        lease.document.update(actionType=action, lastUpdatedTimestamp=str(_milliseconds()))
        self._changed.append((self._clock(), lease))


def _checked(app: str, body: Any) -> dict[str, Any]:
    """The instance in a request's body, with what the server insists on."""
    instance = body.get("instance") if isinstance(body, dict) else None
    if not isinstance(instance, dict) or not isinstance(instance.get("app"), str):
        raise BadInstance('{"error": "cannot parse request body"}')
    for name, title in (("hostName", "hostname"), ("ipAddr", "ip address"), ("app", "appName")):
        if not instance.get(name):
            raise BadInstance(f"Missing {title}")
    if instance["app"].upper() != app.upper():
        raise BadInstance(f"Mismatched appName, expecting {app.upper()} but was {instance['app'].upper()}")
    center = instance.get("dataCenterInfo")
    if center is None:
        raise BadInstance("Missing dataCenterInfo")
    if not isinstance(center, dict) or "@class" not in center or "name" not in center:
        raise BadInstance('{"error": "cannot parse request body"}')
    return instance


def _milliseconds() -> int:
    return int(time.time() * 1000)

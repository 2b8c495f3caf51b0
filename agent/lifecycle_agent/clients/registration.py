"""A registration: what the registry knows about an instance, and how it is read from Eureka's JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from lifecycle_agent import registrant
from lifecycle_agent.model import Machine

OUT_OF_SERVICE = "OUT_OF_SERVICE"
UNKNOWN = "UNKNOWN"
UP = "UP"

# Not the tail of another name: `web-i-12345678` is none.
_EC2_ID = re.compile(r"(?<![\w-])i-[0-9a-f]{8,17}(?![\w-])")


class Key(NamedTuple):
    """What names a registration."""

    app: str
    instance_id: str

    def __str__(self) -> str:
        return f"{self.app}/{self.instance_id}"


@dataclass(frozen=True)
class Registration:
    """An instance as the registry has it: Eureka's InstanceInfo, as far as it matters here.

    Args:
        instance_id: Eureka's id of it, any text (`10.0.0.5:orders:8080`).
        status: what callers see: UP, DOWN, STARTING, OUT_OF_SERVICE or UNKNOWN.
        overridden_status: what an operator said instead of the app, UNKNOWN when nobody did.
        ec2_instance_id: the machine, where the registration says so.
        ports: those where callers find it.
        by_agent: whether an agent has registered it for an app that does not do that itself.
    """

    app: str
    instance_id: str
    host_name: str = ""
    address: str = ""
    status: str = UNKNOWN
    overridden_status: str = UNKNOWN
    ec2_instance_id: str | None = None
    ports: tuple[int, ...] = ()
    by_agent: bool = False

    @property
    def key(self) -> Key:
        """Its name."""
        return Key(self.app, self.instance_id)

    @property
    def out_of_service(self) -> bool:
        """Whether callers are kept away, also when the app itself reports DOWN or STARTING meanwhile."""
        return OUT_OF_SERVICE in (self.status, self.overridden_status)

    def belongs_to(self, machine: Machine) -> bool:
        """Whether it is `machine`'s: by EC2 instance id where it has one, else by address or host name.

        Addresses are used again, so a registration that names another instance is never ours.
        """
        if self.ec2_instance_id is not None:
            return self.ec2_instance_id == machine.instance_id
        return self.address in machine.addresses or self.host_name.lower() in machine.host_names


def parse_all(document: Any) -> Iterator[Registration]:
    """Every instance in the JSON answer to GET apps or GET apps/APP.

    Raises:
        LookupError, TypeError or AttributeError: the document has another shape.
    """
    if "application" in document:
        apps = _listed(document["application"])
    else:
        apps = _listed(document["applications"].get("application"))
    for app in apps:
        for instance in _listed(app.get("instance")):
            yield parse_one(instance, str(app.get("name", "")))


def _listed(value: Any) -> list[Any]:
    """Some of Eureka's serializers write a list of one as the one, and an empty list as null."""
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def parse_one(instance: Any, app: str) -> Registration:
    """An InstanceInfo in JSON; `app` is the name it was listed under.

    Raises:
        LookupError, TypeError or AttributeError: the document has another shape.
    """
    data_center = instance.get("dataCenterInfo") or {}
    metadata = data_center.get("metadata") or {}
    host_name = str(instance.get("hostName") or "")
    machine = metadata.get("instance-id")
    # Without an id of its own the server names it after the machine, or else the host: InstanceInfo.getId.
    instance_id = str(instance.get("instanceId") or machine or host_name)
    if machine is None and (named := _EC2_ID.search(f"{instance_id} {host_name}")):
        machine = named.group()
    return Registration(
        app=str(instance.get("app") or app),
        instance_id=instance_id,
        host_name=host_name,
        address=str(instance.get("ipAddr") or ""),
        status=str(instance.get("status") or UNKNOWN),
        # Netflix's own server spells it in lower case.
        overridden_status=str(
            instance.get("overriddenStatus") or instance.get("overriddenstatus") or UNKNOWN
        ),
        ec2_instance_id=None if machine is None else str(machine),
        ports=registrant.ports(instance),
        by_agent=registrant.is_ours(instance),
    )

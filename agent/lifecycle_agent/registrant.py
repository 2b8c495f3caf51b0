"""What the agent registers for an app without a Eureka client: what is said of it, and whether it is there.

A transition registers it and the watcher renews that, so this is the standard library alone.
"""

from __future__ import annotations

import http.client
import math
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from lifecycle_agent import http_call
from lifecycle_agent.config import RegisterSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.model import Machine

# What tells a registration of ours from one that the app has made: Spring names its own just as we do.
MARK, MARKED = "registered-by", "lifecycle-agent"

# Seconds for the app, on this machine, to take a connection, and to say how it is.
CONNECT = 1.0
HEALTH = 2.0


def document(section: RegisterSection, app: str, machine: Machine) -> dict[str, Any]:
    """InstanceInfo in JSON, as Netflix's and Spring's clients send it for an instance on EC2.

    AmazonInfo as the data center has the instance id in it, so that whose a registration is does not
    depend on an address, which others have had and will have.

    Raises:
        LifecycleAgentError: the machine has no IPv4 address, and the server takes nothing without one.
    """
    if not machine.addresses:
        raise LifecycleAgentError(
            "this machine has no private IPv4 address, which a registration must have",
            "give it one, or remove [eureka.register]",
        )
    address, port = machine.addresses[0], section.port
    host = machine.host_names[0] if machine.host_names else address
    vip = section.vip or app.lower()
    base = f"{'https' if section.secure else 'http'}://{host}:{port}"
    urls = {"homePageUrl": f"{base}/"}
    if section.status_path:
        urls["statusPageUrl"] = base + section.status_path
    if section.health_path:
        urls["secureHealthCheckUrl" if section.secure else "healthCheckUrl"] = base + section.health_path
    about = {"instance-id": machine.instance_id, "local-ipv4": address, "local-hostname": host}
    return {
        "instanceId": f"{host}:{app.lower()}:{port}",
        "app": app.upper(),
        "hostName": host,
        "ipAddr": address,
        "status": "UP",
        # The other one's number is the client's default; it is not enabled.
        "port": _port(80 if section.secure else port, not section.secure),
        "securePort": _port(port if section.secure else 443, section.secure),
        "vipAddress": vip,
        "secureVipAddress": vip,
        **urls,
        "dataCenterInfo": {
            "@class": "com.netflix.appinfo.AmazonInfo",
            "name": "Amazon",
            "metadata": about,
        },
        "leaseInfo": {
            "renewalIntervalInSecs": max(1, round(section.renew_every)),
            "durationInSecs": math.ceil(section.lease),
        },
        "metadata": {**section.metadata, MARK: MARKED},
    }


def is_ours(instance: Mapping[str, Any]) -> bool:
    """Whether an InstanceInfo is one that an agent has registered."""
    metadata = instance.get("metadata")
    return isinstance(metadata, Mapping) and metadata.get(MARK) == MARKED


def ports(instance: Mapping[str, Any]) -> tuple[int, ...]:
    """The ports that an InstanceInfo has enabled."""
    found = (instance.get(name) for name in ("port", "securePort"))
    enabled = (each for each in found if isinstance(each, Mapping) and _is_true(each.get("@enabled")))
    return tuple(int(each["$"]) for each in enabled if str(each.get("$", "")).isdecimal())


def answers(section: RegisterSection, machine: Machine, deadline: Deadline) -> bool:
    """Whether the app takes connections on its port, or, where `health_path` is set, answers 2xx there.

    Asked on this machine: on loopback, then on the address that callers use, in case it listens there alone.
    """
    hosts = ("127.0.0.1", *machine.addresses[:1])
    return any(_answers_at(host, section, deadline) for host in hosts)


def _answers_at(host: str, section: RegisterSection, deadline: Deadline) -> bool:
    if deadline.passed:
        return False
    try:
        if not section.health_path:
            socket.create_connection((host, section.port), deadline.timeout(CONNECT)).close()
            return True
        scheme = "https" if section.secure else "http"
        url = f"{scheme}://{host}:{section.port}{section.health_path}"
        status, _ = http_call.call("GET", url, deadline.within(HEALTH), 0, context=_trusting(section))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    return 200 <= status < 300


def _trusting(section: RegisterSection) -> ssl.SSLContext | None:
    """For a look at the app on this very machine: its certificate is for the name that callers use."""
    if not section.secure:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _port(number: int, enabled: bool) -> dict[str, Any]:
    return {"$": number, "@enabled": "true" if enabled else "false"}


def _is_true(value: object) -> bool:
    return str(value).lower() == "true"

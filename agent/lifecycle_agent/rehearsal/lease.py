"""The app's registration with Eureka: made, renewed, and made again when the registry has forgotten it."""

from __future__ import annotations

import json
import math
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from lifecycle_agent.rehearsal.net import DIRECT, credentials, host_name


class Lease:
    """Our registration with Eureka, kept alive by a thread as long as the app runs.

    Args:
        url: Eureka's base URL.
        renew_every: seconds between two renewals.
        tell: told that it `registered`, or `registered again`.
    """

    def __init__(
        self, url: str, instance: dict[str, Any], renew_every: float, tell: Callable[[str], None]
    ) -> None:
        base, self._headers = credentials(url)
        self._url = f"{base}/apps/{instance['app']}"
        self._instance = instance
        self._renew_every = renew_every
        self._tell = tell
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Register, and renew from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Renew no more."""
        self._stop.set()
        self._thread.join(3.0)  # a request that is under way takes 2 s at most

    def _run(self) -> None:
        registered = self._register("registered")
        while not self._stop.wait(self._renew_every if registered else min(0.5, self._renew_every)):
            if not registered:
                registered = self._register("registered")
            elif self._send("PUT", f"{self._url}/{self._instance['instanceId']}", None) == 404:
                registered = self._register("registered again")

    def _register(self, event: str) -> bool:
        status = self._send("POST", self._url, {"instance": self._instance})
        if status == 204:
            self._tell(event)
        return status == 204

    def _send(self, method: str, url: str, body: dict[str, Any] | None) -> int:
        """The status of the answer; 0 when there was none."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self._headers}
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - http, ours
        try:
            with DIRECT.open(request, timeout=2.0) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


def registration(name: str, instance_id: str, address: str, port: int, renew: float) -> dict[str, Any]:
    """What Netflix's Eureka client sends for an instance on EC2 (InstanceInfo with AmazonInfo)."""
    # Whole seconds; a lease of three renewals, as InstanceInfo's defaults 30 and 90 have it.
    lease = {"renewalIntervalInSecs": math.ceil(renew), "durationInSecs": math.ceil(3 * renew)}
    host = host_name(address)
    return {
        "instanceId": f"{host}:{name.lower()}:{port}",
        "app": name.upper(),
        "hostName": host,
        "ipAddr": address,
        "status": "UP",
        "overriddenstatus": "UNKNOWN",
        "port": {"$": port, "@enabled": "true"},
        "securePort": {"$": 443, "@enabled": "false"},
        "vipAddress": name.lower(),
        "secureVipAddress": name.lower(),
        "healthCheckUrl": f"http://{address}:{port}/actuator/health",
        "leaseInfo": lease,
        "dataCenterInfo": {
            "@class": "com.netflix.appinfo.AmazonInfo",
            "name": "Amazon",
            "metadata": {"instance-id": instance_id, "local-ipv4": address, "local-hostname": host},
        },
        "metadata": {"management.port": str(port)},
    }

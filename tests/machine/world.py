"""What a machine in a box can reach: metadata, a group, S3 and a registry, each at its usual address.

They live in the test's own process, so a test can look at them and change them as it likes.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from typing import Any

import boto3

from lifecycle_agent.rehearsal.eureka import EmulatedEureka
from lifecycle_agent.rehearsal.group import Group
from lifecycle_agent.rehearsal.imds import TARGET_STATE, Imds
from tests.machine.dhcp import Dhcp
from tests.machine.network import ADDRESS, METADATA, WORLD, Network
from tests.stage import APP, HOOK

HOST_NAME = "ip-10-0-0-7"
BUCKET = "acme-logs"
EUREKA_PORT, AWS_PORT = 8761, 4566


class World:
    """Everything outside a machine; there until `close`.

    Args:
        user_data: what the machine is launched with; None for nothing.
    """

    def __init__(self, network: Network, instance_id: str, user_data: str | None = None) -> None:
        self.instance_id = instance_id
        self._network = network
        self._stack = ExitStack()
        with network.inside():
            self.imds = Imds(
                instance_id, local_ipv4=ADDRESS, local_hostname=HOST_NAME, host=METADATA, port=80
            )
            self.eureka = EmulatedEureka(host=WORLD, port=EUREKA_PORT)
            self.group = Group(host=WORLD, port=AWS_PORT)
            dhcp = Dhcp()
        self.imds.set("user-data", user_data)
        self.imds.set(TARGET_STATE, self._target_state)
        for service in (dhcp, self.imds, self.eureka, self.group):
            self._stack.enter_context(service)
        self.s3("create_bucket", Bucket=BUCKET)

    def _target_state(self) -> str | None:
        # As for an instance that the group has launched itself, however it came to be there.
        told = self.group.target_state(self.instance_id)
        return told or ("InService" if self.group.state(self.instance_id) else None)

    def in_service(self, heartbeat_timeout: int = 600) -> None:
        """The group has the instance in service, and will ask before it takes it away."""
        self.group.add_hook(HOOK, heartbeat_timeout=heartbeat_timeout)
        self.group.place(self.instance_id)

    @property
    def answer(self) -> str | None:
        """What the group was answered by our hook; None where it was not."""
        action = self.group.action(self.instance_id, HOOK)
        return action.result.value if action is not None and action.result is not None else None

    def register(self) -> None:
        """The machine's app is in the registry."""
        center = {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"}
        instance = {"app": APP, "hostName": HOST_NAME, "ipAddr": ADDRESS, "dataCenterInfo": center}
        self.eureka.registry.register(APP, {"instance": {**instance, "instanceId": "orders:1"}})

    def s3(self, method: str, **parameters: Any) -> Any:
        """One call to S3, as an operator makes it."""
        with self._network.inside(), contextlib.closing(self._client()) as client:
            return getattr(client, method)(**parameters)

    def objects(self) -> dict[str, bytes]:
        """What this instance has left in the bucket."""
        with self._network.inside(), contextlib.closing(self._client()) as client:
            found = client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
            keys = [each["Key"] for each in found if self.instance_id in each["Key"]]
            return {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.group.url,
            region_name="us-east-1",
            aws_access_key_id="operator",
            aws_secret_access_key="operator",
        )

    def close(self) -> None:
        self._stack.close()

"""What the metadata service of a plain instance in a VPC says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone


def plain_instance(
    instance_id: str,
    region: str,
    address: str,
    host_name: str,
    tags: Mapping[str, str] | None,
    role: str | None,
) -> dict[str, str | Callable[[], str]]:
    """What the metadata of a plain instance in a VPC says; no target lifecycle state, no spot notice."""
    zone, mac, account = f"{region}a", "0a:00:00:00:00:01", "123456789012"
    interface = f"network/interfaces/macs/{mac}"
    document = {
        "accountId": account,
        "architecture": "x86_64",
        "availabilityZone": zone,
        "imageId": "ami-00000000000000000",
        "instanceId": instance_id,
        "instanceType": "t3.micro",
        "pendingTime": "2026-01-01T00:00:00Z",
        "privateIp": address,
        "region": region,
        "version": "2017-09-30",
    }
    values: dict[str, str | Callable[[], str]] = {
        "ami-id": document["imageId"],
        "events/maintenance/history": "[]",
        "events/maintenance/scheduled": "[]",
        "hostname": host_name,
        "instance-id": instance_id,
        "instance-life-cycle": "on-demand",
        "instance-type": document["instanceType"],
        "local-hostname": host_name,
        "local-ipv4": address,
        "mac": mac,
        f"{interface}/device-number": "0",
        f"{interface}/interface-id": "eni-00000000000000000",
        f"{interface}/local-hostname": host_name,
        f"{interface}/local-ipv4s": address,
        f"{interface}/mac": mac,
        f"{interface}/owner-id": account,
        f"{interface}/subnet-id": "subnet-00000000000000000",
        f"{interface}/vpc-id": "vpc-00000000000000000",
        "placement/availability-zone": zone,
        "placement/region": region,
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
        "dynamic/instance-identity/document": json.dumps(document, indent=2),
    }
    for key, value in (tags or {}).items():
        values[f"tags/instance/{key}"] = value
    if role is not None:
        values["iam/info"] = lambda: _profile(account, role)
        values[f"iam/security-credentials/{role}"] = _credentials
    return values


def _profile(account: str, role: str) -> str:
    arn = f"arn:aws:iam::{account}:instance-profile/{role}"
    said = {"Code": "Success", "LastUpdated": _time(0), "InstanceProfileArn": arn}
    return json.dumps({**said, "InstanceProfileId": "AIPA0000000000000000"})


def _credentials() -> str:
    """Credentials that open nothing: the emulated services take any."""
    said = {"Code": "Success", "LastUpdated": _time(0), "Type": "AWS-HMAC", "Expiration": _time(6)}
    keys = {"AccessKeyId": "ASIA0000000000000000", "SecretAccessKey": "rehearsal", "Token": "rehearsal"}
    return json.dumps({**said, **keys})


def _time(hours: int) -> str:
    return f"{datetime.now(timezone.utc) + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"

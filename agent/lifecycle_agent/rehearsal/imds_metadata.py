"""What the metadata service of a plain instance in a VPC says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone

# As the real service lists them at its root. What a later one has changed is nothing that is served here.
VERSIONS = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
    "2009-04-04", "2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20",
    "2016-04-19", "2016-06-30", "2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01",
    "2020-10-27", "2021-01-03", "2021-03-23", "2021-07-15", "2022-09-24", "2024-04-11", "latest",
)  # fmt: skip


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
        "ami-launch-index": "0",
        "ami-manifest-path": "(unknown)",
        "block-device-mapping/ami": "/dev/xvda",
        "block-device-mapping/root": "/dev/xvda",
        "events/maintenance/history": "[]",
        "events/maintenance/scheduled": "[]",
        "hostname": host_name,
        "instance-action": "none",
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
        "profile": "default-hvm",
        "reservation-id": "r-00000000000000000",
        "security-groups": "default",
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

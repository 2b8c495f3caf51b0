"""The policy in packaging/ allows what the agent calls, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What S3 asks for a call that is not an action of the same name. Source: the S3 user guide,
# "Required permissions for Amazon S3 API operations".
S3_ACTION = {
    "put_object": "PutObject",
    "create_multipart_upload": "PutObject",
    "upload_part": "PutObject",
    "complete_multipart_upload": "PutObject",
    "head_object": "GetObject",
    "abort_multipart_upload": "AbortMultipartUpload",
}


def called(client: str) -> set[str]:
    """The methods of a boto3 client that a file of ours calls."""
    source = (ROOT / "agent/lifecycle_agent/clients" / client).read_text()
    return set(re.findall(r"client\.([a-z_]+)\(", source))


def test_policy_allows_what_is_called_and_no_more() -> None:
    policy = json.loads((ROOT / "packaging/iam-policy.json").read_text())
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    group = {f"autoscaling:{name.title().replace('_', '')}" for name in called("autoscaling.py")}
    store = {f"s3:{S3_ACTION[name]}" for name in called("s3.py")}
    assert len(group) == 4
    assert store
    assert allowed == group | store

"""The policy in packaging/ allows what the agent calls, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What S3 asks for a call, and for a parameter of one. Source: the S3 user guide, "Required permissions for
# Amazon S3 API operations", and for KMS "Uploading and copying objects using multipart upload".
S3_ACTION = {
    "put_object": "PutObject",
    "create_multipart_upload": "PutObject",
    "upload_part": "PutObject",
    "complete_multipart_upload": "PutObject",
    "list_parts": "ListMultipartUploadParts",
    "list_multipart_uploads": "ListBucketMultipartUploads",
    "head_object": "GetObject",
    "get_object": "GetObject",
    "abort_multipart_upload": "AbortMultipartUpload",
}
FOR_PARAMETER = {
    "Tagging": ("OnlyWithTags", {"s3:PutObjectTagging"}),
    "SSEKMSKeyId": ("OnlyWithAKmsKeyOfYourOwn", {"kms:GenerateDataKey", "kms:Decrypt"}),
}
CLIENTS = ROOT / "agent/lifecycle_agent/clients"


def called(client: str) -> set[str]:
    """The methods of a boto3 client that a file of ours calls."""
    source = (CLIENTS / client).read_text()
    return set(re.findall(r"client\.([a-z_]+)\(", source))


def statements() -> dict[str, set[str]]:
    """The actions that each statement of the policy allows."""
    policy = json.loads((ROOT / "packaging/iam-policy.json").read_text())
    return {
        statement["Sid"]: {actions} if isinstance(actions := statement["Action"], str) else set(actions)
        for statement in policy["Statement"]
    }


def test_policy_allows_what_is_called_and_no_more() -> None:
    optional = {name for name, _ in FOR_PARAMETER.values()}
    allowed = set().union(*(actions for name, actions in statements().items() if name not in optional))
    group = {f"autoscaling:{name.title().replace('_', '')}" for name in called("autoscaling.py")}
    store = {f"s3:{S3_ACTION[name]}" for name in called("s3.py")}
    assert len(group) == 4
    assert store
    # Without ListBucket S3 answers 403 for what is not there, and nobody calls for it.
    assert allowed == group | store | {"s3:ListBucket"}


@pytest.mark.parametrize("parameter", FOR_PARAMETER)
def test_what_only_a_setting_needs_is_apart(parameter: str) -> None:
    name, actions = FOR_PARAMETER[parameter]
    assert f'"{parameter}"' in (CLIENTS / "s3.py").read_text()
    assert statements()[name] == actions

"""What goes wrong with a bucket, said so that somebody can mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lifecycle_agent.errors import LifecycleAgentError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError


class S3Error(LifecycleAgentError):
    """A request to S3 failed.

    Args:
        code: S3's error code (`AccessDenied`), or what stands for it where S3 did not answer.
        hopeless: whether no other object of the bucket would fare better.
    """

    def __init__(self, message: str, hint: str, code: str = "", hopeless: bool = False) -> None:
        super().__init__(message, hint)
        self.code = code
        self.hopeless = hopeless


class OutOfTime(S3Error):
    """The deadline passed first."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(
            f"time ran out before s3://{bucket}/{key} was answered for",
            "give the transition more time (drain.timeout, the hook's heartbeat timeout) or ship less",
            "OutOfTime",
        )


class WrongChecksum(S3Error):
    """S3 says that it has something else than what was sent."""

    def __init__(self, bucket: str, key: str, said: str, sent: str) -> None:
        super().__init__(
            f"S3 answered for s3://{bucket}/{key} with CRC32 {said!r}, sent was {sent!r}",
            "look for what changes bodies on the way: a proxy, or the endpoint of AWS_ENDPOINT_URL_S3",
            "WrongChecksum",
        )


# "Error responses" of the S3 API reference; SlowDown and the like come with 503, RequestTimeout with 400, and
# BadDigest means that what arrived is not what was sent.
_TRANSIENT = {"SlowDown", "RequestTimeout", "BadDigest", "InternalError", "ServiceUnavailable"}
_TRANSIENT |= {"OperationAborted", "Throttling", "ThrottlingException", "RequestLimitExceeded"}

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_INVALID = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "UnrecognizedClientException"}
DENIED = {"AccessDenied", "403", "AllAccessDisabled", "AccountProblem"}
NOT_THERE = {"404", "NoSuchKey", "NotFound", "NoSuchUpload"}
_ELSEWHERE = {
    "PermanentRedirect",
    "301",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}


def denied(error: S3Error) -> bool:
    """Whether the role may not do this, or not know: without s3:ListBucket what is not there is denied."""
    return error.code in DENIED


def transient(error: Exception) -> bool:
    """Whether the same request may succeed in a moment."""
    from botocore import exceptions as aws

    if isinstance(error, aws.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or _code(error) in _TRANSIENT
    # The metadata service, which has them, may have missed one request.
    if isinstance(error, aws.NoCredentialsError):
        return True
    # No answer: refused, reset, timed out. A certificate that does not fit will not fit in a second either.
    return isinstance(error, (aws.HTTPClientError, aws.ConnectionError)) and not isinstance(
        error, aws.SSLError
    )


def unanswered(error: Exception) -> bool:
    """Whether there was no answer at all."""
    from botocore import exceptions as aws

    return isinstance(error, (aws.HTTPClientError, aws.ConnectionError))


def expired(error: Exception) -> bool:
    """Whether a client made anew, which looks for credentials again, may find better ones."""
    from botocore import exceptions as aws

    return isinstance(error, aws.ClientError) and _code(error) in _EXPIRED


def explain(error: Exception, bucket: str, key: str) -> S3Error:
    """The error as people should see it."""
    from botocore import exceptions as aws

    if isinstance(error, aws.ClientError):
        return _answered(error, bucket, key)
    if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError)):
        return S3Error(
            f"no AWS credentials for bucket {bucket!r}",
            "give the instance a profile whose role may write to the bucket",
            "NoCredentials",
            hopeless=True,
        )
    if isinstance(error, aws.SSLError):
        return S3Error(
            f"the S3 endpoint's certificate is not accepted: {error}",
            "check AWS_ENDPOINT_URL_S3, the clock, and AWS_CA_BUNDLE where a proxy has a CA of its own",
            "TLS",
            hopeless=True,
        )
    if isinstance(error, (aws.HTTPClientError, aws.ConnectionError)):
        return S3Error(
            f"no answer from S3 for bucket {bucket!r}: {error}",
            "check the route to S3 (a gateway endpoint or a NAT), security groups and AWS_ENDPOINT_URL_S3",
            "Unreachable",
            hopeless=True,
        )
    return S3Error(
        f"S3 client for bucket {bucket!r}: {error}", "check [logs] bucket, AWS_REGION and AWS_ENDPOINT_URL_S3"
    )


def _answered(error: ClientError, bucket: str, key: str) -> S3Error:
    code, place = _code(error), f"s3://{bucket}/{key}"
    headers: Any = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    said = error.response.get("Error", {}).get("Message", "")
    if code == "NoSuchBucket":
        return S3Error(
            f"there is no bucket {bucket!r} (NoSuchBucket)", "create it, or correct [logs] bucket", code, True
        )
    if code in _ELSEWHERE:
        region = headers.get("x-amz-bucket-region") or "another region"
        return S3Error(
            f"bucket {bucket!r} is in {region}, not where it was asked for ({code})",
            "set AWS_REGION or AWS_ENDPOINT_URL_S3 for the bucket's region, or use a bucket of this one",
            code,
            True,
        )
    if code in _EXPIRED or code in _INVALID:
        what = "have expired" if code in _EXPIRED else "are not accepted"
        return S3Error(
            f"the AWS credentials for bucket {bucket!r} {what} ({code})",
            "check the instance profile, the clock, and AWS_* variables that may override the profile",
            code,
            True,
        )
    if code in DENIED:
        return S3Error(
            f"{place}: access denied ({code}): {said}",
            f"allow the role s3:PutObject and s3:AbortMultipartUpload on arn:aws:s3:::{bucket}/*, "
            "s3:PutObjectTagging with [logs] tags, kms:GenerateDataKey and kms:Decrypt where the key is in "
            "KMS (see packaging/iam-policy.json)",
            code,
            True,
        )
    if code == "RequestTimeTooSkewed":
        return S3Error(
            f"{place}: this machine's clock is wrong ({code})", "set the clock (chronyd)", code, True
        )
    return S3Error(f"{place}: {code}: {said}", "look the code up in S3's error responses", code)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))

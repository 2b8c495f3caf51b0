"""The bucket, with boto3: put, multipart upload, head. Every call ends with the deadline it is given.

boto3 is imported when a client is made and no sooner: import and client together take some 300 ms, which
`later` spends in the background while something else waits.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from lifecycle_agent.clients.answers import limit
from lifecycle_agent.clients.aws import make_client
from lifecycle_agent.clients.crc32 import in_base64
from lifecycle_agent.clients.pace import Pace
from lifecycle_agent.clients.s3_body import body, do_not_ask, slow_down
from lifecycle_agent.clients.s3_errors import (
    NOT_THERE,
    OutOfTime,
    S3Error,
    WrongChecksum,
    expired,
    explain,
    transient,
    unanswered,
)
from lifecycle_agent.config import LogsSection
from lifecycle_agent.deadline import Deadline, boottime

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

# One connect, and one block of a body to send: a link on which that takes longer carries no logs.
CONNECT_TIMEOUT = 5.0
# Silence while waiting for an answer. S3 answers within a second or two; CompleteMultipartUpload of
# thousands of parts takes longer, but sends blanks meanwhile (its API reference says so).
READ_TIMEOUT = 15.0
# How long one request is tried again: a failover of a resolver or a NAT, or S3 splitting a partition after
# SlowDown, is over in seconds; after that the other files should have the time.
RETRY_SECONDS = 20.0
# Between tries, doubled each time from the first to the last; jittered, so that many instances that are
# taken away together do not come back together.
FIRST_PAUSE, LAST_PAUSE = 0.1, 3.0
# Between two clients: each takes 6 MiB, and is gone when Python looks for cycles.
RENEW_SECONDS = 5.0
# Kept open, for all the threads that send at once.
CONNECTIONS = 20
# Not CRC64NVME, today's default of S3: it needs awscrt, which costs memory. FULL_OBJECT: the same number for
# the same object however it was cut into parts, so that anybody can compute it.
CHECKSUM: Any = {"ChecksumAlgorithm": "CRC32"}
OF_THE_WHOLE: Any = {"ChecksumType": "FULL_OBJECT"}


@dataclass(frozen=True)
class Storage:
    """How objects are kept; empty means as the bucket has it.

    Args:
        encryption: `SSE-S3` or `SSE-KMS`.
        kms_key_id: the key for SSE-KMS; the account's own for S3 where none is named.
        storage_class: S3's name for it.
        bucket_owner: the account that must own the bucket, 12 digits; every request is refused otherwise.
        tags: of each object.
    """

    encryption: str = ""
    kms_key_id: str = ""
    storage_class: str = ""
    bucket_owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, section: LogsSection) -> Storage:
        """As it is configured."""
        return cls(**{each.name: getattr(section, each.name) for each in fields(cls)})

    def of_object(self) -> Any:
        """The parameters of a request that makes an object."""
        named = {
            "ServerSideEncryption": {"SSE-S3": "AES256", "SSE-KMS": "aws:kms"}.get(self.encryption, ""),
            "SSEKMSKeyId": self.kms_key_id,
            "StorageClass": self.storage_class,
            "Tagging": urlencode(self.tags),
        }
        return {name: value for name, value in named.items() if value}

    def of_request(self) -> Any:
        """The parameters of every request."""
        return {"ExpectedBucketOwner": self.bucket_owner} if self.bucket_owner else {}


@dataclass(frozen=True)
class Stored:
    """What HeadObject says: `size` in bytes, CRC32 where S3 has one of the whole, metadata as it was put."""

    size: int
    checksum: str
    metadata: Mapping[str, str]


class S3:
    """One bucket. Safe to use from several threads. Sends nothing when it is made.

    Args:
        pace: how fast bodies go; None as fast as they can.

    Raises:
        S3Error: from every method, when it failed for good or `RETRY_SECONDS` of trying did not help.
        OutOfTime: the deadline passed before it was done.

    A deadline is looked at between tries and between the blocks of a body being sent. Waiting for an answer
    may outlast it by `READ_TIMEOUT`: who has to be on time calls from a thread that can be left behind.
    """

    def __init__(
        self, bucket: str, region: str, storage: Storage | None = None, pace: Pace | None = None
    ) -> None:
        self.bucket = bucket
        self._region = region
        self._storage = storage or Storage()
        self._pace = pace
        self._client = self._make()
        self._renewing = threading.Lock()
        self._renewed = -RENEW_SECONDS
        self._answered = False

    def _make(self) -> S3Client:
        client: S3Client = make_client("s3", self._region, CONNECT_TIMEOUT, READ_TIMEOUT, CONNECTIONS)
        limit(client)
        client.meta.events.register_last("before-call.s3", do_not_ask)
        if self._pace is not None:
            client.meta.events.register("before-send.s3", partial(slow_down, self._pace))
        return client

    def put(
        self,
        key: str,
        data: bytes | memoryview,
        crc: int,
        deadline: Deadline,
        content_type: str,
        metadata: Mapping[str, str],
    ) -> None:
        """PutObject: `data` is at `key` when this returns, its CRC32 `crc` verified by the server."""
        self._call(
            key,
            deadline,
            lambda: self._client.put_object(
                **self._at(key),
                **self._storage.of_object(),
                Body=body(data, deadline),
                ContentType=content_type,
                Metadata=dict(metadata),
                ChecksumCRC32=in_base64(crc),
            ),
            in_base64(crc),
        )

    def begin(self, key: str, deadline: Deadline, content_type: str) -> str:
        """CreateMultipartUpload: returns its id. Nothing is at `key` before `complete`."""
        answer = self._call(
            key,
            deadline,
            lambda: self._client.create_multipart_upload(
                **self._at(key),
                **self._storage.of_object(),
                **CHECKSUM,
                **OF_THE_WHOLE,
                ContentType=content_type,
            ),
        )
        return answer["UploadId"]

    def send_part(
        self, key: str, upload_id: str, number: int, data: memoryview, crc: int, deadline: Deadline
    ) -> str:
        """UploadPart: returns the part's ETag. At least 5 MiB except for the last one."""
        answer = self._call(
            key,
            deadline,
            lambda: self._client.upload_part(
                **self._at(key),
                UploadId=upload_id,
                PartNumber=number,
                Body=body(data, deadline),
                ChecksumCRC32=in_base64(crc),
            ),
            in_base64(crc),
        )
        return answer["ETag"]

    def parts(self, key: str, upload_id: str, deadline: Deadline) -> dict[int, str] | None:
        """ListParts: the ETag of each part that is there by its number, None where no such upload is."""
        found: dict[int, str] = {}
        marker = 0
        while True:
            try:
                answer = self._call(key, deadline, partial(self._list, key, upload_id, marker))
            except S3Error as error:
                if error.code in NOT_THERE:
                    return None
                raise
            found.update({part["PartNumber"]: part["ETag"] for part in answer.get("Parts", ())})
            following = answer.get("NextPartNumberMarker", 0)
            if not answer.get("IsTruncated") or following <= marker:
                return found
            marker = following

    def _list(self, key: str, upload_id: str, after: int) -> Any:
        return self._client.list_parts(**self._at(key), UploadId=upload_id, PartNumberMarker=after)

    def complete(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[str, int]],
        size: int,
        crc: int,
        deadline: Deadline,
    ) -> None:
        """CompleteMultipartUpload: the parts are the object.

        Args:
            parts: ETag and CRC32 of each, from number 1 on.
            size: bytes of all of them.
            crc: CRC32 of all of them.
        """
        listed: Any = [
            {"PartNumber": number, "ETag": etag, "ChecksumCRC32": in_base64(part)}
            for number, (etag, part) in enumerate(parts, 1)
        ]
        try:
            self._call(
                key,
                deadline,
                lambda: self._client.complete_multipart_upload(
                    **self._at(key),
                    **OF_THE_WHOLE,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": listed},
                    ChecksumCRC32=in_base64(crc),
                ),
                in_base64(crc),
            )
        except S3Error as error:
            # The answer to a first try may have been lost on its way, then the second finds no upload.
            if error.code not in NOT_THERE or not self._has(key, size, in_base64(crc), deadline):
                raise

    def _has(self, key: str, size: int, crc: str, deadline: Deadline) -> bool:
        try:
            stored = self.head(key, deadline)
        except S3Error:  # a role that only writes may not look
            return False
        return stored is not None and stored.size == size and stored.checksum in (crc, "")

    def head(self, key: str, deadline: Deadline) -> Stored | None:
        """HeadObject, None where nothing is. It needs `s3:GetObject`, which a role that only writes lacks."""
        try:
            answer = self._call(
                key, deadline, lambda: self._client.head_object(**self._at(key), ChecksumMode="ENABLED")
            )
        except S3Error as error:
            if error.code in NOT_THERE:
                return None
            raise
        whole = answer.get("ChecksumType") != "COMPOSITE"
        checksum = answer.get("ChecksumCRC32", "") if whole else ""
        return Stored(answer["ContentLength"], checksum, answer["Metadata"])

    def abort(self, key: str, upload_id: str, deadline: Deadline) -> None:
        """AbortMultipartUpload: its parts are gone. One that is no longer there is aborted, too."""
        try:
            self._call(
                key,
                deadline,
                lambda: self._client.abort_multipart_upload(**self._at(key), UploadId=upload_id),
            )
        except S3Error as error:
            if error.code not in NOT_THERE:
                raise

    def unfinished(self, prefix: str, deadline: Deadline) -> list[tuple[str, str]]:
        """ListMultipartUploads: key and id of each below `prefix` that was neither completed nor aborted.

        It needs `s3:ListBucketMultipartUploads`.
        """
        found: list[tuple[str, str]] = []
        after: Any = {}
        while True:
            answer = self._call(prefix, deadline, partial(self._list_uploads, prefix, after))
            found += [(upload["Key"], upload["UploadId"]) for upload in answer.get("Uploads", ())]
            following = {
                "KeyMarker": answer.get("NextKeyMarker", ""),
                "UploadIdMarker": answer.get("NextUploadIdMarker", ""),
            }
            if not answer.get("IsTruncated") or following == after:
                return found
            after = following

    def _list_uploads(self, prefix: str, after: Any) -> Any:
        at = {"Bucket": self.bucket, **self._storage.of_request()}
        return self._client.list_multipart_uploads(**at, Prefix=prefix, **after)

    def _at(self, key: str) -> Any:
        return {"Bucket": self.bucket, "Key": key, **self._storage.of_request()}

    def _renew(self, outdated: S3Client) -> None:
        """Make a client with newer credentials, once for all threads that failed with the same."""
        with self._renewing:
            now = boottime()
            if self._client is outdated and now >= self._renewed + RENEW_SECONDS:
                self._client, self._renewed = self._make(), now

    def _call(self, key: str, deadline: Deadline, request: Callable[[], T], crc: str = "") -> T:
        """Try until it is done.

        Args:
            crc: what the answer has to give back, where it says a CRC32 of the whole.
        """
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        patience = deadline.within(RETRY_SECONDS)
        pause = FIRST_PAUSE
        renewed = False
        while True:
            if deadline.passed:
                raise OutOfTime(self.bucket, key)
            client = self._client
            try:
                answer = request()
            except (BotoCoreError, ClientError) as error:
                if deadline.passed:
                    raise OutOfTime(self.bucket, key) from error
                outdated = expired(error) and not renewed
                # A network that is gone is gone for the others, too; one that was never there is a mistake.
                gone = self._answered and unanswered(error)
                if (patience.passed and not gone) or not (outdated or transient(error)):
                    raise explain(error, self.bucket, key) from error
                if outdated or isinstance(error, NoCredentialsError):
                    self._renew(client)
                    renewed = True
            else:
                self._answered = True
                said = answer.get("ChecksumCRC32", "") if isinstance(answer, dict) else ""
                if not crc or not said or "-" in said or said == crc:
                    return answer
                if patience.passed:
                    raise WrongChecksum(self.bucket, key, said, crc)
            time.sleep(deadline.timeout(random.uniform(pause / 2, pause)))  # noqa: S311
            pause = min(2 * pause, LAST_PAUSE)


def later(
    bucket: str, region: str, storage: Storage | None = None, pace: Pace | None = None
) -> Callable[[], S3]:
    """Start making a client in the background. The result waits for it, and raises what went wrong."""
    future: Future[S3] = Future()

    def make() -> None:
        try:
            future.set_result(S3(bucket, region, storage, pace))
        except Exception as error:  # whatever it was, it belongs to whoever asks for the client
            future.set_exception(explain(error, bucket, ""))

    threading.Thread(target=make, name="s3-client", daemon=True).start()
    return future.result

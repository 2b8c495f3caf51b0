"""The bucket, with boto3: put, multipart upload, head. Every call ends with the deadline it is given.

boto3 is imported when a client is made and no sooner: import and client together take some 300 ms, which
`later` spends in the background while something else waits.
"""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lifecycle_agent.clients.aws import make_client
from lifecycle_agent.clients.s3_errors import OutOfTime, S3Error, explain, transient
from lifecycle_agent.deadline import Deadline

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
# Not CRC64NVME, today's default of S3: it needs awscrt, which costs memory.
CHECKSUM: Any = "CRC32"


@dataclass(frozen=True)
class Stored:
    """What HeadObject says: `size` in bytes and the metadata the object was put with."""

    size: int
    metadata: Mapping[str, str]


class S3:
    """One bucket. Safe to use from several threads. Sends nothing when it is made.

    Raises:
        S3Error: from every method, when it failed for good or `RETRY_SECONDS` of trying did not help.
        OutOfTime: the deadline passed before it was done.

    A deadline is looked at between tries and between the blocks of a body being sent. Waiting for an answer
    may outlast it by `READ_TIMEOUT`: who has to be on time calls from a thread that can be left behind.
    """

    def __init__(self, bucket: str, region: str) -> None:
        self.bucket = bucket
        self._region = region
        self._client = self._make()

    def _make(self) -> S3Client:
        client: S3Client = make_client("s3", self._region, CONNECT_TIMEOUT, READ_TIMEOUT)
        return client

    def put(
        self, key: str, data: bytes, deadline: Deadline, content_type: str, metadata: Mapping[str, str]
    ) -> None:
        """PutObject: `data` is at `key` when this returns, its checksum verified by the server."""
        self._call(
            key,
            deadline,
            lambda: self._client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=_Body(data, deadline),
                ContentType=content_type,
                Metadata=dict(metadata),
                ChecksumAlgorithm=CHECKSUM,
            ),
        )

    def begin(
        self, key: str, deadline: Deadline, content_type: str, metadata: Mapping[str, str]
    ) -> Multipart:
        """CreateMultipartUpload: nothing is at `key` before `complete`."""
        answer = self._call(
            key,
            deadline,
            lambda: self._client.create_multipart_upload(
                Bucket=self.bucket,
                Key=key,
                ContentType=content_type,
                Metadata=dict(metadata),
                ChecksumAlgorithm=CHECKSUM,
            ),
        )
        return Multipart(self, key, answer["UploadId"])

    def head(self, key: str, deadline: Deadline) -> Stored | None:
        """HeadObject, None where nothing is. It needs `s3:GetObject`, which a role that only writes lacks."""
        try:
            answer = self._call(key, deadline, lambda: self._client.head_object(Bucket=self.bucket, Key=key))
        except S3Error as error:
            if error.code in ("404", "NoSuchKey", "NotFound"):
                return None
            raise
        return Stored(answer["ContentLength"], answer["Metadata"])

    def abort(self, key: str, upload_id: str, deadline: Deadline) -> None:
        """AbortMultipartUpload: its parts are gone. One that is no longer there is aborted, too."""
        try:
            self._call(
                key,
                deadline,
                lambda: self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id),
            )
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise

    def _call(self, key: str, deadline: Deadline, request: Callable[[], T]) -> T:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        patience = deadline.within(RETRY_SECONDS)
        pause = FIRST_PAUSE
        while True:
            if deadline.passed:
                raise OutOfTime(self.bucket, key)
            try:
                return request()
            except (BotoCoreError, ClientError) as error:
                if deadline.passed:
                    raise OutOfTime(self.bucket, key) from error
                if patience.passed or not transient(error):
                    raise explain(error, self.bucket, key) from error
                if isinstance(error, NoCredentialsError):
                    self._client = self._make()
            time.sleep(patience.timeout(random.uniform(pause / 2, pause)))  # noqa: S311
            pause = min(2 * pause, LAST_PAUSE)


class Multipart:
    """A multipart upload under way: `send` each part in order, then `complete` or `abort`."""

    def __init__(self, s3: S3, key: str, upload_id: str) -> None:
        self._s3 = s3
        self.key = key
        self.upload_id = upload_id
        self._parts: list[Any] = []
        self._size = 0

    def send(self, data: bytes, deadline: Deadline) -> None:
        """UploadPart: the next one, at least 5 MiB except for the last."""
        number = len(self._parts) + 1
        answer = self._s3._call(
            self.key,
            deadline,
            lambda: self._s3._client.upload_part(
                Bucket=self._s3.bucket,
                Key=self.key,
                UploadId=self.upload_id,
                PartNumber=number,
                Body=_Body(data, deadline),
                ChecksumAlgorithm=CHECKSUM,
            ),
        )
        part: dict[str, Any] = {"PartNumber": number, "ETag": answer["ETag"]}
        if "ChecksumCRC32" in answer:
            part["ChecksumCRC32"] = answer["ChecksumCRC32"]
        self._parts.append(part)
        self._size += len(data)

    def complete(self, deadline: Deadline) -> None:
        """CompleteMultipartUpload: the parts sent so far are the object."""
        try:
            self._s3._call(
                self.key,
                deadline,
                lambda: self._s3._client.complete_multipart_upload(
                    Bucket=self._s3.bucket,
                    Key=self.key,
                    UploadId=self.upload_id,
                    MultipartUpload={"Parts": self._parts},
                ),
            )
        except S3Error as error:
            # The answer to a first try may have been lost on its way, then the second finds no upload.
            if error.code != "NoSuchUpload":
                raise
            stored = self._s3.head(self.key, deadline)
            if stored is None or stored.size != self._size:
                raise

    def abort(self, deadline: Deadline) -> None:
        """AbortMultipartUpload."""
        self._s3.abort(self.key, self.upload_id, deadline)


class _Body(io.BytesIO):
    """What is sent, block by block, until the deadline."""

    def __init__(self, data: bytes, deadline: Deadline) -> None:
        super().__init__(data)  # shares the bytes, does not copy them
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        if self._deadline.passed:
            raise TimeoutError("the deadline passed while sending")
        return super().read(size)


def later(bucket: str, region: str) -> Callable[[], S3]:
    """Start making a client in the background. The result waits for it, and raises what went wrong."""
    future: Future[S3] = Future()

    def make() -> None:
        try:
            future.set_result(S3(bucket, region))
        except Exception as error:  # whatever it was, it belongs to whoever asks for the client
            future.set_exception(explain(error, bucket, ""))

    threading.Thread(target=make, name="s3-client", daemon=True).start()
    return future.result

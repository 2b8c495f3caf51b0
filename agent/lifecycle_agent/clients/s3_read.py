"""The bucket, read: an object as a stream that goes on where a connection broke.

Read from an operator's machine as well as from an instance: credentials and region are whatever boto3 finds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from lifecycle_agent.clients.aws import make_client
from lifecycle_agent.clients.s3_errors import NOT_THERE, OutOfTime, S3Error, denied, explain, transient
from lifecycle_agent.deadline import Deadline

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

# Where the environment names no region: S3 answers with the bucket's, and botocore goes there.
ANY_REGION = "us-east-1"
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 15.0  # of silence, in the middle of an object or before it
# How long there may be trouble without a byte in between; see the same in clients/s3.py.
RETRY_SECONDS = 20.0
FIRST_PAUSE, LAST_PAUSE = 0.1, 3.0


class S3Reader:
    """One bucket, to read from. Safe to use from several threads. Sends nothing when it is made.

    Args:
        connections: kept open for the threads that read at once.

    Raises:
        S3Error: there can be no client for it.
    """

    def __init__(self, bucket: str, connections: int) -> None:
        self.bucket = bucket
        try:
            self.client: S3Client = make_client("s3", ANY_REGION, CONNECT_TIMEOUT, READ_TIMEOUT, connections)
        except Exception as error:  # a profile that is not there, an endpoint that is no URL
            raise explain(error, bucket, "") from error

    def open(self, key: str, deadline: Deadline) -> S3Object:
        """GetObject: the object at `key`, to be closed.

        Raises:
            S3Error: it cannot be had; the code is one of `s3_errors.NOT_THERE` where nothing is.
            OutOfTime: the deadline passed first.
        """
        return S3Object(self, key, deadline)


class S3Object:
    """An object being read. A connection that breaks is made again for the rest of the same object (its
    ETag): only trouble that lasts `RETRY_SECONDS` without a byte is an error.

    `size` is in bytes. Waiting for one block may outlast the deadline: S3 may send it drop by drop. Who has
    to be on time reads in a thread that can be left behind.
    """

    def __init__(self, reader: S3Reader, key: str, deadline: Deadline) -> None:
        self._reader = reader
        self._key = key
        self._deadline = deadline
        self._body: Any = None
        self._is_rest = False
        self._etag = ""
        self._at = 0
        self.size = 0
        self._patiently(self._ask)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, empty at the end.

        Raises:
            S3Error: it came to an end too early, or is not what S3's own checksum of it says.
            OutOfTime: the deadline passed.
        """
        return self._patiently(lambda: self._next(size))

    def close(self) -> None:
        """Give the connection back, or up where more of the object would still come."""
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def _ask(self) -> None:
        """GetObject, of the rest where the beginning is read already."""
        rest: Any = {"Range": f"bytes={self._at}-", "IfMatch": self._etag} if self._at else {}
        # With the checksum in the answer botocore compares it at the end of the object, and leaves one that
        # is made of the parts' checksums alone.
        answer = self._reader.client.get_object(
            Bucket=self._reader.bucket, Key=self._key, ChecksumMode="ENABLED", **rest
        )
        self._body, self._is_rest = answer["Body"], bool(rest)
        if not rest:
            self.size, self._etag = answer["ContentLength"], answer["ETag"]

    def _next(self, size: int) -> bytes:
        from botocore.exceptions import FlexibleChecksumError

        if self._body is None:
            if self._at >= self.size:
                return b""  # it broke right behind the last byte
            self._ask()
        try:
            block: bytes = self._body.read(size)
        except FlexibleChecksumError as error:
            if self._is_rest:  # some servers send the checksum of the whole with it
                return b""
            raise S3Error(
                f"s3://{self._reader.bucket}/{self._key} is not what S3's own checksum says: {error}",
                "fetch it again; if it stays so, what is stored or the way to it is damaged",
                "Checksum",
            ) from error
        self._at += len(block)
        return block

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Try until it is done."""
        from botocore.exceptions import BotoCoreError, ClientError, IncompleteReadError, NoCredentialsError
        from urllib3.exceptions import HTTPError

        patience = self._deadline.within(RETRY_SECONDS)
        pause = FIRST_PAUSE
        while True:
            if self._deadline.passed:
                raise OutOfTime(self._reader.bucket, self._key)
            try:
                return attempt()
            # HTTPError: botocore lets some of them through while a body is read.
            except (BotoCoreError, ClientError, HTTPError) as error:
                self.close()
                again = transient(error) or isinstance(error, (IncompleteReadError, HTTPError))
                # Here a person waits, who can log in: no use in trying that again.
                if isinstance(error, NoCredentialsError) or patience.passed or not again:
                    raise self._explain(error) from error
            time.sleep(patience.timeout(random.uniform(pause / 2, pause)))  # noqa: S311
            pause = min(2 * pause, LAST_PAUSE)

    def _explain(self, error: Exception) -> S3Error:
        """What goes wrong with reading, where it is mended in another way than with writing."""
        bucket, explained = self._reader.bucket, explain(error, self._reader.bucket, self._key)
        place = f"s3://{bucket}/{self._key}"
        if explained.code in NOT_THERE:
            return S3Error(f"{place} is not there", "look whether it was deleted, or has expired", "404")
        if explained.code == "PreconditionFailed":
            return S3Error(f"{place} was replaced while it was read", "do the same again", explained.code)
        if denied(explained):
            hint = (
                f"allow s3:GetObject on arn:aws:s3:::{bucket}/* and kms:Decrypt where its key is in KMS; "
                "without s3:ListBucket an object that is not there looks the same"
            )
            return S3Error(explained.message, hint, explained.code)
        if explained.code == "NoCredentials":
            hint = "log in, or name a profile that may read the bucket in AWS_PROFILE"
            return S3Error(explained.message, hint, explained.code, explained.hopeless)
        return explained

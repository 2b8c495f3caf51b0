"""A limit on what a service may answer: botocore reads whatever comes until it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse

# A page of ListParts or of ListMultipartUploads, a thousand of them, is half of a MiB.
MOST_BYTES = 2 * 1024 * 1024
BLOCK = 64 * 1024


def limit(client: Any) -> None:
    """Have a botocore client give up an answer of more than `MOST_BYTES`, as it does a broken connection.

    An object that is read as a stream is not meant.
    """
    endpoint = client._endpoint  # no public name leads to what sends its requests
    endpoint.http_session = _Limited(endpoint.http_session)


class _Limited:
    """What botocore asks of an HTTP session."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self, request: Any) -> AWSResponse:
        from botocore.awsrequest import AWSResponse

        if request.stream_output:
            return self._session.send(request)  # type: ignore[no-any-return]
        request.stream_output = True
        answer = self._session.send(request)
        return AWSResponse(answer.url, answer.status_code, answer.headers, _Read(_whole(answer.raw)))

    def close(self) -> None:
        self._session.close()


class _Read:
    """A body that is here."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self) -> Iterator[bytes]:
        yield self._data


def _whole(body: Any) -> bytes:
    from botocore.exceptions import HTTPClientError
    from urllib3.exceptions import HTTPError

    data = bytearray()
    try:
        for block in body.stream(BLOCK):
            data += block
            if len(data) > MOST_BYTES:
                body.close()
                raise HTTPClientError(error=f"the answer is longer than {MOST_BYTES} bytes")
    except (HTTPError, OSError) as error:
        raise HTTPClientError(error=error) from error
    return bytes(data)

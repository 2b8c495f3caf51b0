"""Reading an object over a connection that breaks, from a server that answers whatever the test wants."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lifecycle_agent.clients import s3_read
from lifecycle_agent.clients.s3_errors import OutOfTime, S3Error
from lifecycle_agent.clients.s3_read import S3Reader
from lifecycle_agent.deadline import Deadline

CONTENT = hashlib.shake_128(b"content").digest(1_000_000)


class Server:
    """One object. `asked` holds each request's Range; `answer` gets the handler and where to begin."""

    def __init__(self) -> None:
        server = self
        self.asked: list[str] = []
        self.answer: Callable[[Handler, int], None] = lambda handler, at: handler.give(at)

        class Bound(Handler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range", "")
                server.asked.append(wanted)
                found = re.fullmatch(r"bytes=(\d+)-", wanted)
                server.answer(self, int(found[1]) if found else 0)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.http.daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    """Gives the object, or a part of it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def give(self, at: int, most: int = len(CONTENT), crc: int | None = None, etag: str = '"one"') -> None:
        """From `at` on, `most` bytes of what was promised, and then the connection is gone."""
        if self.headers.get("If-Match", etag) != etag:
            self.refuse(412, "PreconditionFailed")
            return
        self.send_response(206 if at else 200)
        self.send_header("Content-Length", str(len(CONTENT) - at))
        self.send_header("ETag", etag)
        if at:
            self.send_header("Content-Range", f"bytes {at}-{len(CONTENT) - 1}/{len(CONTENT)}")
        # some servers send it for a part, too, where it is the checksum of something else
        whole = zlib.crc32(CONTENT) if crc is None else crc
        self.send_header("x-amz-checksum-crc32", base64.b64encode(whole.to_bytes(4, "big")).decode())
        self.end_headers()
        self.wfile.write(CONTENT[at : at + most])
        self.close_connection = at + most < len(CONTENT)

    def refuse(self, status: int, code: str) -> None:
        """S3's way to say no."""
        body = f"<Error><Code>{code}</Code><Message>said by the test</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.http.server_port}")
    monkeypatch.setattr(s3_read, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(s3_read, "LAST_PAUSE", 0.001)
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def read(seconds: float = 60) -> bytes:
    stream = S3Reader("acme-logs", 1).open("key", Deadline.after(seconds))
    try:
        assert stream.size == len(CONTENT)
        return b"".join(iter(lambda: stream.read(65536), b""))
    finally:
        stream.close()


def test_an_object_that_comes_whole(server: Server) -> None:
    assert read() == CONTENT
    assert server.asked == [""]


def test_a_connection_that_breaks_is_made_again_for_the_rest(server: Server) -> None:
    server.answer = lambda handler, at: handler.give(at, 300_000)

    assert read() == CONTENT
    assert server.asked[0] == ""
    starts = [int(each.removeprefix("bytes=").removesuffix("-")) for each in server.asked[1:]]
    assert starts == sorted(starts)
    assert 3 <= len(starts) <= 5  # at least three times, and not from the beginning again


def test_a_busy_server_is_asked_again(server: Server) -> None:
    def answer(handler: Handler, at: int) -> None:
        if len(server.asked) < 4:
            handler.refuse(503, "SlowDown")
        else:
            handler.give(at)

    server.answer = answer

    assert read() == CONTENT


def test_an_object_that_was_replaced_meanwhile_is_an_error(server: Server) -> None:
    server.answer = lambda handler, at: handler.give(at, 300_000, etag=f'"{len(server.asked)}"')

    with pytest.raises(S3Error, match="was replaced while it was read"):
        read()


def test_what_is_not_as_the_servers_checksum_says_is_an_error(server: Server) -> None:
    server.answer = lambda handler, at: handler.give(at, crc=1)

    with pytest.raises(S3Error, match="is not what S3's own checksum says"):
        read()


@pytest.mark.parametrize(
    ("status", "code", "message", "hint"),
    [
        (404, "NoSuchKey", "is not there", "deleted"),
        (403, "AccessDenied", "access denied", "s3:GetObject"),
        (404, "NoSuchBucket", "there is no bucket", "create it"),
    ],
)
def test_a_refusal_says_what_to_do(server: Server, status: int, code: str, message: str, hint: str) -> None:
    server.answer = lambda handler, at: handler.refuse(status, code)

    with pytest.raises(S3Error, match=message) as caught:
        read()
    assert hint in caught.value.hint
    assert len(server.asked) == 1


def test_trouble_that_does_not_end_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_read, "RETRY_SECONDS", 0.0)
    server.answer = lambda handler, at: handler.refuse(500, "InternalError")

    with pytest.raises(S3Error, match="InternalError"):
        read()


def test_nothing_is_asked_for_when_the_time_is_over(server: Server) -> None:
    with pytest.raises(OutOfTime):
        read(0)
    assert server.asked == []

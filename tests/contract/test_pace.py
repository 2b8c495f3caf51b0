"""How fast bodies go: botocore reads each more than once, and what is counted is what goes over the wire."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lifecycle_agent.clients import s3
from lifecycle_agent.clients.pace import Pace
from lifecycle_agent.clients.s3 import S3
from lifecycle_agent.deadline import Deadline


class Counting(Pace):
    """Waits for nobody."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.counted: list[int] = []

    def wait(self, size: int, until: Deadline) -> None:
        self.counted.append(size)


class Server(ThreadingHTTPServer):
    """Takes what it gets; the first answer is an error, so that there is a second try."""

    daemon_threads = True
    arrived = 0
    tries = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_PUT(self) -> None:
        self.server.arrived += len(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.tries += 1
        self.send_response(503 if self.server.tries == 1 else 200)
        self.send_header("Content-Length", "0")
        self.send_header("ETag", '"1"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setattr(s3, "FIRST_PAUSE", 0.001)
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("size", [1, 1000, 3 << 20])
def test_every_byte_on_the_wire_is_counted_and_no_other(server: Server, size: int) -> None:
    pace, data = Counting(), memoryview(bytes(size))
    bucket = S3("b", "us-east-1", pace=pace)

    bucket.put("k", data, zlib.crc32(data), Deadline.after(60), "text/plain", {})
    bucket.send_part("k", "upload", 1, data, zlib.crc32(data), Deadline.after(60))

    assert server.tries == 3
    assert sum(pace.counted) == server.arrived == 3 * size
    assert max(pace.counted) <= 128 * 1024, "goes in bursts"

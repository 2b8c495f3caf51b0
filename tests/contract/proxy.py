"""A place before an S3 server where requests are counted, and spoiled in whatever way a test wants."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

BLOCK = 64 * 1024

Answer = tuple[int, dict[str, str], bytes]


class Gone(Exception):
    """Whoever asked is not there any more."""


class Exchange:
    """One request and its answer. `received` counts the bytes of its body; `status` is 0 before the answer.

    What a test does with it is a `Play`: any of the methods below, one after the other.
    """

    def __init__(self, handler: _Handler, server: int) -> None:
        url = urlsplit(handler.path)
        self.method = handler.command
        self.key = unquote(url.path).lstrip("/").partition("/")[2]
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        self.headers: Mapping[str, str] = {name.lower(): text for name, text in handler.headers.items()}
        self.received = 0
        self.status = 0
        self._handler = handler
        self._server = server
        self._left = int(self.headers.get("content-length", 0))
        self._awaited = "expect" in self.headers

    @property
    def unit(self) -> str:
        """What it sends: the key of an object, with the number of a part; empty if it sends nothing."""
        if self.method != "PUT":
            return ""
        return f"{self.key}#{self.query['partNumber']}" if "partNumber" in self.query else self.key

    @property
    def operation(self) -> str:
        """As S3's API names it."""
        part, uploads = "uploadId" in self.query, "uploads" in self.query
        return {
            ("PUT", False, False): "PutObject",
            ("PUT", True, False): "UploadPart",
            ("POST", False, True): "CreateMultipartUpload",
            ("POST", True, False): "CompleteMultipartUpload",
            ("DELETE", True, False): "AbortMultipartUpload",
            ("GET", True, False): "ListParts",
            ("GET", False, True): "ListMultipartUploads",
            ("HEAD", False, False): "HeadObject",
        }[self.method, part, uploads]

    @property
    def what(self) -> str:
        """The operation, and the number of a part."""
        return f"{self.operation} {self.query.get('partNumber', '')}"

    def body(self) -> Iterator[bytes]:
        """What is left of the request's body, block by block as it comes."""
        if self._awaited:
            self._awaited = False
            self._handler.send_response_only(100)
            self._handler.end_headers()
        while self._left:
            block = self._handler.rfile.read1(min(self._left, BLOCK))
            if not block:
                raise Gone
            self._left -= len(block)
            self.received += len(block)
            yield block

    def ask(self, body: Iterable[bytes] | None = None) -> Answer:
        """Have the server do it, and see what it says.

        Args:
            body: instead of the one that was sent, of the same length.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._server, timeout=60)
        try:
            connection.putrequest(self.method, self._handler.path, skip_host=True, skip_accept_encoding=True)
            for name, text in self._handler.headers.items():
                if name.lower() != "connection" and (name.lower() != "expect" or self._awaited):
                    connection.putheader(name, text)
            connection.endheaders()
            if not self._awaited or _continues(connection.sock):
                with suppress(ConnectionError):  # it has heard enough, and says why
                    for block in self.body() if body is None else body:
                        connection.send(block)
                for _ in self.body():
                    pass
            answer = connection.getresponse()
            kept = {name: text for name, text in answer.getheaders() if name != "Transfer-Encoding"}
            data = answer.read()
            return answer.status, kept if self.method == "HEAD" else sized(kept, data), data
        finally:
            connection.close()

    def answer(self, answer: Answer, most: int | None = None) -> None:
        """Give an answer; with `most`, that many bytes of its body, and the connection is gone."""
        status, headers, data = answer
        self._begin(status, headers)
        self._handler.wfile.write(data if most is None else data[:most])
        self.status = status
        if most is not None or self._left:
            self._handler.close_connection = True

    def through(self) -> None:
        """As if nobody were between."""
        self.answer(self.ask())

    def refuse(self, status: int, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Answer with an error of S3's, without asking it; an empty code is an answer without a body."""
        said = f"<Error><Code>{code}</Code><Message>said by the test</Message></Error>" if code else ""
        data = b"" if self.method == "HEAD" else said.encode()
        for _ in self.body():
            pass
        self.answer((status, sized(headers or {}, data), data))

    def write(self, blocks: Iterable[bytes]) -> None:
        """Whatever they say instead of an answer, until nobody takes it any more; nothing comes after it."""
        self._handler.close_connection = True
        for block in blocks:
            self._handler.wfile.write(block)

    def reset(self) -> None:
        """The connection is reset."""
        self._handler.close_connection = True
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone

    def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self._handler.send_response_only(status)
        for name, text in headers.items():
            self._handler.send_header(name, text)
        self._handler.end_headers()


Play = Callable[[Exchange], None]


class Proxy:
    """Passes on to the server at a port of this machine; a context manager.

    `seen` has every exchange in the order in which they began; `play` decides what becomes of each.
    """

    def __init__(self, server: int) -> None:
        self.seen: list[Exchange] = []
        self.play: Play = Exchange.through
        proxy = self

        class Bound(_Handler):
            def meet(self) -> None:
                exchange = Exchange(self, server)
                proxy.seen.append(exchange)
                proxy.play(exchange)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Proxy:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.socket.close()  # what still hangs in a play is a daemon's, and ends with the process

    def reset(self) -> None:
        """Nothing was seen, and nothing is spoiled."""
        self.play = Exchange.through
        self.seen = []

    def sent(self, operation: str = "", name: str = "") -> list[Exchange]:
        """Those of an operation whose key has `name` in it."""
        return [each for each in self.seen if each.operation.startswith(operation) and name in each.key]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    rbufsize = BLOCK

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle_expect_100(self) -> bool:
        return True  # said when the body is wanted

    def meet(self) -> None:
        raise NotImplementedError

    def handle(self) -> None:
        with suppress(OSError, Gone, http.client.HTTPException):
            super().handle()

    def _meet(self) -> None:
        self.meet()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _meet  # noqa: N815 # http.server's names


def _continues(server: socket.socket) -> bool:
    """Whether the server wants to have the body that it was asked for."""
    if server.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL) != b"HTTP/1.1 100":
        return False
    said = b""
    while not said.endswith(b"\r\n\r\n"):
        said += server.recv(1)
    return True


def sized(headers: Mapping[str, str], data: bytes) -> dict[str, str]:
    """The headers, for that body."""
    return {name: text for name, text in headers.items() if name.lower() != "content-length"} | {
        "Content-Length": str(len(data))
    }

"""Serves a WSGI application at an address: what every emulated service of the rehearsal stands on.

Werkzeug's own request handler ends the connection after every answer. The services we emulate keep
theirs open, and a client's pool of connections is worth a rehearsal too, so the handler here does.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Callable
from typing import Any

from werkzeug.datastructures import Headers
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.test import run_wsgi_app

WsgiApp = Callable[..., Any]


class _Server(ThreadedWSGIServer):
    """Knows its open connections, so that `stop` can end them."""

    def __init__(self, host: str, port: int, app: WsgiApp, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.open: set[Any] = set()
        super().__init__(host, port, app, handler=_Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is the client's business."""


class _Handler(WSGIRequestHandler):
    """Reads a whole request, has the application answer it, writes the whole answer."""

    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; with Nagle's algorithm the second one waits 40 ms for an ACK.
    disable_nagle_algorithm = True
    # Seconds a connection may sit idle: 60 s is what load balancers and Tomcat give it by default.
    timeout = 60.0
    server: _Server

    def run_wsgi(self) -> None:
        """Answer one request; werkzeug calls this for every method."""
        self.environ = environ = self.make_environ()
        chunked = environ.get("wsgi.input_terminated", False)
        size = -1 if chunked else int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(size)
        environ.update({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})
        try:
            parts, status, headers = run_wsgi_app(self.server.app, environ, buffered=True)
            content = b"".join(parts)
        except Exception as error:  # the emulation is broken: the client sees a 500, people see why
            status, headers, content = "500 Internal Server Error", Headers(), f"{error!r}\n".encode()
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for key, value in headers:
            if key.lower() not in ("content-length", "connection"):
                self.send_header(key, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
        if code not in ("204", "304") and length is not None:
            self.send_header("Content-Length", length)
        if not self.server.keep_alive:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD" and code not in ("204", "304"):
            self.wfile.write(content)

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: the rehearsal has a timeline of its own."""


class Served:
    """A WSGI application on an address, a thread for each connection.

    The port is bound at once, so `url` is known before `start`, and a client that comes early waits
    instead of being refused.

    Args:
        app: the WSGI application (a Flask app is one).
        host: the address to bind.
        port: 0 for a free one.
        keep_alive: whether connections stay open between requests; if not, every answer says
            `Connection: close`.
    """

    def __init__(
        self, app: WsgiApp, *, host: str = "127.0.0.1", port: int = 0, keep_alive: bool = True
    ) -> None:
        self._server = _Server(host, port, app, keep_alive)
        self._thread: threading.Thread | None = None
        self.port: int = self._server.server_port
        self.url: str = f"http://{host}:{self.port}"

    def start(self) -> None:
        """Serve from now on; returns at once."""
        if self._thread is None:
            # Seconds between two looks at whether to stop: what `stop` may take.
            self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop serving, end open connections and give the port back; for good."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()
        for connection in list(self._server.open):
            with contextlib.suppress(OSError):  # it ended by itself in this moment
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Served:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

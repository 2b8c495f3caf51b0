"""An HTTP request with the standard library alone, for what lives for months: bounded in time and size."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from lifecycle_agent.deadline import Deadline

# Seconds for a connection, and for writing a request of a few KiB.
CONNECT = 2.0


class _Timed(io.RawIOBase):
    """What comes from a socket until a deadline: no slow drip of bytes outlasts it."""

    def __init__(self, source: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._source = source
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._deadline.passed:
            raise TimeoutError("timed out")
        self._source.settimeout(self._deadline.timeout(self._deadline.remaining()))
        return self._source.recv_into(buffer)


class _Source:
    """As much of a socket as http.client's response asks for."""

    def __init__(self, source: socket.socket, deadline: Deadline) -> None:
        self._timed = _Timed(source, deadline)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._timed)


def call(
    method: str,
    url: str,
    deadline: Deadline,
    most: int,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    context: ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    """Ask, without proxies and without following redirects.

    The time is not limited while a name is looked up, so whoever can't wait asks for an address, or in a
    thread.

    Args:
        most: bytes of the answer's body that are read at most.
        context: what an https server is verified with.

    Returns:
        The status, and the body as far as `most` and one more byte.

    Raises:
        OSError: no connection, or no whole answer in time (TimeoutError).
        http.client.HTTPException, ValueError: an answer that is no HTTP.
    """
    parts = urlsplit(url)
    patience = deadline.timeout(CONNECT)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=patience, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=patience)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target, body, dict(headers or {}))
        response = http.client.HTTPResponse(_Source(connection.sock, deadline), method=method)  # type: ignore[arg-type]
        response.begin()
        return response.status, response.read(most + 1)
    finally:
        connection.close()

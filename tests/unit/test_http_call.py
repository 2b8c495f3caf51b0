"""One request with the standard library: what is sent, and what bounds it. More of it is in test_lease.py."""

from __future__ import annotations

import http.client
import threading
from typing import Any

import pytest
from werkzeug.wrappers import Request, Response

from lifecycle_agent import http_call
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.http_call import call
from lifecycle_agent.rehearsal.http import Served
from tests.unit.test_eureka_client import Write, answering, refused, saying


def soon() -> Deadline:
    return Deadline.after(20)


def silent(write: Write, over: threading.Event) -> None:
    over.wait(20)


def test_method_path_headers_and_body_are_sent_and_status_and_body_come_back() -> None:
    def answer(environ: Any, start_response: Any) -> Any:
        asked = Request(environ)
        said = f"{asked.method} {asked.full_path} {asked.headers['X-A']} {asked.get_data(as_text=True)}"
        return Response(said, 418)(environ, start_response)

    with Served(answer) as served:
        status, body = call("PUT", f"{served.url}/a%20b?c=d", soon(), 100, {"X-A": "e"}, b"f")
    assert (status, body) == (418, b"PUT /a b?c=d e f")


def test_no_more_is_read_than_asked_for_and_a_byte_that_says_so() -> None:
    with saying("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789") as url:
        assert call("GET", url, soon(), 4) == (200, b"01234")


def test_a_slow_answer_has_until_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(write: Write, over: threading.Event) -> None:
        over.wait(0.6)
        write(b"HTTP/1.1 204 No Content\r\n\r\n")

    monkeypatch.setattr(http_call, "CONNECT", 0.2)
    with answering(slow) as url:
        assert call("PUT", url, soon(), 0) == (204, b"")


def test_no_connection_no_time_and_no_http_are_errors() -> None:
    with pytest.raises(OSError, match="refused"):
        call("GET", refused(), soon(), 0)
    with answering(silent) as url, pytest.raises(TimeoutError):
        call("GET", url, Deadline.after(0.2), 0)
    with saying("SSH-2.0-OpenSSH_9.2\r\n") as url, pytest.raises(http.client.HTTPException):
        call("GET", url, soon(), 0)
    with saying("") as url, pytest.raises(http.client.HTTPException):
        call("GET", url, soon(), 0)


def test_proxies_in_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", refused())
    with saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as url:
        assert call("GET", url, soon(), 0) == (200, b"")

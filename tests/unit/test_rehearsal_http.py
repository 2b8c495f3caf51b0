"""What the emulated services are served with: connections that stay or end, and a stop that is one."""

from __future__ import annotations

import socket

import pytest
import requests
from flask import Flask, request

from lifecycle_agent.rehearsal.http import Served

app = Flask("test")


@app.route("/", methods=["GET", "POST", "DELETE"])
def answer() -> tuple[str, int]:
    if request.method == "DELETE":
        return "", 204
    return f"{request.environ['REMOTE_PORT']} {request.get_data(as_text=True)}", 200


@app.get("/broken")
def broken() -> str:
    raise ValueError("broken")


def test_a_connection_is_kept_whatever_was_sent_over_it() -> None:
    with Served(app) as served, requests.Session() as session:
        first = session.get(served.url).text
        gone = session.delete(served.url)
        assert (gone.status_code, gone.headers.get("Content-Length")) == (204, None)
        assert session.head(served.url).headers["Content-Length"] == str(len(first))
        assert session.post(served.url, data="x" * 100_000).text == first + "x" * 100_000
        assert session.post(served.url, data=iter([b"in ", b"parts"])).text == first + "in parts"
        assert session.get(f"{served.url}/broken").status_code == 500
        assert session.get(served.url).text == first


def test_a_connection_ends_where_it_should() -> None:
    with Served(app, keep_alive=False) as served, requests.Session() as session:
        answers = [session.get(served.url) for _ in range(2)]
        assert [each.headers["Connection"] for each in answers] == ["close", "close"]
        assert answers[0].text != answers[1].text


def test_a_client_that_is_early_waits() -> None:
    served = Served(app)
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        served.start()
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    served.stop()


def test_a_stop_ends_kept_connections_and_frees_the_port() -> None:
    with Served(app) as served, socket.create_connection(("127.0.0.1", served.port), timeout=10) as client:
        client.sendall(b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1000).endswith(b"\r\n\r\n")
        served.stop()
        assert client.recv(1) == b""
        with pytest.raises(requests.ConnectionError):
            requests.get(served.url, timeout=10)
        with Served(app, port=served.port) as again:
            assert requests.get(again.url, timeout=10).status_code == 200

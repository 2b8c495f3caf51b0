"""The app of the rehearsal: a process of its own that does what a service on an instance does.

It serves requests on connections that stay open, writes access logs and rotates them, registers with
Eureka, renews its lease and registers again on 404 as Netflix's client does, and stops gracefully:
what is in flight is answered first. It does not deregister when it stops; an app that is killed
never does. One that takes its time to start (`--ready-after`) is STARTING until it is healthy, and UP
then, as Spring's with `eureka.client.healthcheck.enabled`. Events go to standard output, one JSON object a
line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import signal
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lifecycle_agent.rehearsal.app_logs import Logs
from lifecycle_agent.rehearsal.lease import Lease, registration


def tell(event: str, **data: Any) -> None:
    """Say what happened to whoever started us; nobody listening is no reason to stop."""
    with contextlib.suppress(OSError):
        print(json.dumps({"event": event, **data}), flush=True)


class Server(ThreadingHTTPServer):
    """Serves HTTP and knows which connections are between two requests, so that it can stop gracefully.

    Args:
        address: host and port; port 0 for a free one.
        work: seconds that a request takes, from and to.
    """

    daemon_threads = True  # `finish` waits for them, and not for longer than it says
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], logs: Logs, work: tuple[float, float]) -> None:
        self.logs = logs
        self.work = work
        self.ready = threading.Event()
        self.paused = threading.Event()
        self.stopping = threading.Event()
        self.served = 0
        self._busy: dict[Any, bool] = {}
        self._change = threading.Condition()
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """As HTTPServer does, but without looking up a name: DNS may not be there."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """A new connection; a thread of its own handles it."""
        self.mark(request, False)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection."""
        super().shutdown_request(request)
        with self._change:
            self._busy.pop(request, None)
            self._change.notify_all()

    def mark(self, connection: Any, busy: bool) -> None:
        """Say whether a connection is in the middle of a request."""
        with self._change:
            self._busy[connection] = busy
            if not busy and self.stopping.is_set():
                self._hang_up(connection)

    def finish(self, seconds: float) -> int:
        """Stop taking connections, end the idle ones, answer what is in flight.

        Args:
            seconds: how long requests in flight may take.

        Returns:
            How many were cut off.
        """
        self.shutdown()
        self.server_close()
        until = time.monotonic() + seconds
        with self._change:
            for connection, busy in self._busy.items():
                if not busy:
                    self._hang_up(connection)
            while self._busy and time.monotonic() < until:
                self._change.wait(until - time.monotonic())
            return len(self._busy)

    @staticmethod
    def _hang_up(connection: Any) -> None:
        with contextlib.suppress(OSError):  # the other side was first
            connection.shutdown(socket.SHUT_RD)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away: its business."""


class Handler(BaseHTTPRequestHandler):
    """One connection: orders for callers, /actuator for those who run the app."""

    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; with Nagle's algorithm the second one waits 40 ms for an ACK.
    disable_nagle_algorithm = True
    timeout = 60.0  # seconds a connection may sit idle: Tomcat's keepAliveTimeout
    server: Server

    def do_GET(self) -> None:
        """An order, or the app's health."""
        self._request()

    def do_POST(self) -> None:
        """Pause or stop."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._request()

    do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815 - http.server's names

    def _request(self) -> None:
        self.server.mark(self.connection, True)
        try:
            self._route()
        finally:
            self.server.mark(self.connection, False)

    def _route(self) -> None:
        if self.path == "/actuator/health":
            well = self.server.ready.is_set() and not self.server.stopping.is_set()
            self._answer(200 if well else 503, {"status": "UP" if well else "OUT_OF_SERVICE"})
        elif self.path == "/actuator/pause" and self.command == "POST":
            self.server.paused.set()
            tell("paused")
            self._answer(200, {"status": "paused"})
        elif self.path == "/actuator/shutdown" and self.command == "POST":
            self._answer(200, {"message": "Shutting down, bye..."})
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.path.startswith("/orders/") and not self.server.ready.is_set():
            self._answer(503, {"message": "starting"})
        elif self.path.startswith("/orders/") and self.command == "GET":
            time.sleep(random.uniform(*self.server.work))  # noqa: S311 - not a secret
            self._answer(200, {"order": self.path.rpartition("/")[2]})
        else:  # an endpoint that somebody's own app has: it is heard, and that is all
            tell("asked", what=f"{self.command} {self.path}")
            self._answer(200, {"status": "rehearsed"})

    def _answer(self, status: int, body: dict[str, str]) -> None:
        content = json.dumps(body).encode()
        self.server.logs.access.info('%s "%s" %d', self.client_address[0], self.requestline, status)
        self.server.served += 1
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if self.server.stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error: the access log has it."""


def work_in_background(server: Server) -> None:
    """What a consumer of a queue does until it is paused: a line in its log each time."""
    number = 0
    while not server.paused.wait(0.05):
        number += 1
        server.logs.worker.info("took message %d", number)
    server.logs.worker.info("paused after message %d", number)


def stopped_within(seconds: float, stops: set[signal.Signals]) -> bool:
    """Wait to be told to stop, so long at most; ends the process when whoever started us is gone."""
    parent, until = os.getppid(), time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if signal.sigtimedwait(stops, min(1.0, left)) is not None:
            return True
        if os.getppid() != parent:  # nobody is left to stop us
            sys.exit(1)
    return False


def main() -> None:
    """Run until SIGTERM or /actuator/shutdown, or until whoever started us is gone."""
    parser = argparse.ArgumentParser(description="The app of the rehearsal.")
    parser.add_argument("--name", default="ORDERS")
    parser.add_argument("--instance-id", required=True)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--eureka", required=True, help="base URL")
    parser.add_argument("--renew", type=float, default=5.0, help="seconds between two renewals")
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument(
        "--ready-after",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="how long it takes to become healthy; inf for never",
    )
    parser.add_argument("--work", type=float, nargs=2, default=(0.02, 0.06), help="seconds a request takes")
    options = parser.parse_args()

    # Blocked before there are threads, then waited for: a handler could interrupt us anywhere.
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    logs = Logs(options.logs)
    server = Server((options.address, options.port), logs, tuple(options.work))
    if not options.ready_after:
        server.ready.set()  # before anybody can ask
    worker = threading.Thread(target=work_in_background, args=(server,), daemon=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    tell("serving", address=options.address, port=server.server_port, starting=options.ready_after > 0)
    instance = registration(
        options.name, options.instance_id, options.address, server.server_port, options.renew
    )
    instance["status"] = "STARTING" if options.ready_after else "UP"
    lease = Lease(options.eureka, instance, options.renew, tell)
    lease.start()

    stopped = options.ready_after > 0 and stopped_within(options.ready_after, stops)
    if not stopped:
        server.ready.set()
        worker.start()
        if options.ready_after:
            tell("ready")
            lease.stop()
            instance["status"] = "UP"  # the client registers anew with what is new about it
            lease = Lease(options.eureka, instance, options.renew, tell)
            lease.start()
        stopped_within(math.inf, stops)
    server.stopping.set()
    tell("stopping")
    server.paused.set()
    cut_off = server.finish(5.0)
    lease.stop()
    if worker.ident is not None:
        worker.join(1.0)
    logs.app.info("stopped after %d requests, %d cut off", server.served, cut_off)
    logs.flush()
    tell("stopped", served=server.served, cut_off=cut_off)


if __name__ == "__main__":
    main()

"""The emulated instance metadata service: version 2, every path the agent reads, and what may go wrong.

Statuses, headers and the rules of tokens are those of "Use the Instance Metadata Service" in the EC2
user guide. It speaks through a bare socket where a web framework would be too polite: it can hang, drip and
reset the connection.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from lifecycle_agent.deadline import Clock, boottime
from lifecycle_agent.rehearsal.imds_metadata import VERSIONS, plain_instance

TARGET_STATE = "autoscaling/target-lifecycle-state"
TOKEN = "api/token"  # noqa: S105 - a path
# Not below `meta-data`: the list of versions, what there is below one, and a version that there never was.
ROOT, VERSION_ROOT, UNKNOWN = "/", "/version", "/unknown"
TTL_MOST = 21600  # seconds a token may live: six hours

Value = str | Callable[[], str | None] | None


class Trouble(str, Enum):
    """How an answer may go wrong, other than by its status."""

    EMPTY = "empty"  # 200 with nothing in it
    GARBAGE = "garbage"  # 200 with bytes that are no text
    HUGE = "huge"  # 200 with 64 MiB, sent as fast as they are read
    HANG = "hang"  # the request is read and never answered
    DRIP = "drip"  # the right answer, a byte every 0.2 s from the status line on
    RESET = "reset"  # the connection is reset once the request is read


HUGE_BYTES = 64 * 2**20  # far above any bound a reader would set, little enough for a test
DRIP_SECONDS = 0.2


@dataclass
class _Fault:
    kind: Trouble | int
    path: str
    times: int | None


class Imds:
    """An instance's metadata on loopback.

    Args:
        instance_id: and the rest: what the metadata says.
        tags: the instance's tags; None where tags in the metadata are not enabled (the default on EC2).
        role: the name of the instance profile's role; None for an instance without a profile.
        clock: seconds; what tokens live by.
        host: the address to bind; a network namespace of its own may have 169.254.169.254.
    """

    def __init__(
        self,
        instance_id: str = "i-0123456789abcdef0",
        *,
        region: str = "us-east-1",
        local_ipv4: str = "127.0.0.1",
        local_hostname: str = "localhost",
        tags: Mapping[str, str] | None = None,
        role: str | None = "rehearsal",
        clock: Clock = boottime,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.requests: Counter[str] = Counter()
        self._clock = clock
        self._lock = threading.Lock()
        self._changed: dict[str, float] = {}
        self._read: dict[str, float] = {}
        self._tokens: dict[str, float] = {}
        self._faults: list[_Fault] = []
        self.released = threading.Event()  # ends what hangs or drips
        self._values: dict[str, Value] = {
            **plain_instance(instance_id, region, local_ipv4, local_hostname, tags, role)
        }
        self._server = _Server((host, port), _Handler)
        self._server.imds = self
        self._thread: threading.Thread | None = None
        self.url = f"http://{host}:{self._server.server_port}"

    # -- running it

    def start(self) -> None:
        """Serve from now on; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop for good; what hangs is let go."""
        self.heal()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def __enter__(self) -> Imds:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- what it says

    def set(self, path: str, value: Value) -> None:
        """Change a value.

        Args:
            path: below `latest/meta-data/`, or beginning with `dynamic/` or `user-data` below `latest/`.
            value: text, something asked at each request, or None for 404.
        """
        with self._lock:
            self._values[path] = value
            self._changed[path] = self._clock()
            self._read.pop(path, None)

    def changed_at(self, path: str = TARGET_STATE) -> float | None:
        """When the value was last set, on the clock; None if it never was."""
        return self._changed.get(path)

    def first_read_at(self, path: str = TARGET_STATE) -> float | None:
        """When somebody was first told the value as it is set now, on the clock; None before that."""
        return self._read.get(path)

    # -- what goes wrong

    def fail(self, kind: Trouble | int, path: str = "", times: int | None = None) -> None:
        """Let requests go wrong.

        Args:
            kind: a trouble, or an HTTP status (401, 404, 429, 500, 503).
            path: those that begin so (`api/token` is the token's); empty for all.
            times: how many; None for all until `heal`.
        """
        with self._lock:
            self.released.clear()
            self._faults.append(_Fault(kind, path, times))

    def heal(self) -> None:
        """Nothing goes wrong any more; what hangs ends without an answer."""
        with self._lock:
            self._faults.clear()
            self.released.set()

    def expire_tokens(self) -> None:
        """All tokens are worthless from now on, as after a restart of the service."""
        with self._lock:
            self._tokens.clear()

    # -- what the handler asks

    def begin(self, path: str) -> Trouble | int | None:
        """Count a request and say what is to go wrong with it."""
        with self._lock:
            self.requests[path] += 1
            for fault in self._faults:
                if path.startswith(fault.path):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times <= 0:
                            self._faults.remove(fault)
                    return fault.kind
        return None

    def token(self, ttl: int) -> str:
        """A new token that lives `ttl` seconds."""
        token = secrets.token_urlsafe(40)
        with self._lock:
            self._tokens[token] = self._clock() + ttl
        return token

    def seconds_of(self, token: str) -> int | None:
        """What the token has left, in seconds; None when it is worth nothing."""
        with self._lock:
            left = self._tokens.get(token, 0.0) - self._clock()
        return int(left) if left > 0 else None

    def look_up(self, path: str) -> str | None:
        """The value, or what is listed below the path; None for 404."""
        with self._lock:
            value = self._values.get(path)
        text = value() if callable(value) else value
        if text is not None:
            return text
        if path == ROOT:
            return "\n".join(VERSIONS)
        if path == VERSION_ROOT:
            return "\n".join(self._tops())
        return self._listing(path.rstrip("/") + "/" if path else "")

    def told(self, path: str, text: str) -> None:
        """Somebody was told the value; remembers the first time it was as it is now."""
        with self._lock:
            value = self._values.get(path)
            if value == text or callable(value):
                self._read.setdefault(path, self._clock())

    def _tops(self) -> list[str]:
        """What there is below a version."""
        with self._lock:
            user_data = self._values.get("user-data")
        return ["dynamic", "meta-data", *(["user-data"] if user_data is not None else [])]

    def _listing(self, folder: str) -> str | None:
        with self._lock:
            values = {path: value for path, value in self._values.items() if path.startswith(folder)}
        there = [
            path for path, value in values.items() if (value() if callable(value) else value) is not None
        ]
        if not folder.startswith("dynamic/"):
            there = [path for path in there if not path.startswith(("dynamic/", "user-data"))]
        below = [path[len(folder) :] for path in there]
        names = {name.partition("/")[0] + ("/" if "/" in name else "") for name in below}
        return "\n".join(sorted(names)) if names else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Connections that may wait: a burst of every process on the machine, as werkzeug's server has it.
    request_queue_size = 128
    imds: Imds

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up on us is no error here."""


def _below_version(path: str) -> str:
    """The path as `Imds` knows it: below `latest/meta-data/`, or the same of any other version."""
    version, _, rest = path.lstrip("/").partition("/")
    if not version:
        return ROOT
    if version not in VERSIONS:
        return UNKNOWN
    if not rest:
        return VERSION_ROOT
    return "" if rest == "meta-data" else rest.removeprefix("meta-data/")


class _Handler(BaseHTTPRequestHandler):
    """One request on one connection, as the real service has it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60.0  # seconds a client may take to send its request
    server: _Server

    def do_PUT(self) -> None:
        path = self._begin()
        if path != TOKEN:
            return self._say(path, 405)
        if "X-Forwarded-For" in self.headers:  # a proxy must not hand out tokens
            return self._say(path, 403)
        ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= TTL_MOST:
            return self._say(path, 400)
        return self._say(path, 200, self.server.imds.token(int(ttl)), int(ttl))

    def do_GET(self) -> None:
        path = self._begin()
        left = self.server.imds.seconds_of(self.headers.get("X-aws-ec2-metadata-token", ""))
        if left is None:
            return self._say(path, 401)
        text = self.server.imds.look_up(path)
        return self._say(path, 404) if text is None else self._say(path, 200, text, left)

    def _begin(self) -> str:
        path = _below_version(unquote(urlsplit(self.path).path))
        self.fault = self.server.imds.begin(path)
        return path

    def _say(self, path: str, status: int, text: str = "", ttl: int | None = None) -> None:
        fault = self.fault
        if isinstance(fault, int):
            status = int(fault)
        elif fault in (Trouble.EMPTY, Trouble.GARBAGE, Trouble.HUGE):
            status = 200
        body = text.encode() if status == 200 else f"<html><h1>{status}</h1></html>\n".encode()
        if fault in (Trouble.EMPTY, Trouble.GARBAGE):
            body = b"" if fault is Trouble.EMPTY else bytes(range(128, 256))
        lines = ["Content-Type: text/plain", "Server: EC2ws", "Connection: close"]
        if ttl is not None:
            lines.append(f"X-Aws-Ec2-Metadata-Token-Ttl-Seconds: {ttl}")
        if fault is not Trouble.HUGE:
            lines.append(f"Content-Length: {len(body)}")
        reason = self.responses.get(status, ("Unknown", ""))[0]
        head = "\r\n".join([f"HTTP/1.1 {status} {reason}", *lines, "", ""]).encode()
        self.close_connection = True
        if fault is None and status == 200:
            self.server.imds.told(path, text)  # first: who reads the answer may ask at once
        self._send(head, body)

    def _send(self, head: bytes, body: bytes) -> None:
        fault, released = self.fault, self.server.imds.released
        if fault is Trouble.HANG:
            released.wait()
        elif fault is Trouble.RESET:
            self._reset()
        elif fault is Trouble.DRIP:
            for byte in head + body:
                if released.wait(DRIP_SECONDS):
                    return
                self.wfile.write(bytes([byte]))
        elif fault is Trouble.HUGE:
            self.wfile.write(head)
            for _ in range(HUGE_BYTES // 2**16):
                self.wfile.write(b"a" * 2**16)
        else:
            self.wfile.write(head + body)

    def _reset(self) -> None:
        """Close with a lingering time of zero: the kernel sends RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the rehearsal has a timeline of its own."""

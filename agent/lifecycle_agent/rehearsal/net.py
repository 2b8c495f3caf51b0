"""What the parts of the world that talk HTTP have in common."""

from __future__ import annotations

import base64
import socket
import urllib.request
from urllib.parse import unquote, urlsplit

# No proxy: the proxy of the person who rehearses would lead out of the world.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def credentials(url: str) -> tuple[str, dict[str, str]]:
    """A URL without user and password, and the header that they make: Eureka's clients take them so."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, {}
    said = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    header = {"Authorization": "Basic " + base64.b64encode(said.encode()).decode()}
    return url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1), header


def host_name(address: str) -> str:
    """The private DNS name that EC2 gives an address."""
    return f"ip-{address.replace('.', '-')}.ec2.internal"


def free_port(address: str) -> int:
    """A port of the address that nobody listens on; the kernel gives it to nobody else for a while."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])

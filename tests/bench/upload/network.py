"""Two network namespaces joined by a link of their own, whose speed can be set; both are gone at the end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

SERVER, CLIENT = "10.77.0.1", "10.77.0.2"  # nobody else can see them
DEVICE = "veth"
LIMIT = 20.0  # seconds for a command of ip or tc, which take some milliseconds


@dataclass(frozen=True)
class Link:
    """A speed.

    Args:
        rate: as tc has it; empty where nothing slows it down.
        burst: what may go at once: at least what the rate is between two ticks of the kernel's clock.
        rounds: by default: on a slow link each takes long, and is much the same as the others.
        slow: whether the link is slower than compression.
    """

    name: str
    title: str
    rate: str
    burst: str
    rounds: int
    slow: bool


LINKS = {
    link.name: link
    for link in (
        Link("50", "50 Mbit/s", "50mbit", "128kb", 1, True),
        Link("100", "100 Mbit/s", "100mbit", "128kb", 2, True),
        Link("1000", "1 Gbit/s", "1gbit", "1mb", 3, False),
        Link("unshaped", "unshaped", "", "", 3, False),
    )
}


class Network:
    """A context manager; between, programs can be run at its ends."""

    def __init__(self) -> None:
        self._server, self._client = (f"bench-upload-{os.getpid()}-{end}" for end in ("server", "client"))

    def __enter__(self) -> Network:
        try:
            for name in (self._server, self._client):
                _ip("netns", "add", name)
            # made inside, so that not even the interfaces' names are seen by the machine
            pair = ("type", "veth", "peer", "name", DEVICE, "netns", self._client)
            _ip("-n", self._server, "link", "add", "name", DEVICE, *pair)
            for name, address in ((self._server, SERVER), (self._client, CLIENT)):
                _ip("-n", name, "address", "add", f"{address}/24", "dev", DEVICE)
                for interface in ("lo", DEVICE):
                    _ip("-n", name, "link", "set", interface, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self._client, self._server):
            subprocess.run(
                ["ip", "netns", "delete", name], stderr=subprocess.DEVNULL, timeout=LIMIT, check=False
            )

    def shape(self, link: Link) -> None:
        """Both directions are as fast as the link from now on."""
        for name in (self._server, self._client):
            device = ("dev", DEVICE, "root")
            subprocess.run(["tc", "-n", name, "qdisc", "delete", *device], stderr=subprocess.DEVNULL,
                           timeout=LIMIT, check=False)  # fmt: skip
            if link.rate:
                shaper = ("tbf", "rate", link.rate, "burst", link.burst, "latency", "50ms")
                _run("tc", "-n", name, "qdisc", "add", *device, *shaper)

    def at_server(self, argv: Sequence[str]) -> list[str]:
        """What runs `argv` at the server's end."""
        return ["nsenter", f"--net=/run/netns/{self._server}", *argv]

    def at_client(self, argv: Sequence[str]) -> list[str]:
        """What runs `argv` at the copiers' end."""
        return ["nsenter", f"--net=/run/netns/{self._client}", *argv]


def _ip(*argv: str) -> None:
    _run("ip", *argv)


def _run(*argv: str) -> None:
    subprocess.run(argv, timeout=LIMIT, check=True)

"""The DHCP of the VPC: one machine, one address (RFC 2131, as little of it as a client needs).

cloud-init asks it on EC2 before anything else of the network is up, and systemd-networkd asks it, too.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading

from tests.machine.network import ADDRESS, WORLD

DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
COOKIE = bytes((99, 130, 83, 99))
OPTIONS = 236  # where the fixed part of a message ends
LEASE = 3600  # seconds, as EC2's
BROADCAST = "10.0.0.255"


class Dhcp:
    """Made, and started, inside the world's namespace."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.bind(("", 67))
        self._socket.settimeout(0.2)  # seconds between two looks at whether to stop
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Dhcp:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._stopped:
            with contextlib.suppress(OSError):  # nobody asks, or there is no cable just now
                answer = answer_to(self._socket.recv(4096))
                if answer is not None:
                    self._socket.sendto(answer, (BROADCAST, 68))


def answer_to(message: bytes) -> bytes | None:
    """What a message of a client is answered with; None for nothing."""
    if len(message) < OPTIONS + len(COOKIE) or message[0] != 1:
        return None
    kind = {DISCOVER: OFFER, REQUEST: ACK}.get(_asked(message[OPTIONS + len(COOKIE) :]))
    if kind is None:
        return None
    ours, theirs, mask = (ipaddress.ip_address(each).packed for each in (WORLD, ADDRESS, "255.255.255.0"))
    fixed = bytearray(message[:OPTIONS])
    fixed[0] = 2  # a reply
    fixed[16:20], fixed[20:24] = theirs, ours
    fixed[44:] = bytes(OPTIONS - 44)
    options = ((53, bytes([kind])), (54, ours), (51, LEASE.to_bytes(4, "big")), (1, mask), (3, ours))
    return (
        bytes(fixed)
        + COOKIE
        + b"".join(bytes([code, len(value)]) + value for code, value in options)
        + b"\xff"
    )


def _asked(options: bytes) -> int:
    """The message's type; 0 where it says none."""
    while options and options[0] != 255:
        if options[0] == 0:  # padding
            options = options[1:]
            continue
        length = options[1] if len(options) > 1 else 0
        if options[0] == 53 and length == 1:
            return options[2]
        options = options[2 + length :]
    return 0

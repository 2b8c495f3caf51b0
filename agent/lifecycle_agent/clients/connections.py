"""Who is still connected to the app: the kernel's own tables, which anybody may read.

They are those of the agent's network namespace: connections of a container with a network of its own
are not in them.
"""

from __future__ import annotations

import ipaddress
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lifecycle_agent.errors import LifecycleAgentError

# States as in the kernel's include/net/tcp_states.h. ESTABLISHED alone counts: somebody waits at the
# other end, also where the app has not accepted the connection yet. Not CLOSE_WAIT (08): the peer has
# closed, nobody waits for an answer, and an app that forgets to close would hold the drain up to its
# timeout. Not FIN_WAIT and later: the app has closed, the kernel delivers what is left.
_ESTABLISHED = "01"

# Some hundred MiB of table. No machine that gets there is idle, so this ends in an error, not in a count.
_MOST_LINES = 1_000_000
_MOST_LINE = 1024  # characters; the kernel pads lines to 150 (tcp) and some 180 (tcp6)


@dataclass(frozen=True)
class Connection:
    """An established TCP connection; IPv4 peers are `a.b.c.d` also where the app listens on IPv6."""

    local_port: int
    peer: str


def parse(lines: Iterable[str], ports: Collection[int]) -> Iterator[Connection]:
    """The established connections to `ports` in a table of proc_net_tcp's format.

    Lines that aren't of the format, as the heading, are left out.
    """
    wanted = {f"{port:04X}": port for port in ports}
    for line in lines:
        fields = line.split(maxsplit=4)
        if len(fields) < 4 or fields[3] != _ESTABLISHED:
            continue
        port = wanted.get(fields[1].rpartition(":")[2])
        if port is not None:
            yield Connection(port, _address(fields[2].rpartition(":")[0]))


def _address(hexadecimal: str) -> str:
    """An address as the kernel prints it: 32-bit words, each in the machine's byte order."""
    try:
        words = [int(hexadecimal[start : start + 8], 16) for start in range(0, len(hexadecimal), 8)]
        address = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    except (ValueError, struct.error):
        return hexadecimal
    return str(getattr(address, "ipv4_mapped", None) or address)


class Connections:
    """The machine's TCP connections.

    Args:
        proc_net: where the kernel's tables are.
    """

    def __init__(self, proc_net: Path = Path("/proc/net")) -> None:
        self._proc_net = proc_net

    def count(self, ports: Collection[int]) -> Counter[Connection]:
        """The established connections to the local `ports`, by port and peer.

        Raises:
            LifecycleAgentError: the tables cannot be read, or have no end.
        """
        found: Counter[Connection] = Counter()
        for name in ("tcp", "tcp6"):
            path = self._proc_net / name
            try:
                with path.open(encoding="ascii", errors="replace") as table:
                    found.update(parse(_bounded(path, table.readline), ports))
            except FileNotFoundError as error:
                if name == "tcp":
                    raise _unreadable(path, error) from error
                # There is no such table where IPv6 is switched off.
            except OSError as error:
                raise _unreadable(path, error) from error
        return found


def _bounded(path: Path, readline: Callable[[int], str]) -> Iterator[str]:
    for _ in range(_MOST_LINES):
        line = readline(_MOST_LINE)
        if not line:
            return
        yield line
    raise LifecycleAgentError(
        f"{path} has more than {_MOST_LINES} lines",
        "the machine is flooded with connections: look at `ss -s`",
    )


def _unreadable(path: Path, error: OSError) -> LifecycleAgentError:
    return LifecycleAgentError(
        f"cannot read {path}: {error.strerror}",
        "the idle wait needs Linux's /proc; leave out drain.idle.ports",
    )

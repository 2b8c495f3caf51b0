"""Reading the kernel's connection tables."""

from __future__ import annotations

import socket
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_agent.clients import connections
from lifecycle_agent.clients.connections import Connection, Connections, parse
from lifecycle_agent.errors import LifecycleAgentError

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the samples are a little-endian machine's")

HEADING = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"


def line(local: str, peer: str, state: str) -> str:
    return f"   7: {local} {peer} {state} 00000000:00000000 00:00000000 00000000  1000        0 4711 1\n"


LISTENING = line("00000000:1F90", "00000000:0000", "0A")
FROM_10_0_0_5 = line("0A00000A:1F90", "0500000A:D2F0", "01")
MAPPED = line("0000000000000000FFFF00000A00000A:1F90", "0000000000000000FFFF00000500000A:D2F2", "01")
FROM_IPV6 = line("B80D0120000000000000000001000000:1F90", "B80D0120000000000000000002000000:D2F2", "01")


def test_established_connections_to_the_ports_count() -> None:
    table = [HEADING, LISTENING, FROM_10_0_0_5, line("0A00000A:1F91", "0500000A:D2F0", "01")]

    assert list(parse(table, [8080])) == [Connection(8080, "10.0.0.5")]
    assert list(parse(table, [8080, 8081])) == [Connection(8080, "10.0.0.5"), Connection(8081, "10.0.0.5")]


def test_a_connection_of_ours_to_such_a_port_elsewhere_does_not() -> None:
    assert list(parse([line("0A00000A:D2F0", "0500000A:1F90", "01")], [8080])) == []


@pytest.mark.parametrize("state", ["02", "03", "04", "05", "06", "07", "08", "09", "0A", "0B", "0C"])
def test_no_other_state_does(state: str) -> None:
    assert list(parse([line("0A00000A:1F90", "0500000A:D2F0", state)], [8080])) == []


def test_addresses_of_ipv6_and_ipv4_within_it() -> None:
    assert [one.peer for one in parse([MAPPED, FROM_IPV6], [8080])] == ["10.0.0.5", "2001:db8::2"]


@given(st.lists(st.text(alphabet="0123456789ABCDEF: \t\x00gü", max_size=80)))
def test_whatever_the_lines_are_nothing_breaks(lines: list[str]) -> None:
    list(parse(lines, [8080, 0]))


def test_both_tables_are_read_and_one_of_ipv6_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(HEADING + "\n" + FROM_10_0_0_5)

    assert Connections(tmp_path).count([8080]) == {Connection(8080, "10.0.0.5"): 1}

    (tmp_path / "tcp6").write_text(HEADING + "\n" + MAPPED + FROM_IPV6)
    assert Connections(tmp_path).count([8080]) == Counter(
        {Connection(8080, "10.0.0.5"): 2, Connection(8080, "2001:db8::2"): 1}
    )


def test_no_tables_is_an_error_that_helps(tmp_path: Path) -> None:
    with pytest.raises(LifecycleAgentError, match=r"cannot read .*tcp") as caught:
        Connections(tmp_path).count([8080])
    assert "drain.idle.ports" in caught.value.hint


def test_a_table_without_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_MOST_LINES", 10)
    (tmp_path / "tcp").write_text(LISTENING * 11)

    with pytest.raises(LifecycleAgentError, match="more than 10 lines"):
        Connections(tmp_path).count([8080])


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::")]
)
def test_real_ones(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as listening:
        try:
            listening.bind((host, 0))
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        listening.listen()
        port = listening.getsockname()[1]
        to = "127.0.0.1" if host == "::" else host
        assert Connections().count([port]) == {}

        with socket.create_connection((to, port)):
            # Not accepted yet, and somebody waits all the same.
            assert Connections().count([port]) == {Connection(port, to): 1}
            accepted, _ = listening.accept()

        with accepted:
            accepted.recv(1)  # the end of the stream: from now on it is CLOSE_WAIT
            assert Connections().count([port]) == {}

"""A process that uploads, and dies at a moment of the test's choosing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.contract import shipper
from tests.contract.gateway import Gateway
from tests.contract.proxy import Exchange
from tests.stage import PATIENCE

# Work that a life may have begun before it ends, whatever it was to die of.
MOST = 40
PHASES = ("asked", "half sent", "stored", "answered")


class Death:
    """Kills a process at its n-th request of one kind, in one phase of it. Later ones are held until it is
    dead.

    Args:
        kind: how `Exchange.what` begins; a life that has sent `MOST` requests ends whatever they were.
        phase: before the request is read, in the middle of it, when it is done and not answered, when it is
            answered.
        before: waits for what has to be first; later requests are not held before.
    """

    def __init__(
        self, kind: str, number: int, phase: str, before: Callable[[], object] | None = None
    ) -> None:
        self._kind, self._number, self._phase, self._before = kind, number, phase, before
        self._lock = threading.Lock()
        self._count = self._all = 0
        self._chosen = False
        self._dead = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None

    def __str__(self) -> str:
        return f"{self._kind} {self._number} {self._phase}"

    def play(self, exchange: Exchange) -> None:
        with self._lock:
            self._count += exchange.what.startswith(self._kind)
            self._all += exchange.method in ("PUT", "POST")
            mine = not self._chosen and (self._count == self._number or self._all == MOST)
            later = self._chosen and self._before is None
            self._chosen = self._chosen or mine
        if mine:
            self._die(exchange)
        elif later:
            self._dead.wait(PATIENCE)
            exchange.reset()
        else:
            exchange.through()

    def _die(self, exchange: Exchange) -> None:
        if self._phase == "half sent":
            for _ in exchange.body():
                if exchange.received >= int(exchange.headers["content-length"]) // 2:
                    break
        elif self._phase == "stored":
            exchange.ask()
        elif self._phase == "answered":
            exchange.through()
        assert self.process is not None
        if self._before is not None:
            self._before()
        self.process.kill()
        self.process.wait()
        self._dead.set()


def live(s3: Gateway, death: Death | None = None, **how: Any) -> int:
    """The exit code of one life.

    Args:
        death: what it dies of; None to let it end by itself.
        how: for `shipper.save`.
    """
    started = threading.Event()

    def play(exchange: Exchange) -> None:
        started.wait(PATIENCE)
        death.play(exchange) if death else exchange.through()

    s3.proxy.play = play
    process = subprocess.Popen([sys.executable, shipper.__file__, json.dumps(how, default=str)])
    if death is not None:
        death.process = process
    started.set()
    try:
        return process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        s3.proxy.play = Exchange.through


def known(record: Path) -> set[str]:
    """The units that have a line."""
    units = set()
    for line in record.read_bytes().splitlines() if record.exists() else ():
        try:
            read = json.loads(line)
        except ValueError:
            continue
        if "entry" in read:
            units.add(read["entry"]["key"])
        elif "part" in read:
            units.add(f"{read['key']}#{read['number']}")
    return units

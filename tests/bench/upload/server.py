"""A real S3 server on a directory, behind the link; and an instance's metadata, beside the copiers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.upload.measure import Failed
from tests.bench.upload.network import SERVER, Network

PORT = 7070
URL = f"http://{SERVER}:{PORT}"
BUCKET = "acme-logs"
KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret"}
PATIENCE = 30.0  # seconds for something that is up in less than one
HIDDEN = ".sgwtmp"  # where versitygw keeps parts

METADATA = """
import sys, threading
from lifecycle_agent.rehearsal.imds import Imds
with Imds(tags={"aws:autoscaling:groupName": "orders"}) as imds:
    print(imds.url, flush=True)
    sys.stdin.read()
"""


class Bucket:
    """The server's only bucket, as it is on its disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def objects(self) -> dict[str, int]:
        """Bytes of each object by its key."""
        found = {}
        for directory, folders, names in os.walk(self.path):
            if HIDDEN in folders:
                folders.remove(HIDDEN)
            for name in names:
                path = Path(directory, name)
                found[str(path.relative_to(self.path))] = path.stat().st_size
        return found

    def unfinished(self) -> list[str]:
        """What is there of uploads in parts that were neither completed nor aborted."""
        return [str(path) for path in (self.path / HIDDEN / "multipart").rglob("*") if path.is_file()]

    def empty(self) -> None:
        """Nothing is in it, and nothing is left to be written to the disk while the next one is measured."""
        for entry in self.path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        os.sync()


@contextmanager
def serve(network: Network, versitygw: str, directory: Path) -> Iterator[Bucket]:
    """A server until the end of the block."""
    bucket = Bucket(directory / "server" / BUCKET)
    shutil.rmtree(bucket.path.parent, ignore_errors=True)
    bucket.path.mkdir(parents=True)
    environ = {
        "PATH": os.environ["PATH"],
        "ROOT_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"],
        "ROOT_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"],
    }
    # S3 keeps connections open; versitygw has to be told
    argv = [versitygw, "--port", f":{PORT}", "--keep-alive", "--quiet", "posix", str(bucket.path.parent)]
    with (directory / "server.log").open("wb") as log:
        server = subprocess.Popen(network.at_server(argv), env=environ, stdin=subprocess.DEVNULL,
                                  stdout=log, stderr=log)  # fmt: skip
        try:
            _wait_for(network, server)
            yield bucket
        finally:
            _end(server)
            shutil.rmtree(bucket.path.parent, ignore_errors=True)


@contextmanager
def metadata(network: Network) -> Iterator[str]:
    """An emulated instance metadata service until the end of the block; its URL on the copiers' loopback."""
    argv = network.at_client([sys.executable, "-c", METADATA])
    service = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    try:
        url = service.stdout.readline().strip()
        if not url:
            raise Failed("the emulated instance metadata service did not start")
        yield url
    finally:
        _end(service)


def _wait_for(network: Network, server: subprocess.Popen[bytes]) -> None:
    knock = ("bash", "-c", f"exec 3<>/dev/tcp/{SERVER}/{PORT}")
    give_up = time.monotonic() + PATIENCE
    while not _works(network.at_client(knock)):
        if server.poll() is not None or time.monotonic() > give_up:
            raise Failed(
                f"{server.args[2] if isinstance(server.args, list) else 'versitygw'} does not answer"
            )
        time.sleep(0.05)


def _works(argv: Sequence[str]) -> bool:
    done = subprocess.run(argv, capture_output=True, timeout=PATIENCE, check=False)
    return done.returncode == 0


def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

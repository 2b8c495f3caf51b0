"""A real S3 server (versitygw on a directory), and a place before it where requests are seen and spoiled."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from tests.contract.proxy import Proxy
from tests.stage import until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SETUP = Path(__file__).parent.parent / "setup"
BUILD_LIMIT = 900  # seconds: it downloads a Go toolchain where there is none that is new enough
# What makes versitygw take a request for one from its owner.
ACCOUNT, SECRET = "test", "test-secret"
BUCKET = "acme-logs"


@cache
def versitygw() -> str:
    """Where it is, built if need be."""
    built = subprocess.run([SETUP, "versitygw"], stdout=subprocess.PIPE, timeout=BUILD_LIMIT, check=False)
    if built.returncode:
        pytest.skip("no versitygw, and no Go here to build it with")
    return built.stdout.decode().strip()


class Gateway:
    """One bucket on a real server. `url` is the proxy's, `admin` a client that goes past it."""

    def __init__(self, proxy: Proxy, admin: S3Client) -> None:
        self.proxy = proxy
        self.url = proxy.url
        self.admin = admin

    def empty(self) -> None:
        """As it was at first."""
        self.proxy.reset()
        for key, upload_id in self.unfinished():
            self.admin.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload_id)
        for key in self.keys():
            self.admin.delete_object(Bucket=BUCKET, Key=key)

    def keys(self) -> list[str]:
        """Of the objects."""
        pages = self.admin.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def get(self, key: str) -> bytes:
        """An object."""
        return self.admin.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def unfinished(self) -> list[tuple[str, str]]:
        """Key and id of each multipart upload that was neither completed nor aborted."""
        found = self.admin.list_multipart_uploads(Bucket=BUCKET)
        assert not found["IsTruncated"]
        return [(each["Key"], each["UploadId"]) for each in found.get("Uploads", ())]


@contextmanager
def gateway(directory: Path) -> Iterator[Gateway]:
    """A server with an empty bucket, its objects in `directory`."""
    with ExitStack() as stack:
        port = stack.enter_context(_serve(directory))
        proxy = stack.enter_context(Proxy(port))
        yield Gateway(proxy, _client(port))


@contextmanager
def _serve(directory: Path) -> Iterator[int]:
    """The server's port."""
    objects = directory / "objects"
    (objects / BUCKET).mkdir(parents=True)
    port = _free_port()
    with (directory / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [versitygw(), "--port", f"127.0.0.1:{port}", "--keep-alive", "--quiet", "posix", str(objects)],
            env={"PATH": os.environ["PATH"], "ROOT_ACCESS_KEY": ACCOUNT, "ROOT_SECRET_KEY": SECRET},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: server.poll() is not None or _answers(port))
        assert server.poll() is None, (directory / "server.log").read_text()
        yield port
    finally:
        server.kill()  # it has nothing to keep
        server.wait()
        shutil.rmtree(objects)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


def _client(port: int) -> S3Client:
    return boto3.session.Session(ACCOUNT, SECRET).client(
        "s3", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}", config=Config(max_pool_connections=1)
    )


@pytest.fixture(scope="module", name="server")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server for all tests of a file."""
    with gateway(tmp_path_factory.mktemp("gateway")) as server:
        yield server


@pytest.fixture(name="s3")
def empty(server: Gateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """The server with an empty bucket, and an environment in which the agent finds it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCOUNT)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    server.empty()
    return server

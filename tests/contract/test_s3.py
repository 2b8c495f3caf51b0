"""The bucket over real HTTP: moto's S3 on loopback, with a place between in which requests can be spoiled."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from lifecycle_agent.clients import s3
from lifecycle_agent.clients.s3 import S3, Storage
from lifecycle_agent.clients.s3_errors import OutOfTime, S3Error
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import StepFailed
from tests.contract.shipper import BUCKET, PART, noise, prove, save

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from mypy_boto3_s3 import S3Client

# What spoils a request: an HTTP status, S3's code, headers; None lets it through.
Spoil = Callable[["WSGIEnvironment"], "tuple[int, str, dict[str, str]] | None"]


class World:
    """An S3 server. `seen` holds "METHOD key?query" of each request."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.server = make_server("127.0.0.1", 0, self, threaded=True)
        self.seen: list[str] = []
        self.spoil: Spoil = lambda request: None
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        self.seen.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query}")
        spoiled = self.spoil(environ)
        if spoiled is None:
            return self._moto(environ, start_response)  # type: ignore[no-any-return]
        status, code, headers = spoiled
        if environ.get("CONTENT_LENGTH"):
            environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        body = (
            f"<Error><Code>{code}</Code><Message>said by the test</Message></Error>".encode() if code else b""
        )
        start_response(f"{status} Spoiled", [("Content-Length", str(len(body))), *headers.items()])
        return [body]

    def sent(self, method: str, pattern: str) -> list[str]:
        return [one for one in self.seen if one.startswith(method) and re.search(pattern, one)]


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    world = World()
    thread = threading.Thread(target=world.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield world
    world.server.shutdown()
    thread.join()
    world.server.server_close()


@pytest.fixture
def world(server: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The server with an empty bucket, and an environment that points there."""
    world = server
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", world.url)
    monkeypatch.setattr(s3, "FIRST_PAUSE", 0.001)
    admin = client()
    admin.create_bucket(Bucket=BUCKET)
    world.seen.clear()
    yield world
    world.spoil = lambda request: None
    for upload in admin.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        admin.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    for key in keys(admin):
        admin.delete_object(Bucket=BUCKET, Key=key)
    admin.delete_bucket(Bucket=BUCKET)


def keys(admin: S3Client) -> list[str]:
    return [one["Key"] for one in admin.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


_clients: dict[str, S3Client] = {}


def client() -> S3Client:
    """The test's own look at the bucket."""
    url = os.environ["AWS_ENDPOINT_URL_S3"]
    if url not in _clients:
        _clients[url] = boto3.session.Session().client("s3", region_name="us-east-1")
    return _clients[url]


def connect() -> S3:
    return S3(BUCKET, "us-east-1")


def put(
    store: S3, data: bytes = b"", metadata: Mapping[str, str] | None = None, deadline: Deadline | None = None
) -> None:
    store.put("k", data, zlib.crc32(data), deadline or Deadline.after(30), "text/plain", metadata or {})


def begin(store: S3) -> str:
    return store.begin("k", Deadline.after(30), "text/plain")


def send_part(store: S3, upload_id: str, number: int, data: bytes) -> tuple[str, int]:
    crc = zlib.crc32(data)
    return store.send_part("k", upload_id, number, memoryview(data), crc, Deadline.after(30)), crc


def stored(key: str) -> bytes:
    return client().get_object(Bucket=BUCKET, Key=key)["Body"].read()


def proven(originals: dict[str, bytes]) -> None:
    prove(stored, originals)
    assert not client().list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def write(directory: Path) -> dict[str, bytes]:
    originals = {
        "a.log": b"a line\n" * 1000,
        "empty.log": b"",
        "large.log": noise(2 * PART + PART // 2),
        "äöü \n.log": b"x",
    }
    for name, data in originals.items():
        (directory / name).write_bytes(data)
    return originals


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_what_is_saved_comes_back(world: World, tmp_path: Path, compression: str) -> None:
    originals = write(tmp_path)
    done = save(f"{tmp_path}/*", compression)
    assert done.warnings == ()
    proven(originals)
    assert len(world.sent("PUT", "partNumber")) == 3
    assert [one for one in world.seen if one.startswith(("PUT", "POST"))][-1].endswith("manifest.json")


def test_every_upload_carries_a_checksum_that_the_server_verifies(world: World, tmp_path: Path) -> None:
    write(tmp_path)
    without: list[str] = []

    def look(request: WSGIEnvironment) -> None:
        has = any("CHECKSUM_CRC32" in name or "SDK_CHECKSUM" in name for name in request)
        if request["REQUEST_METHOD"] == "PUT" and not has:
            without.append(request["PATH_INFO"])

    world.spoil = look
    save(f"{tmp_path}/*")
    assert without == []
    assert world.sent("PUT", "")


def test_an_object_carries_size_and_sha256_of_its_original(world: World) -> None:
    put(connect(), b"data", {"sha256": "s", "bytes": "4"})
    head = connect().head("k", Deadline.after(30))
    assert head is not None
    assert (head.size, dict(head.metadata)) == (4, {"sha256": "s", "bytes": "4"})
    assert connect().head("none", Deadline.after(30)) is None


@pytest.mark.parametrize(
    ("status", "code"),
    [(503, "SlowDown"), (500, "InternalError"), (400, "RequestTimeout"), (400, "BadDigest")],
)
def test_what_passes_is_tried_again(world: World, tmp_path: Path, status: int, code: str) -> None:
    originals = write(tmp_path)
    spoiled: set[str] = set()

    def once(request: WSGIEnvironment) -> tuple[int, str, dict[str, str]] | None:
        """Each request fails the first time."""
        what = f"{request['REQUEST_METHOD']} {request['PATH_INFO']} {request['QUERY_STRING']}"
        if request["REQUEST_METHOD"] == "GET" or what in spoiled:
            return None
        spoiled.add(what)
        return status, code, {}

    world.spoil = once
    assert save(f"{tmp_path}/*").warnings == ()
    proven(originals)


@pytest.mark.parametrize(
    ("status", "code", "headers", "message", "hint"),
    [
        (403, "AccessDenied", {}, "access denied", "s3:PutObject"),
        (403, "InvalidAccessKeyId", {}, "are not accepted", "instance profile"),
        (400, "ExpiredToken", {}, "have expired", "instance profile"),
        (403, "RequestTimeTooSkewed", {}, "clock is wrong", "chronyd"),
        (301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-1"}, "is in eu-west-1", "AWS_REGION"),
        (400, "AuthorizationHeaderMalformed", {}, "is in another region", "AWS_REGION"),
    ],
)
def test_what_does_not_pass_says_what_to_do(
    world: World, tmp_path: Path, status: int, code: str, headers: dict[str, str], message: str, hint: str
) -> None:
    world.spoil = lambda request: (status, code, headers)
    write(tmp_path)
    with pytest.raises(StepFailed, match=message) as caught:
        save(f"{tmp_path}/*")
    assert hint in caught.value.hint
    assert "'acme-logs'" in caught.value.message or f"s3://{BUCKET}/" in caught.value.message
    with pytest.raises(S3Error) as direct:
        put(connect())
    assert direct.value.code == code
    world.spoil = lambda request: None


def test_no_such_bucket_says_so(world: World) -> None:
    with pytest.raises(S3Error, match="there is no bucket 'nowhere'") as caught:
        put(S3("nowhere", "us-east-1"))
    assert caught.value.code == "NoSuchBucket"
    assert caught.value.hopeless


def test_no_credentials_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "RETRY_SECONDS", 0.05)
    with monkeypatch.context() as only_here:
        only_here.delenv("AWS_ACCESS_KEY_ID")
        only_here.delenv("AWS_SECRET_ACCESS_KEY")
        only_here.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(S3Error, match="no AWS credentials"):
            put(connect())


def test_an_endpoint_that_is_not_there_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "RETRY_SECONDS", 0.05)
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        with monkeypatch.context() as only_here:
            only_here.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{refusing.getsockname()[1]}")
            store = connect()
        with pytest.raises(S3Error, match="no answer from S3 for bucket 'acme-logs'") as caught:
            put(store)
    assert caught.value.hopeless


def test_a_bad_endpoint_fails_the_step_with_a_hint(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as only_here:
        only_here.setenv("AWS_ENDPOINT_URL_S3", "no url")
        with pytest.raises(StepFailed, match="no logs saved") as caught:
            save(f"{tmp_path}/*")
    assert "AWS_ENDPOINT_URL_S3" in caught.value.hint


def test_sending_stops_between_two_blocks_at_the_deadline(world: World) -> None:
    """The time is up once the server has the headers: more than the buffers hold is never sent."""
    now = [0.0]

    def late(request: WSGIEnvironment) -> tuple[int, str, dict[str, str]]:
        now[0] = 100.0
        return 200, "", {}

    world.spoil = late
    with pytest.raises(OutOfTime):
        put(connect(), bytes(32 << 20), deadline=Deadline.after(50, lambda: now[0]))


def test_completed_although_the_answer_was_lost(world: World) -> None:
    answers: list[str] = []

    def lose(request: WSGIEnvironment) -> tuple[int, str, dict[str, str]] | None:
        if request["REQUEST_METHOD"] != "POST":
            return None
        answers.append("lost")
        if len(answers) > 1:
            return 404, "NoSuchUpload", {}
        list(world._moto(request, lambda *ignored: None))
        request["CONTENT_LENGTH"] = ""  # it has been read
        return 500, "InternalError", {}

    data = noise(PART) + b"rest"
    store = connect()
    upload = begin(store)
    parts = [send_part(store, upload, 1, data[:PART]), send_part(store, upload, 2, data[PART:])]
    world.spoil = lose
    store.complete("k", upload, parts, len(data), zlib.crc32(data), Deadline.after(30))
    assert stored("k") == data


def test_aborting_what_is_gone_is_no_error(world: World) -> None:
    store = connect()
    upload = begin(store)
    store.abort("k", upload, Deadline.after(30))
    store.abort("k", upload, Deadline.after(30))


def test_how_objects_are_kept_is_said_with_each_request_that_makes_one(world: World, tmp_path: Path) -> None:
    storage = Storage("SSE-KMS", "alias/logs", "STANDARD_IA", "123456789012", {"team": "a+b=c", "k": "v w"})
    heard: list[tuple[bool, dict[str, str]]] = []

    def hear(request: WSGIEnvironment) -> None:
        method, query = request["REQUEST_METHOD"], request["QUERY_STRING"]
        makes_one = "uploads" in query if method == "POST" else method == "PUT" and not query
        heard.append((makes_one, {name: text for name, text in request.items() if name.startswith("HTTP_X")}))

    write(tmp_path)
    world.spoil = hear
    save(f"{tmp_path}/*", storage=storage)
    store, deadline = S3(BUCKET, "us-east-1", storage), Deadline.after(30)
    upload_id = store.begin("k", deadline, "text/plain")
    store.parts("k", upload_id, deadline)
    store.abort("k", upload_id, deadline)
    store.head("k", deadline)
    store.unfinished("k", deadline)
    said = {
        "HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION": "aws:kms",
        "HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION_AWS_KMS_KEY_ID": "alias/logs",
        "HTTP_X_AMZ_STORAGE_CLASS": "STANDARD_IA",
        "HTTP_X_AMZ_TAGGING": "team=a%2Bb%3Dc&k=v+w",
    }
    assert [makes_one for makes_one, _ in heard].count(
        True
    ) == 6  # four files, the manifest, and the last one
    for makes_one, headers in heard:
        assert headers["HTTP_X_AMZ_EXPECTED_BUCKET_OWNER"] == "123456789012"
        assert said.items() & headers.items() == (said.items() if makes_one else set())


def test_what_is_not_configured_is_left_to_the_bucket(world: World) -> None:
    heard: set[str] = set()
    world.spoil = lambda request: heard.update(request)
    put(connect())
    begin(connect())
    assert not [name for name in heard if re.search("ENCRYPTION|STORAGE_CLASS|TAGGING|OWNER", name)]


def test_making_the_client_imports_boto3_in_the_background_only() -> None:
    script = (
        "import sys, lifecycle_agent.clients.s3, lifecycle_agent.steps.logs\n"
        "assert not {'boto3', 'botocore', 'zstandard'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)

"""`lifecycle-agent logs ...` as an operator runs it: the real command, S3 and IMDS emulated over HTTP."""

from __future__ import annotations

import base64
import fcntl
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import zstandard

from lifecycle_agent.rehearsal.group import Group
from lifecycle_agent.rehearsal.imds import Imds
from lifecycle_agent.steps.logs.manifest import Entry, document
from tests.stage import PATIENCE, until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET, INSTANCE = "acme-logs", "i-0123456789abcdef0"
PREFIX = f"asg/orders/{INSTANCE}/2026-01-02T030405Z"
URL = f"s3://{BUCKET}/{PREFIX}"
HEAD = {"instance_id": INSTANCE, "group": "orders", "started": "then", "finished": "later"}

Ended = subprocess.CompletedProcess[str]


class World:
    """IMDS and S3 with one bucket; `directory` has the machine's files."""

    def __init__(self, group: Group, imds: Imds, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "config.toml"
        self.s3: S3Client = boto3.session.Session("id", "secret").client(
            "s3", region_name="us-east-1", endpoint_url=group.url
        )
        self.environ = {
            **os.environ,
            "AWS_ENDPOINT_URL": group.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url,
        }

    def configure(self, logs: str) -> None:
        self.config.write_text(
            f'[agent]\nstate_dir = "{self.directory}/state"\n[logs]\nbucket = "{BUCKET}"\n{logs}\n'
        )

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "lifecycle_agent", "--config", str(self.config), "logs", *words]

    def run(self, *words: str) -> Ended:
        ended = subprocess.run(
            self.command(*words), env=self.environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended

    def put(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content, ChecksumAlgorithm="CRC32")

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def keys(self) -> list[str]:
        return [each["Key"] for each in self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def save(self, files: Mapping[str, bytes], compression: str = "zstd") -> list[Entry]:
        """Objects as an upload leaves them; the manifest is still to be written."""
        entries = []
        for at, (source, content) in enumerate(files.items()):
            key = f"{PREFIX}/files/{at}.zst"
            stored = PACK[compression](content)
            self.put(key, stored)
            entries.append(
                Entry(
                    source,
                    key,
                    len(content),
                    hashlib.sha256(content).hexdigest(),
                    len(stored),
                    base64.b64encode(zlib.crc32(stored).to_bytes(4, "big")).decode(),
                    compression,
                    complete=True,
                )
            )
        return entries

    def write_manifest(self, *entries: Entry) -> None:
        self.put(f"{PREFIX}/manifest.json", document(HEAD, entries, {}))


def _in_two(compress: Any, content: bytes) -> bytes:
    """As uploads make them: several frames or members, one after the other."""
    half = len(content) // 2
    return bytes(compress(content[:half]) + compress(content[half:]))


PACK: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda content: _in_two(zstandard.ZstdCompressor(1, write_checksum=True).compress, content),
    "gzip": lambda content: _in_two(gzip.compress, content),
    "none": lambda content: content,
}


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Group, Imds]]:
    with Group() as group, Imds(INSTANCE, tags={"aws:autoscaling:groupName": "orders"}) as imds:
        yield group, imds


@pytest.fixture
def world(servers: tuple[Group, Imds], tmp_path: Path) -> Iterator[World]:
    world = World(*servers, tmp_path)
    world.s3.create_bucket(Bucket=BUCKET)
    yield world
    for key in world.keys():  # noqa: SIM118 - a method of ours
        world.s3.delete_object(Bucket=BUCKET, Key=key)
    world.s3.delete_bucket(Bucket=BUCKET)


def files_below(directory: Path) -> dict[bytes, bytes]:
    """Path and content of each, links as what they point to."""
    found = {}
    root = os.fsencode(directory)
    for at, _, names in os.walk(root):
        for name in names:
            path = os.path.join(at, name)
            found[os.path.relpath(path, root)] = (
                b"-> " + os.readlink(path) if os.path.islink(path) else Path(os.fsdecode(path)).read_bytes()
            )
    return found


# A round trip


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_what_was_uploaded_is_proven_and_comes_back_byte_for_byte(world: World, compression: str) -> None:
    logs = world.directory / "logs"
    (logs / "deep" / "er").mkdir(parents=True)
    contents: dict[bytes, bytes] = {
        b"text.log": b"a line\n" * 10_000,
        b"deep/er/binary.log": bytes(range(256)) * 1000,
        b"noise.log": os.urandom(3_000_000),
        b"empty.log": b"",
        b"a new\nline and \x1b[31m.log": b"1\n",
        b"not UTF-8 \xff\xfe.log": b"2\n",
        b"n" * 255: b"3\n",
        b".hidden? no, ~ and %41.log": b"4\n",
        b"already.log.gz": gzip.compress(b"5\n"),
    }
    contents[b"x" + contents.popitem()[0]] = b"not even gzip\n"
    for name, content in contents.items():
        Path(os.fsdecode(os.fsencode(logs) + b"/" + name)).write_bytes(content)
    world.configure(
        f'compression = "{compression}"\npaths = ["{logs}/**", "{logs}/.hidden*"]\nprefix = "p/{{group}}"'
    )
    (world.directory / "state").mkdir()
    (world.directory / "state" / "journal.jsonl").write_text("{}\n")

    uploaded = world.run("upload", "--json")

    assert uploaded.returncode == 0, uploaded.stderr
    url = json.loads(uploaded.stdout)["url"]
    assert url.startswith(f"s3://{BUCKET}/p/orders/{INSTANCE}/")

    verified = world.run("verify", url)

    size = sum(map(len, contents.values())) + 3
    assert verified.returncode == 0, verified.stdout + verified.stderr
    last = verified.stdout.splitlines()[-1]
    assert last.startswith(f"proven: {len(contents) + 1} files, {size} bytes (")
    assert last.endswith("; 0 left behind")

    fetched = world.run("fetch", f"{url}/manifest.json", str(world.directory / "back"))

    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    back = files_below(world.directory / "back")
    below = b"files" + os.fsencode(logs) + b"/"
    assert json.loads(back.pop(b"manifest.json"))["totals"]["files"] == len(contents) + 1
    assert back.pop(b"agent/journal.jsonl") == b"{}\n"
    assert back == {below + name: content for name, content in contents.items()}


def test_fetched_again_nothing_is_read_again_and_what_is_missing_comes(world: World, tmp_path: Path) -> None:
    world.write_manifest(*world.save({"/var/log/a.log": b"first\n", "/var/log/b.log": b"second\n"}))
    assert world.run("fetch", URL, str(tmp_path / "back")).returncode == 0
    (tmp_path / "back/files/var/log/b.log").unlink()
    # as it was left by one that was killed in the middle
    (tmp_path / "back/files/var/log").joinpath(
        f".unproven-{hashlib.sha256(b'b.log').hexdigest()[:40]}"
    ).write_text("seco")
    kept = (tmp_path / "back/files/var/log/a.log").stat()  # reading it is seen in its atime alone

    again = world.run("fetch", URL, str(tmp_path / "back"), "--json")

    assert again.returncode == 0
    assert json.loads(again.stdout)["already_there"] == 1
    now = (tmp_path / "back/files/var/log/a.log").stat()
    assert (now.st_ino, now.st_ctime_ns) == (kept.st_ino, kept.st_ctime_ns)
    assert set(files_below(tmp_path / "back")) == {
        b"manifest.json",
        b"files/var/log/a.log",
        b"files/var/log/b.log",
    }


def test_a_second_name_of_a_file_is_a_second_name_again(world: World, tmp_path: Path) -> None:
    (one,) = world.save({"/var/log/a.log": b"content\n"})
    world.write_manifest(replace(one, source="/var/log/b/c.log", same_as="/var/log/a.log"), one)

    assert world.run("verify", URL).returncode == 0
    assert world.run("fetch", URL, str(tmp_path / "back")).returncode == 0

    first, second = (tmp_path / "back/files/var/log" / name for name in ("a.log", "b/c.log"))
    assert second.read_bytes() == b"content\n"
    assert first.samefile(second)


# What is not right


def _other_content(world: World, one: Entry) -> Entry:
    world.put(one.key, PACK["zstd"](b"other\n"))
    return one


def _other_checksum(world: World, one: Entry) -> Entry:
    return replace(one, checksum="AAAAAA==")


def _cut_off(world: World, one: Entry) -> Entry:
    stored = world.get(one.key)[:-8]
    world.put(one.key, stored)
    return replace(one, stored_bytes=len(stored), checksum="")


def _not_compressed(world: World, one: Entry) -> Entry:
    world.put(one.key, b"x" * one.stored_bytes)
    return replace(one, checksum="")


def _bomb(world: World, one: Entry) -> Entry:
    stored = zstandard.ZstdCompressor().compress(bytes(1 << 30))
    world.put(one.key, stored)
    return replace(one, stored_bytes=len(stored), checksum="")


def _fewer_bytes(world: World, one: Entry) -> Entry:
    return replace(one, bytes=one.bytes + 1)


def _other_sum(world: World, one: Entry) -> Entry:
    return replace(one, sha256="0" * 64)


def _gone(world: World, one: Entry) -> Entry:
    world.s3.delete_object(Bucket=BUCKET, Key=one.key)
    return one


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_other_content, "according to the manifest"),
        (_other_checksum, "CRC32"),
        (_cut_off, "according to the manifest"),
        (_not_compressed, "no valid zstd"),
        (_bomb, "there is more in it"),
        (_fewer_bytes, "bytes in it, according"),
        (_other_sum, "sha256"),
        (_gone, "is not there"),
    ],
)
def test_what_is_not_as_the_manifest_says_is_named_and_not_kept(
    world: World, tmp_path: Path, spoil: Any, why: str
) -> None:
    good, bad = world.save({"/var/log/good.log": b"good\n" * 9, "/var/log/b\nad.log": b"bad\n" * 9})
    world.write_manifest(good, spoil(world, bad))

    verified = world.run("verify", URL)

    assert verified.returncode == 1
    *_, wrong, last = verified.stdout.splitlines()
    assert wrong.startswith("wrong: /var/log/b\\nad.log: ")
    assert why in wrong
    assert last == "proven: 1 files, 45 bytes (45 bytes); 0 left behind; 1 wrong"

    fetched = world.run("fetch", URL, str(tmp_path / "back"), "--json")

    assert fetched.returncode == 1
    assert [each["source"] for each in json.loads(fetched.stdout)["wrong"]] == ["/var/log/b\nad.log"]
    assert set(files_below(tmp_path / "back")) == {b"manifest.json", b"files/var/log/good.log"}


def test_what_was_left_behind_is_said_and_a_part_is_fetched(world: World, tmp_path: Path) -> None:
    whole, part = world.save({"/var/log/whole.log": b"whole\n", "/var/log/part.log": b"par"})
    why = "time ran out after 3 bytes"
    whole = replace(whole, note="rotated meanwhile")
    world.write_manifest(
        whole, replace(part, complete=False, why=why), Entry("/var/log/none.log", why="no permission\x1b[2J")
    )

    fetched = world.run("fetch", URL, str(tmp_path / "back"))

    assert fetched.returncode == 1
    lines = fetched.stdout.splitlines()
    assert f"left behind: /var/log/part.log: all but its first 3 bytes: {why}" in lines
    assert "note: /var/log/whole.log: rotated meanwhile" in lines
    assert "left behind: /var/log/none.log: no permission\\x1b[2J" in lines
    assert lines[-1] == "proven: 1 files, 6 bytes (6 bytes); 2 left behind"
    assert (tmp_path / "back/files/var/log/part.log").read_bytes() == b"par"
    told = json.loads(world.run("verify", URL, "--json").stdout)
    assert not told["whole"]
    assert [each["why"] for each in told["left_behind"]] == [why, "no permission\x1b[2J"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"schema": 1, "files": [', "is no manifest"),
        (b"[]", "is no manifest"),
        (b"[" * 100_000, "is no manifest"),
        (b'{"schema": 2}', "is of schema 2, this agent knows up to 1"),
        (b'{"schema": true}', "it has no schema"),
        (document(HEAD, [Entry("/a", key="other/key", sha256="0" * 64)], {}), "is not of this upload"),
        (document(HEAD, [Entry("/a", key=f"{PREFIX}x/y", sha256="0" * 64)], {}), "is not of this upload"),
    ],
)
def test_a_manifest_that_cannot_be_one_is_refused(world: World, content: bytes, why: str) -> None:
    world.put(f"{PREFIX}/manifest.json", content)

    ended = world.run("verify", URL)

    assert ended.returncode == 1
    what, do = ended.stderr.splitlines()[-2:]
    assert what.startswith(f"error: {URL}/manifest.json ")
    assert why in what
    assert do.startswith("  do: ")


def test_where_there_is_no_manifest_or_no_bucket(world: World) -> None:
    nothing = world.run("verify", URL)
    nowhere = world.run("verify", "s3://no-such-bucket/x")
    no_address = world.run("verify", "https://acme-logs/x")

    assert (nothing.returncode, nowhere.returncode, no_address.returncode) == (1, 1, 2)
    assert f"error: there is no {URL}/manifest.json" in nothing.stderr
    assert "there is no bucket 'no-such-bucket'" in nowhere.stderr
    assert "is not the address of an upload" in no_address.stderr


# What a hostile manifest, or a hostile directory, could do


def test_no_name_leads_out_of_the_directory(world: World, tmp_path: Path) -> None:
    out = tmp_path / "back"
    hostile = [
        f"/../../..{tmp_path}/out.log",
        "/a/../../out.log",
        "/",
        "//etc/x",
        "../x",
        "a/b",
        "journal of ../x",
        ".",
        "/nul\0",
        f"/{'x' * 300}",
    ]
    world.write_manifest(*world.save(dict.fromkeys(hostile, b"hostile\n"), "none"))

    ended = world.run("fetch", URL, str(out), "--json")

    assert ended.returncode == 1
    refused = [each["source"] for each in json.loads(ended.stdout)["wrong"]]
    assert refused == [name for name in hostile if not name.startswith("journal of ")]
    assert set(files_below(tmp_path)) == {b"back/manifest.json", b"back/journal/6.zst"}


def test_links_and_files_that_are_there_are_left_alone(world: World, tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "back"
    outside.mkdir()
    (outside / "target.log").write_text("mine\n")
    (out / "files/var/log").mkdir(parents=True)
    (out / "files/var/link").symlink_to(outside)
    (out / "files/var/log/link.log").symlink_to(outside / "target.log")
    (outside / "same.log").write_text("theirs\n")
    (out / "files/var/log/same.log").symlink_to(outside / "same.log")
    (out / "files/var/log/dangling.log").symlink_to(outside / "new.log")
    (out / "files/var/log/other.log").write_text("other\n")
    (out / "files/var/log/directory.log").mkdir()
    os.mkfifo(out / "files/var/log/pipe.log")
    before = files_below(outside)
    names = ["link.log", "same.log", "dangling.log", "other.log", "directory.log", "pipe.log", "good.log"]
    sources = ["/var/link/in.log", *(f"/var/log/{name}" for name in names)]
    world.write_manifest(*world.save(dict.fromkeys(sources, b"theirs\n")))

    ended = world.run("fetch", URL, str(out), "--json")

    assert [each["source"] for each in json.loads(ended.stdout)["wrong"]] == sources[:-1]
    assert files_below(outside) == before
    assert (out / "files/var/log/other.log").read_text() == "other\n"
    assert (out / "files/var/log/link.log").is_symlink()
    assert (out / "files/var/log/good.log").read_text() == "theirs\n"


def test_two_files_of_one_name_are_not_mixed(world: World, tmp_path: Path) -> None:
    one, two = world.save({"/a.log": b"one\n", "/b.log": b"two\n"})
    world.write_manifest(one, replace(two, source="/a.log"))

    ended = world.run("fetch", URL, str(tmp_path / "back"), "--json")

    assert ended.returncode == 1
    assert len(json.loads(ended.stdout)["wrong"]) == 1
    assert (tmp_path / "back/files/a.log").read_bytes() in (b"one\n", b"two\n")


def test_a_directory_is_one_uploads_and_one_commands(world: World, tmp_path: Path) -> None:
    world.write_manifest(*world.save({"/a.log": b"one\n"}))
    assert world.run("fetch", URL, str(tmp_path / "back")).returncode == 0
    world.write_manifest(*world.save({"/b.log": b"two\n"}))

    other = world.run("fetch", URL, str(tmp_path / "back"))

    assert other.returncode == 1
    assert "manifest.json: there is something else of that name" in other.stderr

    held = os.open(tmp_path / "back", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    second = world.run("fetch", URL, str(tmp_path / "back"))
    os.close(held)

    assert second.returncode == 3
    assert "another `logs fetch` is writing to" in second.stderr


def test_a_full_disk_is_one_error(world: World, tmp_path: Path) -> None:
    world.write_manifest(*world.save({f"/{at}.log": os.urandom(100_000) for at in range(20)}))
    # no file may grow beyond 64 blocks of 512 bytes: the same as a full disk, by another number
    limited = "import resource, signal, errno, sys, runpy\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limited += "from lifecycle_agent.steps.logs import directory\ndirectory._FULL = (errno.EFBIG,)\n"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (32768, 32768))\n"
    limited += "from lifecycle_agent.cli import main\nmain()\n"

    ended = subprocess.run(
        [sys.executable, "-c", limited, "logs", "fetch", URL, str(tmp_path / "back")],
        env=world.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-2:] == [
        f"error: {tmp_path}/back: File too large",
        "  do: make room and run it again: what is there is kept",
    ]
    # Others may have been in the middle of theirs: that has no name that anybody would take for the file.
    proven = {name for name in files_below(tmp_path / "back") if b"/.unproven-" not in name}
    assert proven == {b"manifest.json"}


# List


def test_list_says_what_would_go_and_what_would_not(world: World) -> None:
    logs = world.directory / "logs"
    logs.mkdir()
    (logs / "a.log").write_bytes(b"x" * 2048)
    os.link(logs / "a.log", logs / "b.log")
    Path(os.fsdecode(os.fsencode(logs) + b"/\xff\n.log")).write_bytes(b"y")
    (logs / "link.log").symlink_to("/etc/passwd")
    world.configure(f'paths = ["{logs}/*.log", "/no/such/*.log"]\njournal_units = ["orders.service"]')

    text, told = world.run("list"), world.run("list", "--json")

    assert text.returncode == told.returncode == 0
    lines = [" ".join(line.split()) for line in text.stdout.splitlines()]
    assert lines[0] == "journal of orders.service"
    assert f"1 bytes 0 s {logs}/\\xff\\n.log" in [line.replace("1 s", "0 s") for line in lines]
    assert f"ignored: {logs}/link.log: a symbolic link, not followed" in lines
    assert "nothing matches '/no/such/*.log'" in lines
    assert lines[-1] == (f"3 files, 2049 bytes (2.0 KiB), and the journal of 1 unit, to bucket {BUCKET}")
    shown = json.loads(told.stdout)
    assert [each["bytes"] for each in shown["files"]] == [1, 2048, 2048]
    assert base64.b64decode(shown["files"][0]["path_base64"]) == os.fsencode(logs) + b"/\xff\n.log"
    assert shown["files"][2]["same_as"] == shown["files"][1]["path"]
    assert shown["bytes"] == 2049


def test_list_looks_at_this_machine_alone(world: World) -> None:
    world.configure(f'paths = ["{world.directory}/*.toml"]')
    code = "import sys\nfrom lifecycle_agent.cli import main\ntry:\n    main()\n"
    code += "except SystemExit:\n    print(*{name.split('.')[0] for name in sys.modules})"
    words = ["--config", str(world.config), "logs", "list"]

    ended = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=True
    )

    *lines, loaded = ended.stdout.splitlines()
    assert "1 files" in lines[-1]
    assert set(loaded.split()) & {"boto3", "botocore", "requests", "ec2_metadata", "zstandard"} == set()


def test_without_a_section_there_is_an_error(world: World) -> None:
    world.config.write_text("")

    ended = world.run("list")

    assert ended.returncode == 2
    assert "logs.bucket" in ended.stderr


# Upload


def test_upload_says_what_was_left_behind(world: World) -> None:
    logs = world.directory / "logs"
    logs.mkdir()
    (logs / "a.log").write_text("a\n")
    world.configure(f'paths = ["{logs}/*"]')
    (world.directory / "state").mkdir()
    (world.directory / "state" / "report.json").mkdir()  # no file: it cannot be read

    ended = world.run("upload")

    assert ended.returncode == 1
    assert any("report.json" in line for line in ended.stdout.splitlines() if line.startswith("warning: "))
    assert ended.stdout.splitlines()[-1].startswith("saved: 1 files, 2 bytes as ")


def test_upload_outside_of_ec2(world: World) -> None:
    world.configure("")
    world.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]

    assert world.run("upload").returncode == 4


def test_upload_with_a_wrong_placeholder_or_timeout(world: World) -> None:
    world.configure('prefix = "{hostname}"')

    wrong, mistyped = world.run("upload"), world.run("upload", "--timeout", "soon")

    assert (wrong.returncode, mistyped.returncode) == (2, 2)
    assert "unknown placeholder {hostname}" in wrong.stderr
    assert "is not a duration" in mistyped.stderr


class Slow:
    """S3 that answers no PutObject of a log before it is told to."""

    def __init__(self, behind: str) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
        from urllib.error import HTTPError
        from urllib.request import Request, urlopen

        slow = self
        self.asked = threading.Event()
        self.go = threading.Event()
        self.seen: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:
                    self.close_connection = True

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                slow.seen.append(f"{self.command} {self.path}")
                if self.command == "PUT" and ".log" in self.path:
                    slow.asked.set()
                    slow.go.wait(PATIENCE)
                names = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                request = Request(behind + self.path, body or None, names, method=self.command)
                try:
                    answer = urlopen(request, timeout=PATIENCE)
                except HTTPError as error:
                    answer = error
                with answer:
                    content = answer.read()
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                            self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Slow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_upload_that_was_stopped_goes_on_in_the_same_place(
    world: World, servers: tuple[Group, Imds], how: signal.Signals
) -> None:
    logs = world.directory / "logs"
    logs.mkdir()
    (logs / "a.log").write_text("a\n")
    world.configure(f'paths = ["{logs}/*"]')
    remembered = world.directory / "state" / "upload-by-hand.json"
    with Slow(servers[0].url) as slow:
        world.environ["AWS_ENDPOINT_URL_S3"] = slow.url
        first = subprocess.Popen(
            world.command("upload"), env=world.environ, stderr=subprocess.PIPE, text=True
        )
        assert slow.asked.wait(PATIENCE)

        second = world.run("upload")
        assert second.returncode == 3
        assert f"another `logs upload` is running (process {first.pid})" in second.stderr

        first.send_signal(how)
        _, said = first.communicate(timeout=PATIENCE)
        if how is signal.SIGINT:
            assert first.returncode == 130
            assert "stopped before the end; run it again to go on where it was" in said
        place = json.loads(remembered.read_text())["time"]

        slow.go.set()
        again = world.run("upload", "--json")

    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["prefix"].endswith(f"/{place}")
    assert not remembered.exists()


@pytest.mark.parametrize(
    "change", [{"instance_id": "i-other"}, {"started": 0}, {"started": 1e12}, {"time": 7}]
)
def test_what_another_day_or_instance_remembers_is_not_gone_on_with(
    world: World, change: dict[str, Any]
) -> None:
    world.configure("")
    state = world.directory / "state"
    state.mkdir()
    known = {"instance_id": INSTANCE, "time": "2001-01-01T000000Z", "started": 0, **change}
    (state / "upload-by-hand.json").write_text(json.dumps(known))

    ended = world.run("upload", "--json")

    assert ended.returncode == 0, ended.stderr
    assert "2001-01-01" not in json.loads(ended.stdout)["prefix"]


# Progress


def test_on_a_terminal_one_line_is_painted_again_and_again(world: World, tmp_path: Path) -> None:
    world.write_manifest(*world.save({"/a.log": os.urandom(2_000_000)}))
    ours, theirs = os.openpty()
    with subprocess.Popen(
        world.command("verify", URL),
        env={**world.environ, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        until(lambda: process.poll() is not None)
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # EIO: the other side is closed
            break
        shown += block
    os.close(ours)

    assert process.returncode == 0
    assert shown.startswith(b"\r\x1b[Kreading the manifest")
    assert shown.endswith(b"\r\x1b[K")
    assert b"\n" not in shown

"""What can go wrong between an upload and S3, with a real server: mended in time, or said."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent.clients import s3 as client
from lifecycle_agent.clients.s3 import Storage
from lifecycle_agent.errors import StepFailed
from tests.contract.gateway import BUCKET, Gateway, empty, running  # noqa: F401 # fixtures
from tests.contract.proxy import Exchange, Play, sized
from tests.contract.shipper import PART, PREFIX, noise, prove, save
from tests.stage import until

pytestmark = pytest.mark.once

MANIFEST = f"{PREFIX}/manifest.json"
KINDS = {"small.log": b"a line\n" * 1000, "empty.log": b"", "large.log": noise(2 * PART + PART // 2)}


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    directory = tmp_path / "logs"
    directory.mkdir()
    for name, data in KINDS.items():
        (directory / name).write_bytes(data)
    return directory


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.001)


def manifest(s3: Gateway) -> dict[str, Any]:
    return {Path(each["source"]).name: each for each in json.loads(s3.get(MANIFEST))["files"]}


def once(play: Play) -> Play:
    """Each request is spoiled the first time."""
    spoiled: set[tuple[str, str, str]] = set()
    lock = threading.Lock()

    def first(exchange: Exchange) -> None:
        what = (exchange.operation, exchange.key, exchange.query.get("partNumber", ""))
        with lock:
            spoil = what not in spoiled
            spoiled.add(what)
        play(exchange) if spoil else exchange.through()

    return first


def slow_down(exchange: Exchange) -> None:
    exchange.refuse(503, "SlowDown")


def fail_within(exchange: Exchange) -> None:
    """Without an answer in it; the body is not even looked at."""
    exchange.answer((503, {"Content-Length": "0"}, b""))


def break_off(exchange: Exchange) -> None:
    """In the middle of the body, or before it where it is short."""
    for _ in exchange.body():
        if exchange.received > PART // 3:
            break
    exchange.reset()


def lose_the_answer(exchange: Exchange) -> None:
    exchange.ask()
    exchange.reset()


def cut_the_answer(exchange: Exchange) -> None:
    exchange.answer(exchange.ask(), most=20)


def confess(exchange: Exchange) -> None:
    """An error with the status 200, as S3 answers when it found out after the status was sent."""
    for _ in exchange.body():
        pass
    data = b'<?xml version="1.0"?>\n<Error><Code>InternalError</Code><Message>sorry</Message></Error>'
    exchange.answer((200, {"Content-Length": str(len(data))}, data if exchange.method != "HEAD" else b""))


def say_another_checksum(exchange: Exchange) -> None:
    status, headers, data = exchange.ask()
    for name in headers:
        if name.lower() == "x-amz-checksum-crc32":
            headers[name] = "AAAAAA=="
    data = re.sub(rb"(<ChecksumCRC32>).*(</Check)", rb"\1AAAAAA==\2", data)
    exchange.answer((status, sized(headers, data), data))


def flip_a_bit(exchange: Exchange) -> None:
    """In what is sent, on its way."""

    def flipped() -> Iterator[bytes]:
        for number, block in enumerate(exchange.body()):
            yield bytes([block[0] ^ 1]) + block[1:] if number == 0 else block

    exchange.answer(exchange.ask(flipped() if exchange.unit else None))


FAULTS = [
    slow_down,
    lambda exchange: exchange.refuse(500, "InternalError"),
    lambda exchange: exchange.refuse(503),
    fail_within,
    Exchange.reset,
    break_off,
    lose_the_answer,
    cut_the_answer,
    say_another_checksum,
    flip_a_bit,
]


@pytest.mark.parametrize("play", FAULTS)
def test_what_passes_is_mended(s3: Gateway, logs: Path, play: Play) -> None:
    s3.proxy.play = once(play)
    assert save(f"{logs}/*").warnings == ()
    prove(s3.get, KINDS)
    assert s3.unfinished() == []


@pytest.mark.parametrize(
    ("play", "said"),
    [
        (slow_down, "SlowDown"),
        (fail_within, "503"),
        (break_off, "no answer from S3"),
        (lose_the_answer, "no answer from S3"),
        (say_another_checksum, "S3 answered for .* with CRC32 'AAAAAA=='"),
        (flip_a_bit, "BadDigest"),
    ],
)
def test_what_does_not_pass_is_said(
    s3: Gateway, logs: Path, monkeypatch: pytest.MonkeyPatch, play: Play, said: str
) -> None:
    monkeypatch.setattr(client, "RETRY_SECONDS", 0.3)
    s3.proxy.play = play
    with pytest.raises(StepFailed, match=f"no logs saved: .*{said}") as caught:
        save(f"{logs}/*")
    assert caught.value.hint


def test_an_error_in_an_answer_that_began_well_is_mended(s3: Gateway, logs: Path) -> None:
    spoil = once(confess)
    s3.proxy.play = lambda exchange: spoil(exchange) if exchange.method == "POST" else exchange.through()
    assert save(f"{logs}/*").warnings == ()
    prove(s3.get, KINDS)


# --- what is refused


def test_some_keys_that_are_denied_are_named_and_the_others_are_saved(s3: Gateway, logs: Path) -> None:
    for number in range(30):
        (logs / f"allowed{number}.log").write_text("x\n")
    s3.proxy.play = lambda exchange: (
        exchange.through()
        if "allowed" in exchange.key or exchange.key == MANIFEST
        else exchange.refuse(403, "AccessDenied")
    )
    done = save(f"{logs}/*", first=(f"{logs}/large*", f"{logs}/small*"))
    assert (done.data["files"], done.data["incomplete"]) == (30, 3)
    for name in KINDS:
        assert "access denied (AccessDenied)" in manifest(s3)[name]["why"]


def test_where_all_is_denied_it_is_not_tried_for_long(s3: Gateway, logs: Path) -> None:
    for number in range(100):
        (logs / f"{number}.log").write_text("x\n")
    s3.proxy.play = lambda exchange: exchange.refuse(403, "AccessDenied")
    with pytest.raises(StepFailed, match=r"no logs saved: .*access denied") as caught:
        save(f"{logs}/*")
    assert "s3:PutObject" in caught.value.hint
    assert len(s3.proxy.seen) < 30


def test_credentials_that_have_expired_are_looked_for_anew(
    s3: Gateway, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = os.environ["AWS_ACCESS_KEY_ID"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "old")

    def expire(exchange: Exchange) -> None:
        if "Credential=old/" in exchange.headers["authorization"]:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", good)
            exchange.refuse(400, "ExpiredToken")
        else:
            exchange.through()

    s3.proxy.play = expire
    assert save(f"{logs}/*").warnings == ()
    prove(s3.get, KINDS)


def test_a_wrong_secret_is_said(s3: Gateway, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StepFailed, match=r"are not accepted \(SignatureDoesNotMatch\)") as caught:
        save(f"{logs}/*")
    assert "instance profile" in caught.value.hint


def test_a_bucket_in_another_region_is_found_if_the_server_says_where_it_is(
    s3: Gateway, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert save(f"{logs}/*").warnings == ()
    assert "/eu-west-1/s3/" in s3.proxy.seen[0].headers["authorization"]
    prove(s3.get, KINDS)


def test_a_bucket_of_somebody_else_is_not_written_to(s3: Gateway, logs: Path) -> None:
    with pytest.raises(StepFailed, match="access denied"):
        save(f"{logs}/*", storage=Storage(bucket_owner="123456789012"))
    assert s3.keys() == []


# --- who does not come to an end


def hold(release: threading.Event) -> Play:
    def play(exchange: Exchange) -> None:
        release.wait(60)
        exchange.reset()

    return play


def test_a_server_that_never_answers_ends_with_the_deadline(s3: Gateway, logs: Path) -> None:
    """The step goes on to the manifest, which the server takes again, and leaves what hangs behind."""
    release = threading.Event()

    def play(exchange: Exchange) -> None:
        if "large" in exchange.key or "empty" in exchange.key:
            release.wait(60)
            exchange.reset()
        exchange.through()

    s3.proxy.play = play
    try:
        done = save(f"{logs}/*", seconds=2)
    finally:
        release.set()
    assert (done.data["files"], done.data["incomplete"]) == (1, 2)
    assert {
        name: each["why"] for name, each in manifest(s3).items() if not each["complete"]
    } == dict.fromkeys(["large.log", "empty.log"], "time ran out while it was on its way")


def test_a_server_that_answers_nobody_ends_with_the_deadline(s3: Gateway, logs: Path) -> None:
    release = threading.Event()
    s3.proxy.play = lambda exchange: exchange.reset() if release.wait(60) else None
    try:
        with pytest.raises(StepFailed, match="no logs saved"):
            save(f"{logs}/*", seconds=1.5)
    finally:
        release.set()


class Endless:
    """Answers that begin with `head` and go on until nobody listens, or beyond what may be taken of one."""

    MOST = 16 << 20  # bytes, those in sockets included

    def __init__(self, head: bytes, block: bytes) -> None:
        self._head = head
        self._block = block
        self.begun = 0
        self.written: list[int] = []

    def play(self, exchange: Exchange) -> None:
        self.begun += 1
        written = 0

        def blocks() -> Iterator[bytes]:
            nonlocal written
            yield b"HTTP/1.1 200 OK\r\n" + self._head
            while written < 1.5 * self.MOST:
                yield self._block
                written += len(self._block)

        try:
            exchange.write(blocks())
        finally:
            self.written.append(written)


@pytest.mark.parametrize(
    ("head", "block"),
    [
        (b"\r\n", b"<a>" * 20_000),
        (b"Content-Length: 9999999999999\r\n\r\n", b"<a>" * 20_000),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"ffff\r\n" + b"a" * 0xFFFF + b"\r\n"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 60_000),
        (b"", b"X-Header: something\r\n" * 3000),
        (b"X-Header: ", b"a" * 60_000),
    ],
    ids=["body", "huge body", "chunks", "size of a chunk", "headers", "header"],
)
def test_an_answer_without_end_is_not_kept(
    s3: Gateway, logs: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, block: bytes
) -> None:
    monkeypatch.setattr(client, "RETRY_SECONDS", 0.3)
    endless = Endless(head, block)
    s3.proxy.play = endless.play
    with pytest.raises(StepFailed, match="no logs saved"):
        save(f"{logs}/*", seconds=5)
    until(lambda: len(endless.written) == endless.begun)
    assert max(endless.written) < endless.MOST

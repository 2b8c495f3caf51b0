"""The emulated instance metadata service does what the real one does, and fails as asked."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import boto3
import pytest
import requests
from ec2_metadata import EC2Metadata

from lifecycle_agent.rehearsal.imds import HUGE_BYTES, TARGET_STATE, Imds, Trouble

PUT = "X-aws-ec2-metadata-token-ttl-seconds"
GET = "X-aws-ec2-metadata-token"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def imds(clock: Clock) -> Iterator[Imds]:
    with Imds("i-0abc", tags={"aws:autoscaling:groupName": "orders"}, clock=clock) as imds:
        yield imds


def token(imds: Imds, ttl: str | None = "60") -> requests.Response:
    headers = {} if ttl is None else {PUT: ttl}
    return requests.put(f"{imds.url}/latest/api/token", headers=headers, timeout=10)


def get(imds: Imds, path: str, root: str = "meta-data/") -> requests.Response:
    headers = {GET: token(imds).text}
    return requests.get(f"{imds.url}/latest/{root}{path}", headers=headers, timeout=10)


@pytest.mark.parametrize("ttl", [None, "", "0", "-1", "21601", "ten", "1.5"])
def test_a_token_without_a_proper_ttl_is_refused(imds: Imds, ttl: str | None) -> None:
    assert token(imds, ttl).status_code == 400


def test_a_token_comes_with_its_ttl(imds: Imds) -> None:
    answer = token(imds, "21600")
    assert (answer.status_code, answer.headers["X-Aws-Ec2-Metadata-Token-Ttl-Seconds"]) == (200, "21600")
    assert len(answer.text) > 40


def test_a_proxy_gets_no_token(imds: Imds) -> None:
    headers = {PUT: "60", "X-Forwarded-For": "10.0.0.1"}
    assert requests.put(f"{imds.url}/latest/api/token", headers=headers, timeout=10).status_code == 403


def test_version_one_and_foreign_tokens_are_refused(imds: Imds) -> None:
    url = f"{imds.url}/latest/meta-data/instance-id"
    assert requests.get(url, timeout=10).status_code == 401
    assert requests.get(url, headers={GET: "made-up"}, timeout=10).status_code == 401


def test_a_token_expires(imds: Imds, clock: Clock) -> None:
    headers = {GET: token(imds, "60").text}
    url = f"{imds.url}/latest/meta-data/instance-id"
    clock.now += 59
    assert requests.get(url, headers=headers, timeout=10).status_code == 200
    clock.now += 1
    assert requests.get(url, headers=headers, timeout=10).status_code == 401
    headers = {GET: token(imds, "60").text}
    imds.expire_tokens()
    assert requests.get(url, headers=headers, timeout=10).status_code == 401


def test_a_connection_ends_with_its_answer(imds: Imds) -> None:
    answer = get(imds, "instance-id")
    assert answer.headers["Connection"] == "close"
    assert answer.text == "i-0abc"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("local-ipv4", "127.0.0.1"),
        ("local-hostname", "localhost"),
        ("placement/region", "us-east-1"),
        ("placement/availability-zone", "us-east-1a"),
        ("network/interfaces/macs/", "0a:00:00:00:00:01/"),
        ("network/interfaces/macs/0a:00:00:00:00:01/local-ipv4s", "127.0.0.1"),
        ("tags/instance/", "aws:autoscaling:groupName"),
        ("tags/instance/aws:autoscaling:groupName", "orders"),
        ("iam/security-credentials/", "rehearsal"),
        ("events/maintenance/scheduled", "[]"),
    ],
)
def test_the_paths_that_are_read(imds: Imds, path: str, text: str) -> None:
    assert (get(imds, path).status_code, get(imds, path).text) == (200, text)


@pytest.mark.parametrize(
    "path", [TARGET_STATE, "spot/instance-action", "events/recommendations/rebalance", "no/such/path"]
)
def test_what_is_not_set_is_not_found(imds: Imds, path: str) -> None:
    assert get(imds, path).status_code == 404


@pytest.mark.parametrize("version", ["2009-04-04", "2021-03-23", "latest"])
def test_every_version_has_the_same(imds: Imds, version: str) -> None:
    headers = {GET: token(imds).text}
    answer = requests.get(f"{imds.url}/{version}/meta-data/instance-id", headers=headers, timeout=10)
    assert (answer.status_code, answer.text) == (200, "i-0abc")


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("", {"1.0", "2021-03-23", "latest"}),
        ("latest/", {"dynamic", "meta-data"}),
        ("latest", {"dynamic", "meta-data"}),
        ("latest/meta-data", {"instance-id", "network/"}),
        ("latest/dynamic/instance-identity/", {"document"}),
    ],
)
def test_directories_are_listed(imds: Imds, path: str, lines: set[str]) -> None:
    answer = requests.get(f"{imds.url}/{path}", headers={GET: token(imds).text}, timeout=10)
    assert lines <= set(answer.text.splitlines())


def test_only_what_is_there_is_listed(imds: Imds) -> None:
    target: list[str] = []
    imds.set(TARGET_STATE, lambda: target[0] if target else None)
    assert "autoscaling/" not in get(imds, "").text.splitlines()
    target.append("InService")
    assert "autoscaling/" in get(imds, "").text.splitlines()


def test_a_version_that_never_was_is_not_found(imds: Imds) -> None:
    headers = {GET: token(imds).text}
    url = f"{imds.url}/2021-03-24/meta-data/instance-id"
    assert requests.get(url, headers=headers, timeout=10).status_code == 404


def test_user_data_is_beside_the_metadata(imds: Imds) -> None:
    assert get(imds, "user-data", root="").status_code == 404
    imds.set("user-data", "#!/bin/sh\n")
    assert get(imds, "user-data", root="").text == "#!/bin/sh\n"
    assert "user-data" in get(imds, "", root="").text.splitlines()


def test_the_identity_document_is_beside_the_metadata(imds: Imds) -> None:
    document = json.loads(get(imds, "dynamic/instance-identity/document", root="").text)
    assert (document["instanceId"], document["region"]) == ("i-0abc", "us-east-1")
    assert "dynamic" not in get(imds, "").text


def test_without_tags_and_profile_there_are_none() -> None:
    with Imds(role=None) as imds:
        assert get(imds, "tags/instance/").status_code == 404
        assert get(imds, "iam/info").status_code == 404
        assert get(imds, "iam/security-credentials/").status_code == 404


def test_values_are_set_while_it_runs(imds: Imds, clock: Clock) -> None:
    imds.set(TARGET_STATE, "InService")
    assert get(imds, TARGET_STATE).text == "InService"
    clock.now += 5
    imds.set(TARGET_STATE, "Terminated")
    assert (imds.changed_at(), imds.first_read_at()) == (1005.0, None)
    clock.now += 2
    assert get(imds, TARGET_STATE).text == "Terminated"
    clock.now += 2
    assert get(imds, TARGET_STATE).text == "Terminated"
    assert (imds.changed_at(), imds.first_read_at()) == (1005.0, 1007.0)
    imds.set(TARGET_STATE, None)
    assert get(imds, TARGET_STATE).status_code == 404
    assert imds.requests[TARGET_STATE] == 4
    assert imds.requests["api/token"] == 4


def test_a_value_may_be_asked_each_time(imds: Imds) -> None:
    words: list[str | None] = ["Terminated", None, "InService"]
    imds.set(TARGET_STATE, lambda: words.pop())
    assert get(imds, TARGET_STATE).text == "InService"
    assert get(imds, TARGET_STATE).status_code == 404
    assert get(imds, TARGET_STATE).text == "Terminated"


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_a_status_on_demand(imds: Imds, status: int) -> None:
    imds.fail(status, path="instance-id", times=2)
    assert [get(imds, "instance-id").status_code for _ in range(3)] == [status, status, 200]


def test_an_answer_that_failed_told_nobody(imds: Imds) -> None:
    imds.set(TARGET_STATE, "Terminated")
    imds.fail(Trouble.EMPTY, times=1, path=TARGET_STATE)
    answer = get(imds, TARGET_STATE)
    assert (answer.status_code, answer.content) == (200, b"")
    assert imds.first_read_at() is None


def test_garbage(imds: Imds) -> None:
    imds.fail(Trouble.GARBAGE, path="instance-id")
    with pytest.raises(UnicodeDecodeError):
        get(imds, "instance-id").content.decode()
    imds.heal()
    assert get(imds, "instance-id").text == "i-0abc"


def test_a_huge_answer(imds: Imds) -> None:
    imds.fail(Trouble.HUGE, path="instance-id")
    assert len(get(imds, "instance-id").content) == HUGE_BYTES


def connect(imds: Imds) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", int(imds.url.rpartition(":")[2])), timeout=10)
    client.sendall(b"GET /latest/meta-data/instance-id HTTP/1.1\r\n\r\n")
    return client


def test_a_hang_lasts_until_it_is_healed(imds: Imds) -> None:
    imds.fail(Trouble.HANG, path="instance-id")
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{imds.url}/latest/meta-data/instance-id", timeout=0.2)
    with connect(imds) as client:
        while imds.requests["instance-id"] < 2:
            time.sleep(0.01)
        imds.heal()
        assert client.recv(1) == b""


def test_a_drip_is_the_right_answer_byte_by_byte(imds: Imds) -> None:
    imds.fail(Trouble.DRIP, path="instance-id")
    with connect(imds) as client:
        parts = [client.recv(1000) for _ in range(3)]
    assert b"HTTP/1.1 401 Unauthorized".startswith(b"".join(parts))


def test_a_reset(imds: Imds) -> None:
    imds.fail(Trouble.RESET, path="instance-id")
    with connect(imds) as client, pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(requests.ConnectionError):
        get(imds, "instance-id")


def test_the_library_the_agent_uses_reads_it(imds: Imds) -> None:
    metadata = EC2Metadata()
    metadata.service_url = f"{imds.url}/latest/"
    metadata.metadata_url = f"{imds.url}/latest/meta-data/"
    metadata.dynamic_url = f"{imds.url}/latest/dynamic/"
    assert (metadata.instance_id, metadata.region, metadata.account_id) == (
        "i-0abc",
        "us-east-1",
        "123456789012",
    )
    assert metadata.tags["aws:autoscaling:groupName"] == "orders"
    assert [each.private_ipv4s for each in metadata.network_interfaces.values()] == [["127.0.0.1"]]
    assert metadata.iam_info is not None
    assert metadata.autoscaling_target_lifecycle_state is None
    imds.set(TARGET_STATE, "Terminated")
    metadata.clear_all()
    assert metadata.autoscaling_target_lifecycle_state == "Terminated"


def test_an_sdk_finds_its_credentials_there(imds: Imds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url)
    credentials = boto3.Session().get_credentials()
    assert credentials is not None
    assert credentials.method == "iam-role"
    assert credentials.get_frozen_credentials().access_key == "ASIA0000000000000000"

"""No answer of the metadata service, and no silence, can hold, mislead or break the watcher."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import MetadataUnavailableError
from lifecycle_agent.model import Machine, Observation, TargetState
from lifecycle_agent.rehearsal.imds import HUGE_BYTES, TARGET_STATE, TOKEN, Imds, Trouble
from lifecycle_agent.watch.imds import OBSERVE_SECONDS, MetadataClient

# The promise is 2 s; a machine that is busy with other tests may be late to notice that they are over.
GENEROUS = 2.0 + 8.0

IN_SERVICE = Observation(TargetState.IN_SERVICE)


@pytest.fixture
def imds() -> Iterator[Imds]:
    with Imds("i-0abc", local_ipv4="10.0.0.7", local_hostname="IP-10-0-0-7.ec2.internal") as imds:
        imds.set(TARGET_STATE, "InService")
        yield imds


@pytest.fixture
def client(imds: Imds) -> MetadataClient:
    return client_of(imds)


def client_of(imds: Imds) -> MetadataClient:
    return MetadataClient({"AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url + "/"})


@pytest.mark.parametrize("word", list(TargetState))
def test_documented_words(imds: Imds, client: MetadataClient, word: TargetState) -> None:
    imds.set(TARGET_STATE, word.value)
    assert client.observe() == Observation(word)
    imds.set(TARGET_STATE, word.value + "\n")
    assert client.observe() == Observation(word)


def test_nothing_said_yet(imds: Imds, client: MetadataClient) -> None:
    imds.set(TARGET_STATE, None)
    assert client.observe() == Observation(None)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "terminated", "TERMINATED", "Terminating", "Terminated:Wait", "Terminated Terminated"),
        *('"Terminated"', "<html>Terminated</html>", "null", "Terminated\0", "Ｔerminated"),
        "Terminated" * 5000,
    ],
    ids=lambda text: repr(text[:30]),
)
def test_no_other_word_means_anything(imds: Imds, client: MetadataClient, text: str) -> None:
    imds.set(TARGET_STATE, text)

    seen = client.observe()

    assert seen.target is None
    assert "no documented word" in seen.problem or "cannot be used" in seen.problem
    assert seen.problem.isprintable()
    assert len(seen.problem) < 200


FAULTS: list[tuple[Trouble | int, str, str]] = [
    (401, "", "answers with HTTP 401"),
    (401, TARGET_STATE, "answers with HTTP 401"),
    (403, "", "answers with HTTP 403"),
    (404, TOKEN, "answers with HTTP 404"),
    (302, TARGET_STATE, "answers with HTTP 302"),
    (204, TARGET_STATE, "answers with HTTP 204"),
    (429, "", "answers with HTTP 429"),
    (429, TARGET_STATE, "answers with HTTP 429"),
    (500, TARGET_STATE, "answers with HTTP 500"),
    (503, "", "answers with HTTP 503"),
    (503, TARGET_STATE, "answers with HTTP 503"),
    (Trouble.EMPTY, TARGET_STATE, "the target lifecycle state is '', which is no documented word"),
    (Trouble.EMPTY, TOKEN, "answers with HTTP 401"),
    (Trouble.GARBAGE, "", "gives an answer that cannot be used"),
    (Trouble.GARBAGE, TARGET_STATE, "gives an answer that cannot be used"),
    (Trouble.HUGE, "", "gives an answer that cannot be used"),
    (Trouble.HUGE, TARGET_STATE, "gives an answer that cannot be used"),
    (Trouble.RESET, "", "closes the connection without an answer"),
    (Trouble.RESET, TARGET_STATE, "closes the connection without an answer"),
]


@pytest.mark.parametrize("target", ["InService", "Terminated"])
@pytest.mark.parametrize(("kind", "path", "problem"), FAULTS)
def test_a_fault_is_a_problem_and_passes(
    imds: Imds, client: MetadataClient, kind: Trouble | int, path: str, problem: str, target: str
) -> None:
    imds.set(TARGET_STATE, target)
    imds.fail(kind, path)
    for _ in range(2):
        seen = client.observe()
        assert seen.target is None
        assert problem in seen.problem

    imds.heal()
    assert client.observe() == Observation(TargetState(target))


@pytest.mark.parametrize("path", ["", TARGET_STATE], ids=["at the start", "later"])
@pytest.mark.parametrize("kind", [Trouble.HANG, Trouble.DRIP])
def test_silence_is_not_waited_out(imds: Imds, client: MetadataClient, kind: Trouble, path: str) -> None:
    if path:
        assert client.observe() == IN_SERVICE
    imds.fail(kind, path)

    began = time.monotonic()
    seen = client.observe()
    took = time.monotonic() - began

    assert seen.target is None
    assert seen.problem.endswith("does not answer")
    assert took < GENEROUS
    imds.heal()
    assert client.observe() == IN_SERVICE


def test_a_huge_answer_is_not_read_to_its_end(imds: Imds, client: MetadataClient) -> None:
    client.observe()
    imds.fail(Trouble.HUGE)
    tracemalloc.start()
    try:
        client.observe()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < HUGE_BYTES / 16


def test_the_budget_is_within_the_promise() -> None:
    assert OBSERVE_SECONDS < 2.0


def test_the_budget_holds_for_all_requests_of_one_question_together(
    imds: Imds, client: MetadataClient
) -> None:
    """Six requests of a machine that is slow to answer would take six times as long, each with its own."""
    imds.fail(Trouble.DRIP)
    time_left = Deadline.after(0.5)

    with pytest.raises(MetadataUnavailableError, match="does not answer"):
        client.machine(time_left)
    assert client.observe(time_left).problem.endswith("does not answer")

    assert sum(imds.requests.values()) == 1


def test_a_service_that_is_not_there() -> None:
    client = MetadataClient({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"})
    problem = (
        "the instance metadata service at http://127.0.0.1:1 cannot be connected to (Connection refused)"
    )
    assert client.observe() == Observation(None, problem)
    with pytest.raises(MetadataUnavailableError) as caught:
        client.machine()
    assert (caught.value.message, caught.value.exit_code) == (problem, 4)


@pytest.mark.parametrize("endpoint", ["http://", "ftp://127.0.0.1:1", "http://127.0.0.1:99999"])
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    seen = MetadataClient({"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint}).observe()
    assert (seen.target, bool(seen.problem)) == (None, True)


def test_a_refused_token_is_replaced_at_once(imds: Imds, client: MetadataClient) -> None:
    assert client.observe() == IN_SERVICE
    imds.expire_tokens()
    assert client.observe() == IN_SERVICE
    imds.fail(401, TARGET_STATE, times=1)
    assert client.observe() == IN_SERVICE


@pytest.mark.parametrize("token", ["two\nlines", "x" * 60_000, "naïve €", "\0"])
def test_a_token_that_cannot_be_sent_is_not_kept(imds: Imds, token: str) -> None:
    good = imds.token
    imds.token = lambda ttl: token  # type: ignore[method-assign]
    client = client_of(imds)
    assert client.observe().target is None

    imds.token = good  # type: ignore[method-assign]
    assert client.observe() == IN_SERVICE


def test_one_token_lasts(imds: Imds, client: MetadataClient) -> None:
    for _ in range(20):
        assert client.observe() == IN_SERVICE
    assert imds.requests == {TOKEN: 1, TARGET_STATE: 20}


def test_no_connection_leaks_through_hundreds_of_faults(imds: Imds, client: MetadataClient) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def settled(most: int) -> bool:  # the emulated service is in this process and closes its ends by and by
        give_up = time.monotonic() + 10
        while descriptors() > most and time.monotonic() < give_up:
            time.sleep(0.01)
        return descriptors() <= most

    client.observe()
    before = descriptors()
    kinds: list[Trouble | int] = [401, 404, 429, 500, Trouble.EMPTY, Trouble.GARBAGE, Trouble.RESET]
    for number in range(500):
        imds.fail(kinds[number % len(kinds)], TARGET_STATE if number % 2 else "", times=1)
        client.observe()
        imds.heal()
    for kind in (Trouble.HANG, Trouble.DRIP, Trouble.HUGE):
        for _ in range(5):
            imds.fail(kind)
            client.observe(Deadline.after(0.05))
            imds.heal()

    assert client.observe() == IN_SERVICE
    assert settled(before + 2), os.listdir("/proc/self/fd")


def test_the_machine(imds: Imds, client: MetadataClient) -> None:
    assert client.machine() == Machine(
        "i-0abc", "us-east-1", ("10.0.0.7",), ("ip-10-0-0-7.ec2.internal",), group=None
    )


def test_the_group_where_tags_are_in_the_metadata() -> None:
    with Imds(tags={"Name": "x", "aws:autoscaling:groupName": "orders"}) as imds:
        assert client_of(imds).machine().group == "orders"
    with Imds(tags={"Name": "x"}) as imds:
        assert client_of(imds).machine().group is None


@pytest.mark.parametrize("kind", [404, 429, 500, Trouble.EMPTY, Trouble.GARBAGE, Trouble.RESET])
def test_the_group_can_be_asked_for_elsewhere(
    imds: Imds, client: MetadataClient, kind: Trouble | int
) -> None:
    imds.fail(kind, "tags/")
    assert client.machine().group is None


def test_several_domain_names(imds: Imds, client: MetadataClient) -> None:
    imds.set("local-hostname", "ip-10-0-0-7.One.example two.example")
    assert client.machine().host_names == ("ip-10-0-0-7.one.example",)


def test_a_machine_without_ipv4_or_name(imds: Imds, client: MetadataClient) -> None:
    imds.set("local-ipv4", None)
    imds.set("local-hostname", None)
    machine = client.machine()
    assert (machine.addresses, machine.host_names) == ((), ())


NEEDED = ["instance-id", "dynamic/instance-identity/document", "local-ipv4", "local-hostname"]


@pytest.mark.parametrize("path", NEEDED)
@pytest.mark.parametrize("kind", [429, 500, Trouble.EMPTY, Trouble.GARBAGE, Trouble.HUGE, Trouble.RESET])
def test_a_machine_that_is_not_sure_who_it_is_asks_again(
    imds: Imds, client: MetadataClient, path: str, kind: Trouble | int
) -> None:
    imds.fail(kind, path, times=1)
    with pytest.raises(MetadataUnavailableError) as caught:
        client.machine()
    assert caught.value.exit_code == 4

    assert client.machine().instance_id == "i-0abc"


@pytest.mark.parametrize("document", ["[]", "17", "{}", '{"region": 5}', '{"region": ""}', "[" * 60_000])
def test_an_identity_document_that_makes_no_sense(imds: Imds, client: MetadataClient, document: str) -> None:
    path = "dynamic/instance-identity/document"
    right = imds.look_up(path)
    imds.set(path, document)
    with pytest.raises(MetadataUnavailableError, match="cannot be used"):
        client.machine()

    imds.set(path, right)
    assert client.machine().region == "us-east-1"


Ask = Callable[[MetadataClient], object]


@pytest.mark.parametrize("ask", [lambda client: client.observe(), lambda client: client.machine()])
def test_a_proxy_is_not_asked(imds: Imds, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    ask(client_of(imds))
    assert imds.requests[TOKEN] == 1

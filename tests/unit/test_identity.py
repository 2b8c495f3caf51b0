"""Which machine this is where the metadata service is closed."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lifecycle_agent.clients import identity
from lifecycle_agent.clients.identity import ASSET_TAG, CLOUD_INIT, VARIABLE, machine_itself
from lifecycle_agent.errors import MetadataUnavailableError
from lifecycle_agent.model import Machine

ONE, TWO, THREE = "i-0123456789abcdef1", "i-0123456789abcdef2", "i-01234563"


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.fixture(autouse=True)
def _no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses of the machine that the tests run on are its own business."""
    monkeypatch.setattr(identity, "SOMEWHERE", "127.0.0.1")


@pytest.mark.parametrize(
    ("variable", "board", "cloud_init", "expected"),
    [
        (ONE, f"{TWO}\n", f"{THREE}\n", ONE),
        ("", f"{TWO}\n", f"{THREE}\n", TWO),
        ("", "Not Specified\n", f"{THREE}\n", THREE),
        ("", None, f"{THREE}\n", THREE),
        ("mi-0123456789abcdef1", f"{TWO}\n", None, TWO),  # a machine of Systems Manager's hybrid activations
        ("i-012; reboot", f"{TWO}\n", None, TWO),
        (None, f"{TWO}\n", None, TWO),
    ],
)
def test_the_first_that_says_an_instance_id(
    tmp_path: Path, variable: str | None, board: str | None, cloud_init: str | None, expected: str
) -> None:
    for name, text in ((ASSET_TAG, board), (CLOUD_INIT, cloud_init)):
        if text is not None:
            put(tmp_path, name, text)

    machine = machine_itself("eu-west-1", [], {} if variable is None else {VARIABLE: variable}, tmp_path)

    assert (machine.instance_id, machine.region) == (expected, "eu-west-1")


@pytest.mark.parametrize("text", ["", "\n", "iid-local01\n", "x" * 5000, f" {ONE} {TWO}", "i-\xe9"])
def test_what_says_nothing_is_exit_code_4(tmp_path: Path, text: str) -> None:
    put(tmp_path, ASSET_TAG, text)
    put(tmp_path, CLOUD_INIT, text)

    with pytest.raises(MetadataUnavailableError) as caught:
        machine_itself("eu-west-1", [], {}, tmp_path)

    assert caught.value.exit_code == 4
    assert VARIABLE in caught.value.hint


def test_something_else_than_a_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / ASSET_TAG).mkdir(parents=True)
    put(tmp_path, CLOUD_INIT, ONE)

    assert machine_itself("eu-west-1", [], {}, tmp_path).instance_id == ONE


def test_an_address_that_every_machine_has_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a name that all machines from one image may have."""
    monkeypatch.setattr(socket, "gethostname", lambda: "orders")
    here = machine_itself(
        "eu-west-1", ["http://127.0.0.1:8761/eureka", "http://nowhere.invalid/"], {VARIABLE: ONE}, tmp_path
    )

    assert here == Machine(ONE, "eu-west-1")


@pytest.mark.parametrize(
    "name", ["ip-10-0-0-7", "IP-10-0-0-7.ec2.internal", f"{ONE}.eu-west-1.compute.internal"]
)
def test_the_name_that_ec2_gives_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    monkeypatch.setattr(identity, "_towards", lambda host: "10.0.0.7")

    here = machine_itself(
        "eu-west-1", ["http://eureka-a:8761/eureka", "http://eureka-b/"], {VARIABLE: ONE}, tmp_path
    )

    assert here == Machine(ONE, "eu-west-1", ("10.0.0.7",), (name.lower(),))


def test_another_machines_name_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        socket, "gethostname", lambda: "ip-10-0-0-8.ec2.internal"
    )  # of the machine the image is of
    monkeypatch.setattr(identity, "_towards", lambda host: "10.0.0.7")

    assert machine_itself("eu-west-1", [], {VARIABLE: ONE}, tmp_path).host_names == ()

"""What logs are called in the bucket: keys that are each their own, and lead nowhere else."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.steps.logs import keys
from lifecycle_agent.steps.logs.items import Extra, Items
from lifecycle_agent.steps.logs.pack import CODECS
from lifecycle_agent.steps.logs.select import Found, select

VALUES = {"group": "orders", "instance_id": "i-1", "time": "20260102T030405Z"}

# What file systems take, and what is most likely to go wrong in it.
TRICKY = st.sampled_from(
    [
        b"..",
        b".",
        b"~",
        b"%2e%2e",
        b"%252E",
        b"%2F",
        b"..%2f..",
        b"\\",
        b"\n",
        b"\xff",
        b"A",
        b"a",
        b" ",
        b"~~",
    ]
)
NAME = st.one_of(
    st.lists(TRICKY, min_size=1, max_size=4).map(b"".join), st.binary(min_size=1, max_size=255)
).map(lambda raw: os.fsdecode(raw.replace(b"/", b"_").replace(b"\0", b"_")))
PATH = st.lists(NAME, min_size=1, max_size=8).map("/".join)


def is_safe(key: str, prefix: str) -> None:
    """Whatever a tool makes of the key by decoding it, it is below the prefix."""
    assert key.isascii()
    assert key.isprintable()
    assert len(key) <= 1024
    shape = [part in ("", ".", "..") for part in key.split("/")]
    for _ in range(4):
        assert key.startswith(f"{prefix}/")
        assert "\\" not in key
        assert [part in ("", ".", "..") for part in key.split("/")] == shape == [False] * len(shape)
        key = unquote(key, errors="surrogateescape")


@given(st.lists(PATH, unique=True, max_size=20), st.sampled_from(["", ".zst"]))
@example(["~", "%7E", "..", "..~", "%2E%2E", "a/b", "a%2Fb", "a\\b", "a~2Fb"], "")
def test_any_name_has_a_key_of_its_own_below_the_prefix(names: list[str], suffix: str) -> None:
    made = [keys.key("p", "files", name, suffix) for name in names]
    assert len(set(made)) == len(names)
    for key in made:
        is_safe(key, "p/files")
        assert key.endswith(suffix)


@given(PATH)
def test_a_key_can_be_read_back(name: str) -> None:
    key = keys.key("p", "files", name, "")
    parts = [keys.decoded(part) for part in key.removeprefix("p/files/").split("/")]
    assert "~~" in key or parts == os.fsencode(name).split(b"/")


@given(st.lists(PATH, unique=True, max_size=10), st.sampled_from(["zstd", "gzip", "none"]))
@example(["a", "a.zst", "a.zst.zst"], "zstd")
def test_no_two_items_share_a_key(names: list[str], compression: str) -> None:
    items = Items("p", CODECS[compression], Deadline.after(60))
    items.extras([Extra("report.json", b"")])
    items.journal(["files.service", r"a\x2db.service"])
    items.files([Found("/", tuple(name.split("/")), 0) for name in names])
    assert len({item.key for item in items.all}) == len(names) + 3
    for item in items.all:
        is_safe(item.key, "p")


def test_names_of_the_largest_size_keep_within_the_limit() -> None:
    values = {**VALUES, "group": "ü" * 255}
    prefix = keys.prefix("{group}" * 36, values)
    assert len(prefix) == 512
    assert prefix != keys.prefix("{group}" * 36, {**values, "instance_id": "i-2"})
    name = "/".join(["\n" * 255] * 16)
    key = keys.key(prefix, "files", name, ".zst")
    assert len(key) == 1024
    assert key.startswith(f"{prefix}/files/%0A")
    assert key.endswith(".zst")
    assert key != keys.key(prefix, "files", name + "x", ".zst")


def test_no_name_can_be_made_for_the_key_of_a_long_one() -> None:
    """Were the hash behind a single `~`, a name with `%` in the right place would have the same key."""
    long = (keys.key("p", "files", f"{number}{'x' * 1100}", "") for number in itertools.count())
    cut = next(key for key in long if key.rpartition("~")[2].startswith("25"))
    twin = os.fsdecode(keys.decoded(cut.removeprefix("p/files/")))
    assert keys.key("p", "files", twin, "") != cut


def test_a_key_reads_like_the_path() -> None:
    assert keys.key("p", "files", "/var/log/a b-1_2.log", ".zst") == "p/files/var/log/a%20b-1_2.log.zst"
    assert keys.key("p", "agent", "../../x/./y", "") == "p/agent/..~/..~/x/.~/y"


def test_the_prefix_is_unique_and_cannot_be_left() -> None:
    assert keys.prefix("asg/{group}/{instance_id}/{time}", VALUES) == "asg/orders/i-1/20260102T030405Z"
    assert keys.prefix("/x/", VALUES) == "x/i-1/20260102T030405Z"
    assert keys.prefix("{group}/x", {**VALUES, "group": "../a/b"}).startswith("..~2Fa~2Fb/x/i-1/")
    assert keys.prefix("{group}/x", {**VALUES, "group": ".."}).startswith("..~/x/i-1/")


# --- items


def test_a_file_with_two_names_goes_once(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x")
    os.utime(tmp_path / "a.log", ns=(1, 1))
    os.link(tmp_path / "a.log", tmp_path / "b.log")
    (tmp_path / "c.log").write_text("x")
    os.utime(tmp_path / "c.log", ns=(1, 1))
    (tmp_path / "also").symlink_to(".")
    items = Items("p", CODECS["zstd"], Deadline.after(60))
    items.files(select([f"{tmp_path}/*.log", f"{tmp_path}/also/a.*"]).files)
    first, again, third, other = items.all
    assert first.source == f"{tmp_path}/a.log"
    assert [item.same_as for item in (first, again, third, other)] == ["", first.source, first.source, ""]
    assert {again.source, third.source} == {f"{tmp_path}/also/a.log", f"{tmp_path}/b.log"}
    assert again.key == third.key == first.key != other.key
    assert [item.size for item in items.all] == [1, 0, 0, 1]


@pytest.mark.parametrize("name", ["a.gz", "a.log.ZST", "b.tar.xz"])
def test_what_is_compressed_is_left_as_it_is(name: str) -> None:
    items = Items("p", CODECS["zstd"], Deadline.after(60))
    items.files([Found("/", (name,), 0)])
    assert (items.all[0].codec.name, items.all[0].key) == ("none", f"p/files/{name}")


def test_a_journals_key_says_its_format() -> None:
    items = Items("p", CODECS["zstd"], Deadline.after(60), 3600, "json")
    items.journal(["a.service"])
    assert items.all[0].key == "p/journal/a.service.json.zst"
    assert items.all[0].source == "journal of a.service"

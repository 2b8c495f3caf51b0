"""What an upload remembers: true, or forgotten."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.record import Begun, Record, SentPart

ENTRY = Entry("a", "ka", 1, complete=True)
PART = SentPart(1, 0, 10, "sha", 5, 1, "etag")


def test_it_survives_torn_lines_and_belongs_to_one_place(tmp_path: Path) -> None:
    path = tmp_path / "record"
    other = Entry("b", "kb", 2)
    begun, ended = Begun("id", "kc"), Begun("other", "kd")
    record = Record(path, "here")
    record.done("1", ENTRY)
    record.begin(begun)
    record.made(begun, 1, True)
    record.part(begun, PART)
    record.begin(ended)
    with path.open("ab") as file:
        file.write(b'{"identity": "torn", "ent')
    again = Record(path, "here")
    again.done("2", other)
    again.end(ended.key)
    last = Record(path, "here")
    assert last.sent == {("ka", "1"): ENTRY, ("kb", "2"): other}
    assert last.begun == {"kc": Begun("id", "kc", {1: PART}, {1: True})}
    assert last.in_parts == {"kc", "kd"}
    assert Record(path, "elsewhere").sent == {}
    assert Record(path, "here").sent == {}


def test_cut_off_anywhere_it_knows_what_is_before(tmp_path: Path) -> None:
    """As a process leaves it that is killed, or a disk that is full: never anything that is not so."""
    path = tmp_path / "record"
    begun = Begun("id", "kc")
    record = Record(path, "here")
    record.begin(begun)
    record.made(begun, 1, True)
    record.part(begun, PART)
    record.done("1", ENTRY)
    record.end("kc")
    data = path.read_bytes()
    seen = []
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        cut = Record.look(path, "here")
        assert cut.sent in ({}, {("ka", "1"): ENTRY})
        assert cut.begun.get("kc", begun).parts in ({}, {1: PART})
        seen.append((len(cut.begun), len(cut.sent)))
    assert sorted(set(seen), key=seen.index) == [(0, 0), (1, 0), (1, 1), (0, 1)]


def test_the_end_of_what_was_never_begun_is_not_written(tmp_path: Path) -> None:
    record = Record(tmp_path / "record", "here")
    size = record.size()
    record.end("k")
    assert record.size() == size


def test_what_has_no_identity_is_not_remembered(tmp_path: Path) -> None:
    """A journal, for example: nobody knows whether it still is the same."""
    Record(tmp_path / "record", "here").done("", ENTRY)
    assert Record(tmp_path / "record", "here").sent == {}


@pytest.mark.parametrize("name", ["no/directory", "fifo", "."])
def test_where_nothing_can_be_written_that_is_all(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    record = Record(tmp_path / name, "here")
    record.begin(Begun("id", "k"))
    record.done("1", ENTRY)
    assert record.lost
    assert record.begun.keys() == {"k"}


NAMES = ["place", "begin", "made", "part", "end", "key", "identity", "entry", "number", "hard"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["here", "id", "k", "", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
LINES = st.dictionaries(
    st.sampled_from([*NAMES, *SentPart.__dataclass_fields__, *Entry.__dataclass_fields__]), VALUES
)


@given(st.lists(LINES | VALUES, max_size=12))
def test_lines_that_make_no_sense_are_passed_over(
    tmp_path_factory: pytest.TempPathFactory, lines: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("record") / "record"
    begin = {"begin": "id", "key": "k"}
    path.write_text("\n".join(map(json.dumps, [{"place": "here"}, begin, *lines])))
    record = Record(path, "here")
    for (key, identity), entry in record.sent.items():
        assert isinstance(key + identity + entry.source + entry.why, str)
        assert isinstance(entry.bytes + entry.stored_bytes, int)
    for key, begun in record.begun.items():
        assert isinstance(key + begun.key + begun.upload_id, str)
        for number, part in begun.parts.items():
            assert isinstance(number + part.number + part.start + part.end + part.stored_bytes, int)
            assert isinstance(part.etag + part.sha256, str)


def test_what_nobody_needs_is_forgotten_when_it_has_grown_large(tmp_path: Path) -> None:
    path = tmp_path / "record"
    record = Record(path, "here")
    begun = Begun("id", "k")
    record.begin(begun)
    record.part(begun, PART)
    for number in range(5000):
        record.done(str(number), Entry(f"source {number}", f"key {number}"))
    again = Record(path, "here")
    size = again.size()
    again.keep({"7"})
    assert again.size() < size / 100
    last = Record(path, "here")
    assert set(last.sent) == {("key 7", "7")}
    assert last.begun == {"k": Begun("id", "k", {1: PART})}

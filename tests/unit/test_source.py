"""Where the bytes of a log come from: files that are rotated, grow, shrink and vanish while they are read."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from pathlib import Path

import pytest

from lifecycle_agent.steps.logs import source as source_module
from lifecycle_agent.steps.logs.select import Found, select
from lifecycle_agent.steps.logs.source import LINE_LIMIT, BytesSource, FileSource, Unreadable, open_extra


def find(path: Path) -> Found:
    (found,) = select([str(path)]).files
    return found


def read_all(source: FileSource, size: int = 8) -> bytes:
    chunks = list(iter(lambda: source.read(size), b""))
    assert all(len(chunk) <= size for chunk in chunks)
    assert source.read(size) == b""
    return b"".join(chunks)


def saved(found: Found) -> tuple[bytes, str]:
    """The content and the note."""
    source = FileSource(found)
    try:
        return read_all(source), source.note
    finally:
        source.close()


# --- what is opened


def test_a_pipe_or_socket_put_in_a_files_place_hangs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("x")
    found = find(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Unreadable, match="is a pipe"):
        FileSource(found)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        with pytest.raises(Unreadable, match="is a socket"):
            FileSource(found)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(Unreadable, match="is a symbolic link"):
        FileSource(found)


def test_a_pipe_put_there_in_the_last_moment_hangs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.log"
    path.write_text("x")
    found = find(path)
    check = source_module._check

    def swap(status: os.stat_result) -> None:
        """Between the look at it and the opening."""
        check(status)
        path.unlink()
        os.mkfifo(path)

    monkeypatch.setattr(source_module, "_check", swap)
    with pytest.raises(Unreadable, match="is a pipe"):
        FileSource(found)


def test_a_device_is_not_opened(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a device")
    path = tmp_path / "a.log"
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 9))  # urandom: it would never end
    except PermissionError:
        pytest.skip("no devices can be made in this container")
    assert select([f"{tmp_path}/*"]).ignored == {str(path): "a device"}
    with pytest.raises(Unreadable, match="is a device"):
        FileSource(Found(str(tmp_path), ("a.log",), 0))


def test_a_directory_swapped_for_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "logs" / "app").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.log").write_text("secret")
    (tmp_path / "logs" / "app" / "a.log").write_text("log")
    (found,) = select([f"{tmp_path}/logs/**/*.log"]).files
    (tmp_path / "logs" / "app").rename(tmp_path / "logs" / "gone")
    (tmp_path / "logs" / "app").symlink_to(tmp_path / "secret")
    with pytest.raises(Unreadable, match="cannot be opened"):
        FileSource(found)


def test_nothing_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("x")
    found = find(path)
    before = os.listdir("/proc/self/fd")
    saved(found)
    path.rename(tmp_path / "a.log.1")
    saved(found)
    path.write_text("another")
    saved(found)
    os.truncate(tmp_path / "a.log.1", 0)
    saved(found)
    path.unlink()
    path.mkdir()
    with pytest.raises(Unreadable, match="is a directory"):
        FileSource(found)
    assert os.listdir("/proc/self/fd") == before


# --- rotation


def test_a_file_rotated_after_it_was_listed_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("before\n")
    found = find(path)
    path.rename(tmp_path / "a.log.1")
    assert saved(found) == (b"before\n", "was renamed to 'a.log.1' after it was listed")
    path.write_text("after\n")
    assert saved(found) == (b"before\n", "was renamed to 'a.log.1' after it was listed")


def test_where_it_is_gone_the_one_with_its_name_is_saved_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("before\n")
    found = find(path)
    path.rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")  # or compressed: its inode is not there
    path.write_text("after\n")
    assert saved(found) == (
        b"after\n",
        "another file took its name after it was listed, and is what was saved",
    )
    path.unlink()
    with pytest.raises(Unreadable, match="cannot be opened: No such file"):
        FileSource(found)


def test_a_number_used_again_makes_no_other_file_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("before\n")
    found = find(path)
    path.rename(tmp_path / "new")
    os.truncate(tmp_path / "new", 3)  # what a new file with the old one's number looks like
    with pytest.raises(Unreadable, match="No such file"):
        FileSource(found)


def test_a_file_that_nobody_looked_at_is_opened_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("{}")
    source = open_extra(tmp_path / "journal")
    assert (source.read(10), source.note) == (b"{}", "")
    source.close()
    assert isinstance(open_extra(b"x"), BytesSource)


# --- growing and shrinking


@pytest.mark.parametrize("size", [1, 8, 1 << 20])
@pytest.mark.parametrize(
    ("before", "after", "content"),
    [
        (b"one\ntw", b"o\nthree\n", b"one\ntwo\n"),
        (b"one\n", b"two\n", b"one\n"),
        (b"one\ntw", b"", b"one\ntw"),
        (b"one\ntw", b"o without an end", b"one\ntw"),
        (b"", b"one\n", b""),
        (b"x", b"y" * (LINE_LIMIT - 1) + b"\nz\n", b"x" + b"y" * (LINE_LIMIT - 1) + b"\n"),
        (b"x", b"y" * LINE_LIMIT + b"\nz\n", b"x"),
    ],
)
def test_a_file_that_grows_is_cut_at_a_whole_line(
    tmp_path: Path, before: bytes, after: bytes, content: bytes, size: int
) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(before)
    source = FileSource(find(path))
    with path.open("ab") as writer:
        writer.write(after)
    assert read_all(source, size) == content
    source.close()


def test_to_read_nothing_is_not_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x")
    source = FileSource(find(tmp_path / "a.log"))
    assert [source.read(0), source.read(1), source.read(0)] == [b"", b"x", b""]
    source.close()


def test_a_file_that_shrinks_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 100)
    source = FileSource(find(path))
    os.truncate(path, 10)
    with pytest.raises(Unreadable, match="shrank from 100 to 10"):
        read_all(source)
    source.close()


def test_a_file_emptied_and_written_again_is_said(tmp_path: Path) -> None:
    """copytruncate: everything was read, and yet it may be none of what was there at first."""
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 100)
    source = FileSource(find(path))
    assert len(source.read(100)) == 100
    path.write_bytes(b"new\n")
    with pytest.raises(Unreadable, match="shrank from 100 to 4"):
        source.read(100)
    source.close()


# --- kinds of files


def test_empty_and_sparse_files_are_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert saved(find(tmp_path / "empty")) == (b"", "")
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.write(b"begin")
        file.seek(64 << 20)
        file.write(b"end\n")
    assert sparse.stat().st_blocks * 512 < 1 << 20
    source, seen = FileSource(find(sparse)), hashlib.sha256()
    while chunk := source.read(256 << 10):
        seen.update(chunk)
    source.close()
    assert seen.digest() == hashlib.sha256(b"begin" + bytes((64 << 20) - 5) + b"end\n").digest()


def test_a_file_of_a_tebibyte_costs_nothing_to_begin(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.touch()
    try:
        os.truncate(path, 1 << 40)
    except OSError:
        pytest.skip("the file system takes no file as large as that")
    source = FileSource(find(path))
    assert source.read(256 << 10) == bytes(256 << 10)
    source.close()


def test_a_file_that_says_nothing_of_its_size_is_empty() -> None:
    assert saved(find(Path("/proc/version"))) == (b"", "")


def test_identity_is_of_the_content_and_inode_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("a")
    os.utime(path, ns=(1, 1))
    first = FileSource(find(path))
    again = FileSource(find(path))
    with path.open("a") as writer:
        writer.write("b")
    grown = FileSource(find(path))
    status = path.stat()
    assert first.identity == again.identity != grown.identity
    assert first.identity == f"{status.st_dev}:{status.st_ino}:1:1"
    assert first.inode == grown.inode == f"{status.st_dev}:{status.st_ino}"
    for source in (first, again, grown):
        source.close()

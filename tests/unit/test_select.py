"""Which logs go, in which order, and what looking for them can meet."""

from __future__ import annotations

import importlib
import os
import resource
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.steps.logs.globs import Glob
from lifecycle_agent.steps.logs.select import Found, Selection, select
from lifecycle_agent.steps.logs.source import FileSource
from lifecycle_agent.steps.logs.tree import descend

# The package has a function of the module's name.
module = importlib.import_module("lifecycle_agent.steps.logs.select")

Before = Callable[[Callable[[str], None]], None]

NOW = 1_700_000_000 * 10**9
MINUTE = 60 * 10**9


def make(directory: Path, *names: str) -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def below(directory: Path, selection: Selection) -> list[str]:
    """The paths that were selected, by their names."""
    return sorted(found.path.removeprefix(f"{directory}/") for found in selection.files)


# --- globs


def test_globs_select_regular_files_and_follow_no_link(tmp_path: Path) -> None:
    make(tmp_path, "top.log", "a/one.log", "a/b/two.log", "a/b/two.txt", ".hidden.log")
    os.mkfifo(tmp_path / "a/pipe.log")
    (tmp_path / "a/link.log").symlink_to("one.log")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dir.log").mkdir()
    found = select([f"{tmp_path}/**/*.log", f"{tmp_path}/a/*.log", f"{tmp_path}/none/*.log"])
    assert below(tmp_path, found) == ["a/b/two.log", "a/one.log", "top.log"]
    assert {Path(path).name: why for path, why in found.ignored.items()} == {
        "pipe.log": "a pipe",
        "link.log": "a symbolic link, not followed",
    }
    assert found.unmatched == [f"{tmp_path}/none/*.log"]
    assert found.unreadable == {}
    (one,) = [file for file in found.files if file.parts[-1] == "one.log"]
    status = (tmp_path / "a/one.log").stat()
    seen = (one.size, one.mtime_ns, one.dev, one.inode)
    assert seen == (status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**", ["d/e/2.log", "d/e/x[1].log", "x.log"]),
        ("**/**", ["d/e/2.log", "d/e/x[1].log", "x.log"]),
        ("d/**/e/**/2.log", ["d/e/2.log"]),
        ("**/e/*.log", ["d/e/2.log", "d/e/x[1].log"]),
        ("d/e/x[[]1].log", ["d/e/x[1].log"]),
        ("x.log", ["x.log"]),
        ("../*/x.log", ["x.log"]),
        ("d/*", []),
        (".*", [".dot"]),
        ("**/.*", [".dot"]),
        (".d/**", [".d/y"]),
        ("?.log", ["x.log"]),
        ("X.log", []),
    ],
)
def test_patterns_mean_what_they_mean_in_a_shell(tmp_path: Path, pattern: str, names: list[str]) -> None:
    make(tmp_path / "here", "x.log", "d/e/2.log", "d/e/x[1].log", ".dot", ".d/y")
    assert below(tmp_path / "here", select([f"{tmp_path}/here/{pattern}"])) == names


NAMES = st.lists(st.sampled_from(["a", "b", ".c", "ab"]), min_size=1, max_size=5)
WANTED = st.lists(st.sampled_from(["a", "b", "*", "**", "?", "[ab]", ".*"]), min_size=1, max_size=5)


@given(WANTED, NAMES, st.booleans())
def test_a_glob_matches_what_it_says(wanted: list[str], names: list[str], hidden: bool) -> None:
    """Against the definition, written down without any regard to how long it takes."""

    def one(pattern: str, name: str) -> bool:
        shown = not name.startswith(".") or hidden or pattern.startswith(".")
        means = {"a": "a", "b": "b", "?": "ab", "[ab]": "ab"}
        return shown and (
            pattern in ("*", "**")
            or (name == ".c" if pattern == ".*" else len(name) == 1 and name in means[pattern])
        )

    def matches(patterns: Sequence[str], rest: Sequence[str]) -> bool:
        if not patterns or not rest:
            return not patterns and not rest
        if patterns[0] != "**":
            return one(patterns[0], rest[0]) and matches(patterns[1:], rest[1:])
        if len(patterns) == 1:
            return all(one("**", name) for name in rest)
        return matches(patterns[1:], rest) or (one("**", rest[0]) and matches(patterns, rest[1:]))

    assert Glob("/" + "/".join(wanted), hidden).matches("/" + "/".join(names)) == matches(wanted, names)


# --- what is left out


def test_what_is_excluded_does_not_go(tmp_path: Path) -> None:
    make(tmp_path, "a.log", "a.tmp", "x/b.log", "x/y/c.log", "z/d.log", "z/.e.log", "w/tmp/f.log", "w/g.log")
    exclude = ["**/*.tmp", "x/**", "z", "*/tmp"]
    found = select([f"{tmp_path}/**", f"{tmp_path}/z/.*"], [f"{tmp_path}/{pattern}" for pattern in exclude])
    assert below(tmp_path, found) == ["a.log", "w/g.log"]
    assert found.unmatched == [f"{tmp_path}/z/.*"]


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Before:
    """Lets a test do something right before a directory is opened."""

    def listen(hook: Callable[[str], None]) -> None:
        def opened(root: str, names: Sequence[str]) -> int:
            hook(os.path.join(root, *names))
            return descend(root, names)

        monkeypatch.setattr(module, "descend", opened)

    return listen


def test_an_excluded_directory_is_not_even_opened(tmp_path: Path, before: Before) -> None:
    make(tmp_path, "in/a.log", "out/b.log", "root/c.log")
    opened: list[str] = []
    before(opened.append)
    found = select([f"{tmp_path}/**/*.log", f"{tmp_path}/root/*.log"], [f"{tmp_path}/out", f"{tmp_path}/ro*"])
    assert below(tmp_path, found) == ["in/a.log"]
    assert opened == [str(tmp_path), f"{tmp_path}/in"]


# --- the order


def order(directory: Path, *patterns: str, first: Sequence[str] = (), last: Sequence[str] = ()) -> list[str]:
    wanted = [f"{directory}/{pattern}" for pattern in patterns or ("**",)]
    found = select(wanted, first=first, last=last, now_ns=NOW)
    return [file.path.removeprefix(f"{directory}/") for file in found.files]


def test_young_and_small_goes_before_old_and_large(tmp_path: Path) -> None:
    files = {  # minutes and bytes
        "young small": (1, 1000),
        "young large": (1, 100 << 20),
        "old small": (60 * 24, 1000),
        "old large": (60 * 24, 100 << 20),
        "to come": (-60, 1000),
        "empty": (10, 0),
    }
    for name, (minutes, size) in files.items():
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, size)
        os.utime(tmp_path / name, ns=(NOW, NOW - minutes * MINUTE))
    assert order(tmp_path) == ["to come", "young small", "empty", "old small", "young large", "old large"]


def test_what_is_equal_goes_by_the_bytes_of_its_name(tmp_path: Path) -> None:
    names = [b"b", b"a", b"\xff", b"B", b"\xc3\xa4"]
    for name in names:
        path = os.fsencode(tmp_path) + b"/" + name
        open(path, "w").close()
        os.utime(path, ns=(NOW, NOW))
    assert [os.fsencode(name) for name in order(tmp_path)] == sorted(names)


def test_first_and_last_are_the_operators(tmp_path: Path) -> None:
    make(tmp_path, "access.log", "audit/.a", "orders.log", "orders.log.1.gz", "x.gz", "y.gz", "other")
    os.truncate(tmp_path / "orders.log", 1 << 30)
    os.truncate(tmp_path / "y.gz", 1 << 30)
    assert order(
        tmp_path,
        "*",
        "audit/.*",
        first=[f"{tmp_path}/orders*", f"{tmp_path}/audit/*"],
        last=[f"{tmp_path}/acc*", f"{tmp_path}/*.gz", f"{tmp_path}/x*"],
    ) == ["orders.log.1.gz", "orders.log", "audit/.a", "other", "access.log", "y.gz", "x.gz"]


# --- trees that are not as trees should be


def nest(directory: Path, names: Sequence[str]) -> int:
    """Make directories in each other, deeper than a path can say; a descriptor of the last one."""
    at = os.open(directory, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=at)
        inner = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    return at


def unnest(directory: Path, names: Sequence[str]) -> None:
    """Take them away again, from the innermost on: others give up on such a tree."""
    at = descend(str(directory), names)
    for name in os.listdir(at):
        os.unlink(name, dir_fd=at)
    for name in reversed(names):
        outer = os.open("..", os.O_RDONLY, dir_fd=at)
        os.close(at)
        os.rmdir(name, dir_fd=outer)
        at = outer
    os.close(at)


@pytest.mark.parametrize("names", [["d"] * 1200, ["d" * 255] * 20], ids=["deep", "long"])
def test_no_tree_is_too_deep_and_no_path_too_long(
    tmp_path: Path, names: list[str], few_descriptors: None
) -> None:
    at = nest(tmp_path, names)
    log = os.open("a.log", os.O_CREAT | os.O_WRONLY, dir_fd=at)
    os.write(log, b"deep\n")
    os.close(log)
    os.close(at)
    try:
        found = select([f"{tmp_path}/**/*.log"])
        assert [file.parts for file in found.files] == [(*names, "a.log")]
        assert found.unreadable == {}
        source = FileSource(found.files[0])
        assert source.read(100) == b"deep\n"
        source.close()
    finally:
        unnest(tmp_path, names)


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """Room for ten more files than are open."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, most[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, most)


def test_a_directory_swapped_for_a_link_while_looking_leads_nowhere(tmp_path: Path, before: Before) -> None:
    make(tmp_path, "logs/app/a.log", "secret/a.log")

    def swap(directory: str) -> None:
        if directory == f"{tmp_path}/logs/app":
            (tmp_path / "logs/app").rename(tmp_path / "gone")
            (tmp_path / "logs/app").symlink_to(tmp_path / "secret")

    before(swap)
    assert select([f"{tmp_path}/logs/**/*.log"]).files == []
    assert (tmp_path / "logs/app").is_symlink()


def test_links_above_the_first_wildcard_are_the_operators_own(tmp_path: Path) -> None:
    make(tmp_path, "real/a.log")
    (tmp_path / "logs").symlink_to("real")
    assert below(tmp_path, select([f"{tmp_path}/logs/*.log"])) == ["logs/a.log"]


def test_what_cannot_be_listed_is_said(tmp_path: Path, before: Before) -> None:
    make(tmp_path, "a/a.log", "b/b.log")

    def refuse(directory: str) -> None:
        if directory.endswith("/a"):
            raise PermissionError(13, "Permission denied")  # as it would be, but root may do everything

    before(refuse)
    found = select([f"{tmp_path}/**"])
    assert below(tmp_path, found) == ["b/b.log"]
    assert found.unreadable == {f"{tmp_path}/a": "Permission denied"}


def test_time_that_is_up_ends_it_with_what_was_found(tmp_path: Path) -> None:
    for number in range(100):
        make(tmp_path, f"{number:03}/a.log")
    ticks = iter(range(1000))
    until = Deadline(150, lambda: float(next(ticks)))  # each look at the clock takes a second
    found = select([f"{tmp_path}/**/*.log", f"{tmp_path}/none"], until=until)
    assert 0 < len(found.files) < 100
    assert found.unreadable == {
        f"{tmp_path}/**/*.log": "time ran out while it was looked through",
        f"{tmp_path}/none": "time ran out while it was looked through",
    }
    assert found.unmatched == []


def test_a_tree_that_runs_wild_costs_no_more_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 10)
    for number in range(50):
        make(tmp_path, f"f/{number:02}.log", f"d/{number:02}/a")
        os.utime(tmp_path / f"f/{number:02}.log", ns=(NOW, NOW + number * MINUTE))
    newest = select([f"{tmp_path}/f/*"], now_ns=NOW + 50 * MINUTE)
    assert [found.parts for found in newest.files] == [(f"{number:02}.log",) for number in range(49, 39, -1)]
    assert newest.unreadable == {
        "[logs] paths": "40 files are more than the 10 that go at once; they would have gone last"
    }
    many = select([f"{tmp_path}/d/**"])
    assert len(many.files) == 10
    assert len(many.unreadable) == 10
    assert set(many.unreadable.values()) == {"more than 10 directories wait to be listed"}


def test_a_file_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        base = Found("/var/log", ("app", "0.log"), 1 << 40, NOW, 1 << 20, 1 << 40)
        before = tracemalloc.get_traced_memory()[0]
        many = [replace(base, parts=("app", f"{n}.log"), inode=(1 << 40) + n) for n in range(1000)]
        assert (tracemalloc.get_traced_memory()[0] - before) / len(many) < 500
    finally:
        tracemalloc.stop()

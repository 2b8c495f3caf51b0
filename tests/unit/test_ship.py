"""Shipping before the end: what is closed, what is sent, how the end finds it, and the process for it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent.clients.pace import Pace
from lifecycle_agent.config import LogsSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted, LifecycleAgentError, UsageError
from lifecycle_agent.steps.logs import Logs, record, ship, shipped
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.record import Begun, Record
from lifecycle_agent.steps.logs.saved import read
from lifecycle_agent.steps.logs.select import Found
from lifecycle_agent.steps.logs.ship import QUIET, Shipping, closed
from lifecycle_agent.watch import ship as watch
from tests.stage import until
from tests.unit.bucket import PREFIX, VALUES, Bucket, Job, noise

CLOSED = "asg/orders/i-1/closed"
PART = 64 * 1024
PAUSE = 300.0
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


# -- what is closed


@pytest.mark.parametrize(
    ("ages", "names"),
    [
        ({"app.log": 0, "app.log.1": 3600, "app.log.2.gz": 7200}, "app.log.1 app.log.2.gz"),
        ({"app.log": 0, "app.log-20260101": 3600}, "app.log-20260101"),
        ({"app-2026-01-01.log": 3600, "app-2026-01-02.log": 600}, "app-2026-01-01.log"),
        (
            {"access_log.2026-01-01.txt.zst": 3600, "access_log.2026-01-02.txt": 0},
            "access_log.2026-01-01.txt.zst",
        ),
        ({"20260101": 3600, "20260102": 600}, "20260101"),
        ({"app.log": 3600}, ""),  # quiet, and the only one: it may be written to at any time
        ({"app.log": 3600, "error.log": 7200}, ""),
        ({"worker1.log": 3600, "worker2.log": 0}, ""),
        ({"app.log": 0, "app.log.1": QUIET - 1}, ""),  # the app may not have opened the new one yet
        ({"app.log": 0, "app.log.1": QUIET}, "app.log.1"),
        ({"app.log": -100, "app.log.1": -50}, ""),  # written in the future: a clock was set
        ({"app.log": 3600, "app.log.1": 3600}, ""),
        ({"a/app.log": 0, "b/app.log.1": 3600}, ""),
    ],
)
def test_what_is_closed(ages: dict[str, float], names: str) -> None:
    files = [
        Found("/var/log", tuple(name.split("/")), 1, int((NOW - age) * 1e9)) for name, age in ages.items()
    ]
    assert [found.parts[-1] for found in closed(files, int(NOW * 1e9))] == names.split()


# -- what is sent


class Instance:
    """A machine with a log directory, and what is asked when something is shipped."""

    def __init__(self, directory: Path, instance_id: str = "i-1") -> None:
        self.logs = directory / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.state = directory / "state"
        self.state.mkdir(exist_ok=True)
        self.bucket = Bucket()
        self.instance_id = instance_id
        self.asked = 0

    def write(self, name: str, content: bytes, age: float = 3600) -> Path:
        path = self.logs / name
        path.write_bytes(content)
        os.utime(path, (time.time() - age,) * 2)
        return path

    def section(self, **more: Any) -> LogsSection:
        return LogsSection(bucket="b", paths=(f"{self.logs}/**",), **more)

    def group(self) -> str:
        self.asked += 1
        return "orders"

    def ship(self, **more: Any) -> list[Entry]:
        section, bucket = self.section(**more), self.bucket
        return Shipping(section, self.instance_id, self.state, self.group, lambda: bucket, part=PART).run()

    def end(self, **more: Any) -> dict[str, dict[str, Any]]:
        """The upload at the end: what the manifest says, by the file's name."""
        values = {**VALUES, "instance_id": self.instance_id}
        record = self.state / "upload.jsonl"
        logs = Logs(
            self.section(**more),
            lambda: self.bucket,
            values,
            record=record,
            earlier=self.state / shipped.RECORD,
            part=PART,
        )
        logs.run(Job())
        manifest = self.bucket.objects[logs.manifest_key].data
        read(manifest, "s3://b/x", logs.manifest_key)  # those who verify and fetch take it
        return {Path(entry["source"]).name: entry for entry in self.bucket.manifest()["files"]}


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    instance = Instance(tmp_path)
    instance.write("app.log", b"active\n", age=0)
    instance.write("app.log.1", b"yesterday\n" * 1000)
    return instance


def test_what_was_rotated_goes_once_and_the_active_file_does_not(instance: Instance) -> None:
    assert [entry.complete for entry in instance.ship()] == [True]
    (key,) = instance.bucket.objects
    assert key.startswith(f"{CLOSED}/files{instance.logs}/app.log.1~~")
    assert instance.bucket.content(key) == b"yesterday\n" * 1000

    assert instance.ship() == []
    assert (len(instance.bucket.puts), instance.asked) == (1, 1), "asked for more than was needed"

    instance.write("app.log.1", b"the day after\n")
    instance.ship()
    assert len(instance.bucket.objects) == 2, "one day was written over by another"


def test_nothing_new_asks_nobody(instance: Instance) -> None:
    os.unlink(instance.logs / "app.log.1")
    assert (instance.ship(), instance.asked, instance.bucket.puts) == ([], 0, [])


def test_the_end_names_what_was_shipped_and_sends_the_rest(instance: Instance) -> None:
    (before,) = instance.ship()
    os.rename(instance.logs / "app.log.1", instance.logs / "app.log.2")  # once more rotated
    os.link(instance.logs / "app.log.2", instance.logs / "app.log.3")

    files = instance.end()

    assert {name for name in files if files[name]["complete"]} == {"app.log", "app.log.2", "app.log.3"}
    assert files["app.log.2"]["key"] == files["app.log.3"]["key"] == before.key
    assert files["app.log.2"]["source"] == f"{instance.logs}/app.log.2"
    assert files["app.log.2"]["sha256"] == before.sha256
    assert files["app.log"]["key"].startswith(f"{PREFIX}/files/")
    assert instance.bucket.puts.count(before.key) == 1
    assert len(instance.bucket.puts) == 3, "closed, tail, manifest"


@pytest.mark.parametrize("change", ["written", "gone"])
def test_what_is_not_the_same_any_more_is_sent_again(instance: Instance, change: str) -> None:
    (before,) = instance.ship()
    if change == "written":
        with open(instance.logs / "app.log.1", "ab") as file:
            file.write(b"a late line\n")
    else:
        del instance.bucket.objects[before.key]  # by a rule of the bucket's owner

    entry = instance.end()["app.log.1"]

    assert entry["complete"]
    assert entry["key"].startswith(f"{PREFIX}/files/")


def test_another_group_at_the_end_sends_all_of_it_where_it_is_looked_for(instance: Instance) -> None:
    instance.group = lambda: "no-group"  # type: ignore[method-assign]
    (before,) = instance.ship()
    assert before.key.startswith("asg/no-group/i-1/closed/")

    assert instance.end()["app.log.1"]["key"].startswith(f"{PREFIX}/files/")


def test_what_an_image_remembers_of_another_instance_is_not_ours(tmp_path: Path, instance: Instance) -> None:
    instance.ship()
    clone = Instance(tmp_path, "i-2")
    clone.bucket = instance.bucket

    (entry,) = clone.ship()
    assert entry.key.startswith("asg/orders/i-2/closed/")

    another = Instance(tmp_path, "i-3")
    another.bucket.objects = dict(instance.bucket.objects)
    values = {**VALUES, "instance_id": "i-3"}
    logs = Logs(another.section(), lambda: another.bucket, values, earlier=another.state / shipped.RECORD)
    logs.run(Job())
    assert f"asg/orders/i-3/{VALUES['time']}/files{another.logs}/app.log.1.zst" in another.bucket.objects


def test_one_that_was_killed_goes_on_with_the_next(instance: Instance) -> None:
    content = noise(20 * PART)
    instance.write("app.log.1", content)
    hangs, gone = threading.Event(), threading.Event()

    def hang(key: str, number: int) -> None:
        if number >= 3:
            hangs.set()
            gone.wait(60)
            raise Interrupted

    def die() -> None:
        with suppress(Interrupted):
            instance.ship()

    # To the record and to S3, a process that was killed and one that stands still are the same.
    left, instance.bucket.before = instance.bucket, hang
    first = threading.Thread(target=die)
    first.start()
    assert hangs.wait(60)
    instance.bucket = Bucket()
    instance.bucket.objects, instance.bucket.open = left.objects, left.open

    (entry,) = instance.ship()

    assert entry.complete
    assert instance.bucket.content(entry.key) == content
    assert len(left.puts) == 2
    parts = [line for line in (instance.state / shipped.RECORD).read_text().splitlines() if '"etag"' in line]
    assert len(left.puts) + len(instance.bucket.puts) == len(parts), "a part that was there was sent again"
    gone.set()
    first.join()


def begun(instance: Instance) -> Begun:
    """A multipart upload that a process left behind, of a file that is gone."""
    key = f"{CLOSED}/files/var/log/gone.log.1"
    begun = Begun(instance.bucket.begin(key, Job().deadline, ""), key)
    path = instance.state / shipped.RECORD
    Record(path, shipped.place(instance.section(), "i-1")).begin(begun)
    return begun


@pytest.mark.parametrize("when", ["ship", "end"])
def test_an_upload_that_nobody_goes_on_with_is_aborted(instance: Instance, when: str) -> None:
    upload = begun(instance)
    assert upload.upload_id in instance.bucket.open
    os.unlink(instance.logs / "app.log.1")  # nothing else is to be done
    getattr(instance, when)()
    assert instance.bucket.open == {}


def test_what_cannot_be_remembered_is_not_sent(instance: Instance) -> None:
    (instance.state / shipped.RECORD).mkdir()
    with pytest.raises(LifecycleAgentError, match="cannot be remembered"):
        instance.ship()
    assert instance.bucket.puts == []


def test_a_full_disk_ends_it_after_one_file(instance: Instance) -> None:
    instance.write("app.log.2", b"the day before\n")
    instance.ship(exclude=(f"{instance.logs}/app.log.?",))  # there is a record by now

    def full(key: str, number: int) -> None:
        os.unlink(instance.state / shipped.RECORD)
        (instance.state / shipped.RECORD).mkdir()
        instance.bucket.before = lambda key, number: None

    instance.bucket.before = full
    with pytest.raises(LifecycleAgentError, match="cannot be remembered"):
        instance.ship()
    assert len(instance.bucket.puts) == 1


def test_a_full_record_leaves_the_rest_for_the_end(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2, 9):
        instance.write(f"app.log.{number}", b"%d\n" % number)
    monkeypatch.setattr(ship, "MOST_RECORD", 2000)

    sent = len(instance.ship())

    assert 1 < sent < 8
    assert instance.ship() == []
    assert all(entry["complete"] for entry in instance.end().values())
    assert len(instance.bucket.puts) == 10, "eight closed, the tail, the manifest"


def test_the_record_forgets_what_is_gone_from_the_disk(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "SMALL", 100)
    for number in range(2, 9):
        instance.write(f"app.log.{number}", b"%d\n" % number)
    instance.ship()
    upload = begun(instance)
    path = instance.state / shipped.RECORD
    before = path.stat().st_size
    for number in range(2, 9):
        os.unlink(instance.logs / f"app.log.{number}")

    kept = Record(path, shipped.place(instance.section(), "i-1"))
    kept.keep({identity for (key, identity) in kept.sent if "/app.log.1~~" in key})
    kept.done("1:2:3:4", Entry("later", key="later"))

    again = Record.look(path, shipped.place(instance.section(), "i-1"))
    assert [entry.source for entry in again.sent.values()] == [f"{instance.logs}/app.log.1", "later"]
    assert list(again.begun) == [upload.key]
    assert path.stat().st_size < before / 2
    instance.ship()
    assert len(instance.bucket.puts) == 8, "something was sent again"


def test_looking_at_a_record_leaves_it_alone(instance: Instance) -> None:
    instance.ship()
    path = instance.state / shipped.RECORD
    before = path.read_bytes()

    other = Record.look(path, "another place")
    other.done("1:2:3:4", Entry("a"))

    assert (other.sent, path.read_bytes()) == ({}, before)
    assert Record.look(instance.state / "none", "x").sent == {}


@pytest.mark.parametrize(
    ("template", "where"),
    [
        ("asg/{group}/{instance_id}/{time}", "asg/orders/i-1/closed"),
        ("logs", "logs/i-1/closed"),
        ("{instance_id}", "i-1/closed"),
        ("a-{instance_id}/{group}/", "a-i-1/orders/closed"),
        ("{time}/{group}/{instance_id}", None),
        ("logs/{time}", None),
        ("{instance_id}/at-{time}", None),
        ("{time}/{instance_id}/{time}", None),
        ("{group}/" * 64 + "{instance_id}", None),  # so long that it is cut
    ],
)
def test_the_place_is_beside_every_upload_of_the_instance(template: str, where: str | None) -> None:
    values = {"group": "orders" if len(template) < 100 else "o" * 20, "instance_id": "i-1"}
    if where is None:
        with pytest.raises(UsageError, match="as its last part"):
            shipped.prefix(template, values)
    else:
        assert shipped.prefix(template, values) == where


# -- how fast


def test_a_pace_is_kept_and_nothing_is_saved_up() -> None:
    clock = Clock()
    pace = Pace(1000.0, clock, clock.sleep)
    until = Deadline.after(1e6, clock)
    went = []
    for burst in range(3):
        for _ in range(20):
            pace.wait(500, until)
            went.append(clock.now)
        clock.now += 1000 * burst  # nobody sends for a while
    for since, first in enumerate(went):
        for upto, last in enumerate(went[since:], since):
            assert (upto - since) * 500 <= (last - first) * 1000 + 1e-6
    assert went[19] - went[0] == pytest.approx(9.5)


def test_waiting_ends_with_the_deadline() -> None:
    clock = Clock()
    pace = Pace(1.0, clock, clock.sleep)
    pace.wait(10**9, Deadline.after(10**10, clock))
    pace.wait(1, Deadline.after(7, clock))
    assert clock.now == 1007


# -- the process for it


class Child:
    """Starts `python -c CODE`, and counts."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.started = 0

    def __call__(self) -> Sequence[str]:
        self.started += 1
        return [sys.executable, "-c", self.code]


FOREVER = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({!r}, 'w'); time.sleep(600)"

Make = Callable[[Child], watch.Shipping]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Iterator[Make]:
    """Makes them so that their children do not outlive the test."""
    made: list[watch.Shipping] = []

    def one(child: Child) -> watch.Shipping:
        made.append(watch.Shipping(PAUSE, child, clock))
        return made[-1]

    yield one
    for shipping in made:
        shipping.stop()
        over(shipping)


def over(shipping: watch.Shipping) -> None:
    def reaped() -> bool:
        shipping.check(at_rest=False)
        return shipping.pid is None

    until(reaped)


def test_one_at_a_time_and_a_pause_between(make: Make, clock: Clock) -> None:
    child = Child(FOREVER)
    shipping = make(child)
    shipping.check(at_rest=True)
    clock.now += PAUSE - 0.001
    shipping.check(at_rest=True)
    assert child.started == 0, "before the first pause was over"
    clock.now += 0.002
    shipping.check(at_rest=False)
    assert child.started == 0, "not at rest"
    shipping.check(at_rest=True)
    clock.now += 10 * PAUSE
    shipping.check(at_rest=True)
    assert (child.started, shipping.pid is not None) == (1, True)

    shipping.stop()
    over(shipping)
    shipping.check(at_rest=True)
    assert child.started == 1
    clock.now += PAUSE
    shipping.check(at_rest=True)
    assert child.started == 2


def test_without_a_pause_there_is_none(clock: Clock) -> None:
    child = Child(FOREVER)
    shipping = watch.Shipping(None, child, clock)
    clock.now += 1e9
    shipping.check(at_rest=True)
    shipping.stop()
    assert child.started == 0


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", ""),
        ("raise SystemExit(1)", ""),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGALRM)})", ""),
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("raise SystemExit(7)", "exit code 7"),
    ],
)
def test_an_end_that_was_not_meant_is_one_line(
    make: Make, clock: Clock, caplog: pytest.LogCaptureFixture, code: str, said: str
) -> None:
    caplog.set_level("DEBUG", "lifecycle_agent")
    shipping = make(Child(code))
    clock.now += PAUSE
    shipping.check(at_rest=True)
    over(shipping)
    assert len(caplog.messages) == bool(said)
    assert said in " ".join(caplog.messages)


def test_stopping_needs_no_consent_and_says_nothing(
    make: Make, clock: Clock, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG", "lifecycle_agent")
    shipping = make(Child(DEAF.format(str(tmp_path / "deaf"))))
    clock.now += PAUSE
    shipping.check(at_rest=True)
    until((tmp_path / "deaf").exists)
    shipping.stop()
    over(shipping)
    assert caplog.messages == []


def test_a_command_that_cannot_be_started_is_one_line(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    shipping = watch.Shipping(PAUSE, lambda: ["/nowhere/python"], clock)
    clock.now += PAUSE
    for _ in range(10):
        shipping.check(at_rest=True)
    assert len(caplog.messages) == 1
    assert shipping.pid is None

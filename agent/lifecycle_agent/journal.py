"""The journal: one line a boundary, on the disk before the next thing happens. A transition goes on from it.

Every line carries the instance id, so that a journal baked into an AMI is never mistaken for ours.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lifecycle_agent import __version__
from lifecycle_agent.deadline import boottime
from lifecycle_agent.files import regular_only
from lifecycle_agent.logline import logger, utc
from lifecycle_agent.model import COMPLETE, ENOUGH, UNASKED, UNKNOWN, Notice, NoticeKind, Outcome, StepReport

FORMAT = 1
MOST_BYTES = 8 * 1024 * 1024  # a transition writes some 20 KiB; beyond this the oldest lines are not read
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass
class Recorded:
    """What the journal says of one transition.

    Args:
        boot: of which boot the clock's figures are.
        ends: the transition's deadline, seconds on the boot clock.
        ended: steps that came to an end, by name; they are not run again.
        attempts: how many processes took it up.
        reboots: how often the machine was booted since it began; a command may be what reboots it.
        outcome: None while it is not over.
        over_at: when it came to its end, seconds on the clock of its boot; 0 while it is not over.
        ended_at: the same on the wall clock, ISO 8601 in UTC; empty while it is not over.
        followed: whether another one has begun since.
    """

    transition_id: str
    notice: Notice
    started: str
    boot: str
    ends: float
    ended: dict[str, StepReport] = field(default_factory=dict)
    attempts: int = 0
    reboots: int = 0
    outcome: Outcome | None = None
    over_at: float = 0.0
    ended_at: str = ""
    followed: bool = False
    _deaths: int = 0
    _taken: bool = False

    @property
    def settled(self) -> bool:
        """Whether it is over, and the group is not owed an answer by it any more."""
        unanswered = COMPLETE in self.ended and is_unanswered(self.ended[COMPLETE])
        return self.outcome is not None and not (self.notice.kind is NoticeKind.TERMINATE and unanswered)

    @property
    def found(self) -> bool:
        """Whether it was a launch that has found the instance in service already."""
        return any(report.data.get(ENOUGH) for report in self.ended.values())

    @property
    def unknown(self) -> bool:
        """Whether it could not find out what is to be done, and has done nothing."""
        return any(report.data.get(UNKNOWN) for report in self.ended.values())

    @property
    def went_well(self) -> bool:
        """Whether all that was done of it went well, but perhaps the answer to the group."""
        others = [report.outcome.well for name, report in self.ended.items() if name != COMPLETE]
        return bool(others) and all(others)

    @property
    def answered(self) -> bool:
        """Whether the group has had its answer by it."""
        complete = self.ended.get(COMPLETE)
        return complete is not None and complete.outcome.well

    @property
    def deaths(self) -> int:
        """Times in a row that a process took it up and neither ended it nor was told to stop."""
        return self._deaths + self._taken

    def take(self) -> None:
        """A process takes it up."""
        self._deaths = self.deaths
        self._taken = True
        self.attempts += 1

    def reboot(self, boot: str, ends: float, seen_at: float) -> None:
        """The clock began anew, and so did the app: what was done to it is to be done again."""
        self.boot, self.ends = boot, ends
        self.reboots += 1
        self.notice = replace(self.notice, seen_at=seen_at)
        self.ended = {name: report for name, report in self.ended.items() if name == COMPLETE}

    def lay_down(self) -> None:
        """The process working on it was told to stop: no death, and the end of a row of deaths."""
        self._deaths = 0
        self._taken = False


def is_unanswered(report: StepReport) -> bool:
    """Whether it is the answer to the group, and that has none: it is tried again."""
    return report.name == COMPLETE and (report.outcome is Outcome.FAILED or bool(report.data.get(UNASKED)))


class Journal:
    """`journal.jsonl` in the state directory, for one instance.

    A journal that cannot be written (a full disk) costs the ability to go on after a crash, and is
    said once; it does not cost the transition.
    """

    def __init__(self, directory: Path, instance_id: str) -> None:
        self.path = directory / "journal.jsonl"
        self._instance_id = instance_id
        self._boot = boot_id()
        self._transition_id = ""
        self._alone = threading.Lock()  # the group's side writes, too
        self.broken = ""

    def history(self) -> list[Recorded]:
        """The transitions of this instance, the newest last."""
        history: list[Recorded] = []
        for line in self._lines():
            with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError, OverflowError):
                _apply(history, line)  # a line that makes no sense changes nothing
        return history

    def last(self) -> Recorded | None:
        """The newest transition of this instance."""
        history = self.history()
        return history[-1] if history else None

    def begin(self, transition_id: str, notice: Notice, ends: float) -> None:
        """A new transition starts; what follows belongs to it."""
        self._transition_id = transition_id
        self._append({"event": "notice", "notice": asdict(notice), "ends": ends})

    def resume(self, recorded: Recorded) -> None:
        """What follows belongs to a transition that is there already."""
        self._transition_id = recorded.transition_id

    def deadline(self, ends: float, seen_at: float) -> None:
        """The end was brought forward, or the clock began anew; both in seconds on this boot's clock."""
        self._append({"event": "deadline", "ends": ends, "seen_at": seen_at})

    def attempt(self) -> None:
        """A process takes the transition up."""
        self._append({"event": "attempt", "pid": os.getpid(), "version": __version__})

    def step_started(self, name: str) -> None:
        """A step is about to begin."""
        self._append({"event": "started", "step": name})

    def step_ended(self, report: StepReport) -> None:
        """A step came to an end, whichever."""
        self._append({"event": "ended", **asdict(report)})

    def interrupted(self) -> None:
        """The process stops because it was told to; that is no death."""
        self._append({"event": "interrupted"})

    def over(self, outcome: Outcome, completion: str) -> None:
        """The transition came to its end."""
        self._append({"event": "over", "outcome": outcome.value, "completion": completion})

    def _append(self, event: Mapping[str, Any]) -> None:
        about = {
            "v": FORMAT,
            "time": utc(),
            "at": round(boottime(), 3),
            "boot": self._boot,
            "instance": self._instance_id,
            "transition": self._transition_id,
        }
        line = json.dumps({**about, **event}, default=str) + "\n"
        try:
            with self._alone:
                self._write(line.encode())
        except OSError as error:
            if not self.broken:
                self.broken = f"the journal cannot be written: {self.path}: {error.strerror}"
                logger.error("%s; going on without it", self.broken)

    def _write(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b", buffering=0, opener=regular_only) as file:
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                line = b"\n" + line  # a torn line stays what it is: unreadable, and alone
            while line:
                line = line[file.write(line) or 0 :]
            os.fsync(file.fileno())

    def _lines(self) -> Iterator[Mapping[str, Any]]:
        """The lines of this instance that can be read; a torn or foreign one is passed over."""
        try:
            with open(self.path, "rb", opener=regular_only) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - MOST_BYTES))
                content = file.read(MOST_BYTES)
        except OSError:
            return
        for raw in content.split(b"\n"):
            try:
                line = json.loads(raw)
            except (ValueError, RecursionError):
                continue
            if (
                isinstance(line, dict)
                and line.get("instance") == self._instance_id
                and line.get("v") == FORMAT
            ):
                yield line


def boot_id() -> str:
    """What tells one boot from another; the boot clock begins anew with each. Source: random(4)."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _apply(history: list[Recorded], line: Mapping[str, Any]) -> None:
    """Put one more line to what is known."""
    event = line["event"]
    if event == "notice":
        recorded = _recorded(line)
        if history:
            history[-1].followed = True
        history.append(recorded)
        return
    recorded = {each.transition_id: each for each in history}[line["transition"]]
    if event == "attempt":
        recorded.take()
    elif event == "interrupted":
        recorded.lay_down()
    elif event == "deadline":
        ends, seen_at, boot = _finite(line["ends"]), _finite(line["seen_at"]), _text(line["boot"])
        if boot != recorded.boot:
            recorded.reboot(boot, ends, seen_at)
        recorded.ends = ends
    elif event == "ended":
        report = _report(line)
        recorded.ended[report.name] = report
    elif event == "over":
        recorded.outcome = Outcome(line["outcome"])
        recorded.over_at, recorded.ended_at = _finite(line["at"]), _text(line["time"])
        recorded.lay_down()


def _recorded(line: Mapping[str, Any]) -> Recorded:
    notice = Notice.from_json(line["notice"])
    ends = None if notice.ends is None else _finite(notice.ends)
    reason, event = _text(notice.reason), _text(notice.event)
    notice = replace(notice, reason=reason, event=event, seen_at=_finite(notice.seen_at), ends=ends)
    name, time, boot = (_text(line[key]) for key in ("transition", "time", "boot"))
    return Recorded(name, notice, time, boot, _finite(line["ends"]))


def _report(line: Mapping[str, Any]) -> StepReport:
    seconds, data = line["seconds"], line["data"]
    if not isinstance(data, dict):
        raise TypeError("data is no object")
    return StepReport(
        _text(line["name"]),
        Outcome(line["outcome"]),
        _text(line["detail"]),
        None if seconds is None else _finite(seconds),
        tuple(_text(warning) for warning in line["warnings"]),
        data,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return float(value)

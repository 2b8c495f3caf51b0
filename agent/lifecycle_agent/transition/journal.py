"""The journal: one line a boundary, on the disk before the next thing happens. A transition goes on from it.

Every line carries the instance id, so that a journal baked into an AMI is never mistaken for ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lifecycle_agent.deadline import boottime
from lifecycle_agent.logline import logger, utc
from lifecycle_agent.model import Notice, Outcome, StepReport

FORMAT = 1
MOST_BYTES = 8 * 1024 * 1024  # a transition writes some 20 KiB; beyond this the oldest lines are not read
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass
class Recorded:
    """What the journal says of one transition.

    Args:
        ends: the transition's deadline on the boot clock of the boot it was noticed in.
        ended: steps that came to an end, by name; they are not run again.
        attempts: how many processes took it up.
        outcome: None while it is not over.
    """

    transition_id: str
    notice: Notice
    started: str
    boot: str
    ends: float
    ended: dict[str, StepReport] = field(default_factory=dict)
    attempts: int = 0
    outcome: Outcome | None = None
    _deaths: int = 0
    _taken: bool = False

    @property
    def deaths(self) -> int:
        """Times in a row that a process took it up and neither ended it nor was told to stop."""
        return self._deaths + self._taken

    def take(self) -> None:
        """A process takes it up."""
        self._deaths = self.deaths
        self._taken = True
        self.attempts += 1

    def lay_down(self) -> None:
        """The process working on it was told to stop: no death, and the end of a row of deaths."""
        self._deaths = 0
        self._taken = False


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
        self.broken = ""

    def last(self) -> Recorded | None:
        """The newest transition of this instance, None if there is none."""
        recorded: Recorded | None = None
        for line in self._lines():
            recorded = _apply(recorded, line)
        return recorded

    def begin(self, transition_id: str, notice: Notice, ends: float) -> None:
        """A new transition starts; what follows belongs to it."""
        self._transition_id = transition_id
        self._append({"event": "notice", "notice": asdict(notice), "ends": ends})

    def resume(self, recorded: Recorded) -> None:
        """What follows belongs to a transition that is there already."""
        self._transition_id = recorded.transition_id

    def attempt(self) -> None:
        """A process takes the transition up."""
        self._append({"event": "attempt", "pid": os.getpid()})

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
        line = json.dumps({**about, **event}) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "r+b" if self.path.exists() else "w+b") as file:
                file.seek(0, os.SEEK_END)
                if file.tell() and not _ends_a_line(file.fileno(), file.tell()):
                    line = "\n" + line  # a torn line stays what it is: unreadable, and alone
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if not self.broken:
                self.broken = f"the journal cannot be written: {self.path}: {error.strerror}"
                logger.error("%s; going on without it", self.broken)

    def _lines(self) -> Iterator[Mapping[str, Any]]:
        """The lines of this instance that can be read; a torn or foreign one is passed over."""
        try:
            with open(self.path, "rb") as file:
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


def _ends_a_line(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"


def _apply(recorded: Recorded | None, line: Mapping[str, Any]) -> Recorded | None:
    """What is known after one more line. A line that makes no sense changes nothing."""
    try:
        event = line["event"]
        if event == "notice":
            notice = Notice.from_json(line["notice"])
            return Recorded(line["transition"], notice, line["time"], line["boot"], float(line["ends"]))
        if recorded is None or line["transition"] != recorded.transition_id:
            return recorded
        if event == "attempt":
            recorded.take()
        elif event == "interrupted":
            recorded.lay_down()
        elif event == "ended":
            report = StepReport(
                line["name"],
                Outcome(line["outcome"]),
                line["detail"],
                line["seconds"],
                tuple(line["warnings"]),
                line["data"],
            )
            recorded.ended[report.name] = report
        elif event == "over":
            recorded.outcome = Outcome(line["outcome"])
    except (KeyError, TypeError, ValueError):
        return recorded
    return recorded

"""A check, and the verdict on a scenario, which is made of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lifecycle_agent.rehearsal.outcome import Outcome, Report


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        passed: None where there is nothing to pass.
        data: the same as numbers, for machines.
    """

    name: str
    passed: bool | None
    text: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class StepTime:
    """A step of the agent's own report; `seconds` is None where it never ran."""

    name: str
    outcome: str
    seconds: float | None


@dataclass(frozen=True)
class Judged:
    """An act, judged.

    Args:
        title: empty where the scenario has no other act.
        where: its files, where they were to be kept.
    """

    title: str
    checks: tuple[Check, ...]
    steps: tuple[StepTime, ...]
    seconds: float
    where: Path | None = None

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(check.name for check in self.checks if check.passed is False)

    @property
    def lost(self) -> int:
        """Requests that were lost."""
        return sum(int(check.data.get("lost", 0)) for check in self.checks)

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {
            "seconds": round(self.seconds, 3),
            **{
                check.name: {"passed": check.passed, "text": check.text, **check.data}
                for check in self.checks
            },
            "steps": [asdict(step) for step in self.steps],
        }


@dataclass(frozen=True)
class Verdict:
    """The whole of a scenario: passed when nothing was lost and nothing was late, in any of its acts."""

    scenario: str
    acts: tuple[Judged, ...]
    with_agent: bool = True

    @property
    def passed(self) -> bool:
        """Whether every check of every act passed, or had nothing to pass."""
        return not any(act.failed for act in self.acts)

    @property
    def seconds(self) -> float:
        """Of all acts together."""
        return sum(act.seconds for act in self.acts)

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        if self.passed:
            return "nobody noticed: nothing was lost, nothing was late"
        if not self.with_agent:
            return "this is what happens without the agent"
        return "people would have noticed: " + ", ".join(
            f"{name} ({act.title})" if act.title else name for act in self.acts for name in act.failed
        )

    def document(self) -> dict[str, Any]:
        """For machines; an act that is the only one is no list of one."""
        documents = [{"act": act.title, **act.document()} for act in self.acts]
        rest = self.acts[0].document() if len(self.acts) == 1 else {"acts": documents}
        return {
            "scenario": self.scenario,
            "verdict": "passed" if self.passed else "failed",
            "sentence": self.sentence,
            **rest,
            "seconds": round(self.seconds, 3),
        }


def document_of_all(verdicts: Sequence[Verdict], left_out: Mapping[str, str]) -> dict[str, Any]:
    """Several scenarios for machines; `left_out` are those that made no sense, with the reason."""
    passed = sum(verdict.passed for verdict in verdicts)
    return {
        "scenario": "all",
        "verdict": "passed" if passed == len(verdicts) else "failed",
        "sentence": f"{passed} of {len(verdicts)} scenarios passed",
        "scenarios": {one.scenario: "passed" if one.passed else "failed" for one in verdicts},
        "left_out": dict(left_out),
        "seconds": round(sum(verdict.seconds for verdict in verdicts), 3),
    }


def judged(title: str, checks: Sequence[Check], outcome: Outcome) -> Judged:
    """An act with its checks; that its script came to its end is one of every act."""
    more = (Check("course", False, outcome.in_vain, {}),) if outcome.in_vain else ()
    steps = tuple(step for report in outcome.reports for step in step_times(report))
    return Judged(title, (*more, *checks), steps, outcome.seconds, outcome.where)


def step_times(report: Report) -> tuple[StepTime, ...]:
    """The seconds of each step, as the agent reports them."""
    return tuple(
        StepTime(str(one["name"]), str(one["outcome"]), one.get("seconds")) for one in report.get("steps", ())
    )

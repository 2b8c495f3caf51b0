"""What to think of a rehearsal: was anything lost, was anything late? Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lifecycle_agent.model import ActionResult
from lifecycle_agent.rehearsal.callers import Tally
from lifecycle_agent.rehearsal.lifecycle import LifecycleAction
from lifecycle_agent.rehearsal.proof import LogProof
from lifecycle_agent.rehearsal.scenario import Outcome

STILL = 1.0  # seconds; callers that lose a request lose the next within a fraction of this


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
class Verdict:
    """The whole; `sentence` says it in one line."""

    passed: bool
    sentence: str
    checks: tuple[Check, ...]
    steps: tuple[StepTime, ...]
    seconds: float

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {
            "verdict": "passed" if self.passed else "failed",
            "sentence": self.sentence,
            "seconds": round(self.seconds, 3),
            **{
                check.name: {"passed": check.passed, "text": check.text, **check.data}
                for check in self.checks
            },
            "steps": [asdict(step) for step in self.steps],
        }


def judge(outcome: Outcome) -> Verdict:
    """The verdict: passed when nothing was lost and nothing was late."""
    checks = [
        requests(outcome.tally, outcome.seconds),
        logs(outcome.logs),
        hook(outcome.action),
        app(outcome.app_stopped),
        registry(outcome.registered),
    ]
    if outcome.with_agent:
        checks += [notices(outcome), agent(outcome.report)]
    failed = [check for check in checks if check.passed is False]
    if not failed:
        sentence = "nobody noticed: nothing was lost, nothing was late"
    elif outcome.with_agent:
        sentence = "people would have noticed: " + ", ".join(check.name for check in failed)
    else:
        sentence = "this is what happens without the agent"
    return Verdict(not failed, sentence, tuple(checks), steps(outcome.report), outcome.seconds)


def requests(tally: Tally, ended: float) -> Check:
    """No request may be lost, and none at all is no proof of anything.

    Args:
        ended: when the rehearsal did, on the callers' clock.
    """
    lost = len(tally.lost)
    data = {"sent": tally.sent, "lost": lost, "how": dict(Counter(one.how for one in tally.lost))}
    if not tally.sent:
        return Check("requests", False, "no request was sent", data)
    text = f"{lost} of {tally.sent} lost"
    if lost:
        first, last = tally.lost[0].at, tally.lost[-1].at
        ways = Counter(one.how for one in tally.lost).most_common()
        text += f" in {last - first:.1f} s: " + ", ".join(f"{number} {how}" for how, number in ways)
        if ended - last < STILL:
            text += ", and no end to it"
    return Check("requests", lost == 0, text, data)


def logs(proof: LogProof | None) -> Check:
    """Every log file of the machine must be in the bucket, byte by byte."""
    if proof is None:
        return Check("logs", None, "none are to be saved: no [logs] section", {"proven": None})
    data = {
        "proven": proof.proven,
        "files": proof.files,
        "bytes": proof.bytes,
        "stored_bytes": proof.stored,
        "missing": list(proof.missing),
    }
    size = f"{proof.files} files, {_bytes(proof.bytes)}"
    if proof.proven:
        text = f"{size} proven in S3 ({_bytes(proof.stored)} there)"
    elif not proof.manifest:
        text = f"{size} gone with the machine"
    else:
        text = f"{len(proof.missing)} of {size} not proven: {proof.missing[0]}"
    return Check("logs", proof.proven, text, data)


def hook(action: LifecycleAction | None) -> Check:
    """The group must have had its answer, and it must have been CONTINUE."""
    if action is None:
        return Check("hook", False, "the group never asked", {"result": None, "answered_by": None})
    left = action.seconds_left or 0.0
    timeout = action.hook.heartbeat_timeout
    result = action.result.value if action.result else None
    data = {
        "result": result,
        "answered_by": action.answered_by,
        "heartbeats": action.heartbeats,
        "timeout": timeout,
        "left": round(left, 3),
    }
    if action.answered_by not in ("instance ID", "token"):
        why = action.answered_by or "the group still waits"
        text = f"nobody answered: {why} after {timeout:g} s, the group said {result} itself"
        return Check("hook", False, text, data)
    text = f"completed with {result}, {left:.1f} s of {timeout:g} s left"
    if action.heartbeats:
        text += f" after {action.heartbeats} heartbeat{'s' * (action.heartbeats > 1)}"
    return Check("hook", action.result is ActionResult.CONTINUE, text, data)


def app(stopped: bool) -> Check:
    """Whether the app stopped by itself: somebody may want it killed, so it decides nothing by itself."""
    text = "stopped by itself, its requests answered" if stopped else "killed with the machine"
    return Check("app", True if stopped else None, text, {"stopped": stopped})


def registry(registered: bool) -> Check:
    """A registration that outlives the machine sends callers to it until its lease expires."""
    text = "still offers the instance that is gone" if registered else "knows no more of the instance"
    return Check("registry", not registered, text, {"registered": registered})


def notices(outcome: Outcome) -> Check:
    """Who wanted to be told was told, of the start and of the result."""
    result = "failure" if outcome.report.get("outcome") == "failed" else "success"
    wanted = sum(len({"start", result} & set(events)) for events in outcome.told)
    data = {"received": outcome.notices, "wanted": wanted}
    if not wanted:
        return Check("notices", None, "nobody asked to be told", data)
    return Check("notices", outcome.notices >= wanted, f"{outcome.notices} of {wanted} received", data)


def agent(report: Mapping[str, Any]) -> Check:
    """What the agent says of itself; anything but `failed` will do."""
    said = str(report.get("outcome", ""))
    if not said:
        return Check("agent", False, "left no report", {"outcome": None})
    text = f"says {said}, {float(report.get('seconds') or 0.0):.1f} s from the notice to the end"
    warnings = [
        f"{one['name']}: {one['detail']}" for one in report.get("steps", ()) if one["outcome"] != "done"
    ]
    if warnings:
        text += f"; {warnings[0]}"
    return Check("agent", said != "failed", text, {"outcome": said, "warnings": warnings})


def steps(report: Mapping[str, Any]) -> tuple[StepTime, ...]:
    """The seconds of each step, as the agent reports them."""
    return tuple(
        StepTime(str(one["name"]), str(one["outcome"]), one.get("seconds")) for one in report.get("steps", ())
    )


def _bytes(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"

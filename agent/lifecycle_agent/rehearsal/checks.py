"""What is looked at in an act, one thing a check. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from lifecycle_agent.model import ActionResult, LifecycleTransition
from lifecycle_agent.rehearsal.callers import Tally
from lifecycle_agent.rehearsal.lifecycle import LifecycleAction
from lifecycle_agent.rehearsal.outcome import Moment, Outcome, Report
from lifecycle_agent.rehearsal.proof import LogProof
from lifecycle_agent.rehearsal.verdict import Check

STILL = 1.0  # seconds; callers that lose a request lose the next within a fraction of this


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


def hook(
    action: LifecycleAction | None,
    wanted: ActionResult = ActionResult.CONTINUE,
    by: tuple[str, ...] = ("instance ID", "token"),
) -> Check:
    """The group must have had its answer, from us, and it must have been the one that is `wanted`.

    Args:
        by: the ways of naming the action that will do.
    """
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
    if action.answered_by not in by:
        return Check("hook", False, f"{text}; named by {action.answered_by}", data)
    return Check("hook", action.result is wanted, text, data)


def app(stopped: bool) -> Check:
    """Whether the app stopped by itself: somebody may want it killed, so it decides nothing by itself."""
    text = "stopped by itself, its requests answered" if stopped else "killed with the machine"
    return Check("app", True if stopped else None, text, {"stopped": stopped})


def registry(registered: bool) -> Check:
    """A registration that outlives the machine sends callers to it until its lease expires."""
    text = "still offers the instance that is gone" if registered else "knows no more of the instance"
    return Check("registry", not registered, text, {"registered": registered})


def unasked(actions: Sequence[LifecycleAction]) -> Check:
    """The group asks nothing on this way, so nothing is there to be answered."""
    if not actions:
        return Check("hook", True, "the group asked nothing, and nobody answered", {"asked": 0})
    names = ", ".join(action.hook.name for action in actions)
    return Check("hook", False, f"the group asked, and should not have: {names}", {"asked": len(actions)})


def hooks(actions: Sequence[LifecycleAction], transitions: Sequence[LifecycleTransition]) -> Check:
    """The group asked these, in this order, and had CONTINUE from us each time."""
    asked = [action.hook.transition for action in actions]
    data = {"asked": [action.hook.name for action in actions]}
    if asked != list(transitions):
        return Check("hook", False, f"the group asked {len(asked)} of {len(transitions)} times", data)
    checks = [hook(action) for action in actions]
    failed = [check.text for check in checks if not check.passed]
    text = failed[0] if failed else f"completed with CONTINUE, each of {len(actions)}"
    return Check("hook", not failed, text, data)


def notices(outcome: Outcome) -> Check:
    """Who wanted to be told was told, of what each transition had to tell."""
    expected = Counter(
        (_kind(report), event)
        for report in outcome.reports
        for events in outcome.wanted
        for event in _to_tell(report) & set(events)
    )
    wanted = sum(expected.values())
    named = Counter((told.kind, told.event) for told in outcome.told if told.kind)
    unnamed = sum(not told.kind for told in outcome.told)  # a way that does not say what it is about
    received = sum((expected & named).values())
    received += min(unnamed, wanted - received)
    data = {"received": received, "wanted": wanted}
    if not wanted:
        return Check("notices", None, "nobody asked to be told", data)
    return Check("notices", received >= wanted, f"{received} of {wanted} received", data)


def told_once(outcome: Outcome, kind: str, times: int = 1) -> Check:
    """Everybody who wants to be told was told of it, once for each time it was announced."""
    wanted = times * sum(bool(set(events) & {"start", "success"}) for events in outcome.wanted)
    received = sum(told.kind in (kind, "") for told in outcome.told)
    data = {"received": received, "wanted": wanted}
    if not wanted:
        return Check("notices", None, "nobody asked to be told", data)
    return Check("notices", received == wanted, f"{received} of {wanted} received", data)


def agent(reports: Sequence[Report]) -> Check:
    """What the agent says of itself; anything but `failed` will do."""
    if not reports:
        return Check("agent", False, "left no report", {"outcome": None})
    outcomes = [str(report.get("outcome", "")) for report in reports]
    if len(reports) == 1:
        seconds = float(reports[0].get("seconds") or 0.0)
        text = f"says {outcomes[0]}, {seconds:.1f} s from the notice to the end"
    else:
        text = "says " + ", ".join(
            f"{_kind(one)} {said}" for one, said in zip(reports, outcomes, strict=True)
        )
    warnings = [
        f"{one['name']}: {one['detail']}"
        for report in reports
        for one in report.get("steps", ())
        if one["outcome"] != "done"
    ]
    if warnings:
        text += f"; {warnings[0]}"
    return Check("agent", "failed" not in outcomes, text, {"outcome": outcomes[-1], "warnings": warnings})


def held_back(moments: Iterable[Moment], why: str, name: str = "held back") -> Check:
    """In none of these moments may the registry offer our instance to callers, nor may one be sent to it."""
    seen = list(moments)
    offered = [moment for moment in seen if moment.status == "UP"]
    calls = seen[-1].called - seen[0].called if seen else 0
    data = {"offered": len(offered), "calls": calls}
    if not seen:
        return Check(name, False, f"it never came to that: {why}", data)
    if offered:
        return Check(name, False, f"UP in the registry at {offered[0].at:.2f} s, {why}", data)
    if calls:
        return Check(name, False, f"{calls} requests were sent to it, {why}", data)
    return Check(name, True, f"nobody was sent to it, {why}", data)


def serves(outcome: Outcome, first: str, last: str, name: str = "serves") -> Check:
    """From one moment to another it was UP all the time, and callers called it."""
    seen = outcome.between(first, last)
    calls = seen[-1].called - seen[0].called if seen else 0
    away = [moment for moment in seen if moment.status != "UP" or moment.app != "up"]
    data = {"calls": calls}
    if not seen:
        return Check(name, False, "it never came to that", data)
    if away:
        word = away[0].status or "not registered"
        return Check(name, False, f"at {away[0].at:.2f} s it was {word}, its app {away[0].app}", data)
    return Check(name, calls > 0, f"UP all the time, and callers sent it {calls} requests", data)


def nothing_but(reports: Sequence[Report], *wanted: str) -> Check:
    """The agent did what these kinds of notices ask for, in this order, and nothing else."""
    kinds = [_kind(report) for report in reports]
    text = f"{', '.join(kinds) or 'nothing'} is all that the agent did"
    return Check("nothing else", kinds == list(wanted), text, {"kinds": kinds})


def _to_tell(report: Report) -> set[str]:
    steps = {step["name"] for step in report.get("steps", ())}
    result = "failure" if report.get("outcome") == "failed" else "success"
    events = {"notify.start": "start", "notify.result": result}
    return {event for step, event in events.items() if step in steps}


def _kind(report: Report) -> str:
    return str((report.get("notice") or {}).get("kind", ""))


def _bytes(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"

"""The verdict of a rehearsal, and the proof that logs are in the bucket: both must be able to say no."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lifecycle_agent.model import ActionResult, Hook, LifecycleTransition
from lifecycle_agent.rehearsal import lifecycle
from lifecycle_agent.rehearsal.callers import Lost, Tally
from lifecycle_agent.rehearsal.drawing import Pen, table_lines, verdict_lines
from lifecycle_agent.rehearsal.lifecycle import LifecycleAction
from lifecycle_agent.rehearsal.outcome import Outcome
from lifecycle_agent.rehearsal.proof import LogProof, prove
from lifecycle_agent.rehearsal.scenarios import terminate
from lifecycle_agent.rehearsal.verdict import Verdict, document_of_all, judged
from lifecycle_agent.rehearsal.webhook import Told

HOOK = Hook("drain", LifecycleTransition.TERMINATING, 20, 2000, ActionResult.ABANDON)


def answered(result: ActionResult = ActionResult.CONTINUE, by: str = "instance ID") -> LifecycleAction:
    action = LifecycleAction(HOOK, "i-1", lifecycle.TERMINATE, 0.0, 20.0, 2000.0)
    action.result, action.answered_by, action.answered_at, action.seconds_left = result, by, 8.0, 12.0
    return action


NOTICES = ("notify.start", "notify.result")


def steps(*outcomes: str) -> dict[str, Any]:
    done = [
        {"name": f"step.{n}", "outcome": outcome, "seconds": 1.0, "detail": "as it is"}
        for n, outcome in enumerate(outcomes)
    ]
    around = [{"name": name, "outcome": "done", "seconds": 0.0, "detail": ""} for name in NOTICES]
    return {"notice": {"kind": "terminate"}, "outcome": "done", "seconds": 9.0, "steps": [*done, *around]}


WELL = Outcome(
    tally=Tally(ok=500, by_instance=Counter(a=500)),
    logs=LogProof(6, 1000, (), 300, "asg/manifest.json"),
    actions=(answered(),),
    course=(),
    reports=(steps("done", "done"),),
    told=(Told("webhook", "start", "terminate", ""), Told("webhook", "success", "terminate", "")),
    wanted=(("start", "success", "failure"),),
    app_stopped=True,
    registered=False,
    with_agent=True,
    seconds=15.0,
    speed=6.0,
)


TOLD_OF_FAILURE = (Told("webhook", "start", "terminate", ""), Told("webhook", "failure", "terminate", ""))


def judge(outcome: Outcome) -> Verdict:
    act = judged("", terminate.judge(outcome), outcome)
    return Verdict("terminate", (act,), outcome.with_agent)


def failed(verdict: Verdict) -> set[str]:
    return {name for act in verdict.acts for name in act.failed}


def test_nothing_lost_and_nothing_late_passes() -> None:
    verdict = judge(WELL)
    assert verdict.passed
    assert failed(verdict) == set()
    assert verdict.document()["hook"]["left"] == 12.0


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"tally": Tally(ok=500, lost=[Lost(3.0, "a", "refused")])}, "requests"),
        ({"tally": Tally()}, "requests"),
        ({"logs": LogProof(6, 1000, ("app.log: other bytes are in S3",), 300, "asg/manifest.json")}, "logs"),
        ({"logs": LogProof(6, 1000, (), 0, "")}, "logs"),
        ({"actions": ()}, "hook"),
        ({"actions": (answered(ActionResult.ABANDON),)}, "hook"),
        ({"actions": (answered(ActionResult.ABANDON, "heartbeat timeout"),)}, "hook"),
        ({"actions": (answered(ActionResult.CONTINUE, "heartbeat timeout"),)}, "hook"),
        ({"actions": (replace(answered(), result=None, answered_by=""),)}, "hook"),
        ({"registered": True}, "registry"),
        ({"told": ()}, "notices"),
        ({"told": WELL.told[:1]}, "notices"),
        ({"told": (Told("webhook", "start", "spot", ""),) * 2}, "notices"),
        ({"reports": (), "wanted": ()}, "agent"),
        ({"reports": ({**steps("failed"), "outcome": "failed"},), "told": TOLD_OF_FAILURE}, "agent"),
        (
            {
                "reports": ({**steps("failed"), "outcome": "failed"}, steps("done")),
                "told": (*TOLD_OF_FAILURE, *WELL.told),
            },
            "agent",
        ),
        ({"in_vain": "the rehearsal waited 9 s in vain: the instance is gone"}, "course"),
    ],
)
def test_each_thing_that_went_wrong_fails_the_verdict_and_is_named(change: Any, what: str) -> None:
    verdict = judge(replace(WELL, **change))
    assert not verdict.passed
    assert failed(verdict) == {what}
    assert what in verdict.sentence


@pytest.mark.parametrize(
    "change",
    [
        {"logs": None},
        {"wanted": (), "told": ()},
        {"wanted": (("failure",),), "told": ()},
        {"app_stopped": False},
    ],
)
def test_what_nobody_asked_for_is_no_failure(change: Any) -> None:
    assert judge(replace(WELL, **change)).passed


def test_losses_that_go_on_at_the_end_are_said_to() -> None:
    tally = Tally(ok=10, lost=[Lost(at, "a", "refused") for at in (10.0, 12.0, 14.8)])
    requests = judge(replace(WELL, tally=tally)).acts[0].checks[0]
    assert requests.text == "3 of 13 lost in 4.8 s: 3 refused, and no end to it"
    assert requests.data == {"sent": 13, "lost": 3, "how": {"refused": 3}}


def test_without_the_agent_its_report_is_not_missed() -> None:
    verdict = judge(replace(WELL, with_agent=False, reports=(), told=()))
    assert verdict.passed
    assert "agent" not in {check.name for check in verdict.acts[0].checks}


def test_the_drawing_shows_every_check_and_every_step_and_keeps_to_the_width() -> None:
    verdict = judge(replace(WELL, reports=(steps("done", "skipped", "failed"),)))
    lines = verdict_lines(verdict, 80, Pen(False))
    assert "PASSED" in lines[0]
    for name in [check.name for check in verdict.acts[0].checks] + [
        step.name for step in verdict.acts[0].steps
    ]:
        assert any(name in line for line in lines)
    assert all(len(line) <= 80 for line in lines)
    assert "\033" not in "".join(lines)
    assert "\033[32" in "".join(verdict_lines(verdict, 80, Pen(True)))


def test_acts_are_judged_each_by_itself_and_named() -> None:
    bad = replace(WELL, registered=True)
    acts = (
        judged("it goes well", terminate.judge(WELL), WELL),
        judged("it does not", terminate.judge(bad), bad),
    )
    verdict = Verdict("two", acts)
    assert not verdict.passed
    assert verdict.sentence == "people would have noticed: registry (it does not)"
    document = verdict.document()
    assert [act["act"] for act in document["acts"]] == ["it goes well", "it does not"]
    assert [act["registry"]["passed"] for act in document["acts"]] == [True, False]
    assert (document["scenario"], document["verdict"], document["seconds"]) == ("two", "failed", 30.0)
    lines = verdict_lines(verdict, 80, Pen(False))
    assert any("it does not" in line for line in lines)


def test_several_scenarios_end_with_a_table() -> None:
    lossy = replace(WELL, tally=Tally(ok=5, lost=[Lost(3.0, "a", "refused")]))
    verdicts = [judge(WELL), replace(judge(lossy), scenario="spot")]
    lines = table_lines(verdicts, {"launch": "[launch] is empty"}, 80, Pen(False))
    assert [line.split()[:2] for line in lines[:3]] == [["✓", "terminate"], ["✗", "spot"], ["·", "launch"]]
    assert "1 lost" in lines[1]
    assert "[launch] is empty" in lines[2] + lines[3]
    assert lines[-1].strip() == "1 of 2 scenarios passed"
    document = document_of_all(verdicts, {"launch": "[launch] is empty"})
    assert document["verdict"] == "failed"
    assert document["scenarios"] == {"terminate": "passed", "spot": "failed"}
    assert document["left_out"] == {"launch": "[launch] is empty"}
    assert document_of_all(verdicts[:1], {})["verdict"] == "passed"


# -- the proof


class Bucket:
    """Objects in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def listing(self, prefix: str = "") -> list[str]:
        return [key for key in self.objects if key.startswith(prefix)]

    def get(self, key: str) -> bytes:
        if key not in self.objects:
            raise OSError(f"no {key}")
        return self.objects[key]


TWO_FRAMES = zstandard.compress(b"one ") + zstandard.compress(b"two")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "logs" / "worker").mkdir(parents=True)
    (tmp_path / "logs" / "access.log").write_bytes(b"one two")
    (tmp_path / "logs" / "worker" / "w.log").write_bytes(b"three")
    (tmp_path / "logs" / "old.log.gz").write_bytes(gzip.compress(b"four"))
    (tmp_path / "logs" / "empty.log").touch()
    return tmp_path / "logs"


WAS = Path("/var/log/orders")


@pytest.fixture
def saved(disk: Path) -> Bucket:
    """Everything saved as it should be, in every way of compression."""
    bucket = Bucket()
    stored = {
        "access.log": (TWO_FRAMES, "zstd"),
        "worker/w.log": (gzip.compress(b"thr") + gzip.compress(b"ee"), "gzip"),
        "old.log.gz": ((disk / "old.log.gz").read_bytes(), "none"),
        "empty.log": (b"", "none"),
    }
    files = []
    for name, (content, compression) in stored.items():
        original = (disk / name).read_bytes()
        bucket.objects[f"p/{name}"] = content
        files.append(
            {
                "source": str(WAS / name),
                "key": f"p/{name}",
                "bytes": len(original),
                "sha256": hashlib.sha256(original).hexdigest(),
                "compression": compression,
            }
        )
    bucket.objects["p/manifest.json"] = json.dumps({"files": files}).encode()
    return bucket


def edit(bucket: Bucket, name: str, **change: Any) -> None:
    manifest = json.loads(bucket.objects["p/manifest.json"])
    for entry in manifest["files"]:
        if entry["source"] == str(WAS / name):
            entry.update(change)
    bucket.objects["p/manifest.json"] = json.dumps(manifest).encode()


def test_logs_that_are_saved_are_proven(disk: Path, saved: Bucket) -> None:
    proof = prove(saved, disk, WAS)
    assert proof.proven
    assert (proof.files, proof.missing) == (4, ())
    assert proof.bytes == sum(path.stat().st_size for path in disk.rglob("*") if path.is_file())


def test_no_manifest_is_no_proof(disk: Path, saved: Bucket) -> None:
    del saved.objects["p/manifest.json"]
    proof = prove(saved, disk, WAS)
    assert not proof.proven
    assert len(proof.missing) == 4


def test_a_manifest_that_is_none_is_no_proof(disk: Path, saved: Bucket) -> None:
    for content in (b"", b"[]", b"{}", b'{"files": 3}', b'{"files": [{"key": "x"}]}'):
        saved.objects["p/manifest.json"] = content
        assert not prove(saved, disk, WAS).proven


@pytest.mark.parametrize("name", ["access.log", "worker/w.log", "old.log.gz"])
@pytest.mark.parametrize("content", [None, b"", b"garbage", zstandard.compress(b"one tw!"), TWO_FRAMES[:-3]])
def test_an_object_that_is_not_the_file_is_found(
    disk: Path, saved: Bucket, name: str, content: bytes | None
) -> None:
    if content is None:
        del saved.objects[f"p/{name}"]
    else:
        saved.objects[f"p/{name}"] = content
    proof = prove(saved, disk, WAS)
    assert not proof.proven
    assert [text.partition(":")[0] for text in proof.missing] == [name]


def test_a_file_that_grew_after_it_was_saved_is_found(disk: Path, saved: Bucket) -> None:
    with (disk / "access.log").open("ab") as file:
        file.write(b" three")
    assert prove(saved, disk, WAS).missing == ("access.log: 7 of 13 bytes are in S3",)


def test_a_file_that_nobody_saved_is_found(disk: Path, saved: Bucket) -> None:
    (disk / "late.log").write_text("late")
    assert prove(saved, disk, WAS).missing == ("late.log: not in the manifest",)


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"bytes": 1}])
def test_a_manifest_that_lies_is_found(disk: Path, saved: Bucket, change: Any) -> None:
    edit(saved, "access.log", **change)
    assert prove(saved, disk, WAS).missing == ("access.log: the manifest says something else",)

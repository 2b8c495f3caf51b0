"""What people see of a rehearsal."""

from __future__ import annotations

import io
import json
import os
import re

import pytest

from lifecycle_agent.rehearsal import show
from lifecycle_agent.rehearsal.callers import Lost, Tally
from lifecycle_agent.rehearsal.drawing import Pen
from lifecycle_agent.rehearsal.terminal import Terminal
from lifecycle_agent.rehearsal.timeline import Event, Lane, Mood, Timeline
from lifecycle_agent.rehearsal.world import OURS


class World:
    """Stands still."""

    def names(self) -> dict[str, str]:
        return {OURS: "i-0a1f"}

    def agent_does(self) -> str:
        return "settles"

    def tally(self) -> Tally:
        return Tally(ok=70, lost=[Lost(1.0, "a", "refused")] * 3)

    def seconds(self) -> float:
        return 12.5


def drawn(monkeypatch: pytest.MonkeyPatch, width: int, *events: Event, color: bool = False) -> str:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((width, 24)))
    out = io.StringIO()
    with Terminal(out, Pen(color)) as terminal:
        terminal.begin("terminate", "")
        terminal.look_at(World())
        for event in events:
            terminal.event(event)
    return out.getvalue()


def plain(text: str) -> list[str]:
    return re.sub(r"\033\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()


LONG = Event(1.0, Lane.AGENT, "a sentence that goes on and on until no terminal is wide enough for it " * 3)


@pytest.mark.parametrize("width", [20, 40, 72, 100, 300])
def test_lines_keep_to_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = plain(drawn(monkeypatch, width, LONG, Event(2.0, Lane.GROUP, f"takes {OURS} away")))
    assert max(len(line) for line in lines) <= max(width, 41)  # some room a text must have
    assert any("takes i-0a1f away" in line for line in lines)


def test_the_living_line_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(plain(drawn(monkeypatch, 100, Event(1.0, Lane.GROUP, "x"))))
    assert "70 answered, 3 lost" in text
    assert "agent: settles" in text


def test_a_rail_ends_with_who_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = plain(
        drawn(
            monkeypatch,
            100,
            Event(1.0, Lane.APP, "serves", data={"instance": OURS, "event": "serving"}),
            Event(2.0, Lane.GROUP, "before"),
            Event(3.0, Lane.APP, "stopped", data={"instance": OURS, "event": "stopped"}),
            Event(4.0, Lane.GROUP, "after"),
        )
    )
    rails = {line.split()[-1]: line[9:18] for line in lines if re.match(r" +\d", line) and "│" in line}
    assert rails["before"] == "● │ │    "
    assert rails["after"] == "● │      "


def test_no_color_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Event(1.0, Lane.CALLERS, "lost", Mood.BAD)
    assert "\033[31m" in drawn(monkeypatch, 100, bad, color=True)
    assert not re.search(r"\033\[[0-9;]*m", drawn(monkeypatch, 100, bad))


def test_machines_get_one_object_a_line() -> None:
    out = io.StringIO()
    lines = show.choose(True, out)
    lines.event(Event(1.23456, Lane.APP, "serves", data={"port": 80}))
    document = json.loads(out.getvalue())
    assert document == {"at": 1.235, "lane": "app", "text": "serves", "mood": "plain", "port": 80}


def test_events_say_which_scenario_and_act_they_belong_to() -> None:
    out = io.StringIO()
    lines = show.choose(True, out)
    lines.begin("spot", "in service")
    lines.event(Event(1.0, Lane.EC2, "interrupts"))
    lines.begin("terminate", "")
    lines.event(Event(2.0, Lane.GROUP, "scales in"))
    first, second = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (first["scenario"], first["act"]) == ("spot", "in service")
    assert second["scenario"] == "terminate"
    assert "act" not in second


def test_each_act_begins_with_a_title_and_rails_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((100, 24)))
    out = io.StringIO()
    with Terminal(out, Pen(False)) as terminal:
        for title in ("it becomes ready", "it never does"):
            terminal.begin("launch", title)
            terminal.event(Event(1.0, Lane.AGENT, "starts"))
            terminal.event(Event(2.0, Lane.GROUP, f"the end of {title}"))
    lines = plain(out.getvalue())
    assert [line.strip() for line in lines if line.strip() in ("it becomes ready", "it never does")]
    assert sum("╭ agent" in line for line in lines) == 2
    starts = [line for line in lines if line.endswith("starts")]
    assert starts[0] == starts[1], "what was alive in the act before is not in this one"


def test_a_pipe_gets_plain_lines() -> None:
    out = io.StringIO()
    shown = show.choose(False, out)
    shown.look_at(World())
    shown.event(Event(1.0, Lane.GROUP, f"takes {OURS} away"))
    assert out.getvalue() == "   1.00  group     takes i-0a1f away\n"


def test_a_timeline_is_in_order_and_tells_each_event_once() -> None:
    now = iter([10.0, 10.5, 12.0])
    told: list[Event] = []
    timeline = Timeline(lambda: next(now), told.append)
    timeline.add(Lane.GROUP, "first")
    timeline.add(Lane.AGENT, "second", Mood.BAD, step="logs")
    assert [(event.at, event.text) for event in timeline.events()] == [(0.5, "first"), (2.0, "second")]
    assert told == timeline.events()
    assert told[1].data == {"step": "logs"}

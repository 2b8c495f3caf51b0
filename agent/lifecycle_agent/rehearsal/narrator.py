"""Puts what happens in the world into sentences of the timeline, and says how to take them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lifecycle_agent.model import ActionResult
from lifecycle_agent.rehearsal.callers import Lost
from lifecycle_agent.rehearsal.timeline import Lane, Mood, Timeline
from lifecycle_agent.rehearsal.webhook import Told

APP_SAYS = {
    "serving": "serves on {address}:{port}",
    "asked": "is asked {what}",
    "ready": "is healthy",
    "stopping": "stops: answers what is in flight",
    "stopped": "stopped after {served} requests, {cut_off} cut off",
}
LEVELS = {"warning": Mood.WARNING, "error": Mood.BAD, "critical": Mood.BAD, "debug": Mood.QUIET}


class Narrator:
    """Tells the timeline."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def group(self, who: str, text: str) -> None:
        """The group did something."""
        mood = Mood.PLAIN
        if "by default" in text or "-> Terminated" in text:
            mood = Mood.WARNING
        elif "heartbeat for" in text:
            mood = Mood.QUIET
        elif f"says {ActionResult.CONTINUE.value}" in text:
            mood = Mood.GOOD
        self._timeline.add(Lane.GROUP, text, mood)

    def registry(self, who: str, text: str) -> None:
        """The registry changed."""
        self._timeline.add(Lane.REGISTRY, text, Mood.WARNING if "evicts" in text else Mood.PLAIN)

    def app(self, instance_id: str, event: str, said: Mapping[str, Any]) -> None:
        """An app said an event, with what belongs to it."""
        text = f"{instance_id} {APP_SAYS.get(event, event).format(**said)}"
        mood = Mood.WARNING if event == "registered again" else Mood.PLAIN
        self._timeline.add(Lane.APP, text, mood, instance=instance_id, event=event)

    def agent(self, line: str) -> None:
        """The agent wrote a line of its log: a JSON object, or whatever it wrote instead."""
        try:
            said = json.loads(line)
            text, level, step = str(said["message"]), str(said.get("level")), said.get("step")
        except (ValueError, KeyError, TypeError, AttributeError):
            text, level, step = line, "warning", None
        self._timeline.add(Lane.AGENT, text, LEVELS.get(level, Mood.PLAIN), step=step)

    def notice(self, told: Told) -> None:
        """Somebody was told something."""
        self._timeline.add(Lane.NOTICES, f"{told.by}: {told.text}")

    def followed(self, views: Sequence[frozenset[str]], came: frozenset[str], went: frozenset[str]) -> None:
        """A caller saw instances come and go; `views` is what each of them sees now."""
        for name in sorted(went | came):
            seeing = sum(name in view for view in views)
            if name in went:
                left = f"{seeing} of {len(views)} callers call" if seeing else "nobody calls"
                self._timeline.add(Lane.CALLERS, f"{left} {name} now")
            elif seeing == len(views):
                self._timeline.add(Lane.CALLERS, f"all {seeing} callers call {name}")

    def lost(self, lost: Sequence[Lost]) -> None:
        """Callers lost these requests."""
        ways = Counter(f"{one.how} by {one.instance}" if one.instance else one.how for one in lost)
        said = ", ".join(f"{number} {how}" for how, number in ways.most_common())
        self._timeline.add(Lane.CALLERS, f"lost: {said}", Mood.BAD, lost=len(lost))

    def gone(self, instance_id: str) -> None:
        """A machine is no more."""
        text = f"{instance_id} is gone, and its disk with it"
        self._timeline.add(Lane.MACHINE, text, Mood.WARNING, event="gone")

"""The timeline as people, files and machines get it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import IO, Protocol

from lifecycle_agent.rehearsal.drawing import Pen, verdict_lines
from lifecycle_agent.rehearsal.output import Seen, Writer, for_people
from lifecycle_agent.rehearsal.terminal import Terminal
from lifecycle_agent.rehearsal.timeline import Event
from lifecycle_agent.rehearsal.verdict import Verdict


class Show(Protocol):
    """Shows a rehearsal to somebody."""

    def __enter__(self) -> Show:
        """Begin."""
        ...

    def __exit__(self, *_: object) -> None:
        """Leave the output as it is fit to be left."""
        ...

    def begin(self, scenario: str, title: str) -> None:
        """An act begins; its title is empty where it is the only one."""
        ...

    def event(self, event: Event) -> None:
        """Show that something happened."""
        ...

    def look_at(self, seen: Seen) -> None:
        """The world comes to be from now on."""
        ...

    def verdict(self, verdict: Verdict) -> None:
        """Show how it went."""
        ...


def choose(as_json: bool, out: IO[str], environ: Mapping[str, str] = os.environ) -> Show:
    """The show that fits where the output goes."""
    if as_json:
        return JsonLines(out)
    if out.isatty() and environ.get("TERM", "dumb") != "dumb":
        return Terminal(out, Pen("NO_COLOR" not in environ))
    return Plain(out)


class JsonLines(Writer):
    """For machines: an object a line for each event, and one with `verdict` at the end."""

    def __init__(self, out: IO[str]) -> None:
        super().__init__(out)
        self._about: dict[str, str] = {}

    def __enter__(self) -> JsonLines:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to be undone."""

    def begin(self, scenario: str, title: str) -> None:
        """Each event says where it belongs."""
        self._about = {"scenario": scenario, **({"act": title} if title else {})}

    def look_at(self, seen: Seen) -> None:
        """Machines get the long names."""

    def event(self, event: Event) -> None:
        """Write one event."""
        document = {**self._about, "at": round(event.at, 3), "lane": event.lane.value, "text": event.text}
        self.write(json.dumps({**document, "mood": event.mood.value, **event.data}) + "\n")

    def verdict(self, verdict: Verdict) -> None:
        """Write the verdict."""
        self.write(json.dumps(verdict.document()) + "\n")


class Plain(Writer):
    """Lines for a file or a pipe."""

    def __init__(self, out: IO[str]) -> None:
        super().__init__(out)
        self._seen: Seen | None = None

    def __enter__(self) -> Plain:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to be undone."""

    def begin(self, scenario: str, title: str) -> None:
        """Write the title."""
        if title:
            self.write(f"\n{title}\n")

    def look_at(self, seen: Seen) -> None:
        """It knows the short names."""
        self._seen = seen

    def event(self, event: Event) -> None:
        """Write one event."""
        text = for_people(event.text, self._seen)
        self.write(f"{event.at:7.2f}  {event.lane.value:9} {text}\n")

    def verdict(self, verdict: Verdict) -> None:
        """Write the verdict."""
        self.write("\n" + "\n".join(verdict_lines(verdict, 100, Pen(False))) + "\n")

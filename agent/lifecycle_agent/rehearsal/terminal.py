"""The timeline on a terminal: a rail for each who takes part, and a line at the bottom that lives."""

from __future__ import annotations

import shutil
import textwrap
import threading
from collections import deque
from typing import IO

from lifecycle_agent.rehearsal.callers import Tally
from lifecycle_agent.rehearsal.drawing import BOLD, COLORS, DIM, MOODS, Pen, verdict_lines
from lifecycle_agent.rehearsal.output import Seen, Writer, for_people
from lifecycle_agent.rehearsal.timeline import Event, Lane, Mood
from lifecycle_agent.rehearsal.verdict import Verdict
from lifecycle_agent.rehearsal.world import OURS

REPAINT_SECONDS = 0.2  # seconds that pass are seen passing; a remote terminal is not flooded
STRIP = 24  # how many of the last half seconds the status line shows
SAMPLES = 2  # repaints that make a cell of the strip a little less than half a second

RAILS = (Lane.GROUP, Lane.REGISTRY, Lane.APP, Lane.CALLERS, Lane.AGENT)
LEAST_WIDTH_FOR_RAILS = 72  # below, the text needs the room more


class Terminal(Writer):
    """Draws the timeline with a rail for each who takes part, and a line below it that lives."""

    def __init__(self, out: IO[str], pen: Pen) -> None:
        super().__init__(out)
        self._pen = pen
        self._seen: Seen | None = None
        self._set_up()
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._painter = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> Terminal:
        """Hide the cursor and begin."""
        self.write("\033[?25l\n")
        self._painter.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the living line away and show the cursor again."""
        self._stop()
        self.write("\r\033[2K\033[?25h")

    def begin(self, scenario: str, title: str) -> None:
        """Draw the title, and the rails' heads."""
        with self._lock:
            self._set_up()
            above = f"\n {self._pen(title, BOLD)}\n\n" if title else ""
            self.write("\r\033[2K" + above + self._heading() + "\n")

    def look_at(self, seen: Seen) -> None:
        """Show its counters from now on."""
        with self._lock:
            self._seen = seen

    def event(self, event: Event) -> None:
        """Draw one event above the living line."""
        with self._lock:
            self._notice(event)
            self.write("\r\033[2K" + "\n".join(self._drawn(event)) + "\n" + self._status())

    def verdict(self, verdict: Verdict) -> None:
        """Draw the verdict."""
        self._stop()
        lines = verdict_lines(verdict, self._width(), self._pen)
        self.write("\r\033[2K\n" + "\n".join(lines) + "\n\n")

    # -- what is drawn

    def _set_up(self) -> None:
        """Nothing has been seen yet."""
        self._seen = None
        self._alive: set[Lane] = {Lane.GROUP, Lane.REGISTRY}
        self._losing = False
        self._strip: deque[str] = deque(maxlen=STRIP)
        self._sampled = (0, 0)

    def _notice(self, event: Event) -> None:
        """Whose rail begins or ends here, and whether the callers' is red."""
        ours = event.data.get("instance") == OURS
        kind = event.data.get("event")
        if event.lane is Lane.CALLERS:
            self._losing = event.mood is Mood.BAD
        if event.lane in (Lane.AGENT, Lane.CALLERS) or (ours and kind == "serving"):
            self._alive.add(event.lane)
        if ours and kind == "stopped":
            self._alive.discard(Lane.APP)
        if kind == "gone":
            self._alive -= {Lane.APP, Lane.AGENT}

    def _heading(self) -> str:
        if self._width() < LEAST_WIDTH_FOR_RAILS:
            return ""
        heads = [self._pen(f"{'│ ' * number}╭ {lane.value}", DIM) for number, lane in enumerate(RAILS)]
        return "\n".join(" " * 9 + head for head in heads)

    def _drawn(self, event: Event) -> list[str]:
        width = self._width()
        rails = width >= LEAST_WIDTH_FOR_RAILS
        room = max(20, width - 9 - 11 - (2 * len(RAILS) + 1 if rails else 0))
        texts = textwrap.wrap(for_people(event.text, self._seen), room, break_on_hyphens=False) or [""]
        lines = []
        for number, text in enumerate(texts):
            first = number == 0
            when = self._pen(f"{event.at:7.2f}  " if first else " " * 9, DIM)
            name = self._pen(f"{event.lane.value if first else '':10}", COLORS[event.lane])
            rail = self._rails(event.lane if first else None, event.mood) + " " if rails else ""
            lines.append(f"{when}{rail}{name} {self._pen(text, MOODS[event.mood])}")
        return lines

    def _rails(self, here: Lane | None, mood: Mood) -> str:
        cells = []
        for lane in RAILS:
            color = COLORS[lane]
            if lane is here:
                cells.append(self._pen("●", MOODS[mood] if mood in (Mood.BAD, Mood.WARNING) else color))
            elif lane not in self._alive:
                cells.append(" ")
            elif lane is Lane.CALLERS and self._losing:
                cells.append(self._pen("┃", MOODS[Mood.BAD]))
            else:
                cells.append(self._pen("│", color, DIM))
        return " ".join(cells)

    def _status(self) -> str:
        """The living line: time, what the agent does, how the callers fare; never wider than the terminal."""
        if self._seen is None:
            return ""
        tally, doing = self._seen.tally(), self._seen.agent_does()
        lost = len(tally.lost)
        parts = [
            (f"{self._seen.seconds():7.2f}  ", (BOLD,)),
            ("callers ", (COLORS[Lane.CALLERS],)),
            *((cell, (MOODS[Mood.BAD] if cell == "▮" else MOODS[Mood.GOOD],)) for cell in self._strip),
            (f" {tally.ok} answered, ", ()),
            (f"{lost} lost", (MOODS[Mood.BAD],) if lost else (MOODS[Mood.GOOD],)),
            (f"  agent: {doing}" if doing else "", (COLORS[Lane.AGENT],)),
        ]
        room, line = self._width() - 1, ""
        for text, style in parts:
            line += self._pen(text[: max(0, room)], *style)
            room -= len(text)
        return line

    # -- the living line

    def _live(self) -> None:
        painted = 0
        while not self._closed.wait(REPAINT_SECONDS):
            painted += 1
            with self._lock:
                if self._seen is not None and painted % SAMPLES == 0:
                    self._sample(self._seen.tally())
                self.write("\r\033[2K" + self._status())

    def _sample(self, tally: Tally) -> None:
        ok, lost = self._sampled
        self._sampled = (tally.ok, len(tally.lost))
        if tally.ok > ok or len(tally.lost) > lost:
            self._strip.append("▮" if len(tally.lost) > lost else "▪")

    def _stop(self) -> None:
        self._closed.set()
        if self._painter.is_alive():
            self._painter.join()

    def _width(self) -> int:
        return min(140, shutil.get_terminal_size().columns)

"""Colours, and the verdict as a drawing."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence

from lifecycle_agent.rehearsal.timeline import Lane, Mood
from lifecycle_agent.rehearsal.verdict import Judged, StepTime, Verdict

# Select Graphic Rendition (ECMA-48): colours of the terminal's own palette, so they fit its background.
BOLD, DIM, REVERSE = "1", "2", "7"
RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN = "31", "32", "33", "34", "35", "36"

COLORS = {
    Lane.GROUP: MAGENTA,
    Lane.REGISTRY: CYAN,
    Lane.APP: GREEN,
    Lane.CALLERS: BLUE,
    Lane.AGENT: YELLOW,
    Lane.NOTICES: "",
    Lane.MACHINE: "",
    Lane.EC2: MAGENTA,
}
MOODS = {Mood.PLAIN: "", Mood.QUIET: DIM, Mood.GOOD: GREEN, Mood.WARNING: YELLOW, Mood.BAD: RED}
MARKS = {True: ("✓", GREEN), False: ("✗", RED), None: ("·", DIM)}
OUTCOMES = {"done": GREEN, "warned": YELLOW, "failed": RED, "skipped": DIM}

EIGHTHS = " ▏▎▍▌▋▊▉█"


class Pen:
    """Writes in colour, or does not."""

    def __init__(self, color: bool) -> None:
        self._color = color

    def __call__(self, text: str, *codes: str) -> str:
        """The text in these colours."""
        codes = tuple(code for code in codes if code)
        return f"\033[{';'.join(codes)}m{text}\033[0m" if self._color and codes and text else text


def verdict_lines(verdict: Verdict, width: int, pen: Pen) -> list[str]:
    """The verdict line by line: the sentence, what was looked at, the seconds of each step."""
    title, color = ("PASSED", GREEN) if verdict.passed else ("FAILED", RED)
    rule = "─" * max(0, min(width, 100) - 2 - len(title) - 4)
    return [
        f" {pen('──', color)} {pen(title, color, BOLD)} {pen(rule, color)}",
        f" {pen(verdict.sentence, BOLD)}",
        *(line for act in verdict.acts for line in _act(act, width, pen)),
    ]


def table_lines(verdicts: Sequence[Verdict], left_out: Mapping[str, str], width: int, pen: Pen) -> list[str]:
    """A line for each of several scenarios, and for those that were left out, with the reason."""
    names = max(len(name) for name in (*(one.scenario for one in verdicts), *left_out))
    lines: list[str] = []
    for one in verdicts:
        mark, color = MARKS[one.passed]
        lost = sum(act.lost for act in one.acts)
        text = f"{one.seconds:6.1f} s  {lost} lost" + ("" if one.passed else f"  {one.sentence}")
        lines += _wrapped(f"  {pen(mark, color)} {one.scenario:{names}} ", names + 5, text, width)
    for name, reason in left_out.items():
        lines += _wrapped(f"  {pen('·', DIM)} {name:{names}} ", names + 5, f"left out: {reason}", width)
    passed = sum(one.passed for one in verdicts)
    return [*lines, "", f" {pen(f'{passed} of {len(verdicts)} scenarios passed', BOLD)}"]


def _act(act: Judged, width: int, pen: Pen) -> Iterator[str]:
    yield ""
    if act.title:
        yield f" {pen(act.title, BOLD)}"
    names = max(9, *(len(check.name) for check in act.checks))
    for check in act.checks:
        mark, color = MARKS[check.passed]
        red = RED if check.passed is False else ""
        head = f"  {pen(mark, color)} {check.name:{names}} "
        yield from _wrapped(head, names + 5, check.text, width, lambda text: pen(text, red))  # noqa: B023
    yield from _steps(act.steps, width, pen)


def _wrapped(
    head: str, indent: int, text: str, width: int, paint: Callable[[str], str] = lambda text: text
) -> Iterator[str]:
    for number, line in enumerate(textwrap.wrap(text, max(20, width - indent), break_on_hyphens=False)):
        yield (head if number == 0 else " " * indent) + paint(line)


def _steps(steps: tuple[StepTime, ...], width: int, pen: Pen) -> Iterator[str]:
    """One bar a step, each beginning where the one before ended."""
    total = sum(step.seconds or 0.0 for step in steps)
    if not steps:
        return
    names = max(len(step.name) for step in steps)
    room = max(10, min(width, 100) - names - 18)
    yield ""
    began = 0.0
    for step in steps:
        seconds = step.seconds or 0.0
        took = "       —" if step.seconds is None else f"{seconds:6.2f} s"
        bar = _bar(began / total, (began + seconds) / total, room) if total else ""
        yield f"    {step.name:{names}} {took}  {pen(bar, OUTCOMES.get(step.outcome, ''))}"
        began += seconds


def _bar(begin: float, end: float, room: int) -> str:
    """A bar from `begin` to `end` (0 to 1); exact to an eighth of a cell, never nothing."""
    first = min(room - 1, int(begin * room))
    eighths = max(1, round((end * room - first) * 8))
    return " " * first + "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()

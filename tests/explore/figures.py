"""The table of what was searched."""

from __future__ import annotations

from tests.explore.search import Found
from tests.explore.world import World

HEAD = f"{'scope':<22} {'states':>10} {'steps':>10} {'depth':>6} {'at rest':>8} {'seconds':>8}"
LINES: list[str] = []


def line(name: str, found: Found[World], seconds: float) -> str:
    """One scope's line."""
    counts = f"{found.states:>10,} {found.edges:>10,} {found.depth:>6} {found.rests:>8,}"
    return f"{name:<22} {counts} {seconds:>8.1f}"

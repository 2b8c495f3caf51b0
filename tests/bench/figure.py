"""One figure beside its target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """What was measured and what it may be at most.

    Args:
        detail: how it came about, for people.
    """

    name: str
    value: float
    most: float
    unit: str
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether it is within its target."""
        return self.value <= self.most

    def row(self) -> tuple[str, ...]:
        """For the table."""
        value, most = (f"{number:.3g} {self.unit}" for number in (self.value, self.most))
        return ("ok" if self.met else "MISSED", value, most, self.name, self.detail)

"""Figures: what a benchmark says, run by run, beside its target and its yardstick. Pure.

A yardstick is measured in the same run of the same benchmark and in the figure's own unit. Times
differ from machine to machine; the ratio of a figure to its yardstick hardly does.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of all values do not exceed (nearest rank)."""
    assert values, "a quantile of nothing"
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(frozen=True, slots=True)
class Target:
    """What a median should be."""

    bound: float
    at_least: bool = False

    def is_met_by(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {number(self.bound)}"


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Something simple and well known, done as often as the figure asks, in the figure's unit."""

    name: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    """Stable: `<benchmark>.<…>`."""
    what: str
    """For people, beside the benchmark's name."""
    unit: str
    values: tuple[float, ...]
    """One for each run."""
    target: Target | None = None
    yardstick: Yardstick | None = None
    means: str = ""
    """What it means to a user, in a sentence."""

    def __post_init__(self) -> None:
        assert self.values, f"{self.name} has no run"

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """None without a target."""
        return None if self.target is None else self.target.is_met_by(self.median)

    @property
    def ratio(self) -> float | None:
        """The figure divided by its yardstick; None without one, or with one of 0."""
        if self.yardstick is None or not self.yardstick.median:
            return None
        return self.median / self.yardstick.median

    def record(self) -> dict[str, Any]:
        """As it stands in bench/latest.json (`report`)."""
        yardstick = self.yardstick
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "spread": [min(self.values), max(self.values)],
            "runs": list(self.values),
            "target": None if self.target is None else str(self.target),
            "met": self.met,
            "yardstick": None
            if yardstick is None
            else {
                "name": yardstick.name,
                "median": yardstick.median,
                "runs": list(yardstick.values),
            },
            "ratio": self.ratio,
            "means": self.means,
        }


def number(value: float) -> str:
    """Three significant digits, thousands set off by commas."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

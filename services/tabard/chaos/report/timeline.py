"""A run as one picture: scenarios, faults, lag and packets over time. Pure.

The picture is a part of the page: its colours are the page's classes, and it refers to nothing.
"""

import re
from collections.abc import Iterator, Sequence
from html import escape
from math import sqrt

from tabard.chaos.record import Injected
from tabard.chaos.report.outcome import NANOSECONDS, Outcome

WIDTH = 1160
LEFT = 148
RIGHT = 16
LANE = 17
BAND = 11
STRIP = 40
STRIP_GAP = 10
GAP = 24
TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
TICKS_MAX = 16
LETTERS_MAX = 22
EVERYBODY = "the whole cluster"
BAND_MIN = 1.5
LABEL_MIN = 15.0
"""Least room of a scenario's number, in pixels."""


def timeline(outcome: Outcome) -> str:
    """An `<svg>` element."""
    return _Picture(outcome).drawn()


class _Picture:
    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.began = outcome.record.began
        self.length = max(outcome.record.ended - self.began, 1)
        self.parts: list[str] = []
        self.y = 8.0

    def x(self, at: int) -> float:
        share = min(max((at - self.began) / self.length, 0.0), 1.0)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def drawn(self) -> str:
        self._scenarios()
        self._faults()
        self._lags()
        self._probes()
        self._violations()
        self._axis()
        height = self.y + 6
        return (
            f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" class="timeline">'
            "<title>scenarios, faults, lag of nodes and probes over the time of the run</title>"
            + "".join([*self._grid(height - 22), *self.parts])
            + "</svg>"
        )

    def _grid(self, bottom: float) -> Iterator[str]:
        """A hairline where each scenario begins, and a red one at each violation."""
        for phase in self.outcome.record.phases:
            yield _line(self.x(phase.began), 8, bottom, "grid")
        for at in self._violated():
            yield _line(self.x(at), 8, bottom, "wrong")

    def _violated(self) -> list[int]:
        told = (each for verdict in self.outcome.verdicts for each in verdict.told)
        return sorted({violation.at for violation in told if violation.at})

    def _title(self, text: str, below: str = "") -> None:
        """What stands at the left of a strip or lane."""
        self.parts.append(_text(LEFT - 10, self.y + 10, text, "name end"))
        if below:
            self.parts.append(_text(LEFT - 10, self.y + 24, below, "note end"))

    def _scenarios(self) -> None:
        numbers = numbered(self.outcome)
        self._title("scenario")
        for phase in self.outcome.record.phases:
            left, right = self.x(phase.began), self.x(phase.ended)
            number = numbers[phase.scenario]
            took = (phase.ended - phase.began) / NANOSECONDS
            tip = f"{number} {phase.scenario}: {took:.1f} s"
            self.parts.append(_band(left, right, self.y, 14, "phase", tip))
            if right - left >= LABEL_MIN:
                self.parts.append(_text((left + right) / 2, self.y + 10.5, str(number), "number"))
        self.y += GAP

    def _faults(self) -> None:
        """A lane for each that was hit: a fault until its heal, then paler until all converged."""
        targets: dict[str, list[Injected]] = {}
        for each in self.outcome.record.injected:
            for target in hit(each):
                targets.setdefault(target, []).append(each)
        for target in sorted(targets):
            self._title(_cut(target))
            for each in targets[target]:
                self._fault(each)
            self.y += LANE
        self.y += GAP - LANE if targets else 0

    def _fault(self, each: Injected) -> None:
        second = self.outcome.second
        began, healed, done = self.x(each.began), self.x(each.healed), self.x(each.converged)
        lasted = f"{second(each.began):.1f} to {second(each.healed):.1f} s"
        detail = f" ({each.detail})" if each.detail else ""
        if each.converged:
            took = max(each.converged - each.healed, 0) / NANOSECONDS
            after = f"converged {took:.1f} s after"
            self.parts.append(_band(healed, done, self.y + 2, BAND, "mending", after))
            self.parts.append(_line(max(done, healed), self.y, self.y + BAND + 4, "whole"))
        else:
            after = "NOT converged"
        tip = f"{each.scenario}: {each.fault}, {each.target}{detail}, {lasted}; {after}"
        self.parts.append(_band(began, healed, self.y + 2, BAND, "fault", tip))

    def _lags(self) -> None:
        lags = self.outcome.lags
        most = max((lag.events for points in lags.values() for lag in points), default=0)
        for node, points in lags.items():
            peak = max((lag.events for lag in points), default=0)
            self._title(f"{_cut(node)} lag", f"peak {peak} events")
            self._area([(lag.at, lag.events) for lag in points], most, "lag")
        self.y += GAP - STRIP_GAP if lags else 0

    def _probes(self) -> None:
        traffic = self.outcome.traffic
        if not traffic:
            return
        most = max(max(each.passed, each.denied) for each in traffic)
        for name, points in (
            ("passed", [(each.at, each.passed) for each in traffic]),
            ("denied", [(each.at, each.denied) for each in traffic]),
        ):
            peak = max(count for _, count in points)
            self._title(f"probes {name}", f"peak {peak} a second")
            self._area(points, most, name, NANOSECONDS)
        self.y += GAP - STRIP_GAP

    def _area(
        self, points: Sequence[tuple[int, int]], most: int, style: str, lasting: int | None = None
    ) -> None:
        """Steps from point to point, `lasting` nanoseconds at most, of height √value: small ones
        show beside large ones."""
        foot = self.y + STRIP
        self.y = foot + STRIP_GAP
        self.parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{foot:.1f}" y2="{foot:.1f}" class="foot"/>'
        )
        if not most:
            return
        ends = [*(at for at, _ in points[1:]), self.began + self.length]
        path = []
        for (at, value), end in zip(points, ends, strict=True):
            if value:
                until = end if lasting is None else min(end, at + lasting)
                left, right = self.x(at), self.x(until)
                top = foot - STRIP * sqrt(value / most)
                path.append(
                    f"M{left:.1f} {foot:.1f}V{top:.1f}H{max(right, left + 0.8):.1f}V{foot:.1f}z"
                )
        self.parts.append(f'<path d="{"".join(path)}" class="{style}"/>')

    def _violations(self) -> None:
        marks = self._violated()
        untimed = self.outcome.violations - len(marks)
        self._title("violations", "none" if not self.outcome.violations else "")
        for at in marks:
            x, y = self.x(at), self.y + 6
            when = f"violation at {self.outcome.second(at):.1f} s"
            self.parts.append(
                f'<path d="M{x:.1f} {y - 5}l5 5-5 5-5-5z" class="violated">'
                f"<title>{when}</title></path>"
            )
        if not marks and untimed:
            self.parts.append(_text(LEFT, self.y + 10, f"{untimed} without a time", "note"))
        self.y += GAP + 8

    def _axis(self) -> None:
        seconds = self.length / NANOSECONDS
        each = next((tick for tick in TICKS_S if seconds / tick <= TICKS_MAX), TICKS_S[-1])
        top = self.y
        self.parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top:.1f}" y2="{top:.1f}" class="axis"/>'
        )
        for at in range(0, int(seconds) + 1, each):
            x = self.x(self.began + at * NANOSECONDS)
            self.parts.append(_line(x, top, top + 4, "axis"))
            self.parts.append(_text(x, top + 15, clock(at), "tick"))
        self.y = top + 20


def hit(each: Injected) -> list[str]:
    """The processes that a fault hit, of what it says; EVERYBODY if it names none."""
    return list(dict.fromkeys(_PROCESS.findall(_BEHIND.split(each.target, 1)[0]))) or [EVERYBODY]


_BEHIND = re.compile(r"[:;] ")
"""What stands behind it was not hit."""
_PROCESS = re.compile(r"\b(?:nats|agent|allocator|source)\b(?:\.[a-z0-9-]+)?")


def numbered(outcome: Outcome) -> dict[str, int]:
    """Each scenario's number in picture and table: from 1, in the order of their first time."""
    names = dict.fromkeys(phase.scenario for phase in outcome.record.phases)
    return {name: number for number, name in enumerate(names, 1)}


def clock(seconds: float) -> str:
    """`1:05`, `1:00:00`"""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def _band(left: float, right: float, y: float, high: float, style: str, tip: str) -> str:
    return (
        f'<rect x="{left:.1f}" y="{y:.1f}" width="{max(right - left, BAND_MIN):.1f}" '
        f'height="{high}" rx="2" class="{style}"><title>{escape(tip)}</title></rect>'
    )


def _line(x: float, top: float, bottom: float, style: str) -> str:
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" class="{style}"/>'


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}">{escape(text)}</text>'


def _cut(text: str) -> str:
    return text if len(text) <= LETTERS_MAX else f"{text[: LETTERS_MAX - 1]}…"

"""A judged run, and the figures that follow from it. Pure."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tabard.chaos.judge.figures import Lag, Traffic
from tabard.chaos.record import Injected, Record
from tabard.invariants.verdict import Verdict

NANOSECONDS = 1_000_000_000
BEFORE = ""
"""The name under which stands what was before the first scenario."""


@dataclass(frozen=True, slots=True)
class Row:
    """A scenario's figures, of all the times that it was carried out."""

    scenario: str
    """BEFORE for what was before the first one."""
    times: int
    faults: int
    acknowledged: int
    packets: int
    violations: int
    """Those that have a time of their own and are told."""
    converge_s: float | None
    """The longest that it took from a fault's heal; None where there was none, or it did not."""


@dataclass(frozen=True, slots=True)
class Outcome:
    record: Record
    verdicts: tuple[Verdict, ...]
    lags: Mapping[str, Sequence[Lag]] = field(default_factory=dict)
    traffic: Sequence[Traffic] = ()
    lines: Mapping[str, str] = field(default_factory=dict)
    """What each scenario does, by its name."""

    @property
    def missing(self) -> list[str]:
        """Scenarios that were to be carried out and were not."""
        done = {phase.scenario for phase in self.record.phases}
        return [name for name in self.record.scenarios if name not in done]

    @property
    def held(self) -> bool:
        """Whether all checkers are green, and every scenario was carried out."""
        return (
            bool(self.record.phases and self.verdicts)
            and not self.record.failures
            and not self.missing
            and all(verdict.held for verdict in self.verdicts)
        )

    @property
    def violations(self) -> int:
        return sum(verdict.violations for verdict in self.verdicts)

    @property
    def seconds(self) -> float:
        return (self.record.ended - self.record.began) / NANOSECONDS

    def second(self, at: int) -> float:
        """Seconds since the run began, to the millisecond."""
        return round((at - self.record.began) / NANOSECONDS, 3)

    @property
    def command(self) -> str:
        """What carries out the same again."""
        named = self.record.scenarios[0] if len(self.record.scenarios) == 1 else "all"
        record = self.record
        minutes = f" --minutes {record.minutes:g}" if record.minutes else ""
        return (
            f"tabard chaos run {named} --seed {record.seed}{minutes} --rate {record.rate_per_s:g} "
            f"--mode {record.mode}"
        )

    def rows(self) -> list[Row]:
        """A row for each scenario in the order of their first time, after that of BEFORE."""
        phases = sorted(self.record.phases, key=lambda phase: phase.began)
        begins = [phase.began for phase in phases]

        def count(times: Iterable[int]) -> Counter[str]:
            places = (bisect_right(begins, at) for at in times)
            return Counter(phases[place - 1].scenario if place else BEFORE for place in places)

        times = Counter(phase.scenario for phase in phases)
        acknowledged = count(each.at for each in self.record.acknowledged)
        packets = count(each.began for each in self.record.packets)
        told = (violation for verdict in self.verdicts for violation in verdict.told)
        violations = count(violation.at for violation in told if violation.at)
        faults = Counter(each.scenario for each in self.record.injected)
        return [
            Row(
                name,
                times[name],
                faults[name],
                acknowledged[name],
                packets[name],
                violations[name],
                self._longest(name),
            )
            for name in dict.fromkeys([BEFORE, *(phase.scenario for phase in phases)])
        ]

    def _longest(self, scenario: str) -> float | None:
        return longest(each for each in self.record.injected if each.scenario == scenario)


def longest(injected: Iterable[Injected]) -> float | None:
    """The longest time to converge, in seconds; None if there is none, or one did not."""
    found = list(injected)
    if not found or not all(each.converged for each in found):
        return None
    return max(max(each.converged - each.healed, 0) for each in found) / NANOSECONDS

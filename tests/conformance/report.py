"""How a run went: a row for each suite, every failure, what was left out and why.

A case passes if all that it states holds at every step; its statements are counted as checks.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from textwrap import wrap
from typing import Any, TextIO

from conformance.declared import reason
from conformance.runner import CaseResult, Failure, Kind

OUTCOMES = ("passed", "failed", "skipped")
WIDTH = 110
"""Of the text's paragraphs."""
FAILURES_OF_A_CASE_MAX = 10
"""Told in the text; the JSON has all."""


@dataclass(slots=True)
class Tally:
    cases: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    """Cases by the tag for which they did not run."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Checks, of cases that ran, by tag."""
    tags: Counter[str] = field(default_factory=Counter)
    """Passed checks that are counted apart, by tag."""
    folded: int = 0
    """L7 parts folded into what they allow on layer 4."""
    seconds: float = 0.0

    def add(self, result: CaseResult) -> None:
        self.cases[result.outcome] += 1
        self.seconds += result.seconds
        if result.left_out:
            self.left_out[result.left_out] += 1
            return
        self.checks["passed"] += result.passed
        self.checks["failed"] += sum(failure.kind is Kind.WRONG for failure in result.failures)
        self.checks["skipped"] += sum(result.skipped.values())
        self.skipped.update(result.skipped)
        self.tags.update(result.tags)
        self.folded += result.folded

    def as_json(self) -> dict[str, Any]:
        return {
            "cases": {outcome: self.cases[outcome] for outcome in OUTCOMES},
            "checks": {outcome: self.checks[outcome] for outcome in OUTCOMES},
            "cases_skipped_by_tag": dict(sorted(self.left_out.items())),
            "checks_skipped_by_tag": dict(sorted(self.skipped.items())),
            "checks_passed_by_tag": dict(sorted(self.tags.items())),
            "l7_parts_folded": self.folded,
            "seconds": round(self.seconds, 3),
        }


class Report:
    """Takes results as they come; `text` is written to at once, None for silence."""

    def __init__(self, dataplane: str, text: TextIO | None) -> None:
        self._dataplane = dataplane
        self._text = text
        self._suites: dict[str, Tally] = {}
        self._total = Tally()
        self._features: dict[str, Counter[str]] = {}
        self._failures: list[Failure] = []
        self._last = ""

    @property
    def failed(self) -> bool:
        return self._total.cases["failed"] > 0

    def take(self, result: CaseResult) -> None:
        """The results of a suite come one after the other."""
        if self._last and self._last != result.case.suite:
            self._row(self._last)
        self._last = result.case.suite
        for tally in (self._suites.setdefault(result.case.suite, Tally()), self._total):
            tally.add(result)
        for feature in result.case.features:
            self._features.setdefault(feature, Counter())[result.outcome] += 1
        self._failures += result.failures
        for failure in result.failures[:FAILURES_OF_A_CASE_MAX]:
            self._say(told(failure))
        more = len(result.failures) - FAILURES_OF_A_CASE_MAX
        if more > 0:
            self._say(f"  and {more} more of this case (OUTPUT=json has all)")

    def close(self) -> None:
        """The rest of the text; its last line counts the cases."""
        if self._last:
            self._row(self._last)
        total = self._total
        told_features = ", ".join(
            f"{feature} {'/'.join(str(counts[outcome]) for outcome in OUTCOMES)}"
            for feature, counts in sorted(self._features.items())
        )
        for line in wrap(
            f"cases by tag ({'/'.join(OUTCOMES)}): {told_features}", WIDTH, break_on_hyphens=False
        ):
            self._say(line)
        for what, tags in (("cases", total.left_out), ("checks", total.skipped)):
            for tag, number in tags.most_common():
                self._say(f"{what} left out: {number:,} by tag {tag}: {reason(tag)}")
        for tag, number in total.tags.most_common():
            self._say(f"checks passed, {tag}: {number:,}")
        if total.folded:
            self._say(f"L7 parts of rules, folded into what they allow on L4: {total.folded:,}")
        checks = ", ".join(f"{total.checks[outcome]:,} {outcome}" for outcome in OUTCOMES)
        self._say(f"checks: {checks}; dataplane {self._dataplane}, {total.seconds:.1f} s")
        self._say(counted(total.cases))

    def as_json(self) -> str:
        """`passed`, `failed`, `skipped` (cases) and `dataplane`; `suites` by name and `total`, each
        with `cases`, `checks`, `cases_skipped_by_tag`, `checks_skipped_by_tag`,
        `checks_passed_by_tag`, `l7_parts_folded` and `seconds`; `reasons`, by tag; `features`, by
        tag, cases; and `failures`, each with the fields of Failure."""
        total = self._total
        document = {
            **{outcome: total.cases[outcome] for outcome in OUTCOMES},
            "dataplane": self._dataplane,
            "suites": {name: tally.as_json() for name, tally in self._suites.items()},
            "total": total.as_json(),
            "reasons": {tag: reason(tag) for tag in sorted({*total.left_out, *total.skipped})},
            "features": {
                feature: {outcome: counts[outcome] for outcome in OUTCOMES}
                for feature, counts in sorted(self._features.items())
            },
            "failures": [{**asdict(each), "kind": each.kind.value} for each in self._failures],
        }
        return json.dumps(document, indent=1)

    def _row(self, suite: str) -> None:
        tally = self._suites[suite]
        self._say(f"{suite:31}cases {counted(tally.cases):38}checks {counted(tally.checks)}")

    def _say(self, line: str) -> None:
        if self._text is not None:
            print(line, file=self._text, flush=True)


def counted(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES)


def told(failure: Failure) -> str:
    where = f"{failure.suite}/{failure.case}"
    if failure.step:
        where += f", step {failure.step!r}"
    if failure.kind is not Kind.WRONG:
        return f"FAILED {where}: {failure.kind.value}: {failure.detail}"
    return (
        f"FAILED {where}: {failure.probe}\n"
        f"  expected {failure.expected}\n"
        f"  got      {failure.got}" + (f"\n  decided  {failure.rule}" if failure.rule else "")
    )

"""What a check of the machine or the cluster found: one row each. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    OK = "ok"
    WARN = "warn"
    """It works, or part of it; something is less than it should be."""
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Check:
    """`fact` is what was observed, `next` what to type (empty if nothing is to be done)."""

    name: str
    outcome: Outcome
    fact: str
    next: str = ""


def ok(name: str, fact: str) -> Check:
    return Check(name, Outcome.OK, fact)


def warn(name: str, fact: str, next: str = "") -> Check:
    return Check(name, Outcome.WARN, fact, next)


def fault(name: str, fact: str, next: str) -> Check:
    return Check(name, Outcome.FAULT, fact, next)

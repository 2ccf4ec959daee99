"""convergence: after each heal the cluster was as it should be, within CONVERGE_S_MAX."""

from tabard.chaos.record import CONVERGE_S_MAX, Injected, Record
from tabard.invariants.verdict import VIOLATIONS_SHOWN_MAX, Invariant, Verdict, Violation

NANOSECONDS = 1_000_000_000


def convergence(record: Record) -> Verdict:
    """Hold each fault's heal against the time at which all had converged after it."""
    late = [each for each in record.injected if _late(each)]
    told = tuple(
        Violation(Invariant.CONVERGENCE, _sentence(each), each.healed)
        for each in late[:VIOLATIONS_SHOWN_MAX]
    )
    return Verdict(Invariant.CONVERGENCE, len(record.injected), "heals", len(late), told)


def _late(each: Injected) -> bool:
    return not each.converged or each.converged - each.healed > CONVERGE_S_MAX * NANOSECONDS


def _sentence(each: Injected) -> str:
    took = (each.converged - each.healed) / NANOSECONDS
    ended = f"took {took:.1f} s" if each.converged else "was not over"
    return (
        f"{each.scenario}: what {each.fault} of {each.target} left behind {ended}; "
        f"it may take {CONVERGE_S_MAX:.0f} s"
    )

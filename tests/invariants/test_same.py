"""deterministic: folds in one go and by way of a snapshot."""

from checked import SETTINGS, allocated, bound, records, what
from tabard.invariants.same import Deterministic
from tabard.ledger.digest import digest
from tabard.ledger.fold import fold

TOLD = records(SETTINGS, allocated(256, "web"), bound("w", 256, "web", "10.0.0.1"))


def test_a_fold_by_way_of_a_snapshot_is_the_same() -> None:
    checker = Deterministic()
    checker.freeze(fold(TOLD[:2]))
    assert checker.halfway == 2
    assert checker.hold(fold(TOLD), TOLD[2:]) == []
    assert checker.verdict().judged == 1


def test_a_snapshot_that_lacks_something_is_found() -> None:
    checker, halfway = Deterministic(), fold(TOLD[:2])
    halfway.namespaces["ghost"] = {}
    checker.freeze(halfway)
    (one,) = what(checker.hold(fold(TOLD), TOLD[2:]))
    assert "by a fold by way of a snapshot" in one


def test_somebody_who_folded_something_else_is_found() -> None:
    checker, state, other = Deterministic(), fold(TOLD), fold(TOLD)
    assert checker.says("n1", 3, digest(other), state) == []
    other.bindings.clear()
    (one,) = what(checker.says("n1", 3, digest(other), state))
    assert "by n1" in one

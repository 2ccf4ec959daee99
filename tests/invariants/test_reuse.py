"""safe reuse, on ledgers that break it and on some that do not."""

from collections.abc import Mapping

import pytest

from checked import SETTINGS, Told, allocated, bound, records, what
from tabard.events import ledger as events
from tabard.invariants.reuse import SafeReuse
from tabard.ledger.fold import fold
from tabard.ledger.state import State

JOINED = (events.NodeAdded("n1", (), ()), events.NodeAdded("n2", (), ()))
RETIRED = (allocated(256, "web"), events.IdentityRetired(256))
"""At LEDGER/4 and 5."""
RELEASED = events.IdentityReleased(256)
LOST = events.NodeLost("n2", 3)


def found(
    *told: Told, said: Mapping[int, tuple[str, int]] | None = None, numbers: int = 3
) -> list[str]:
    """`said`: before which event a node said what. Both are at LEDGER/9 before anything else."""
    checker = SafeReuse(numbers)
    words = {0: ("n1", 9), 1: ("n2", 9)} if said is None else said
    violations = []
    for record in records(SETTINGS, *told):
        for before, word in words.items():
            if before in (0, 1, record.sequence):
                checker.said(*word)
        violations += what(checker.take(record))
    return violations


def test_a_number_is_another_sets_once_every_node_is_past_its_retirement() -> None:
    assert found(*JOINED, *RETIRED, RELEASED, allocated(256, "db")) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((allocated(256, "db"),), "and not released"),
        ((RELEASED, RELEASED, allocated(256, "db")), "which is not in quarantine"),
    ],
)
def test_a_number_that_skips_the_quarantine_is_found(wrong: tuple[Told, ...], said: str) -> None:
    (one,) = found(*JOINED, *RETIRED, *wrong)
    assert said in one


def test_a_number_that_a_live_node_may_take_for_what_it_was_is_found_twice() -> None:
    behind = {0: ("n1", 9), 1: ("n2", 4)}
    one, two = found(*JOINED, *RETIRED, RELEASED, allocated(256, "db"), said=behind)
    assert "releases 256, retired at LEDGER/5, but live node n2 said 4" in one
    assert "allocates 256" in two


def test_a_node_that_says_more_than_it_enforces_is_found() -> None:
    checker = SafeReuse()
    checker.said("n1", 9)
    checker.knows("n1", 4)
    told = (SETTINGS, JOINED[0], *RETIRED, RELEASED)
    violations = [one for record in records(*told) for one in what(checker.take(record))]
    assert violations == []  # retired at LEDGER/4
    checker = SafeReuse()
    checker.said("n1", 9)
    checker.knows("n1", 3)
    (one,) = (one for record in records(*told) for one in what(checker.take(record)))
    assert "which said 9, enforces or keeps 3" in one


def test_lost_and_removed_nodes_hold_no_number_back() -> None:
    behind = {0: ("n1", 9)}
    gone = (*JOINED, *RETIRED, events.NodeRemoved("n2"), RELEASED, allocated(256, "db"))
    assert found(*gone, said=behind) == []
    others = (allocated(257, "x"), allocated(258, "y"))
    lost = (*JOINED, *RETIRED, LOST, RELEASED, *others, allocated(256, "db"))
    assert found(*lost, said=behind) == [], "no other was free"


def test_a_doubtful_number_that_is_drawn_while_another_is_free_is_found() -> None:
    (one,) = found(*JOINED, *RETIRED, LOST, RELEASED, allocated(256, "db"), said={0: ("n1", 9)})
    assert "while 2 other numbers are free" in one


def test_a_node_that_joined_after_the_release_has_nothing_to_forget() -> None:
    late = (JOINED[0], *RETIRED, RELEASED, events.NodeAdded("n3", (), ()), allocated(256, "db"))
    assert found(*late) == []


def test_a_lost_node_that_is_back_too_early_is_found() -> None:
    back = events.NodeReturned("n2", 3)
    (one,) = found(*JOINED, LOST, back)
    assert "takes node n2 back at LEDGER/3, before its loss at LEDGER/4" in one
    (one,) = found(*JOINED, LOST, events.NodeReturned("n2", 4), said={0: ("n1", 9)})
    assert "but it said 0" in one


def test_a_node_that_is_back_and_not_past_a_retirement_holds_its_number() -> None:
    told = (*JOINED, LOST, *RETIRED, RELEASED, events.NodeReturned("n2", 5), allocated(256, "db"))
    (one,) = found(*told, said={0: ("n1", 9), 1: ("n2", 5)})
    assert "allocates 256, retired at LEDGER/6, but live node n2 said 5" in one


WEB = allocated(256, "web")


def test_an_address_goes_to_a_younger_pod_and_a_late_unbind_changes_nothing() -> None:
    checker, state = SafeReuse(), State()
    told = records(
        SETTINGS,
        WEB,
        bound("old", 256, "web", "10.0.0.1", at=1),
        bound("new", 256, "web", "10.0.0.1", at=2),
        events.EndpointUnbound("old"),
    )
    for record in told:
        assert checker.take(record) == []
        fold([record], state)
        assert checker.agree(state) == []
    assert checker.bindings == {"10.0.0.1": "new"}


def test_a_fold_that_lets_a_late_unbind_take_the_address_is_found() -> None:
    checker = SafeReuse()
    told = records(SETTINGS, WEB, bound("new", 256, "web", "10.0.0.1", at=2))
    for record in told:
        checker.take(record)
    state = fold(told)
    del state.bindings["10.0.0.1"]
    (one,) = what(checker.agree(state))
    assert "address 10.0.0.1 is nobody's" in one
    assert "should be new's" in one


def test_an_older_pod_that_takes_an_address_is_found() -> None:
    new = bound("new", 256, "web", "10.0.0.1", at=2)
    (one,) = found(WEB, new, bound("old", 256, "web", "10.0.0.1", at=1))
    assert "which started before pod new" in one


LABELS = (("app", "db"),)
MOVED = events.EndpointRelabelled("w", 257, LABELS)
RUNNING = (*JOINED, WEB, bound("w", 256, "web"), allocated(257, "db"))


def test_a_running_pod_is_another_once_every_live_node_knows_what() -> None:
    assert found(*RUNNING, MOVED, said={0: ("n1", 6), 1: ("n2", 6)}) == []
    (one,) = found(*RUNNING, MOVED, said={0: ("n1", 6), 1: ("n2", 5)})
    assert "gives 257, allocated at LEDGER/6, to running pod w, but live node n2 said 5" in one
    late = events.EndpointRelabelled("w", 257, LABELS, ("n2",))
    assert found(*RUNNING, late, said={0: ("n1", 6), 1: ("n2", 5)}) == []
    rebound = events.EndpointsRebound("shop", (("w", 257),))
    assert len(found(*RUNNING, rebound, said={0: ("n1", 5), 1: ("n2", 5)})) == 2

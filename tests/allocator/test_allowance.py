import pytest

from tabard.allocator import allowance
from tabard.allocator.allowance import EVENTS_MAX, EVENTS_PER_S, Allowance

S = 1_000_000_000


def test_a_node_may_cause_so_many_events_at_once_and_none_more() -> None:
    given = Allowance()
    assert given.take("n1", EVENTS_MAX - 1, 0)
    assert not given.take("n1", 2, 0)
    assert given.spent == {"n1"}
    assert given.take("n1", 1, 0)
    assert not given.spent
    assert not given.take("n1", 1, 0)
    assert given.take("n2", EVENTS_MAX, 0)


def test_what_a_node_used_it_has_back_with_time_and_never_more() -> None:
    given = Allowance()
    assert given.take("n1", EVENTS_MAX, 0)
    assert not given.take("n1", EVENTS_PER_S + 1, S)
    assert given.take("n1", EVENTS_PER_S, S)
    assert not given.take("n1", 1, S - 1)  # a clock that went back
    assert given.take("n1", EVENTS_MAX, 1000 * S)
    assert not given.take("n1", 1, 1000 * S)


def test_so_many_nodes_are_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "NODES_MAX", 1)
    given = Allowance()
    assert not given.take("n1", EVENTS_MAX + 1, 0)
    assert given.take("n2", EVENTS_MAX, 0)
    assert not given.spent
    assert given.take("n1", EVENTS_MAX, 0)

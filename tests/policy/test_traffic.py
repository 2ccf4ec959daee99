from hypothesis import given
from hypothesis import strategies as st

from tabard.dataplane.maps import Protocol
from tabard.policy.traffic import (
    EVERYTHING,
    NOTHING,
    contains,
    difference,
    intersection,
    joined,
    shown,
    union,
)

PORTS = range(12)
protocols = st.sampled_from([Protocol.TCP, Protocol.UDP])
parts = st.lists(
    st.tuples(protocols, st.sampled_from(PORTS), st.sampled_from(PORTS)).map(
        lambda part: (part[0], min(part[1:]), max(part[1:]))
    ),
    max_size=5,
)


@given(parts, parts)
def test_union_intersection_and_difference_are_those_of_sets(
    one: list[tuple[Protocol, int, int]], other: list[tuple[Protocol, int, int]]
) -> None:
    def members(found: list[tuple[Protocol, int, int]]) -> set[tuple[Protocol, int]]:
        return {(protocol, port) for protocol, a, b in found for port in range(a, b + 1)}

    one_set, other_set = union(one), union(other)
    all_of_it, both = union(one + other), intersection(one_set, other_set)
    rest, others = difference(one_set, other_set), difference(EVERYTHING, other_set)
    assert joined([one_set, other_set]) == joined([both, rest, other_set]) == all_of_it
    assert joined([others, other_set]) == EVERYTHING
    assert difference(EVERYTHING, others) == other_set
    for protocol in (Protocol.TCP, Protocol.UDP, Protocol.SCTP):
        for port in PORTS:
            at = (protocol, port)
            assert contains(all_of_it, *at) is (at in members(one) | members(other))
            assert contains(both, *at) is (at in members(one) & members(other))
            assert contains(rest, *at) is (at in members(one) - members(other))
            assert contains(others, *at) is (at not in members(other))


@given(parts)
def test_equal_sets_are_equal_values(found: list[tuple[Protocol, int, int]]) -> None:
    singly = [(protocol, at, at) for protocol, a, b in found for at in range(a, b + 1)]
    assert union(found) == union(reversed(singly))


def test_any_protocol_is_everything() -> None:
    assert union([(Protocol.TCP, 80, 80), (Protocol.ANY, 0, 65_535)]) == EVERYTHING
    assert contains(EVERYTHING, 47, 0)
    assert not contains(union([(Protocol.TCP, 0, 65_535)]), 47, 0)


def test_everything_is_neutral_and_nothing_absorbs() -> None:
    some = union([(Protocol.TCP, 80, 80)])
    assert intersection(some, EVERYTHING) == intersection(EVERYTHING, some) == some
    assert intersection(some, NOTHING) == NOTHING


def test_a_set_is_shown_as_a_table_shows_it() -> None:
    some = [(Protocol.UDP, 0, 65_535), (Protocol.TCP, 80, 80), (Protocol.TCP, 90, 99)]
    assert shown(union(some)) == "80,90-99/TCP, all/UDP"
    assert shown(EVERYTHING) == "all"
    assert shown(NOTHING) == "none"
    assert shown(difference(EVERYTHING, union(some))) == "all but 80,90-99/TCP, all/UDP"

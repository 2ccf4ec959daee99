from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tabard.dataplane.maps import (
    Address,
    Direction,
    Endpoint,
    EndpointFlag,
    Maps,
    Mode,
    PolicyKey,
    PrefixEntry,
    Protocol,
)
from tabard.dataplane.memory import MemoryDataplane
from tabard.dataplane.port import NodeConfig
from tabard.policy.diff import diff

addresses = st.integers(0, 4).map(lambda last: Address(bytes(15) + bytes([last])))
few = st.integers(0, 3)
keys = st.builds(PolicyKey, few, st.sampled_from(Direction), few, st.just(Protocol.TCP), few, few)
endpoints = st.builds(
    Endpoint,
    few,
    few,
    few,
    st.sampled_from(EndpointFlag),
    few,
    st.just(bytes(6)),
    st.just(bytes(6)),
)
all_maps = st.builds(
    Maps,
    st.dictionaries(keys, few),
    st.frozensets(few),
    st.frozensets(addresses),
    st.dictionaries(st.tuples(addresses, st.integers(0, 128)), st.builds(PrefixEntry, few)),
    st.dictionaries(addresses, few),
    st.dictionaries(addresses, endpoints),
)


@given(all_maps, all_maps)
def test_the_change_turns_one_into_the_other(actual: Maps, desired: Maps) -> None:
    dataplane = MemoryDataplane(NodeConfig("n1", Mode.OVERLAY, ()))
    dataplane.write(diff(Maps(), actual))
    assert dataplane.read() == actual
    dataplane.write(diff(actual, desired))
    assert dataplane.read() == desired


@given(all_maps, all_maps)
def test_the_change_touches_only_what_differs(actual: Maps, desired: Maps) -> None:
    change = diff(actual, desired)
    assert bool(change) == (actual != desired)
    for name, count in change.counts().items():
        before, after = getattr(actual, name), getattr(desired, name)
        passing = change.policies_set.keys() & change.policies_removed if name == "policies" else ()
        assert count == _differing(before, after) + 2 * len(passing)


def _differing(before: Any, after: Any) -> int:
    if isinstance(before, frozenset):
        return len(before ^ after)
    missing = object()
    return sum(
        before.get(key, missing) != after.get(key, missing) for key in before.keys() | after.keys()
    )

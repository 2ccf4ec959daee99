"""What turns the maps that are into the maps that should be."""

from collections.abc import Mapping
from typing import TypeVar

from tabard.dataplane.maps import Maps
from tabard.dataplane.port import Change

K = TypeVar("K")
V = TypeVar("V")


def diff(actual: Maps, desired: Maps) -> Change:
    """The smallest change from `actual` to `desired`; false if they are equal."""
    return Change(
        policies_set=_set(actual.policies, desired.policies),
        identities_added=frozenset(desired.identities - actual.identities),
        nodes_added=frozenset(desired.nodes - actual.nodes),
        prefixes_set=_set(actual.prefixes, desired.prefixes),
        hosts_set=_set(actual.hosts, desired.hosts),
        endpoints_set=_set(actual.endpoints, desired.endpoints),
        endpoints_removed=_removed(actual.endpoints, desired.endpoints),
        hosts_removed=_removed(actual.hosts, desired.hosts),
        prefixes_removed=_removed(actual.prefixes, desired.prefixes),
        nodes_removed=frozenset(actual.nodes - desired.nodes),
        identities_removed=frozenset(actual.identities - desired.identities),
        policies_removed=_removed(actual.policies, desired.policies),
    )


def _set(actual: Mapping[K, V], desired: Mapping[K, V]) -> dict[K, V]:
    if not actual:
        return dict(desired)
    if actual == desired:  # as at most restarts, and told by C ten times faster than what follows
        return {}
    return {key: value for key, value in desired.items() if actual.get(key) != value}


def _removed(actual: Mapping[K, V], desired: Mapping[K, V]) -> frozenset[K]:
    if actual.keys() <= desired.keys():  # likewise
        return frozenset()
    return frozenset(key for key in actual if key not in desired)

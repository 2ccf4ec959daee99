"""What turns the maps that are into the maps that should be."""

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import TypeVar

from tabard.dataplane.maps import AT_CIDR, Maps, PolicyKey, Strength
from tabard.dataplane.port import Change
from tabard.dataplane.verdict import Prefixes

K = TypeVar("K")
V = TypeVar("V")


def diff(actual: Maps, desired: Maps) -> Change:
    """The change from `actual` to `desired`; false if they are equal.

    It is the smallest, unless endpoints are turned to other rule sets while CIDRs move: then each
    side's rule sets say of the other's CIDRs what they say of what lies around these.
    """
    prefixes = _set(actual.prefixes, desired.prefixes)
    removed = _removed(actual.prefixes, desired.prefixes)
    passing: dict[PolicyKey, Strength] = {}
    widened = {}
    left, new = _rule_sets(actual) - _rule_sets(desired), _rule_sets(desired) - _rule_sets(actual)
    if actual.endpoints and (left or new) and (prefixes or removed):
        passing = _passing(actual, desired, left, new)
        widened = {
            place: entry
            for place, entry in prefixes.items()
            if place in actual.prefixes and entry.identity in actual.identities
        }
    hosts_set = _set(actual.hosts, desired.hosts)
    hosts_removed = _removed(actual.hosts, desired.hosts)
    return Change(
        policies_set=_set(actual.policies, desired.policies) | passing,
        identities_added=frozenset(desired.identities - actual.identities),
        nodes_added=frozenset(desired.nodes - actual.nodes),
        prefixes_set={place: v for place, v in prefixes.items() if place not in widened},
        hosts_set=hosts_set,
        endpoints_set=_set(actual.endpoints, desired.endpoints),
        endpoints_removed=_removed(actual.endpoints, desired.endpoints),
        hosts_removed=hosts_removed,
        prefixes_widened=widened,
        prefixes_removed=removed,
        nodes_removed=frozenset(actual.nodes - desired.nodes),
        identities_removed=frozenset(actual.identities - desired.identities),
        policies_removed=_removed(actual.policies, desired.policies) | passing.keys(),
        rebound=hosts_removed.union(hosts_set) if actual.endpoints else frozenset(),
        knows_late=bool(left and new),
    )


def _rule_sets(maps: Maps) -> Set[int]:
    return {endpoint.policy for endpoint in maps.endpoints.values()}


def _passing(
    actual: Maps, desired: Maps, left: Set[int], new: Set[int]
) -> dict[PolicyKey, Strength]:
    """Entries that are there only while the change is written: of rule sets that are left for CIDRs
    that come, and of new ones for CIDRs that go."""
    before, after = Prefixes(actual.prefixes), Prefixes(desired.prefixes)
    there = {entry.identity for entry in actual.prefixes.values()}
    then = {entry.identity for entry in desired.prefixes.values()}
    come: dict[int, set[int]] = {}
    go: dict[int, set[int]] = {}
    for place in actual.prefixes.keys() | desired.prefixes.keys():
        was, now = before.match(*place), after.match(*place)
        if was is None or now is None:
            continue
        if now.identity not in there:
            come.setdefault(was.identity, set()).add(now.identity)
        if was.identity not in then:
            go.setdefault(now.identity, set()).add(was.identity)
    found = _as_of(actual.policies, left, come) | _as_of(desired.policies, new, go)
    known = actual.policies.keys() | desired.policies.keys()
    return {key: value for key, value in found.items() if key not in known}


def _as_of(
    policies: Mapping[PolicyKey, Strength], ids: Set[int], others: Mapping[int, Set[int]]
) -> dict[PolicyKey, Strength]:
    """What the rule sets `ids` say of some CIDRs, said of `others`' too."""
    return {
        replace(key, identity=other | key.identity & AT_CIDR): value
        for key, value in policies.items()
        if key.policy in ids
        for other in others.get(key.identity & ~AT_CIDR, ())
    }


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

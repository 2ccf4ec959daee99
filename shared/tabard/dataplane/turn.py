"""What packets must not meet while a write turns endpoints to other rule sets. Pure.

Two entries are not written at once. A peer that is another while an endpoint is turned would be
judged by rules that speak of it in neither the maps of before nor those of after: so meanwhile it
is nobody, and what it sends and is sent is dropped. (Not so a local pod in no node's range: without
its endpoint it is whoever its prefix says.)
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tabard.dataplane.maps import Address, Endpoint, is_of_node
from tabard.dataplane.port import Change
from tabard.identity.numbers import is_pod


@dataclass(frozen=True, slots=True)
class Turn:
    is_one: bool = False
    """Else the rest is empty."""
    identities: frozenset[int] = frozenset()
    """Those of them that come are known after the turn, those that go are unknown before it."""
    hosts: frozenset[Address] = frozenset()
    """They lead to nobody, and after the turn to whom they should."""
    endpoints: frozenset[Address] = frozenset()
    """They are removed before the turn, and those that stay are put back after it."""


def turn_of(change: Change, there: Mapping[Address, Endpoint]) -> Turn:
    """`there` are the entries that the map has at the addresses of `endpoints_set`.

    CIDRs are known throughout: the rule sets of both ends speak of them (`policy.diff`), and open
    flows go on.
    """
    turned = {
        change.endpoints_set[at].incarnation
        for at, endpoint in there.items()
        if endpoint.policy != change.endpoints_set[at].policy
    }
    if not turned and not change.endpoints_removed:
        return Turn()
    identities = change.identities_added | change.identities_removed
    moved = {
        at
        for at, endpoint in there.items()
        if endpoint.identity != change.endpoints_set[at].identity
        and not is_of_node(endpoint)  # which is open without an entry
        # One alone is turned and another peer by the same store.
        and (change.endpoints_removed or turned - {change.endpoints_set[at].incarnation})
    }
    return Turn(
        is_one=True,
        identities=identities if change.knows_late else frozenset(filter(is_pod, identities)),
        hosts=change.rebound,
        endpoints=change.endpoints_removed | moved,
    )

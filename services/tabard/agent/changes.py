"""Parts of a change that may be written when the whole may not. Pure."""

from collections.abc import Collection, Mapping
from typing import TypeVar

from tabard.dataplane.maps import Address, Maps, PrefixFlag, is_of_node
from tabard.dataplane.port import Change
from tabard.dataplane.verdict import Prefixes
from tabard.ledger.state import Identity

K = TypeVar("K")
V = TypeVar("V")


def relief(actual: Maps, change: Change) -> Change:
    """The removals of `change` that only ever close, to make room in a full map.

    Left out is what an enforced endpoint would miss or what could open: entries of a policy that an
    endpoint still has, prefixes, hosts that would fall to a prefix which is not unknown, and the
    node itself, which is open without an entry.
    """
    removed = frozenset(
        address for address in change.endpoints_removed if not is_of_node(actual.endpoints[address])
    )
    staying = {
        endpoint.policy for address, endpoint in actual.endpoints.items() if address not in removed
    }
    prefixes = Prefixes(actual.prefixes)

    def closes(address: Address) -> bool:
        entry = prefixes.match(address)
        return entry is None or PrefixFlag.POD_RANGE in entry.flags

    return Change(
        endpoints_removed=removed,
        hosts_removed=frozenset(filter(closes, change.hosts_removed)),
        nodes_removed=change.nodes_removed,
        policies_removed=frozenset(
            key for key in change.policies_removed if key.policy not in staying
        ),
        identities_removed=change.identities_removed,
        is_part=True,
    )


def reused(actual: Maps, identities: Mapping[int, Identity], since: int) -> Change:
    """All of `actual` that is about numbers which were allocated after LEDGER/`since`: they stand
    for others now than when it was written.

    For a node that nobody waited for. It is taken out before anything newer is written, so that no
    packet meets the old meaning of a number beside its new one: meanwhile it is unknown.
    """
    numbers = frozenset(
        number
        for number in actual.identities
        if (one := identities.get(number)) is not None and one.allocated_at > since
    )
    if not numbers:
        return Change()
    return Change(
        hosts_removed=frozenset(at for at, number in actual.hosts.items() if number in numbers),
        identities_removed=numbers,
        policies_removed=frozenset(key for key in actual.policies if key.identity in numbers),
        is_part=True,
    )


def local(actual: Maps, change: Change, ifindexes: Collection[int]) -> Change:
    """What `change` does for this node's own interfaces, and no more.

    For an agent that has a checkpoint but not the ledger's end: the kernel may be ahead of what the
    agent knows, so nothing that stands is changed. Local pods that are new come in with their
    identity, and with their policy if the kernel does not have it; those whose interface is not
    attached (`ifindexes`) any more go. The node itself stays as it is, guarded or not.
    """
    endpoints = {
        address: endpoint
        for address, endpoint in change.endpoints_set.items()
        if address not in actual.endpoints and not is_of_node(endpoint)
    }
    identities = {endpoint.identity for endpoint in endpoints.values()}
    missing = {endpoint.policy for endpoint in endpoints.values()}
    missing -= {key.policy for key in actual.policies}
    return Change(
        identities_added=change.identities_added & identities,
        policies_set={
            key: value
            for key, value in change.policies_set.items()
            if key.policy in missing and key not in change.policies_removed
        },
        endpoints_set=endpoints,
        endpoints_removed=frozenset(
            address
            for address in change.endpoints_removed
            if not is_of_node(actual.endpoints[address])
            and actual.endpoints[address].ifindex not in ifindexes
        ),
        is_part=True,
    )


def carried_out(change: Change, actual: Maps) -> Change:
    """What `actual` shows of `change`, for a write that was not finished."""
    return Change(
        identities_added=change.identities_added & actual.identities,
        policies_set=_shown(change.policies_set, actual.policies),
        nodes_added=change.nodes_added & actual.nodes,
        prefixes_set=_shown(change.prefixes_set, actual.prefixes),
        hosts_set=_shown(change.hosts_set, actual.hosts),
        endpoints_set=_shown(change.endpoints_set, actual.endpoints),
        endpoints_removed=change.endpoints_removed - actual.endpoints.keys(),
        hosts_removed=change.hosts_removed - actual.hosts.keys(),
        prefixes_widened=_shown(change.prefixes_widened, actual.prefixes),
        prefixes_removed=change.prefixes_removed - actual.prefixes.keys(),
        nodes_removed=change.nodes_removed - actual.nodes,
        policies_removed=change.policies_removed - actual.policies.keys(),
        identities_removed=change.identities_removed - actual.identities,
    )


def _shown(entries: Mapping[K, V], actual: Mapping[K, V]) -> dict[K, V]:
    return {key: value for key, value in entries.items() if actual.get(key) == value}

"""Parts of a change that may be written when the whole may not. Pure."""

from collections.abc import Collection

from tabard.dataplane.maps import Address, Maps, PrefixFlag
from tabard.dataplane.port import Change
from tabard.dataplane.verdict import Prefixes


def relief(actual: Maps, change: Change) -> Change:
    """The removals of `change` that only ever close, to make room in a full map.

    Left out is what an enforced endpoint would miss or what could open: entries of a policy that an
    endpoint still has, prefixes, and hosts that would fall to a prefix which is not unknown.
    """
    staying = {
        endpoint.policy
        for address, endpoint in actual.endpoints.items()
        if address not in change.endpoints_removed
    }
    prefixes = Prefixes(actual.prefixes)

    def closes(address: Address) -> bool:
        entry = prefixes.match(address)
        return entry is None or PrefixFlag.POD_RANGE in entry.flags

    return Change(
        endpoints_removed=change.endpoints_removed,
        hosts_removed=frozenset(filter(closes, change.hosts_removed)),
        nodes_removed=change.nodes_removed,
        policies_removed=frozenset(
            key for key in change.policies_removed if key.policy not in staying
        ),
        identities_removed=change.identities_removed,
    )


def local(actual: Maps, change: Change, ifindexes: Collection[int]) -> Change:
    """What `change` does for this node's own interfaces, and no more.

    For an agent that has a checkpoint but not the ledger's end: the kernel may be ahead of what the
    agent knows, so nothing that stands is changed. Local pods that are new come in with their
    identity, and with their policy if the kernel does not have it; those whose interface is not
    attached (`ifindexes`) any more go.
    """
    endpoints = {
        address: endpoint
        for address, endpoint in change.endpoints_set.items()
        if address not in actual.endpoints
    }
    identities = {endpoint.identity for endpoint in endpoints.values()}
    missing = {endpoint.policy for endpoint in endpoints.values()}
    missing -= {key.policy for key in actual.policies}
    return Change(
        identities_added=change.identities_added & identities,
        policies_added=frozenset(key for key in change.policies_added if key.policy in missing),
        endpoints_set=endpoints,
        endpoints_removed=frozenset(
            address
            for address in change.endpoints_removed
            if actual.endpoints[address].ifindex not in ifindexes
        ),
    )

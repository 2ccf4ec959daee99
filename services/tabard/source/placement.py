"""Where a new pod goes: its node, and the addresses that it has there."""

import ipaddress
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from tabard.events.ledger import PodRefused
from tabard.ledger.state import EndpointState, Node, State

Existing = EndpointState | PodRefused
"""A pod that the ledger knows: bound, or waiting for an identity to come free."""

RESERVED_ADDRESSES = 2
"""The first addresses of a pod CIDR that no pod gets: the network's own and the node's."""


class Placement:
    """Places new pods one after the other, each seeing those before it.

    `leaving` are UIDs of pods that are about to stop: they count for no node, but keep their
    addresses until the ledger says that they are gone.
    """

    def __init__(self, state: State, leaving: Collection[str]) -> None:
        self._nodes = state.nodes
        self._taken = set(state.bindings)
        self._pods: Counter[str] = Counter()
        self._of_owner: Counter[tuple[str, str]] = Counter()
        self._free: dict[tuple[str, int], Iterator[str]] = {}
        for pod in existing(state):
            self._taken.update(pod.addresses)
            if pod.uid not in leaving:
                self._count(pod.node, pod.owner)

    def place(
        self, owner: str, nodes: Iterable[str], *, host_network: bool
    ) -> tuple[str, tuple[str, ...]] | None:
        """(node, addresses) for one more pod of `owner` on one of `nodes`, or None.

        The node with the fewest pods of that owner, then with the fewest pods, then the first by
        name, among those with an address left in each family that their pod CIDRs have. A pod in
        the node's own network has no address of its own.
        """

        def rank(name: str) -> tuple[int, int, str]:
            return self._of_owner[owner, name], self._pods[name], name

        left = set(nodes)
        while left:
            name = min(left, key=rank)
            left.remove(name)
            addresses = () if host_network else self._addresses(self._nodes[name])
            if host_network or addresses:
                self._count(name, owner)
                return name, addresses
        return None

    def _count(self, node: str, owner: str) -> None:
        self._pods[node] += 1
        self._of_owner[owner, node] += 1

    def _addresses(self, node: Node) -> tuple[str, ...]:
        found = []
        for version in (4, 6):
            cidrs = [cidr for cidr in node.pod_cidrs if (":" in cidr) == (version == 6)]
            if not cidrs:
                continue
            free = self._free.get((node.name, version))
            if free is None:
                free = self._free[node.name, version] = _unless(self._taken, cidrs)
            address = next(free, None)
            if address is None:
                return ()
            found.append(address)
        return tuple(found)


def existing(state: State) -> Iterator[Existing]:
    yield from state.endpoints.values()
    yield from state.waiting.values()


def _unless(taken: Collection[str], cidrs: Iterable[str]) -> Iterator[str]:
    """The addresses of `cidrs` that pods may have and that are not `taken`, lowest first."""
    for cidr in cidrs:
        network = ipaddress.ip_network(cidr)
        last = network.num_addresses - (1 if network.version == 4 else 0)  # not the broadcast
        for offset in range(RESERVED_ADDRESSES, last):
            address = str(network[offset])
            if address not in taken:
                yield address

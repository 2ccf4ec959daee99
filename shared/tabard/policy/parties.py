"""Who stands at an end of a flow, by the folded ledger: a pod, a node, the world, or nobody known.

Where the dataplane knows a packet's ends by address, a question may also name a pod by its UID. A
pod without an address (manifests alone give none) is known by its identity, and no CIDR holds it.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import product

from tabard.identity.numbers import Reserved, is_pod
from tabard.ledger.state import EndpointState, State

IP = ipaddress.IPv4Address | ipaddress.IPv6Address


class PartyError(Exception):
    """The question names no party: says what was asked for, and what could be."""


class Role(Enum):
    POD = "pod"
    NODE = "node"
    """A node, or a pod in its node's network: policies of nodes alone hold for it."""
    WORLD = "world"
    UNKNOWN = "unknown"
    """An address in the pods' ranges that no pod holds. Unknown is not world."""


@dataclass(frozen=True, slots=True)
class Party:
    role: Role
    address: IP | None
    identity: int
    """A pod's; or REMOTE_NODE (`as_seen_on` its own node it is HOST), WORLD or UNKNOWN."""
    nodes: frozenset[str] = frozenset()
    """The node that the pod is on, or the nodes that have the address (one, in a sane cluster)."""
    uid: str = ""
    """The pod's."""

    def as_seen_on(self, node: str) -> int:
        """The number that `node` knows this party by as a peer of its pods."""
        if self.role is Role.NODE and node in self.nodes:
            return Reserved.HOST.value
        return self.identity


Who = Party | EndpointState | str
"""How a question names a party; text is a bound pod's UID, else an address."""


@lru_cache(maxsize=65_536)
def ip(text: str) -> IP:
    """An address from its text, an IPv4 one even if it is mapped into IPv6; or ValueError."""
    found = ipaddress.ip_address(text)
    return (found.ipv4_mapped if found.version == 6 else None) or found


class Parties:
    """Finds parties in one state; make another after a change."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._nodes: dict[IP, frozenset[str]] = {}
        for node in state.nodes.values():
            for text in node.addresses:
                at = ip(text)
                self._nodes[at] = self._nodes.get(at, frozenset()) | {node.name}
        self._ranges = [
            ipaddress.ip_network(cidr) for node in state.nodes.values() for cidr in node.pod_cidrs
        ]

    def pair(self, source: Who, destination: Who) -> tuple[Party, Party]:
        """The two ends of a flow; of pods with several addresses the first of `pairs`.

        PartyError for a text that is neither a UID nor an address, or if no family is shared.
        """
        sources, destinations = self.find(source), self.find(destination)
        for pair in _pairs(sources, destinations):
            return pair
        raise PartyError(
            f"{sources[0].address} and {destinations[0].address} are of two address families, and "
            "neither end has an address of the other's; name an address of the same family"
        )

    def pairs(self, source: Who, destination: Who) -> list[tuple[Party, Party]]:
        """The two ends by each pair of their addresses that are of one family."""
        return list(_pairs(self.find(source), self.find(destination)))

    def find(self, who: Who) -> list[Party]:
        """The party at each address of `who`; without an address there is one party still."""
        if isinstance(who, Party):
            return [who]
        if isinstance(who, str):
            endpoint = self._state.endpoints.get(who)
            if endpoint is None:
                try:
                    return [self._at(ip(who))]
                except ValueError as error:
                    raise PartyError(
                        f"{who!r} is neither the UID of a bound pod nor an IP address"
                    ) from error
            who = endpoint
        if who.host_network:
            node = self._state.nodes.get(who.node)
            addresses = (node.addresses if node else ()) or who.addresses
            nowhere = Party(
                Role.NODE, None, Reserved.REMOTE_NODE.value, frozenset((who.node,)), who.uid
            )
        else:
            addresses, nowhere = who.addresses, self._pod(who, None)
        return [self._at(ip(text)) for text in addresses] or [nowhere]

    def _at(self, at: IP) -> Party:
        # A node's address is the node's, whatever a pod claims.
        if at in self._nodes:
            return Party(Role.NODE, at, Reserved.REMOTE_NODE.value, self._nodes[at])
        holder = self._state.endpoints.get(self._state.bindings.get(str(at), ""))
        if holder is not None and not holder.host_network:
            return self._pod(holder, at)
        if any(at in pods for pods in self._ranges):
            return Party(Role.UNKNOWN, at, Reserved.UNKNOWN.value)
        world = Reserved.WORLD_IPV4 if at.version == 4 else Reserved.WORLD_IPV6
        return Party(Role.WORLD, at, world.value)

    def _pod(self, endpoint: EndpointState, at: IP | None) -> Party:
        if not is_pod(endpoint.identity) or endpoint.identity not in self._state.identities:
            return Party(Role.UNKNOWN, at, Reserved.UNKNOWN.value)
        on = frozenset((endpoint.node,))
        return Party(Role.POD, at, endpoint.identity, on, endpoint.uid)


def _pairs(sources: list[Party], destinations: list[Party]) -> Iterator[tuple[Party, Party]]:
    for one, other in product(sources, destinations):
        if not one.address or not other.address or one.address.version == other.address.version:
            yield one, other

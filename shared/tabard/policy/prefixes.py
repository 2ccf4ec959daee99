"""CIDRs: the universe that policies name, its identities, and the `prefixes` map around it."""

import ipaddress
from collections.abc import Iterable, Mapping, Set
from functools import lru_cache

from tabard.dataplane.maps import Address, Mode, PrefixEntry, PrefixFlag, address
from tabard.dataplane.verdict import Prefixes
from tabard.identity.numbers import Reserved
from tabard.ledger.state import Node
from tabard.policy.model import Cidr

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Prefix = tuple[Address, int]
"""A key of the `prefixes` map."""

packed = lru_cache(maxsize=131_072)(address)
"""Every compile packs the same addresses again."""


@lru_cache(maxsize=65_536)
def prefix(cidr: str) -> Prefix:
    network = ipaddress.ip_network(cidr)
    bits = network.prefixlen + (96 if network.version == 4 else 0)
    return packed(str(network.network_address)), bits


class Universe:
    """All CIDRs that policies name and that have an identity (CIDR → number).

    An address has the identity of the longest of them that holds it, so a rule's CIDR is the union
    of those inside it and outside its excepts.
    """

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self.numbers = numbers
        self._networks = [(ipaddress.ip_network(cidr), number) for cidr, number in numbers.items()]
        self._inside: dict[Cidr, frozenset[int]] = {}

    def inside(self, peer: Cidr) -> frozenset[int]:
        """The identities that together are the addresses of `peer`.

        None at all while an except has no identity of its own yet: its addresses would still be
        taken for those around it.
        """
        found = self._inside.get(peer)
        if found is None:
            found = self._inside[peer] = self._find(peer)
        return found

    def _find(self, peer: Cidr) -> frozenset[int]:
        if not all(hole in self.numbers for hole in peer.excepts):
            return frozenset()
        outer = ipaddress.ip_network(peer.prefix)
        holes = [ipaddress.ip_network(hole) for hole in peer.excepts]
        return frozenset(
            number
            for network, number in self._networks
            if _within(network, outer) and not any(_within(network, hole) for hole in holes)
        )


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


class PrefixMap:
    """One node's `prefixes` map and look-ups in it."""

    def __init__(
        self, universe: Universe, nodes: Mapping[str, Node], node: str, mode: Mode
    ) -> None:
        self.made_from = (universe, dict(nodes), node, mode)
        self.entries = _entries(universe.numbers, nodes, node, mode)
        self._lookup = Prefixes(self.entries)

    def is_made_from(
        self, universe: Universe, nodes: Mapping[str, Node], node: str, mode: Mode
    ) -> bool:
        return self.made_from == (universe, nodes, node, mode)

    def names(self, named: Set[int], identity: int, at: Address) -> bool:
        """Whether entries for the peers `named` could allow traffic with `identity` at `at`."""
        if 0 in named or identity in named:
            return True
        entry = self._lookup.match(at)
        return entry is not None and PrefixFlag.CIDR in entry.flags and entry.identity in named


def _entries(
    universe: Mapping[str, int], nodes: Mapping[str, Node], node: str, mode: Mode
) -> dict[Prefix, PrefixEntry]:
    """Policies' CIDRs and pods' ranges; around them the world."""
    cidrs = {
        prefix("0.0.0.0/0"): PrefixEntry(Reserved.WORLD_IPV4.value),
        prefix("::/0"): PrefixEntry(Reserved.WORLD_IPV6.value),
    }
    for cidr, number in universe.items():
        cidrs[prefix(cidr)] = PrefixEntry(number, PrefixFlag.CIDR)
    ranges: dict[Prefix, Node] = {}
    for _, known in sorted(nodes.items()):
        for cidr in known.pod_cidrs:
            ranges.setdefault(prefix(cidr), known)
    around, holders = Prefixes(cidrs), Prefixes(ranges)
    found: dict[Prefix, PrefixEntry] = {}
    for at, bits in {**cidrs, **ranges}:
        entry = around.match(at, bits)
        assert entry is not None, "the world encloses every prefix"
        holder = holders.match(at, bits)
        if holder is not None:
            is_remote = mode is Mode.OVERLAY and holder.name != node
            tunnel = _tunnel(holder.addresses) if is_remote else b""
            entry = PrefixEntry(entry.identity, entry.flags | PrefixFlag.POD_RANGE, tunnel)
        found[(at, bits)] = entry
    return found


def _tunnel(addresses: Iterable[str]) -> bytes:
    """The underlay address that packets for a node's pods are sent to, IPv4 first."""
    return next((packed(text) for text in sorted(addresses, key=lambda text: ":" in text)), b"")

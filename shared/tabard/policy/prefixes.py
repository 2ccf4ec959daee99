"""CIDRs: the universe that policies name, its identities, and the `prefixes` map around it."""

import ipaddress
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache

from tabard.dataplane.maps import AT_CIDR, Address, Mode, PrefixEntry, PrefixFlag, address
from tabard.dataplane.verdict import Prefixes
from tabard.identity.numbers import Reserved
from tabard.ledger.state import Node
from tabard.policy.model import Cidr

Prefix = tuple[Address, int]
"""A key of the `prefixes` map."""

_MAPPED = b"\0" * 10 + b"\xff\xff"


def packed(text: str) -> Address:
    """`address` for text that is canonical, as the ledger's is: a million of them are packed at a
    start."""
    if ":" in text:
        return address(text)
    return Address(_MAPPED + bytes(map(int, text.split("."))))


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
        found = sorted((_place(cidr), number) for cidr, number in numbers.items())
        self._places = [place for place, _ in found]
        self._numbers = [number for _, number in found]
        self._inside: dict[Cidr, frozenset[int]] = {}

    def inside(self, peer: Cidr) -> frozenset[int]:
        """The identities that together are the addresses of `peer`.

        None at all while an except has no identity of its own yet: its addresses would still be
        taken for those around it.
        """
        found = self._inside.get(peer)
        if found is None:
            found = frozenset()
            if all(hole in self.numbers for hole in peer.excepts):
                found = frozenset(self._within(peer.prefix))
                found = found.difference(*map(self._within, peer.excepts))
            self._inside[peer] = found
        return found

    def _within(self, cidr: str) -> list[int]:
        """The identities of the CIDRs in `cidr`: CIDRs nest, so they are sorted next to it."""
        version, first, bits = _place(cidr)
        last = first | ((1 << (128 - bits)) - 1)
        begin = bisect_left(self._places, (version, first, bits))
        end = bisect_right(self._places, (version, last, 128))
        return self._numbers[begin:end]


def _place(cidr: str) -> tuple[int, int, int]:
    """(IP version, first address, prefix length), the last two in the 16-byte form."""
    network, bits = prefix(cidr)
    return 6 if ":" in cidr else 4, int.from_bytes(network), bits


class PrefixMap:
    """One node's `prefixes` map and look-ups in it."""

    def __init__(
        self, universe: Universe, nodes: Mapping[str, Node], node: str, mode: Mode
    ) -> None:
        self.entries = _entries(universe.numbers, nodes, node, mode)
        self._lookup = Prefixes(self.entries)

    def names(self, named: Container[int], identity: int, at: Address) -> bool:
        """Whether entries for the peers `named` could decide traffic with `identity` at `at`.

        Those for the world there could too: that is what an address outside the pods' ranges is
        taken for, unless its pod is known.
        """
        if 0 in named or identity in named:
            return True
        entry = self._lookup.match(at)
        if entry is None:
            return False
        if PrefixFlag.POD_RANGE not in entry.flags and entry.identity in named:
            return True
        return PrefixFlag.CIDR in entry.flags and entry.identity | AT_CIDR in named


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

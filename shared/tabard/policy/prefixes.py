"""CIDRs: the universe that policies name, its identities, and the `prefixes` map around it."""

import ipaddress
from bisect import bisect_left, bisect_right, insort
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import lru_cache

from tabard.dataplane.maps import AT_CIDR, Address, Mode, PrefixEntry, PrefixFlag, address
from tabard.dataplane.verdict import Prefixes
from tabard.identity.numbers import Reserved
from tabard.ledger.state import Node
from tabard.policy.model import Cidr

Prefix = tuple[Address, int]
"""A key of the `prefixes` map."""

_Place = tuple[int, int, int]
"""(IP version, first address, prefix length), the last two in the 16-byte form."""

_MAPPED = b"\0" * 10 + b"\xff\xff"
_MASKS = tuple(((1 << bits) - 1) << (128 - bits) for bits in range(129))


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


def address_alone(cidr: str) -> str | None:
    """The address that a CIDR is, if it is one alone."""
    return cidr.partition("/")[0] if prefix(cidr)[1] == 128 else None


_WORLD = {
    prefix("0.0.0.0/0"): PrefixEntry(Reserved.WORLD_IPV4.value),
    prefix("::/0"): PrefixEntry(Reserved.WORLD_IPV6.value),
}


class Universe:
    """All CIDRs that policies name and that have an identity (CIDR → number).

    An address has the identity of the longest of them that holds it, so a rule's CIDR is the union
    of those inside it and outside its excepts.
    """

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self.numbers: dict[str, int] = {}
        self.cidrs: dict[int, str] = {}
        """The inverse."""
        self._places: list[_Place] = []
        self._at: dict[_Place, int] = {}
        self._named: dict[_Place, dict[Cidr, None]] = {}
        """Tracked peers by where their prefix and their excepts are."""
        self._inside: dict[Cidr, frozenset[int] | None] = {}
        """Tracked peers → `inside`, None if that is not known."""
        self.update(numbers)

    def update(self, numbers: Mapping[str, int | None]) -> None:
        """These CIDRs have these identities now, or None."""
        for cidr in numbers:
            for peer in self.around(cidr):
                self._inside[peer] = None
            before = self.numbers.pop(cidr, None)
            if before is not None:
                del self.cidrs[before]
                del self._at[_place(cidr)]
                del self._places[bisect_left(self._places, _place(cidr))]
        found = [(cidr, number) for cidr, number in numbers.items() if number is not None]
        for cidr, number in found:
            self.numbers[cidr] = number
            self.cidrs[number] = cidr
            self._at[_place(cidr)] = number
        if len(found) > len(self._places):
            self._places = sorted(self._at)
        else:
            for cidr, _ in found:
                insort(self._places, _place(cidr))

    def track(self, peer: Cidr) -> None:
        """Remember what is inside `peer`, until it is released, and find it by `around`."""
        self._inside[peer] = None
        for cidr in (peer.prefix, *peer.excepts):
            self._named.setdefault(_place(cidr), {})[peer] = None

    def release(self, peer: Cidr) -> None:
        del self._inside[peer]
        for place in {_place(cidr) for cidr in (peer.prefix, *peer.excepts)}:
            del self._named[place][peer]
            if not self._named[place]:
                del self._named[place]

    def around(self, cidr: str) -> Iterator[Cidr]:
        """The tracked peers whose prefix or one of whose excepts holds `cidr`; some twice."""
        version, first, bits = _place(cidr)
        for length in range(96 if version == 4 else 0, bits + 1):
            yield from self._named.get((version, first & _MASKS[length], length), ())

    def naming(self, number: int) -> Iterator[Cidr]:
        """The tracked peers that name an identity, or with AT_CIDR who is at its CIDR; some twice.

        None if it is not that of a CIDR here.
        """
        cidr = self.cidrs.get(number & ~AT_CIDR)
        if cidr is not None:
            yield from (peer for peer in self.around(cidr) if number in members(self, peer))

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
            if peer in self._inside:
                self._inside[peer] = found
        return found

    def _within(self, cidr: str) -> list[int]:
        """The identities of the CIDRs in `cidr`: CIDRs nest, so they are sorted next to it."""
        version, first, bits = _place(cidr)
        last = first | ((1 << (128 - bits)) - 1)
        begin = bisect_left(self._places, (version, first, bits))
        end = bisect_right(self._places, (version, last, 128))
        return [self._at[place] for place in self._places[begin:end]]


def members(universe: Universe, cidr: Cidr) -> frozenset[int]:
    """Whom a CIDR names: the world there and, if it holds them, pods and nodes there."""
    world = universe.inside(cidr)
    return world | {number | AT_CIDR for number in world} if cidr.holds_members else world


def _place(cidr: str) -> _Place:
    network, bits = prefix(cidr)
    return 6 if ":" in cidr else 4, int.from_bytes(network), bits


class PrefixMap:
    """One node's `prefixes` map and look-ups in it: policies' CIDRs, pods' ranges, and around them
    the world."""

    def __init__(
        self, universe: Universe, nodes: Mapping[str, Node], node: str, mode: Mode
    ) -> None:
        self._node, self._mode = node, mode
        self._ranges: dict[Prefix, Node] = {}
        for _, known in sorted(nodes.items()):
            for cidr in known.pod_cidrs:
                self._ranges.setdefault(prefix(cidr), known)
        self._holders = Prefixes(self._ranges)
        self._sorted = sorted(self._ranges)
        cidrs = {prefix(cidr): _of_cidr(number) for cidr, number in universe.numbers.items()}
        self._cidrs = Prefixes({**_WORLD, **cidrs})
        self.entries = {place: self._entry(*place) for place in {**_WORLD, **cidrs, **self._ranges}}
        self._lookup = Prefixes(self.entries)

    def update(self, numbers: Mapping[str, int | None]) -> dict[Prefix, PrefixEntry | None]:
        """These CIDRs have these identities now, or None: the entries that may be others."""
        found: dict[Prefix, PrefixEntry | None] = {}
        for cidr, number in numbers.items():
            place = prefix(cidr)
            known = _WORLD.get(place) if number is None else _of_cidr(number)
            self._cidrs.put(place, known)
            is_there = known is not None or place in self._ranges
            found[place] = self._entry(*place) if is_there else None
            found.update((inner, self._entry(*inner)) for inner in self._ranges_in(*place))
        for place, entry in found.items():
            self._lookup.put(place, entry)
            if entry is None:
                self.entries.pop(place, None)
            else:
                self.entries[place] = entry
        return found

    def around(self, cidr: str) -> int:
        """Whose the addresses of `cidr` are that no CIDR within it has: its own number or that of
        the longest CIDR that holds it, or the world's."""
        entry = self._cidrs.match(*prefix(cidr))
        assert entry is not None, "the world encloses every prefix"
        return entry.identity

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

    def _entry(self, at: Address, bits: int) -> PrefixEntry:
        entry = self._cidrs.match(at, bits)
        assert entry is not None, "the world encloses every prefix"
        holder = self._holders.match(at, bits)
        if holder is None:
            return entry
        is_remote = self._mode is Mode.OVERLAY and holder.name != self._node
        tunnel = _tunnel(holder.addresses) if is_remote else b""
        return PrefixEntry(entry.identity, entry.flags | PrefixFlag.POD_RANGE, tunnel)

    def _ranges_in(self, at: Address, bits: int) -> list[Prefix]:
        """Pods' ranges within a prefix: they take the identity of what is around them."""
        last = int.from_bytes(at) | ((1 << (128 - bits)) - 1)
        begin = bisect_left(self._sorted, (at, bits))
        return self._sorted[begin : bisect_right(self._sorted, (Address(last.to_bytes(16)), 128))]


def _of_cidr(number: int) -> PrefixEntry:
    return PrefixEntry(number, PrefixFlag.CIDR)


def _tunnel(addresses: Iterable[str]) -> bytes:
    """The underlay address that packets for a node's pods are sent to, IPv4 first."""
    return next((packed(text) for text in sorted(addresses, key=lambda text: ":" in text)), b"")

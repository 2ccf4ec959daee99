"""The address space cut at the CIDRs that policies name: no rule tells two addresses of one part
apart."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from tabard.policy.model import Cidr
from tabard.policy.networks import network
from tabard.policy.parties import IP
from tabard.policy.schema import Network, within

EVERYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Atom:
    """The addresses whose longest prefix, of those that are named, is `prefix`."""

    prefix: str
    sample: IP
    """One of them."""

    @property
    def version(self) -> int:
        return self.sample.version


class Atoms(tuple[Atom, ...]):
    """All parts, by family and address. It keeps what it found of a CIDR."""

    _held: dict[Cidr, tuple[int, ...]]

    def held(self, cidr: Cidr) -> tuple[int, ...]:
        """The places of those that `cidr` holds; it was among the CIDRs that they are cut at."""
        found = self._held.get(cidr)
        if found is None:
            found = self._held[cidr] = tuple(self._within(cidr))
        return found

    def _within(self, cidr: Cidr) -> Iterator[int]:
        inside, holes = network(cidr.prefix), [network(hole) for hole in cidr.excepts]
        for index, atom in enumerate(self):
            own = network(atom.prefix)
            if own.version != inside.version or not within(own, inside):
                continue
            if not any(within(own, hole) for hole in holes):
                yield index


def cut(cidrs: Iterable[Cidr]) -> Atoms:
    """The parts into which these CIDRs cut all addresses; without any each family is one.

    A prefix that others fill to its last address has no part of its own.
    """
    return _cut(frozenset(prefix for cidr in cidrs for prefix in (cidr.prefix, *cidr.excepts)))


@lru_cache(maxsize=4_096)
def _cut(named: frozenset[str]) -> Atoms:
    networks = sorted(
        {network(prefix) for prefix in named.union(EVERYWHERE)},
        key=lambda each: (each.version, int(each.network_address), each.prefixlen),
    )
    inside: Mapping[Network, list[Network]] = {each: [] for each in networks}
    around: list[Network] = []
    for each in networks:
        while around and not (around[-1].version == each.version and within(each, around[-1])):
            around.pop()
        if around:
            inside[around[-1]].append(each)
        around.append(each)
    found = Atoms(
        Atom(str(each), sample)
        for each in networks
        if (sample := _outside_of(inside[each], each)) is not None
    )
    found._held = {}
    return found


def _outside_of(holes: list[Network], whole: Network) -> IP | None:
    """The first address of `whole` in none of `holes`, which are in order and apart."""
    at = whole.network_address
    for hole in holes:
        if at < hole.network_address:  # type: ignore[operator]
            return at
        if hole.broadcast_address == whole.broadcast_address:
            return None
        at = hole.broadcast_address + 1
    return at

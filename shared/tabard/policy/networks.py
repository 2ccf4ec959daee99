"""Which of many CIDRs hold an address."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from tabard.policy.parties import IP
from tabard.policy.schema import Network

NONE: frozenset[str] = frozenset()


@lru_cache(maxsize=65_536)
def network(cidr: str) -> Network:
    """Of a canonical CIDR."""
    return ipaddress.ip_network(cidr)


class Networks:
    """A fixed set of canonical CIDRs. It keeps what it found for an address."""

    def __init__(self, cidrs: Iterable[str]) -> None:
        self._by_length: dict[tuple[int, int], dict[int, str]] = {}
        """(IP version, host bits) → network address without them → CIDR."""
        for cidr in set(cidrs):
            network = ipaddress.ip_network(cidr)
            bits = network.max_prefixlen - network.prefixlen
            nets = self._by_length.setdefault((network.version, bits), {})
            nets[int(network.network_address) >> bits] = cidr
        self._holding: dict[IP, frozenset[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_length)

    def holding(self, at: IP | None) -> frozenset[str]:
        """The CIDRs that hold the address; none hold what has no address."""
        if at is None:
            return NONE
        found = self._holding.get(at)
        if found is None:
            number = int(at)
            found = self._holding[at] = frozenset(
                nets[number >> bits]
                for (version, bits), nets in self._by_length.items()
                if version == at.version and number >> bits in nets
            )
        return found


def longest(cidrs: Iterable[str]) -> str:
    """The one of the longest prefix, empty if there is none."""
    return max(cidrs, key=lambda cidr: int(cidr.rpartition("/")[2]), default="")

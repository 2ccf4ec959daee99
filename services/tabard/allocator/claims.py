"""Which node has which addresses, and may have: found by the range that another one claims. Pure.

What a node claims draws traffic: other nodes send what is for its pod CIDRs to it.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from tabard.ledger.state import Node

_Network = IPv4Network | IPv6Network
_Place = tuple[int, int]
"""(4 or 6, prefix length)"""
_WIDTH = {4: 32, 6: 128}


class Claims:
    """The addresses and pod CIDRs of nodes. They may overlap, as in ledgers from before it was
    refused."""

    def __init__(self, nodes: Iterable[Node] = (), ranges: Iterable[str] = ()) -> None:
        """`ranges`: CIDRs in which all that a node claims must lie; none: anywhere."""
        self._ranges = tuple(map(ip_network, ranges))
        self._of: dict[_Place, list[tuple[int, str, str]]] = {}
        """Sorted (network, node, its text), for each length of prefix."""
        self._nodes: dict[str, Node] = {}
        for node in nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """What `node` has from here on."""
        self.remove(node.name)
        self._nodes[node.name] = node
        for text, place, network in _claimed(node):
            insort(self._of.setdefault(place, []), (network, node.name, text))

    def remove(self, name: str) -> None:
        node = self._nodes.pop(name, None)
        for text, place, network in () if node is None else _claimed(node):
            self._of[place].remove((network, name, text))

    def outside(self, node: Node) -> str:
        """What of `node` lies in none of the ranges that nodes are held to; "" if nothing."""
        for text in _texts(node) if self._ranges else ():
            claimed = ip_network(text)
            if not any(_within(claimed, held) for held in self._ranges):
                return text
        return ""

    def clash(self, node: Node) -> str:
        """What of `node` is another node's, in words; "" if nothing."""
        for text, (version, length), network in _claimed(node):
            width = _WIDTH[version]
            for (other_version, other_length), held in sorted(self._of.items()):
                if other_version != version:
                    continue
                # Two prefixes overlap where the shorter one says the same of both.
                drop = width - min(length, other_length)
                first = network >> drop << drop
                at = bisect_left(held, (first, "", ""))
                while at < len(held) and held[at][0] >> drop << drop == first:
                    _, name, theirs = held[at]
                    if name != node.name:
                        what = f"{text} is" if text == theirs else f"{text} overlaps with {theirs},"
                        return f"{what} node {name}'s"
                    at += 1
        return ""


def _within(network: _Network, held: _Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(held, IPv4Network) and network.subnet_of(held)
    return isinstance(held, IPv6Network) and network.subnet_of(held)


def _texts(node: Node) -> tuple[str, ...]:
    return (*node.addresses, *node.pod_cidrs)


def _claimed(node: Node) -> Iterator[tuple[str, _Place, int]]:
    for text in _texts(node):
        network = ip_network(text)
        yield text, (network.version, network.prefixlen), int(network.network_address)

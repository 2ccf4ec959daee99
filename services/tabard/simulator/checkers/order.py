"""order: whatever a packet can look up leads to what is there. An endpoint's rule set has entries
where it says so, and an address' identity is known, between any two stages of a write."""

from collections.abc import Iterator

from tabard.dataplane.maps import Direction, Maps, PrefixFlag, Tier, address_text, is_of_node
from tabard.dataplane.verdict import IN_TIER
from tabard.identity.numbers import is_cidr, is_pod
from tabard.invariants.verdict import Invariant, Violation
from tabard.simulator.world import Node, World


class Order:
    invariant = Invariant.ORDER

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int]] = {}
        """Node → (writes begun, entries) when it was looked at last."""
        self._excused: dict[str, frozenset[str]] = {}
        """Node → what a write that makes identities known late left open when it was broken off."""

    def check(self, world: World) -> Iterator[Violation]:
        for node in world.nodes.values():
            maps = node.maps
            entries = len(maps.policies) + len(maps.identities) + len(maps.hosts)
            now = (node.writes << 1 | node.is_writing, entries + len(maps.endpoints) * 1_000_003)
            if self._seen.get(node.name) != now:
                self._seen[node.name] = now
                yield from self._dangling(node, world)

    def finish(self, world: World) -> Iterator[Violation]:
        yield from ()

    def _dangling(self, node: Node, world: World) -> Iterator[Violation]:
        for what in _without_rules(node.maps):
            yield Violation(self.invariant, f"{node.name}: {what}", world.now)
        unknown = frozenset(_unknown(node.maps))
        is_late = node.change is not None and node.change.knows_late
        excused = self._excused.get(node.name, frozenset())
        if not node.is_writing or is_late:
            self._excused[node.name] = unknown if is_late else frozenset()
        if not is_late:
            for what in sorted(unknown - (excused if node.is_writing else frozenset())):
                yield Violation(self.invariant, f"{node.name}: {what}", world.now)


def _without_rules(maps: Maps) -> Iterator[str]:
    """Endpoints whose flags say that a tier has entries, of which there is none."""
    there = {(key.policy, key.tier, key.direction) for key in maps.policies}
    for at, endpoint in maps.endpoints.items():
        for tier in Tier:
            for direction in Direction:
                place = endpoint.policy, tier, direction
                if endpoint.flags & IN_TIER[tier][direction] and place not in there:
                    yield (
                        f"endpoint {address_text(at)} leads to rule set {endpoint.policy:016x}, "
                        f"which has no entry for {tier.name}, {direction.name}"
                    )


def _unknown(maps: Maps) -> Iterator[str]:
    """What leads to a pod's or a CIDR's identity that is not known."""
    known = maps.identities
    for at, endpoint in maps.endpoints.items():
        if (
            not is_of_node(endpoint)
            and is_pod(endpoint.identity)
            and endpoint.identity not in known
        ):
            yield f"endpoint {address_text(at)} leads to identity {endpoint.identity}, unknown"
    for at, number in maps.hosts.items():
        if is_pod(number) and number not in known:
            yield f"host {address_text(at)} leads to identity {number}, unknown"
    for (at, bits), entry in maps.prefixes.items():
        is_named = PrefixFlag.CIDR in entry.flags and is_cidr(entry.identity)
        if is_named and entry.identity not in known:
            where = f"{address_text(at)}/{bits}"
            yield f"prefix {where} leads to identity {entry.identity}, unknown"

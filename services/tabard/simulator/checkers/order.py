"""order: whatever a packet can look up leads to what is there, between any two stages of a write.

An endpoint leads to its rule set: every entry of that which is about anyone, or about an identity
that is known, is there. An address leads to an identity that is known, or is closed on purpose: a
node that nobody waits for takes its own pods' and CIDRs' numbers out first (ARCHITECTURE.md,
decision 49), one whose map is full takes out what only ever closes, and a write that turns
endpoints has some identities unknown meanwhile (decision 31).
"""

from collections.abc import Iterator, Mapping

from tabard.dataplane.maps import AT_CIDR, Maps, PolicyKey, PrefixFlag, address_text, is_of_node
from tabard.events.ledger import NodeAdded, NodeLost, NodeRemoved, NodeReturned
from tabard.identity.numbers import is_cidr, is_pod
from tabard.invariants.verdict import Invariant, Violation
from tabard.simulator.checkers.mirror import Mirror
from tabard.simulator.world import Node, World

RuleSets = Mapping[int, frozenset[PolicyKey]]
"""Policy id → its entries."""


class Order:
    invariant = Invariant.ORDER

    def __init__(self) -> None:
        self._mirror = Mirror()
        self._seen: dict[str, tuple[int, ...]] = {}
        """Node → what tells that something in its maps is another."""
        self._before: dict[str, tuple[int, RuleSets]] = {}
        """Node → how many writes had begun, and the rule sets of its maps, when none was under
        way."""
        self._excused: dict[str, frozenset[str]] = {}
        """Node → what led to identities that a write makes known late, until that write or, if it
        was broken off, another one made the maps whole."""
        self._waited_for: dict[str, int] = {}
        """Node that is in the ledger, and not lost there → since when."""
        self._taken = 0
        self._fulls = 0
        self._was_full: set[str] = set()
        """Nodes that may have made room in a full map, and have not settled since."""

    def check(self, world: World) -> Iterator[Violation]:
        for record in world.records[self._taken :]:
            match record.event:
                case NodeAdded(name) | NodeReturned(name):
                    self._waited_for.setdefault(name, record.sequence)
                case NodeLost(name) | NodeRemoved(name):
                    self._waited_for.pop(name, None)
                case _:
                    pass
        self._taken = len(world.records)
        is_full = world.counts["maps full"] > self._fulls
        self._fulls = world.counts["maps full"]
        for node in world.nodes.values():
            maps = node.maps
            now = (
                *(node.writes, node.is_writing, node.settled, len(maps.policies)),
                *(len(maps.identities), len(maps.hosts), len(maps.prefixes), len(maps.endpoints)),
                sum(endpoint.policy for endpoint in maps.endpoints.values()),
            )
            if self._seen.get(node.name) == now:
                continue
            self._seen[node.name] = now
            if is_full:
                self._was_full.add(node.name)
            if node.settled:
                self._was_full.discard(node.name)
                self._before[node.name] = node.writes, _rule_sets(maps)
            elif node.standing == "in_sync" and not node.troubles:
                yield from self._without_rules(node, world)
            yield from self._to_nobody(node, world)

    def finish(self, world: World) -> Iterator[Violation]:
        yield from ()

    def _without_rules(self, node: Node, world: World) -> Iterator[Violation]:
        """Endpoints that lead to rule sets of which something is missing."""
        writes, before = self._before.get(node.name, (0, {}))
        used = {endpoint.policy: at for at, endpoint in node.maps.endpoints.items()}
        if not used or node.writes > writes + 1:
            return  # what the write under way began with is not known
        wanted = self._mirror.wanted(node, node.read, world)
        after = _rule_sets(wanted) if wanted is not None else {}
        known = node.maps.identities
        for policy, at in used.items():
            sides = [side[policy] for side in (before, after) if policy in side]
            if not sides:
                continue  # of an event between those
            for key in frozenset.intersection(*sides) - node.maps.policies.keys():
                peer = key.identity & ~AT_CIDR
                if not peer or peer in known:
                    what = (
                        f"{node.name}: endpoint {address_text(at)} leads to rule set "
                        f"{policy:016x}, in which the entry for {key.direction.name} with "
                        f"identity {peer}, {key.protocol.name} {key.port}/{key.port_bits} is "
                        "missing"
                    )
                    yield Violation(self.invariant, what, world.now)
                    break

    def _to_nobody(self, node: Node, world: World) -> Iterator[Violation]:
        """Addresses that lead to identities that are not known."""
        if node.name in self._was_full:
            return
        since = self._waited_for.get(node.name)
        closes_own = since is None or node.enforced < since
        found = dict(_unknown(node.maps, closes_own=closes_own))
        excused = frozenset() if node.settled else self._excused.get(node.name, frozenset())
        late = frozenset(what for what, number in found.items() if number in node.late)
        self._excused[node.name] = excused = late | (excused & found.keys())
        for what in sorted(found.keys() - excused):
            yield Violation(self.invariant, f"{node.name}: {what}", world.now)


def _rule_sets(maps: Maps) -> RuleSets:
    """Those that endpoints lead to."""
    found: dict[int, set[PolicyKey]] = {
        endpoint.policy: set() for endpoint in maps.endpoints.values()
    }
    for key in maps.policies:
        if key.policy in found:
            found[key.policy].add(key)
    return {policy: frozenset(keys) for policy, keys in found.items()}


def _unknown(maps: Maps, *, closes_own: bool) -> Iterator[tuple[str, int]]:
    """What leads to an identity that is not known, and which."""
    known = maps.identities
    for at, endpoint in () if closes_own else maps.endpoints.items():
        number = endpoint.identity
        if not is_of_node(endpoint) and is_pod(number) and number not in known:
            yield _to(f"endpoint {address_text(at)}", number)
    for at, number in maps.hosts.items():
        if is_pod(number) and number not in known:
            yield _to(f"host {address_text(at)}", number)
    for (at, bits), entry in () if closes_own else maps.prefixes.items():
        is_named = PrefixFlag.CIDR in entry.flags and is_cidr(entry.identity)
        if is_named and entry.identity not in known:
            yield _to(f"prefix {address_text(at)} (/{bits} of 128)", entry.identity)


def _to(what: str, number: int) -> tuple[str, int]:
    return f"{what} leads to identity {number}, which is not known", number

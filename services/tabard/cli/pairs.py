"""Who may speak to whom, as plain values: what `tabard policy matrix` shows. Pure.

Rows are mappings of JSON values with the keys that `tabard.cli.judgements` documents.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

from tabard.cli.ground import Ground
from tabard.cli.kinds import By
from tabard.cli.naming import NotThere, PortAsked, owner, ports
from tabard.cli.records import Row
from tabard.cli.rows import connections, rule_row
from tabard.dataplane.maps import Direction
from tabard.ledger.state import EndpointState
from tabard.policy.parties import Party, Role, Who
from tabard.policy.rulings import Grant
from tabard.policy.traffic import NOTHING, Traffic, intersection, joined, union

Selector = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class Group:
    """The pods, or the address, that a row and a column stand for."""

    name: str
    namespace: str
    """Empty for an address."""
    kind: str
    members: tuple[EndpointState, ...]
    sorts: Mapping[Hashable, Who]
    """What tells members apart for policies → the first of that sort."""
    chosen: bool = True
    """Whether pairs with it were asked for."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What all members of one group may send to all of another by any of their addresses, and what
    some may to some by some."""

    every: Traffic
    some: Traffic


class Pairs:
    """The answers for all pairs of `groups`, held down to `wanted` if any port is."""

    def __init__(
        self, ground: Ground, groups: Sequence[Group], wanted: Sequence[PortAsked]
    ) -> None:
        self.groups = groups
        self._ground = ground
        self._wanted = wanted
        self._allowed: dict[tuple[Hashable, Hashable], list[Traffic]] = {}

    def asked(self, source: Group, destination: Group) -> bool:
        """Whether the pair was asked for; nothing that stands alone is asked about itself."""
        itself = source is destination and source.kind in ("Pod", "Address")
        return (source.chosen or destination.chosen) and not itself

    def cell(self, source: Group, destination: Group) -> Cell:
        found = [
            traffic
            for one, other in product(source.sorts.items(), destination.sorts.items())
            for traffic in self._between(one, other)
        ]
        return Cell(reduce(intersection, found), joined(found))

    def items(self) -> Iterator[Row]:
        """{from, to, connections, some, rules} for each pair between which something may pass."""
        for source, destination in product(self.groups, self.groups):
            if not self.asked(source, destination):
                continue
            cell = self.cell(source, destination)
            if cell.some:
                yield {
                    "from": source.name,
                    "to": destination.name,
                    "connections": connections(cell.every),
                    "some": connections(cell.some),
                    "rules": [
                        rule_row(self._ground, grant)
                        for grant in self._grants(source, destination, cell.some)
                    ],
                }

    def _between(self, one: tuple[Hashable, Who], other: tuple[Hashable, Who]) -> list[Traffic]:
        (sort, sender), (other_sort, receiver) = one, other
        found = self._allowed.get((sort, other_sort))
        if found is None:
            found = self._allowed[sort, other_sort] = self._pass(sender, receiver)
        return found

    def _pass(self, sender: Who, receiver: Who) -> list[Traffic]:
        """What may pass by each two of their addresses that are of one family."""
        engine = self._ground.engine
        ends = engine.parties.pairs(sender, receiver)
        # Without an address of one family there is no such flow.
        return [self._wanted_of(engine.allowed(*each), each[1]) for each in ends] or [NOTHING]

    def _wanted_of(self, found: Traffic, receiver: Party) -> Traffic:
        if not self._wanted:
            return found
        meant = []
        for one in self._wanted:
            with contextlib.suppress(NotThere):  # its name for a port means nothing here
                meant += ports(self._ground.state, one, receiver)
        return intersection(found, union((protocol, at, at) for protocol, at in meant))

    def _grants(self, source: Group, destination: Group, passing: Traffic) -> list[Grant]:
        """Those that let some of `passing` pass, pass it on, or deny part of the rest."""
        engine = self._ground.engine
        found: dict[Grant, None] = {}
        ends = (
            ends
            for sender, receiver in product(source.sorts.values(), destination.sorts.values())
            for ends in engine.parties.pairs(sender, receiver)
        )
        for one, other in ends:
            for direction, subject, peer in (
                (Direction.EGRESS, one, other),
                (Direction.INGRESS, other, one),
            ):
                if engine.at_once(direction, subject, peer) is None:
                    decided = engine.ruling(direction, subject, peer).decided
                    found.update(dict.fromkeys(grant for grant, _ in decided))
        return [
            grant for grant in found if not grant.allows or intersection(passing, grant.traffic)
        ]


def group(
    ground: Ground,
    by: By,
    addresses: Sequence[str] = (),
    namespace: str = "",
    selector: Selector = lambda labels: True,
) -> list[Group]:
    """The rows and columns, by namespace and name, addresses last.

    Those are chosen that have a pod in `namespace` (any if empty) whose labels `selector` takes; an
    address is in no namespace, and has no labels.
    """
    find = ground.engine.parties.find
    members: dict[tuple[str, str, str], list[EndpointState]] = {}
    for pod in sorted(ground.state.endpoints.values(), key=lambda pod: (pod.namespace, pod.name)):
        members.setdefault(_key(pod, by), []).append(pod)
    parties = {pod.uid: find(pod) for pods in members.values() for pod in pods}
    outside = {text: find(text) for text in addresses}
    # Pods of different nodes differ in one thing: which node's word they always take.
    by_node = any(
        party.role is Role.NODE
        for found in (*parties.values(), *outside.values())
        for party in found
    )

    def sort(found: Sequence[Party]) -> Hashable:
        return tuple(
            (
                ground.engine.alike(party),
                party.address and party.address.version,
                party.nodes if by_node else None,
            )
            for party in found
        )

    names = Counter((namespace, name) for namespace, name, _ in members)
    found = [
        Group(
            name=f"{space}/{kind.lower()}/{name}" if names[space, name] > 1 else f"{space}/{name}",
            namespace=space,
            kind=kind,
            members=tuple(pods),
            sorts={sort(parties[pod.uid]): pod for pod in reversed(pods)},
            chosen=any(
                namespace in ("", pod.namespace) and selector(dict(pod.labels)) for pod in pods
            ),
        )
        for (space, name, kind), pods in sorted(members.items())
    ]
    return [
        *found,
        *(
            Group(text, "", "Address", (), {sort(at): text}, chosen=not namespace and selector({}))
            for text, at in outside.items()
        ),
    ]


def _key(pod: EndpointState, by: By) -> tuple[str, str, str]:
    """(namespace, name, kind) of the group that the pod is in."""
    match by:
        case By.WORKLOAD if pod.owner:
            kind, namespace, name = owner(pod)
            return namespace, name, kind
        case By.IDENTITY:
            return pod.namespace, str(pod.identity), "Identity"
        case _:
            return pod.namespace, pod.name, "Pod"


def document(ground: Ground, pairs: Pairs, by: By) -> Row:
    """All of it, as it is printed."""
    return {
        "sequence": ground.sequence,
        "by": by.value,
        "parties": [
            {
                "name": each.name,
                "namespace": each.namespace,
                "kind": each.kind,
                "pods": [pod.name for pod in each.members],
                "identities": sorted({pod.identity for pod in each.members}),
            }
            for each in pairs.groups
        ],
        "items": list(pairs.items()),
    }

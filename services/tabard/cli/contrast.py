"""What differs between two sets of policies, as plain values: `tabard policy diff`. Pure.

Rows are mappings of JSON values with the keys that `tabard.cli.authoring` documents.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from tabard.cli.ground import Ground
from tabard.cli.kinds import By
from tabard.cli.pairs import Group, group
from tabard.cli.records import Row
from tabard.cli.rows import connections, policy_row, rule_row
from tabard.dataplane.maps import Direction
from tabard.identity.numbers import Reserved
from tabard.policy.atoms import Atom, cut
from tabard.policy.difference import Counterpart, Piece, Side, differences
from tabard.policy.model import Cidr
from tabard.policy.parties import Party, Role
from tabard.policy.referents import in_force
from tabard.policy.rulings import Half

_RULE = ("kind", "namespace", "name", "tier", "action", "rule", "origin", "event")
"""What of a rule is the same for all peers that it lets through."""


def compared(one: Ground, other: Ground) -> Row:
    """All of it, as it is printed."""
    before, after = Side(one.state, one.engine), Side(other.state, other.engine)
    mine, theirs = (
        {_key(each): each for each in group(found, By.WORKLOAD)} for found in (one, other)
    )
    parties = [
        Counterpart(
            mine[key].name,
            tuple(mine[key].sorts.values()),
            tuple(theirs[key].sorts.values()),
            same=_alike(one, mine[key]) == _alike(other, theirs[key]),
            alone=mine[key].kind == "Pod",
        )
        for key in mine
        if key in theirs
    ]
    parties += _others(one, other)
    changes = _grouped(one, other, differences(before, after, parties))
    return {
        "before": one.sequence,
        "after": other.sequence,
        "compared": len(parties),
        "changes": changes,
        "only": {
            "before": sorted(mine[key].name for key in mine.keys() - theirs.keys()),
            "after": sorted(theirs[key].name for key in theirs.keys() - mine.keys()),
        },
    }


def _key(group: Group) -> tuple[str, str, str]:
    return group.namespace, group.kind, group.name


def _alike(ground: Ground, group: Group) -> Hashable:
    """What policies see of its pods: labels and addresses."""
    state = ground.state
    return tuple(
        sorted(
            (state.identities[pod.identity].labels, pod.addresses, pod.host_network, pod.node)
            for pod in group.members
            if pod.identity in state.identities
        )
    )


def _others(one: Ground, other: Ground) -> Iterator[Counterpart]:
    """Nodes, and each part of the world that some CIDR of either side tells apart."""
    for name in sorted(one.state.nodes.keys() & other.state.nodes.keys()):
        mine, theirs = one.state.nodes[name], other.state.nodes[name]
        yield Counterpart(
            f"node {name}",
            mine.addresses,
            theirs.addresses,
            same=mine.addresses == theirs.addresses,
            alone=True,
        )
    node = Party(Role.NODE, None, Reserved.REMOTE_NODE.value)
    yield Counterpart("any other node", (node,), (node,), same=True, alone=True)
    for atom in cut(cidrs_of([one, other])):
        world = Reserved.WORLD_IPV4 if atom.version == 4 else Reserved.WORLD_IPV6
        party = Party(Role.WORLD, atom.sample, world.value)
        yield Counterpart(_outside(atom), (party,), (party,), same=True, alone=True)


def cidrs_of(grounds: Iterable[Ground]) -> Iterator[Cidr]:
    """Every CIDR that a rule in force names."""
    for ground in grounds:
        for _, policy in in_force(ground.state):
            for rule in policy.rules:
                yield from (peer for peer in rule.peers or () if isinstance(peer, Cidr))


def _outside(atom: Atom) -> str:
    return f"other IPv{atom.version}" if atom.prefix.endswith("/0") else atom.prefix


def _grouped(one: Ground, other: Ground, pieces: Iterable[Piece]) -> list[Row]:
    """The changes, those alike in one row: first by who speaks, then by who listens."""
    alike: dict[Hashable, tuple[Piece, dict[str, list[str]]]] = {}
    for piece in pieces:
        said = (piece.allowed, _frozen(connections(piece.traffic)), _why(one, other, piece))
        _, pairs = alike.setdefault(_frozen(said), (piece, {}))
        pairs.setdefault(piece.destination, []).append(piece.source)
    rows = []
    for piece, pairs in alike.values():
        together: dict[tuple[str, ...], list[str]] = {}
        for destination, speaking in pairs.items():
            together.setdefault(tuple(speaking), []).append(destination)
        for sources, listening in together.items():
            rows.append(
                {
                    "change": "allowed" if piece.allowed else "denied",
                    "from": list(sources),
                    "to": listening,
                    "connections": connections(piece.traffic),
                    "why": _why(one, other, piece),
                }
            )
    return sorted(rows, key=lambda row: (row["from"], row["to"], row["change"]))


def _why(one: Ground, other: Ground, piece: Piece) -> list[Row]:
    """The halves whose verdict is another, before and after."""
    before = {half.direction: half for half in piece.before.halves}
    after = {half.direction: half for half in piece.after.halves}
    return [
        {
            "direction": direction.name.lower(),
            "before": _half(one, before.get(direction)),
            "after": _half(other, after.get(direction)),
        }
        for direction in (Direction.EGRESS, Direction.INGRESS)
        if _allowed(before.get(direction)) != _allowed(after.get(direction))
    ]


def _allowed(half: Half | None) -> bool:
    return half is None or half.allowed


def _half(ground: Ground, half: Half | None) -> Row | None:
    if half is None:
        return None
    rule = None
    if half.rule is not None:
        found = rule_row(ground, half.rule)
        rule = {key: found[key] for key in _RULE}
    return {
        "allowed": half.allowed,
        "reason": half.reason.name.lower(),
        "rule": rule,
        "isolated_by": [policy_row(ground, key) for key in half.isolating],
    }


def _frozen(value: Any) -> Hashable:
    match value:
        case Mapping():
            return tuple((key, _frozen(each)) for key, each in value.items())
        case list() | tuple():
            return tuple(_frozen(each) for each in value)
        case _:
            return value  # type: ignore[no-any-return]

"""Rules taken apart: each peer on each port, and whom it means in a landscape."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tabard.dataplane.maps import Action, Direction, Protocol, Tier
from tabard.identity.labels import NamedPorts
from tabard.policy.atoms import Atoms, cut
from tabard.policy.landscape import Landscape
from tabard.policy.model import Cidr, Peer, Policy, Port, Rule, Selector


class Place(NamedTuple):
    """Which part of a sequence of policies: by its place, and the rule's, peer's and port's in it.

    -1 is all of them.
    """

    policy: int
    rule: int = -1
    peer: int = -1
    port: int = -1

    def holds(self, other: "Place") -> bool:
        return all(own in (-1, its) for own, its in zip(self, other, strict=True))


class Item(NamedTuple):
    """One peer on one port of a rule."""

    place: Place
    tier: Tier
    action: Action
    protocol: Protocol
    first: int
    last: int
    parties: int
    """Whom the peer means, at each atom of addresses (`Landscape.spread`)."""
    lookups: frozenset[str] | None


def atoms_of(policies: Iterable[Policy]) -> Atoms:
    """The parts into which the CIDRs of `policies` cut the address space."""
    return cut(
        peer
        for policy in policies
        for rule in policy.rules
        for peer in rule.peers or ()
        if isinstance(peer, Cidr)
    )


def order(policy: Policy) -> tuple[int, str, str]:
    """By which policies of tiers ADMIN and BASELINE are judged."""
    return (policy.priority, policy.kind, policy.name)


def items(
    land: Landscape,
    direction: Direction,
    policies: Sequence[Policy],
    ports: NamedPorts,
    atoms: Atoms,
) -> list[Item]:
    """What `policies` say in `direction` to a pod with these named ports, in the order of judging.

    An item that means nobody is left out.
    """
    judged = sorted(enumerate(policies), key=lambda each: (each[1].tier, order(each[1])))
    return [
        item
        for index, policy in judged
        for at, rule in enumerate(policy.rules)
        if rule.direction is direction
        for item in _of_rule(land, policy.tier, rule, Place(index, at), ports, atoms)
    ]


def _of_rule(
    land: Landscape,
    tier: Tier,
    rule: Rule,
    place: Place,
    ports: NamedPorts,
    atoms: Atoms,
) -> Iterator[Item]:
    peers: tuple[Peer | None, ...] = (None,) if rule.peers is None else rule.peers
    for index, peer in enumerate(peers):
        parties = _parties(land, peer, atoms)
        if not parties:
            continue
        for at, port in enumerate(rule.ports):
            action = rule.action
            if port.lookups is not None and action is Action.ALLOW:
                action = Action.PROXY
            for first, last, who in _numbers(land, rule.direction, port, peer, ports, atoms):
                met = parties if who is None else parties & who
                if met:
                    part = place._replace(
                        peer=_first(rule.peer_paths, index), port=_first(rule.port_paths, at)
                    )
                    yield Item(part, tier, action, port.protocol, first, last, met, port.lookups)


def _first(paths: Sequence[str], index: int) -> int:
    """The first of those that were written in the same place (an entity may be several peers)."""
    return paths.index(paths[index]) if paths else index


def _parties(land: Landscape, peer: Peer | None, atoms: Atoms) -> int:
    match peer:
        case None:
            return land.spread(land.everyone, atoms)
        case Selector():
            return land.spread(land.select(peer), atoms)
        case Cidr():
            whom = land.everyone if peer.holds_members else land.world4 | land.world6
            found = 0
            for index in atoms.held(peer):
                found |= land.at(whom, index)
            return found
        case _:
            raise AssertionError(f"{peer} was not resolved")


def _numbers(
    land: Landscape,
    direction: Direction,
    port: Port,
    peer: Peer | None,
    ports: NamedPorts,
    atoms: Atoms,
) -> Iterator[tuple[int, int, int | None]]:
    """(first, last, whom it is so for, None for all): a name is of the flow's destination."""
    if not port.name:
        yield port.first, port.last, None
    elif direction is Direction.INGRESS:
        for name, number, protocol in sorted(ports):
            if name == port.name and protocol == port.protocol.name:
                yield number, number, None
    elif not isinstance(peer, Cidr):
        for number, who in land.having_port(port.name, port.protocol.name):
            yield number, number, land.spread(who, atoms)

"""Which parts of a set of policies change nothing, for the pods that there are.

A part is a policy, a rule, a peer or a port. It is redundant if without it every outcome is as it
was: for each pod, with every other, nodes and the world, on every port, whatever addresses pods
have. Rules that mean nobody are not looked at: nothing shows what they would change.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tabard.dataplane.maps import Action, Direction
from tabard.policy.items import Place, atoms_of
from tabard.policy.landscape import Group, Landscape
from tabard.policy.model import Policy
from tabard.policy.outcome import Board


@dataclass(slots=True)
class Part:
    """A part that changes nothing."""

    place: Place
    denied: bool = True
    """Nothing of what it speaks of may pass."""
    alone: bool = False
    """Some of whom it means no other rule denies."""
    beside: dict[Place, None] = field(default_factory=dict)
    """The rules that speak of the same."""


def redundant(
    land: Landscape, policies: Sequence[Policy], groups: Iterable[Group]
) -> dict[Place, Part]:
    """The redundant parts, each by itself: of two that say the same each is, without the other.

    `groups` are those of `policies` in `land`; places are those in `policies`.
    """
    whose = {id(policy): index for index, policy in enumerate(policies)}
    seen: dict[Place, Part] = {}
    needed: set[Place] = set()
    for group in groups:
        atoms = atoms_of(group.policies)
        names = [whose[id(policy)] for policy in group.policies]
        for direction in Direction:
            _look(
                Board(land, direction, group.policies, group.ports, atoms),
                group.policies,
                names,
                seen,
                needed,
            )
    return {place: part for place, part in seen.items() if place not in needed}


def _look(
    board: Board,
    policies: Sequence[Policy],
    names: Sequence[int],
    seen: dict[Place, Part],
    needed: set[Place],
) -> None:
    """Sorts the parts that have a say on this board into those that are needed and the rest."""
    before = {run: board.passing(run) for run in board.met}
    for local in _parts(board, policies):
        place = local._replace(policy=names[local.policy])
        if place in needed:
            continue
        part = seen.setdefault(place, Part(place))
        isolates = local.rule == -1 and local.policy in board.isolating
        if board.enforced() != board.enforced(local):
            needed.add(place)
            continue
        for run, found in board.met.items():
            mine = [item for item in found if local.holds(item.place)]
            if not mine and not isolates:
                continue
            if board.passing(run, local) != before[run]:
                needed.add(place)
                break
            whom = 0
            for item in mine:
                whom |= item.parties
            part.denied = part.denied and not whom & before[run].anyhow
            denied = 0
            for item in found:
                if item.parties & whom and not local.holds(item.place):
                    part.beside.setdefault(Place(names[item.place.policy], item.place.rule))
                    denied |= item.parties if item.action is Action.DENY else 0
            part.alone = part.alone or bool(whom & ~denied)


def _parts(board: Board, policies: Sequence[Policy]) -> Iterator[Place]:
    # A bound on a node's knowledge is nothing that an outcome shows.
    yield from (Place(at) for at, policy in enumerate(policies) if not policy.stale_after_s)
    said = {item.place for item in board.items}
    found: dict[Place, None] = {}
    for place in sorted(said):
        rule = policies[place.policy].rules[place.rule]
        found.setdefault(Place(place.policy, place.rule))
        if len(set(rule.peer_paths)) > 1:
            found.setdefault(place._replace(port=-1))
        if len(set(rule.port_paths)) > 1:
            found.setdefault(place._replace(peer=-1))
    yield from found

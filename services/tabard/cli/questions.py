"""What `policy check` is asked, and what bears on its answer."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from tabard.cli.failing import Failure
from tabard.cli.ground import Ground
from tabard.cli.naming import NotThere, Place, PortAsked, pods
from tabard.cli.printing import counted
from tabard.cli.records import Row
from tabard.cli.verdicts import Ends, answer
from tabard.dataplane.maps import Direction
from tabard.events import ledger as events
from tabard.ledger.state import State
from tabard.policy.engine import Engine
from tabard.policy.parties import Party, PartyError, Who

RULING = (
    events.PolicyAccepted,
    events.PolicyForgotten,
    events.IdentityAllocated,
    events.IdentityRetired,
    events.NodeAdded,
    events.NodeRemoved,
    events.SettingsAdopted,
    events.NameResolved,
    events.NameForgotten,
)
"""Events that may change any answer; all others only by what they change of its ends."""


@dataclass(frozen=True, slots=True)
class Question:
    """Whether `source` may speak to `destination` on the `wanted` ports (any if none)."""

    source: Place
    destination: Place
    wanted: Sequence[PortAsked]
    whole: bool = False
    """Whether all rules that were considered are to be told."""

    def answered(self, found: Ground, *, offline: bool) -> tuple[Row, list[str]]:
        """The answer, and what is to be noted of it; Failure if there is none."""
        notes: list[str] = []
        try:
            ways = _ways(found, self.source, self.destination, notes)
            asked = (self.source.text, self.destination.text)
            said = answer(found, ways, asked, self.wanted, whole=self.whole)
        except NotThere as error:
            raise Failure(str(error), "" if offline else error.next) from error
        except PartyError as error:
            raise Failure(str(error)) from error
        if offline and not said["allowed"] and _addresses_count(found.engine, *ways[0]):
            notes.append(
                "manifests tell no pod's address; a CIDR may hold one that it does not here"
            )
        pods_here = (found.state.endpoints.get(party.uid) for party in ways[0])
        homes = {pod.node for pod in pods_here if pod is not None}
        notes += [f"node {name} {found.stale[name]}" for name in sorted(homes & found.stale.keys())]
        return said, notes

    def standing(self, state: State) -> tuple[Hashable, ...]:
        """What of the pods that are meant bears on the answer: equal as long as none changed."""
        found: list[Hashable] = []
        for place in (self.source, self.destination):
            holder = state.endpoints.get(state.bindings.get(place.text, ""))
            try:
                named = pods(state, place) or ([] if holder is None else [holder])
            except NotThere as error:
                found.append(str(error))
            else:
                plans = state.relabels
                found.append(
                    tuple(
                        (pod.uid, pod.identity, pod.node, pod.addresses, plans.get(pod.uid))
                        for pod in named
                    )
                )
        return tuple(found)


def _ways(found: Ground, source: Place, destination: Place, notes: list[str]) -> list[Ends]:
    """The parties that are meant, at each two addresses of one family; PartyError if none is
    shared. What else could be meant is noted if it makes a difference."""
    parties = found.engine.parties
    one, other = _one(found, source, notes), _one(found, destination, notes)
    first = parties.pair(one, other)
    if first[0].uid and first[0].uid == first[1].uid:
        notes.append("a pod reaches itself past all policies; this is of another pod like it")
    return parties.pairs(one, other)


def _one(found: Ground, place: Place, notes: list[str]) -> Who:
    """One pod of those that `place` names, or its address."""
    named = pods(found.state, place)
    if not named:
        return place.text
    engine = found.engine
    if len({frozenset(map(engine.alike, engine.parties.find(pod))) for pod in named}) > 1:
        them = counted(len(named), "pod")
        notes.append(f"policies tell the {them} of {place.text} apart; asked of {named[0].name}")
    if (plan := found.state.relabels.get(named[0].uid)) is not None:
        notes.append(
            f"{place.text} is to have identity {plan.identity} as soon as every live node enforces "
            f"LEDGER/{plan.planned_at}; this is of what it has now"
        )
    return named[0]


def _addresses_count(engine: Engine, source: Party, destination: Party) -> bool:
    """Whether a rule that was asked names peers by CIDR, and the peer's address is not known."""
    return any(
        peer.address is None and engine.asks_addresses(direction, subject)
        for direction, subject, peer in (
            (Direction.EGRESS, source, destination),
            (Direction.INGRESS, destination, source),
        )
    )

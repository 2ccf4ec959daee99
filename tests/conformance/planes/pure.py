"""The pure engine: policies on labels and addresses, without compiled maps, and so one view."""

from collections.abc import Hashable, Sequence

from conformance.planes.plane import Answer
from conformance.story import Flow
from tabard.dataplane.maps import Address, address_text
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.state import State
from tabard.policy.engine import Engine
from tabard.policy.parties import Party


class Pure:
    name = "pure"
    views: tuple[str, ...] = ("",)

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.follow(State(), ())

    def follow(self, state: State, records: Sequence[LedgerRecord]) -> None:
        self._engine = Engine(state)
        self._parties: dict[Address, tuple[Party, Hashable]] = {}
        self._answers: dict[Hashable, Answer] = {}

    def ask(self, view: str, flow: Flow) -> Answer:
        (source, one), (destination, other) = map(self._party, (flow.source, flow.destination))
        is_together = not source.nodes.isdisjoint(destination.nodes)
        key = (one, other, is_together, flow.protocol, flow.port)
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = self._decide(source, destination, flow)
        return found

    def _decide(self, source: Party, destination: Party, flow: Flow) -> Answer:
        decision = self._engine.decide(source, destination, flow.protocol, flow.port)
        egress, ingress = (
            None if half is None else half.reason for half in (decision.egress, decision.ingress)
        )
        return Answer(egress, ingress)

    reasons = ask

    def end(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _party(self, at: Address) -> tuple[Party, Hashable]:
        """Who is at the address, and what is equal for all whom no policy tells apart."""
        found = self._parties.get(at)
        if found is None:
            (party,) = self._engine.parties.find(address_text(at))
            found = self._parties[at] = (party, self._engine.alike(party))
        return found

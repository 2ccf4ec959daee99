"""The pure engine: policies on labels and addresses, without compiled maps, and so one view."""

from conformance.planes.plane import Answer
from conformance.story import Flow
from tabard.dataplane.maps import Address, address_text
from tabard.ledger.state import State
from tabard.policy.engine import Engine
from tabard.policy.parties import Party


class Pure:
    name = "pure"
    views: tuple[str, ...] = ("",)

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.follow(State())

    def follow(self, state: State) -> None:
        self._engine = Engine(state)
        self._parties: dict[Address, Party] = {}

    def ask(self, view: str, flow: Flow) -> Answer:
        source, destination = self._party(flow.source), self._party(flow.destination)
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

    def _party(self, at: Address) -> Party:
        found = self._parties.get(at)
        if found is None:
            (found,) = self._engine.parties.find(address_text(at))
            self._parties[at] = found
        return found

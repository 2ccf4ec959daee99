"""A run written down by hand: one clock, a ledger as World tells it, what nodes said, packets.

Times are seconds; the record has them in nanoseconds.
"""

from dataclasses import replace

from tabard.bus.port import Stored
from tabard.chaos.judge.evidence import Evidence
from tabard.chaos.record import Injected, Packet, Record, Seen, Word
from tabard.events import ledger as events
from tabard.events.envelope import Envelope
from tabard.events.observed import ObservedEvent, PodStarted
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.messages import observed
from world import World, network_policy

WEB, DB = "shop/web", "shop/db"
WEB_ADDRESS, DB_ADDRESS = "10.244.1.1", "10.244.2.1"
CLOSED = network_policy("closed", "shop", ingress=[])


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


class Written:
    """A web pod on n1 and a database on n2, which may speak to each other, known to both nodes
    from 0 s on."""

    def __init__(self, mode: str = "overlay") -> None:
        self.record = Record(1, ("s",), mode, 0)
        self.now = 0.0
        self.broken = ""
        """Why the bus cannot be read whole."""
        self.world = World()
        self.world.emit(events.SettingsAdopted("default", 0, 0, (), (), (), 0))
        self.world.pod(WEB, {"app": "web"}, node="n1", ip=WEB_ADDRESS)
        self.world.pod(DB, {"app": "db"}, node="n2", ip=DB_ADDRESS)
        self._ledger: list[LedgerRecord] = []
        self._observed: list[Stored] = []
        self.said("n1", "n2")

    def at(self, seconds: float) -> "Written":
        """What is told of the world from here on happens then."""
        self.keep()
        self.now = seconds
        return self

    def keep(self) -> None:
        """What was told of the world until here happened by now."""
        for record in self.world.history[len(self._ledger) :]:
            self._ledger.append(replace(record, stored_at=ns(self.now)))

    def said(self, *nodes: str) -> None:
        """These say now that they enforce all there is."""
        through, at = self.world.state.sequence, ns(self.now)
        self.record.words += [Word(node, "node", through, at, at) for node in nodes]

    def saw(self) -> None:
        """The run is shown the ledger's last event now."""
        self.record.seen.append(Seen(self.world.state.sequence, "", ns(self.now)))

    def observe(self, event: ObservedEvent) -> None:
        message = observed(event, Envelope(b"i" * 16, "", ns(self.now)))
        at = len(self._observed) + 1
        self._observed.append(Stored(at, message.subject, message.payload, ns(self.now)))

    def starts(self, uid: str, labels: dict[str, str], node: str, address: str) -> None:
        """A pod is started there, of which the ledger says nothing yet."""
        namespace, _, name = uid.partition("/")
        pairs = tuple(sorted(labels.items()))
        self.observe(PodStarted(uid, namespace, name, node, (address,), pairs, 0))

    def packet(
        self,
        began: float,
        *,
        passed: bool = True,
        took: float = 0.01,
        source: str = WEB,
        source_address: str = WEB_ADDRESS,
        destination: str = DB_ADDRESS,
        answered: str = DB,
        opened: float = 0,
        kind: str = "pod",
    ) -> Packet:
        packet = Packet(
            source,
            source_address,
            destination,
            80,
            "TCP",
            ns(began),
            ns(began + took),
            passed,
            answered if passed else "",
            ns(opened),
            kind,
        )
        self.record.packets.append(packet)
        return packet

    def fault(self, began: float, healed: float, scenario: str = "s") -> None:
        self.record.injected.append(
            Injected(scenario, "f", "nats.1", ns(began), ns(healed), converged=ns(healed))
        )

    @property
    def evidence(self) -> Evidence:
        self.keep()
        return Evidence(tuple(self._ledger), (), tuple(self._observed), self.broken)

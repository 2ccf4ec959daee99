"""Workload documents, and a ledger that says the least that must be said of observed events."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from tabard.bus.port import Bus, Outgoing, Stream
from tabard.events import ledger, observed
from tabard.events.envelope import Envelope, Recorded
from tabard.events.ledger import LedgerEvent
from tabard.events.observed import ObservedEvent
from tabard.ledger.fold import evolve
from tabard.ledger.messages import recorded, sealed
from tabard.ledger.state import State
from tabard.manifests.workloads import API_VERSIONS

IDENTITY = 1_000


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for what another task or thread does, which tells nobody."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def document(
    kind: str = "Deployment",
    name: str = "web",
    replicas: int | None = 1,
    *,
    namespace: str = "shop",
    ports: Iterable[dict[str, Any]] = (),
    **spec: Any,
) -> dict[str, Any]:
    """A workload whose pods are labelled `app: <name>`; `spec` are further fields of the pods."""
    labels = {"app": name}
    pods = {"containers": [{"name": "c", "ports": list(ports)}], **spec}
    top: dict[str, Any] = {
        "apiVersion": API_VERSIONS[kind],
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    }
    if kind == "Pod":
        top["metadata"]["labels"] = labels
        return top | {"spec": pods}
    template = {"metadata": {"labels": labels}, "spec": pods}
    if kind == "Job":
        return top | {"spec": {"parallelism": replicas, "template": template}}
    whole: dict[str, Any] = {"selector": {"matchLabels": labels}, "template": template}
    if replicas is not None and kind != "DaemonSet":
        whole["replicas"] = replicas
    return top | {"spec": whole}


def decided(state: State, event: ObservedEvent) -> list[LedgerEvent]:
    """What becomes of an observed event. Every pod gets IDENTITY, whatever its labels; one with the
    label `refuse` is refused (`for-now`: waits for a number)."""
    match event:
        case observed.NodeJoined():
            return [ledger.NodeAdded(event.name, event.addresses, event.pod_cidrs, event.labels)]
        case observed.NodeLeft():
            return [ledger.NodeRemoved(event.name)]
        case observed.WorkloadSet():
            metadata = event.document["metadata"]
            return [
                ledger.WorkloadAccepted(
                    event.document["kind"],
                    metadata["namespace"],
                    metadata["name"],
                    event.document,
                    event.origin,
                )
            ]
        case observed.WorkloadRemoved():
            return [ledger.WorkloadForgotten(event.kind, event.namespace, event.name)]
        case observed.PodStarted():
            fields = {name: getattr(event, name) for name in event.__slots__}
            refuse = dict(event.labels).get("refuse")
            if refuse:
                return [ledger.PodRefused(**fields, reason="test", retry=refuse == "for-now")]
            return [ledger.EndpointBound(**fields, identity=IDENTITY)]
        case observed.PodStopped():
            if event.uid in state.endpoints:
                return [ledger.EndpointUnbound(event.uid)]
            return [ledger.EndpointTombstoned(event.uid)]
        case observed.PodLabelsChanged():
            return [ledger.EndpointRelabelled(event.uid, IDENTITY, event.labels)]
        case _:
            return []


def apply(state: State, *events: ObservedEvent, at: int = 0) -> None:
    """Fold what becomes of `events` into `state`."""
    for event in events:
        for effect in decided(state, event):
            envelope = Envelope(b"i" * 16, "", at)
            evolve(state, Recorded("LEDGER", state.sequence + 1, envelope, effect))


class Ledger:
    """Answers OBSERVED on LEDGER of the same bus, when told to."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.state = State()

    async def answer(self, limit: int = 1_000) -> int:
        """Decide up to `limit` observed events, in one append; how many."""
        cursor = self.state.cursors.get(Stream.OBSERVED, 0)
        messages = await self.bus.read(Stream.OBSERVED, cursor + 1, limit)
        if not messages:
            return 0
        before, previous = self.state.sequence, self.state.chain
        effects: list[LedgerEvent] = []
        for message in messages:
            for effect in decided(self.state, recorded(Stream.OBSERVED, message).event):
                self._fold(effect)
                effects.append(effect)
        effects.append(ledger.CursorAdvanced(Stream.OBSERVED, messages[-1].sequence))
        self._fold(effects[-1])
        envelope = Envelope(b"i" * 16, "", 0)
        sealing: list[Outgoing]
        sealing, self.state.chain = sealed(previous, [(effect, envelope) for effect in effects])
        await self.bus.append(sealing, before)
        return len(messages)

    def _fold(self, effect: LedgerEvent) -> None:
        envelope = Envelope(b"i" * 16, "", 0)
        evolve(self.state, Recorded("LEDGER", self.state.sequence + 1, envelope, effect))

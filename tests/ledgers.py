"""Ledgers made by hand, for tests of those who only read them."""

import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Bus, Outgoing, Stream
from tabard.events import ledger as events
from tabard.events.chain import GENESIS, chain_of
from tabard.events.codec import decode
from tabard.events.envelope import Envelope
from tabard.events.status import AllocatorStatus, NodeStatus, Role
from tabard.ledger.messages import first_cause, sealed, status


async def append(bus: Bus, *batch: events.LedgerEvent, cause: str = "") -> int:
    """Append events to LEDGER, chained; the last one's sequence."""
    last = await bus.last_sequence(Stream.LEDGER)
    previous = GENESIS
    if last:
        previous = chain_of((await bus.read(Stream.LEDGER, last))[0].payload) or GENESIS
    at = time.time_ns()
    enveloped = [(event, Envelope(uuid.uuid4().bytes, "key", at, cause)) for event in batch]
    messages, _ = sealed(previous, enveloped)
    return await bus.append(messages, last)


async def append_raw(bus: Bus, payload: bytes) -> int:
    """Append bytes that may be no event."""
    last = await bus.last_sequence(Stream.LEDGER)
    return await bus.append([Outgoing("tabard.ledger.raw", payload)], last)


async def say(bus: Bus, node: str, sequence: int, **values: Any) -> None:
    """Publish a node's status."""
    known: dict[str, Any] = {"dataplane": "memory", "endpoints": 0, "map_writes": ()} | values
    word = NodeStatus(node, sequence, **known)
    await bus.publish(Stream.STATUS, [status(word, first_cause(node, 1, uuid.uuid4().bytes))])


def replica(
    name: str, role: Role = "following", sequence: int = 8, **values: Any
) -> AllocatorStatus:
    """What an allocator may say of itself; the one that leads `small` is `h-1`."""
    known: dict[str, Any] = {"holder": name, "epoch": 1, "cursor": 0} | values
    return AllocatorStatus(name=name, role=role, sequence=sequence, **known)


async def speak(bus: Bus, word: AllocatorStatus) -> None:
    """Publish an allocator's status."""
    envelope = first_cause(word.name, 1, uuid.uuid4().bytes)
    await bus.publish(Stream.STATUS, [status(word, envelope)])


def bound(
    name: str,
    *,
    namespace: str = "shop",
    node: str = "n1",
    identity: int = 256,
    address: str | tuple[str, ...] = "10.244.1.2",
    labels: tuple[tuple[str, str], ...] = (("app", "web"),),
    owner: str = "",
) -> events.EndpointBound:
    return events.EndpointBound(
        uid=f"uid-{name}",
        namespace=namespace,
        name=name,
        node=node,
        identity=identity,
        addresses=(address,) if isinstance(address, str) else address,
        labels=labels,
        started_at=1,
        service_account="default",
        ports=(("http", 80, "TCP"),),
        owner=owner,
        host_network=False,
    )


DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop", "labels": {"tier": "front"}},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web"}]},
        },
    },
}

POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]},
}

WEB_LABELS = ("k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop")


def dual(*cidrs: str) -> tuple[events.LedgerEvent, ...]:
    """shop/client may reach shop/web by two families, on 7099/TCP from `cidrs`: 8 events."""
    blocks = [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]
    rule = {"from": blocks, "ports": [{"port": 7099}]}
    policy = POLICY | {"spec": POLICY["spec"] | {"ingress": [rule]}}  # type: ignore[operator]
    return (
        events.EpochClaimed(1, "h-1"),
        events.NodeAdded("n1", ("198.18.0.11",), ("10.244.1.0/24", "fd00:244:1::/64")),
        events.IdentityAllocated(256, WEB_LABELS),
        events.IdentityAllocated(257, ("k8s:app=other", WEB_LABELS[1])),
        events.PolicyAccepted("NetworkPolicy", "shop", "web", policy, "shop.yaml:20"),
        bound("web-0", address=("10.244.1.2", "fd00:244:1::2")),
        bound(
            "client",
            identity=257,
            address=("10.244.1.9", "fd00:244:1::9"),
            labels=(("app", "other"),),
            owner="Deployment/shop/client",
        ),
        events.CursorAdvanced("OBSERVED", 0),
    )


def small() -> tuple[events.LedgerEvent, ...]:
    """Two nodes, one pod of a workload that wants two, one policy: 8 events."""
    return (
        events.EpochClaimed(1, "h-1"),
        events.NodeAdded("n1", ("198.18.0.11",), ("10.244.1.0/24",)),
        events.NodeAdded("n2", ("198.18.0.12",), ("10.244.2.0/24",)),
        events.IdentityAllocated(256, WEB_LABELS),
        events.WorkloadAccepted("Deployment", "shop", "web", DEPLOYMENT, "shop.yaml:1"),
        events.PolicyAccepted("NetworkPolicy", "shop", "web", POLICY, "shop.yaml:20"),
        bound("web-0", owner="Deployment/shop/web"),
        events.CursorAdvanced("OBSERVED", 0),
    )


class Answering(MemoryBus):
    """A memory bus with the least of an allocator: each published batch is taken at once."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__(store)
        self.answers: list[events.LedgerEvent] = []
        """Put on LEDGER, caused by the first event, with the next batch taken."""

    async def publish(self, stream: Stream, messages: Sequence[Outgoing]) -> list[int]:
        sequences = await super().publish(stream, messages)
        if stream is Stream.OBSERVED:
            answers, self.answers = self.answers, []
            cursor = events.CursorAdvanced("OBSERVED", sequences[-1])
            await append(self, *answers, cursor, cause=f"OBSERVED/{sequences[0]}")
        return sequences

    def observed(self) -> list[Any]:
        """The events published on OBSERVED."""
        return _events(self.store, Stream.OBSERVED)


def _events(store: MemoryStore, stream: Stream) -> list[Any]:
    stored: Iterable[Any] = store.logs[stream].messages
    return [decode(each.payload, stream, each.sequence).event for each in stored]

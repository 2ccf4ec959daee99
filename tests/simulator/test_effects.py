"""Faults change what they say: a scene comes out one way without a fault, another with it.

Where only a whole cluster shows what a fault does, the mutation check alone has it.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from agent.rig import NODE, Bench, Ledger, bound, pod
from deciding import GRACE_MS, Desk, joined, kinds, relabelled, started, stopped
from tabard.agent.attachments import Held
from tabard.agent.reconciler import Standing
from tabard.agent.takeover import take_over
from tabard.allocator.commands import Tick
from tabard.allocator.decide import decide
from tabard.allocator.plan import Indexes
from tabard.allocator.superseding import is_pair
from tabard.allocator.writer import FencedError, append
from tabard.bus.memory import MemoryBus
from tabard.bus.port import BusUnavailable, Outgoing, Stream
from tabard.dataplane.maps import Endpoint, Mode, Protocol, address
from tabard.dataplane.memory import MemoryDataplane
from tabard.dataplane.packet import Packet, TcpFlag
from tabard.dataplane.port import Change, DataplaneError, NodeConfig
from tabard.ledger.follow import catch_up
from tabard.policy.diff import diff
from tabard.simulator.faults.catalogue import FAULTS
from world import World, attachment, network_policy

Scene = Callable[[], Any]
SCENES: dict[str, tuple[Scene, Any, Any]] = {}
"""Fault → a scene, and what comes of it without the fault and with it."""


def scene(fault: str, whole: Any, broken: Any) -> Callable[[Scene], Scene]:
    def keep(function: Scene) -> Scene:
        assert fault not in SCENES
        SCENES[fault] = function, whole, broken
        return function

    return keep


# Who may write the ledger

MINE = [Outgoing("tabard.ledger.a.b", b"one"), Outgoing("tabard.ledger.a.b", b"two")]
THEIRS = [Outgoing("tabard.ledger.a.b", b"three"), Outgoing("tabard.ledger.a.b", b"four")]


class Lossy(MemoryBus):
    """The answer to its first append is lost, if it is to be."""

    def __init__(self, lost: int = 0) -> None:
        super().__init__()
        self.lost = lost

    async def append(self, messages: Any, expected_last: int) -> int:
        last = await super().append(messages, expected_last)
        if self.lost:
            self.lost -= 1
            raise BusUnavailable("lost")
        return last


def written(bus: MemoryBus, *, after: Iterable[Outgoing] = ()) -> str:
    """What an append of MINE to the ledger's beginning comes to, where others wrote before."""

    async def work() -> str:
        if before := list(after):
            await MemoryBus(bus.store).append(before, 0)
        outcome = "done"
        try:
            await append(bus, MINE, 0, lambda attempt: asyncio.sleep(0))
        except FencedError:
            outcome = "fenced"
        found = await bus.read(Stream.LEDGER, 1)
        return " ".join([outcome, *(each.payload.decode() for each in found)])

    return asyncio.run(work())


@scene("no-fence", "fenced three four", "done three four one two")
def _() -> str:
    return written(MemoryBus(), after=THEIRS)


@scene("goes-on-after-takeover", "fenced three four", "done three four")
def _() -> str:
    return written(MemoryBus(), after=THEIRS)


@scene("append-repeated", "done one two", "done one two one two")
def _() -> str:
    return written(Lossy(1))


# Identity numbers


def retired() -> Desk:
    """Two nodes that are up to date, and 256, which nobody has any more."""
    desk = Desk()
    for event in (joined("n1"), joined("n2"), started("a", {"app": "web"}), stopped("a")):
        desk.observe(event)
    desk.tick(after_ms=1)
    return desk


@scene("number-reused-at-once", ["IdentityRetired"], ["IdentityRetired", "IdentityReleased"])
def _() -> list[str]:
    return kinds(retired().tick({"n1": 1, "n2": 1}, after_ms=2 * GRACE_MS))


@scene("first-node-decides", ["IdentityRetired"], ["IdentityRetired", "IdentityReleased"])
def _() -> list[str]:
    return kinds(retired().tick(after_ms=2 * GRACE_MS, silent={"n1"}))


@scene("silence-is-consent", [], ["IdentityReleased"])
def _() -> list[str]:
    desk = retired()
    desk.tick({"n1": 1, "n2": 1}, after_ms=2 * GRACE_MS)
    successor = Indexes(desk.state)
    return kinds(decide(desk.state, successor, Tick(desk.now)))


@scene("one-set-two-numbers", [256], [256, 257])
def _() -> list[int]:
    desk = Desk()
    for event in (started("a", {"app": "web"}), stopped("a"), started("b", {"app": "web"})):
        desk.observe(event)
    return sorted(desk.state.identities)


@scene("one-number-two-sets", [256, 257], [256])
def _() -> list[int]:
    desk = Desk()
    desk.observe(started("a", {"app": "web"}))
    desk.indexes = Indexes(desk.state)
    desk.observe(started("b", {"app": "db"}))
    return sorted(desk.state.identities)


@scene("swaps-without-waiting", "RelabelPlanned", "EndpointRelabelled")
def _() -> str:
    desk = Desk()
    for event in (joined("n1"), started("a", {"app": "web"})):
        desk.observe(event)
    return kinds(desk.observe(relabelled("a", app="api")))[-1]


# Pods and their addresses


@scene("late-unbind", {"10.0.0.1": "new"}, {})
def _() -> dict[str, str]:
    desk = Desk()
    for event in (
        started("old", {"app": "web"}, "10.0.0.1", at=1),
        started("new", {"app": "web"}, "10.0.0.1", at=2),
        stopped("old"),
    ):
        desk.observe(event)
    return desk.state.bindings


@scene("older-replaces-newer", {"10.0.0.1": "new"}, {"10.0.0.1": "old"})
def _() -> dict[str, str]:
    desk = Desk()
    desk.observe(started("new", {"app": "web"}, "10.0.0.1", at=2))
    desk.observe(started("old", {"app": "web"}, "10.0.0.1", at=1))
    return desk.state.bindings


@scene("dead-pod-revived", [], ["a"])
def _() -> list[str]:
    desk = Desk()
    desk.observe(stopped("a"))
    desk.observe(started("a", {"app": "web"}))
    return list(desk.state.endpoints)


WEB = pod("web", "10.244.1.5", app="web")


# Effects


@scene("superseded-too-widely", False, True)
def _() -> bool:
    return is_pair(Desk().state, relabelled("a", app="x"), relabelled("b", app="x"))


# What a node writes and says


class Failing(MemoryDataplane):
    """Remembers its changes; writes fail while it is to."""

    def __init__(self) -> None:
        super().__init__(NodeConfig(NODE, Mode.NATIVE, ()))
        self.fails = False
        self.changes: list[Change] = []

    def write(self, change: Change) -> None:
        if self.fails:
            raise DataplaneError("it fails")
        self.changes.append(change)
        super().write(change)


class Node:
    """A node in native mode with the pod `web`, for which there is a policy, in sync."""

    def __init__(self) -> None:
        self.dataplane = Failing()
        self.bench = Bench(self.dataplane, Mode.NATIVE)  # type: ignore[arg-type]
        self.ledger, self.bus = Ledger(), MemoryBus()
        bound(self.ledger, WEB)
        self.policy(ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}])
        self.bench.reconciler.attachments.put(Held(attachment("web"), "tbweb"))
        self.bench.reconciler.standing = Standing.IN_SYNC

    def policy(self, **spec: Any) -> None:
        self.ledger.policy(network_policy("p", policyTypes=["Ingress", "Egress"], **spec))

    async def goes_on(self) -> None:
        """Fold what the ledger has; write it to the maps."""
        reconciler = self.bench.reconciler
        await self.ledger.write(self.bus)
        records: list[Any] = []
        await catch_up(self.bus, reconciler.state, observe=records.append)
        reconciler.folded(records)
        await reconciler.tick()

    @property
    def maps(self) -> Any:
        return self.dataplane.read()


def played(play: Callable[[Node], Any]) -> Any:
    return asyncio.run(play(Node()))


@scene("failed-write-swallowed", False, True)
@scene("says-before-it-writes", False, True)
def _() -> bool:
    async def play(node: Node) -> bool:
        node.dataplane.fails = True
        await node.goes_on()
        return node.bench.report.sequence > 0

    return played(play)  # type: ignore[no-any-return]


@scene("compiler-not-told", True, False)
def _() -> bool:
    async def play(node: Node) -> bool:
        await node.goes_on()
        before = node.maps.policies
        node.policy(ingress=[{}])
        await node.goes_on()
        return bool(node.maps.policies != before)

    return played(play)  # type: ignore[no-any-return]


@scene("removals-forgotten", (0, 0), (1, 1))
def _() -> tuple[int, int]:
    async def play(node: Node) -> tuple[int, int]:
        node.ledger.pod("default/db", {"app": "db"}, node="n2", ip="10.244.2.5")
        await node.goes_on()
        node.ledger.stop("default/db")
        node.ledger.stop("web")
        await node.goes_on()
        return len(node.maps.endpoints), sum(at == DB for at in node.maps.hosts)

    return played(play)  # type: ignore[no-any-return]


@scene("restart-forgets-the-kernel", 0, 1)
def _() -> int:
    async def play(node: Node) -> int:
        await node.goes_on()
        node.ledger.stop("web")
        restarted = Bench(node.dataplane, Mode.NATIVE)  # type: ignore[arg-type]
        await take_over(restarted.reconciler, {})
        restarted.reconciler.standing, node.bench = Standing.IN_SYNC, restarted
        await node.goes_on()
        return len(node.maps.endpoints)

    return played(play)  # type: ignore[no-any-return]


def first_written(change: Change) -> str:
    """What of a node's maps is written first, and what goes first."""
    return "all" if change.policies_set and change.endpoints_set else "some"


@scene("ipcache-before-policy", ["all"], ["some", "all"])
def _() -> list[str]:
    async def play(node: Node) -> list[str]:
        node.ledger.pod("default/db", {"app": "db"}, node="n2", ip="10.244.2.5")
        await node.goes_on()
        return [first_written(change) for change in node.dataplane.changes]

    return played(play)  # type: ignore[no-any-return]


@scene("policy-removed-first", [True], [False, True])
def _() -> list[bool]:
    async def play(node: Node) -> list[bool]:
        node.ledger.pod("default/db", {"app": "db"}, node="n2", ip="10.244.2.5")
        await node.goes_on()
        node.dataplane.changes.clear()
        node.ledger.stop("web")
        await node.goes_on()
        return [bool(change.endpoints_removed) for change in node.dataplane.changes]

    return played(play)  # type: ignore[no-any-return]


# Verdicts and flows

POD, DB, STRANGER = address("10.244.1.5"), address("10.244.2.5"), address("10.244.2.99")
SYN = TcpFlag.SYN


class Kernel:
    """The maps of a node in overlay mode with the pod `web`, which policy `p` is about."""

    def __init__(self, **spec: Any) -> None:
        self.world = World(nodes=2)
        self.world.pod("default/web", {"app": "web"}, ip="10.244.1.5", uid="web")
        self.world.pod("default/db", {"app": "db"}, node="n2", ip="10.244.2.5", uid="db")
        self.dataplane = MemoryDataplane(NodeConfig("n1", Mode.OVERLAY, ()))
        self.policy(**spec)

    def policy(self, **spec: Any) -> None:
        web = {"podSelector": {"matchLabels": {"app": "web"}}}
        self.world.policy(network_policy("p", policyTypes=["Ingress", "Egress"], **web, **spec))
        self.settle()

    def settle(self) -> None:
        maps = self.world.judge("n1").maps
        self.dataplane.write(diff(self.dataplane.read(), maps))

    @property
    def web(self) -> Endpoint:
        return self.dataplane.read().endpoints[POD]

    def out(self, to: Any = DB, ports: tuple[int, int] = (40_000, 80)) -> bool:
        packet = Packet(POD, to, Protocol.TCP, *ports, tcp_flags=SYN)
        reason = self.dataplane.from_pod(self.web.ifindex, packet).reason
        return reason is not None and reason.allowed

    def into(self, ports: tuple[int, int] = (40_000, 80), flags: TcpFlag = SYN) -> bool:
        mark = self.world.state.endpoints["db"].identity
        packet = Packet(DB, POD, Protocol.TCP, *ports, tcp_flags=flags)
        reason = self.dataplane.to_pod(self.web.ifindex, packet, mark).reason
        return reason is not None and reason.allowed


TO_DB = {"to": [{"podSelector": {"matchLabels": {"app": "db"}}}]}


@scene("unknown-is-world", False, True)
def _() -> bool:
    return Kernel(egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}, TO_DB]).out(STRANGER)


@scene("unknown-passes", False, True)
def _() -> bool:
    return Kernel(egress=[TO_DB]).out(STRANGER)


@scene("answers-outlive-rules", [True, False], [True, True])
def _() -> list[bool]:
    kernel = Kernel(egress=[TO_DB])
    before = kernel.out() and kernel.into((80, 40_000), SYN | TcpFlag.ACK)
    kernel.policy(egress=[])
    return [before, kernel.into((80, 40_000), SYN | TcpFlag.ACK)]


@scene("flows-outlive-pods", [True, False], [True, True])
def _() -> list[bool]:
    kernel = Kernel(egress=[TO_DB])
    before = kernel.out() and kernel.into((80, 40_000), SYN | TcpFlag.ACK)
    kernel.world.stop("web")
    kernel.world.pod("default/web", {"app": "web"}, ip="10.244.1.5", uid="next")
    kernel.settle()
    return [before, kernel.into((80, 40_000), SYN | TcpFlag.ACK)]


@pytest.mark.parametrize("name", SCENES)
def test_a_fault_changes_what_it_says(name: str) -> None:
    played, whole, broken = SCENES[name]
    assert played() == whole
    with FAULTS[name].plant():
        assert played() == broken
    assert played() == whole

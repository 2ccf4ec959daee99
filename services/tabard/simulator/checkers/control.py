"""enforcement outlives control: an agent leaves its node's kernel as it is when it ends, by itself
too, and so it stays; and with the allocators or the bus gone an agent still starts pods whose label
sets it knows."""

from collections.abc import Iterator

from tabard.agent.resolution import label_set
from tabard.dataplane.differences import differences
from tabard.dataplane.maps import Maps
from tabard.invariants.verdict import Invariant, Violation
from tabard.simulator.world import Node, Pod, World

PATIENCE_NS = 6_000_000_000
"""How long a pod may wait for its identity that its node knows. Whoever asks the gate is told after
4 s that the kernel took too long, and asks again 1 s later."""


class OutlivesControl:
    invariant = Invariant.ENFORCEMENT_OUTLIVES_CONTROL

    def __init__(self) -> None:
        self._left: dict[str, tuple[int, Maps]] = {}
        """Node whose agent is gone → (starts, maps when it went)."""
        self._ran: dict[str, tuple[int, ...]] = {}
        """Node whose agent runs → what tells that something in its maps is another, of the last
        step, if no write had begun."""
        self._reboots = 0
        self._served: dict[str, int] = {}
        """Pod → when it last had an identity from its node, or had no right to one."""

    def check(self, world: World) -> Iterator[Violation]:
        reboots = world.counts["reboot"]
        for node in world.nodes.values():
            left = self._left.get(node.name)
            if node.running:
                self._left.pop(node.name, None)
                if node.change is None:
                    self._ran[node.name] = _sizes(node)
                else:  # which an agent that is asked to end does first
                    self._ran.pop(node.name, None)
            elif left is None or left[0] != node.starts:
                self._left[node.name] = node.starts, node.maps.copy()
                ran = self._ran.pop(node.name, ())
                if ran and reboots == self._reboots and ran[0] == node.writes:
                    yield from self._swept(node, ran, world)
            elif world.packets and left[1] != node.maps:
                yield from self._changed(node, left[1], world)
        self._reboots = reboots
        for uid, pod in world.pods.items():
            if pod.running and not pod.attached:
                yield from self._waits(uid, pod, world)
            else:
                self._served.pop(uid, None)

    def finish(self, world: World) -> Iterator[Violation]:
        yield from ()

    def _swept(self, node: Node, ran: tuple[int, ...], world: World) -> Iterator[Violation]:
        now = _sizes(node)
        if now != ran:
            yield Violation(
                self.invariant,
                f"{node.name}'s agent ended without a write, and left its maps with "
                f"{', '.join(map(str, now[1:]))} entries, not with {', '.join(map(str, ran[1:]))}",
                world.now,
            )

    def _changed(self, node: Node, left: Maps, world: World) -> Iterator[Violation]:
        what = "; ".join(map(str, differences(node.maps, left)[:5]))
        yield Violation(
            self.invariant,
            f"{node.name}'s maps are others than when its agent ended, and none ran since: {what}",
            world.now,
        )

    def _waits(self, uid: str, pod: Pod, world: World) -> Iterator[Violation]:
        node = world.nodes[pod.started.node]
        if uid in node.attached or not _can_tell(node, uid, pod):
            self._served[uid] = world.now
        waited = world.now - self._served.setdefault(uid, world.now)
        if waited > PATIENCE_NS:
            yield Violation(
                self.invariant,
                f"{node.name} knows the label set of pod {uid}, and has not given it an identity "
                f"for {waited / 1e9:.1f} s",
                world.now,
            )


def _sizes(node: Node) -> tuple[int, ...]:
    """Writes begun, and the entries of each map: cheap enough for every step."""
    maps = node.maps
    return (
        node.writes,
        *map(len, (maps.identities, maps.policies, maps.hosts, maps.prefixes, maps.endpoints)),
    )


def _can_tell(node: Node, uid: str, pod: Pod) -> bool:
    """Whether the node's agent is at work and has all that it needs to start the pod."""
    state, started = node.state, pod.started
    if not node.running or node.paused or node.troubles or node.standing in ("", "waiting"):
        return False
    if uid in state.endpoints or uid in state.refused_pods or uid in state.tombstones:
        return False
    if any(text in state.bindings for text in started.addresses):
        return False
    return label_set(state, started) in state.numbers if pod.labels == started.labels else False

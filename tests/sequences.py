"""The same states come to by many ways: five-way expansion, after Calico Felix's calc_graph tests.

A *scene* is what there is at one moment: nodes, namespaces, pods, policies, workloads, by key. A
sequence of scenes is a history. What comes of a scene (who may speak to whom, and what stands for
that in maps) must not depend on how it was come to, so each way of coming to a scene is held
against a cluster that never saw any other. Ways of coming to the scenes of a sequence:

- *reversed*: the last scene first, and in each step what changes last first. The inverse of an
  event is the event that undoes it: a start's is a stop, a relabelling's the one back, a policy
  set's its removal or the version before. A pod that comes back is another incarnation, since no
  stop can be undone: that is what happens to a real one too.
- *split*: one object after the other; each state in between is a scene as well.
- *squashed*: everything that happens in the whole sequence, in order, in a single step.
- *with empties*: between two scenes all goes and everything comes anew.
- *twice*: the sequence, and from its end the sequence again.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from deciding import Teller
from tabard.dataplane.maps import AT_CIDR, Endpoint, Maps, address_text
from tabard.events.ledger import SettingsAdopted
from tabard.events.observed import (
    NamespaceLabelsSet,
    NamespaceRemoved,
    NodeJoined,
    NodeLeft,
    PodLabelsChanged,
    PodStarted,
    PodStopped,
    PolicyRemoved,
    PolicySet,
    WorkloadRemoved,
    WorkloadSet,
)
from tabard.ledger.state import EndpointState, State

Key = tuple[str, ...]
"""("node", name), ("namespace", name), ("pod", slot), ("policy" or "workload", kind, namespace,
name)"""
Scene = Mapping[Key, Any]
"""Key → the event that says it; of a pod its start, without UID and time."""


@dataclass(frozen=True)
class Change:
    key: Key
    before: Any
    """None: there was none."""
    after: Any
    """None: there is none any more."""


@dataclass(frozen=True)
class Step:
    """Changes that come at once, and the scene after them."""

    changes: Sequence[Change]
    scene: Scene


def changes(before: Scene, after: Scene) -> list[Change]:
    """What goes first, then what comes or is another."""
    gone = [Change(key, held, None) for key, held in before.items() if key not in after]
    come = [
        Change(key, before.get(key), held) for key, held in after.items() if before.get(key) != held
    ]
    return gone + come


def plain(scenes: Sequence[Scene], turned: bool = False) -> list[Step]:
    steps, before = [], {}
    for scene in scenes:
        steps.append(Step(changes(before, scene)[:: -1 if turned else 1], scene))
        before = scene
    return steps


def reversed_(scenes: Sequence[Scene]) -> list[Step]:
    return plain(scenes[::-1], turned=True)


def split(scenes: Sequence[Scene]) -> list[Step]:
    steps = []
    scene: dict[Key, Any] = {}
    for step in plain(scenes):
        for change in step.changes:
            scene = {key: held for key, held in scene.items() if key != change.key}
            if change.after is not None:
                scene[change.key] = change.after
            steps.append(Step([change], scene))
    return steps


def squashed(scenes: Sequence[Scene]) -> list[Step]:
    return [Step([change for step in plain(scenes) for change in step.changes], scenes[-1])]


def with_empties(scenes: Sequence[Scene]) -> list[Step]:
    return plain([each for scene in scenes for each in (scene, {})][:-1])


def twice(scenes: Sequence[Scene]) -> list[Step]:
    return plain([*scenes, *scenes])


EXPANSIONS: Mapping[str, Callable[[Sequence[Scene]], list[Step]]] = {
    "as it was": plain,
    "reversed": reversed_,
    "split": split,
    "squashed": squashed,
    "with empties": with_empties,
    "twice": twice,
}


class Telling:
    """Changes as observed events. Each life of a pod has a UID of its own, and starts later."""

    def __init__(self) -> None:
        self._lives: Counter[str] = Counter()
        self._started = 0

    def uid(self, slot: str) -> str:
        """Of the life that the pod is in."""
        return f"{slot}-{self._lives[slot]}"

    def events(self, change: Change) -> list[Any]:
        kind, *name = change.key
        match kind, change.after:
            case "pod", None:
                return [PodStopped(self.uid(name[0]))]
            case "pod", after if change.before is not None and after == replace(
                change.before, labels=after.labels
            ):
                return [PodLabelsChanged(self.uid(name[0]), after.labels)]
            case "pod", after:
                gone = [] if change.before is None else [PodStopped(self.uid(name[0]))]
                self._lives[name[0]] += 1
                self._started += 1
                new = replace(after, uid=self.uid(name[0]), started_at=self._started)
                return [new, *gone]  # the late stop of the one before takes nothing away
            case "node", None:
                return [NodeLeft(*name)]
            case "namespace", None:
                return [NamespaceRemoved(*name)]
            case "policy", None:
                return [PolicyRemoved(*name)]
            case "workload", None:
                return [WorkloadRemoved(*name)]
            case _, after:
                return [after]


def slot_of(uid: str) -> str:
    return uid.rpartition("-")[0]


# ---- scenes from ledgers


def scene_of(state: State) -> Scene:
    """What there is in a folded state. Every pod's slot is the UID that it had there."""
    scene: dict[Key, Any] = {}
    for node in state.nodes.values():
        scene["node", node.name] = NodeJoined(
            node.name, node.addresses, node.pod_cidrs, node.labels
        )
    for name, labels in state.namespaces.items():
        scene["namespace", name] = NamespaceLabelsSet(name, tuple(sorted(labels.items())))
    for uid, endpoint in state.endpoints.items():
        scene["pod", uid] = _start(endpoint)
    for key, policy in state.policies.items():
        scene["policy", *key] = PolicySet(policy.document, policy.origin)
    for key, workload in state.workloads.items():
        scene["workload", *key] = WorkloadSet(workload.document, workload.origin)
    return scene


def _start(endpoint: EndpointState) -> PodStarted:
    values = {field.name: getattr(endpoint, field.name) for field in fields(PodStarted)}
    return PodStarted(**values | {"uid": "", "started_at": 0})


# ---- what is to be the same


def settled(settings: SettingsAdopted, scene: Scene) -> Teller:
    """An allocator that never saw anything but `scene`."""
    teller, telling = Teller(settings), Telling()
    teller.tell(*(event for change in changes({}, scene) for event in telling.events(change)))
    rest(teller)
    return teller


def rest(teller: Teller) -> None:
    """Time goes by until nothing is due: what nobody uses is retired and released."""
    while teller.tick(after_ms=teller.grace_ms):
        pass


def meaning(state: State) -> dict[str, Any]:
    """The state without numbers, sequences and times, which tell of how it was come to."""
    due = (state.idle, state.retired, state.waiting)
    assert not any(due), "time has to go by before states are compared"
    pods = {
        slot_of(uid): (_start(endpoint), _name(state, endpoint.identity))
        for uid, endpoint in state.endpoints.items()
    }
    return {
        "nodes": state.nodes,
        "namespaces": state.namespaces,
        "pods": pods,
        "users": {held.labels: held.users for held in state.identities.values()},
        "bindings": {address: slot_of(uid) for address, uid in state.bindings.items()},
        "policies": {key: held.document for key, held in state.policies.items()},
        "workloads": {key: held.document for key, held in state.workloads.items()},
    }


Named = tuple[str, ...]
"""The label set that a number stands for, or the reserved number's own."""


def _name(state: State, number: int) -> Named:
    identity = state.identities.get(number)
    return identity.labels if identity is not None else (f"reserved {number}",)


def enforced(maps: Maps, state: State) -> dict[str, Any]:
    """The maps without numbers, policy ids and incarnations."""
    policies: dict[int, set[Any]] = {}
    for key, value in maps.policies.items():
        peer = _name(state, key.identity & ~AT_CIDR), bool(key.identity & AT_CIDR)
        policies.setdefault(key.policy, set()).add(
            (key.tier, key.direction, peer, key.protocol, key.port, key.port_bits, value)
        )
    used = {endpoint.policy for endpoint in maps.endpoints.values()}
    assert set(policies) <= used, "entries of policies that no endpoint has"

    def endpoint(held: Endpoint) -> Any:
        entries = frozenset(policies.get(held.policy, ()))
        return _name(state, held.identity), entries, held.flags, held.ifindex, held.mac

    return {
        "identities": {_name(state, number) for number in maps.identities},
        "nodes": set(map(address_text, maps.nodes)),
        "prefixes": {
            (address_text(place), bits): (_name(state, entry.identity), entry.flags, entry.tunnel)
            for (place, bits), entry in maps.prefixes.items()
        },
        "hosts": {
            address_text(place): _name(state, number) for place, number in maps.hosts.items()
        },
        "endpoints": {
            address_text(place): endpoint(held) for place, held in maps.endpoints.items()
        },
    }


def recorded(states: Iterator[tuple[State, Any]], through: int, count: int) -> list[Scene]:
    """About `count` scenes of a ledger that ends at `through`."""
    points = {through * part // count for part in range(1, count + 1)}
    return [scene_of(state) for state, _ in states if state.sequence in points]

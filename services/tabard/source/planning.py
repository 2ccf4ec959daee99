"""plan: what must be published so that the cluster has the pods that its workloads ask for.

Level-triggered: a plan follows from the state alone, whatever led there. It assumes that the state
already shows everything published before (the service waits for that), so that no pod is asked for
twice and no address given twice. Following Kubernetes' controllers:

- Deployment: pods of a new template start first, old ones stop as those become ready;
- StatefulSet, DaemonSet, Pod: an old pod stops, then its place is filled again;
- ReplicaSet, Job: a new template changes no pod that runs;
- scaling down stops pods that are not ready, then the newest; of a StatefulSet the highest ordinal;
- a pod whose node left is stopped, and started elsewhere.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from tabard.events.observed import PodStarted, PodStopped
from tabard.identity.labels import HOSTNAME
from tabard.ledger.state import State
from tabard.manifests.pods import REVISION_HASH, TEMPLATE_HASH, labels_of, revision_key
from tabard.manifests.workloads import SAFE_DIGITS, Workload
from tabard.source.placement import Existing, Placement, existing

EVENTS_MAX = 1_000
"""Most events of one plan; the rest follows when the ledger shows them."""
BACKOFF_MS = 1_000
BACKOFF_MS_MAX = 300_000
"""A workload whose pods the ledger refuses is tried again one pod at a time, after a delay that
doubles from the first value to the second."""

_SUFFIX_DIGITS = 5
_NAME_MAX = 63  # of a generated name (apiserver's SimpleNameGenerator)

Draw = Callable[[int], bytes]
"""n random bytes."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Pods that should be there and cannot be started now."""

    owner: str
    pods: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Empty when the state is as it should be. `again_in_ms`: plan again then, whatever happens."""

    stopped: tuple[PodStopped, ...] = ()
    started: tuple[PodStarted, ...] = ()
    pending: tuple[Pending, ...] = ()
    again_in_ms: int | None = None


def plan(
    state: State,
    workloads: Iterable[Workload],
    *,
    now: int,
    draw: Draw,
    ready: Callable[[str], bool] = lambda uid: True,
    untouched: Collection[str] = (),
) -> Plan:
    """What to publish at `now` (nanoseconds since the Unix epoch).

    `ready` says of a pod's UID whether it serves; pods of the owners in `untouched` (workloads that
    cannot be read) are left as they are.
    """
    owned: defaultdict[str, list[Existing]] = defaultdict(list)
    for pod in existing(state):
        if pod.owner and pod.owner not in untouched:
            owned[pod.owner].append(pod)
    wanted = {workload.owner: workload for workload in workloads}
    leaving: list[str] = []
    missing: list[tuple[Workload, list[str]]] = []
    for owner in sorted(owned.keys() | wanted.keys()):
        pods = sorted(owned[owner], key=lambda pod: (pod.started_at, pod.uid))
        workload = wanted.get(owner)
        if workload is None:
            leaving += [pod.uid for pod in pods]
            continue
        stop, start = _compare(workload, pods, state, ready)
        leaving += stop
        missing.append((workload, start))
    return _placed(state, leaving, missing, now, draw)


def _compare(
    workload: Workload, pods: list[Existing], state: State, ready: Callable[[str], bool]
) -> tuple[list[str], list[str]]:
    """(UIDs to stop, places to fill) of one workload. A place is a pod's name, a DaemonSet's node,
    or "" for a pod like any other of its workload."""
    stop = [pod.uid for pod in pods if not _whole(pod, state)]
    pods = [pod for pod in pods if _whole(pod, state)]
    if workload.kind in ("StatefulSet", "DaemonSet", "Pod"):
        return _by_place(workload, pods, stop, _places(workload, state))
    wanted = workload.replicas or 0
    old = [pod for pod in pods if _outdated(workload, pod)]
    current = [pod for pod in pods if not _outdated(workload, pod)]
    # Of too many, those that are not ready go first, then the newest.
    current.sort(key=lambda pod: (not ready(pod.uid), pod.started_at, pod.uid))
    stop += [pod.uid for pod in reversed(current[wanted:])]
    serving = sum(ready(pod.uid) for pod in current[:wanted])
    stop += [pod.uid for pod in old[wanted - serving :]]
    return stop, [""] * (wanted - len(current))


def _by_place(
    workload: Workload, pods: list[Existing], stop: list[str], places: list[str]
) -> tuple[list[str], list[str]]:
    filled: set[str] = set()
    surplus = []
    for pod in pods:
        place = pod.node if workload.kind == "DaemonSet" else pod.name
        if place not in places or place in filled or _outdated(workload, pod):
            surplus.append(pod)
        # An old pod leaves before its place is filled again.
        filled.add(place)
    surplus.sort(key=lambda pod: (len(pod.name), pod.name), reverse=True)
    return stop + [pod.uid for pod in surplus], [place for place in places if place not in filled]


def _places(workload: Workload, state: State) -> list[str]:
    match workload.kind:
        case "DaemonSet":
            return _eligible(workload, state)
        case "StatefulSet":
            first = workload.first_ordinal
            return [
                f"{workload.name}-{ordinal}"
                for ordinal in range(first, first + (workload.replicas or 0))
            ]
    return [workload.name]


def _whole(pod: Existing, state: State) -> bool:
    """Whether the pod has its node and, unless it uses the node's network, an address."""
    return pod.node in state.nodes and (pod.host_network or bool(pod.addresses))


def _outdated(workload: Workload, pod: Existing) -> bool:
    key = revision_key(workload.kind)
    # Somebody may have taken the label away; that alone restarts nothing.
    return key is not None and dict(pod.labels).get(key, workload.revision) != workload.revision


def _revision(workload: Workload) -> tuple[str, str]:
    """(owner, revision), "" where a kind's pods carry none."""
    return workload.owner, workload.revision if revision_key(workload.kind) else ""


def _eligible(workload: Workload, state: State) -> list[str]:
    """The nodes that the workload's pods may run on, by name."""
    hostname = dict(workload.template.node_selector).get(HOSTNAME, "")
    only = {name for name in (workload.template.node_name, hostname) if name}
    return [name for name in sorted(state.nodes) if only <= {name}]


def _placed(
    state: State,
    leaving: list[str],
    missing: list[tuple[Workload, list[str]]],
    now: int,
    draw: Draw,
) -> Plan:
    placement = Placement(state, set(leaving))
    refusals = _refusals(state)
    started: list[PodStarted] = []
    pending: list[Pending] = []
    delays: list[int] = []
    room = max(0, EVENTS_MAX - len(leaving))
    for workload, places in missing:
        wait_ms, trial = _backoff(refusals.get(_revision(workload), []), now)
        if places and wait_ms:
            delays.append(wait_ms)
            pending.append(Pending(workload.owner, len(places), "the ledger refused its last pods"))
            continue
        eligible = _eligible(workload, state)
        unplaced = 0
        for place in places[:1] if trial else places:
            if len(started) == room:
                break
            placed = placement.place(
                workload.owner,
                [place] if workload.kind == "DaemonSet" else eligible,
                host_network=workload.template.host_network,
            )
            if placed is None:
                unplaced += 1
            else:
                started.append(_pod(workload, place, *placed, now, draw))
        if unplaced:
            pending.append(Pending(workload.owner, unplaced, _reason(workload, eligible, state)))
    return Plan(
        stopped=tuple(PodStopped(uid) for uid in leaving[:EVENTS_MAX]),
        started=tuple(started),
        pending=tuple(pending),
        again_in_ms=min(delays, default=None),
    )


def _reason(workload: Workload, eligible: list[str], state: State) -> str:
    """Why a pod found no place."""
    if eligible:
        return f"no address is free in the pod CIDRs of {', '.join(eligible)}"
    if not state.nodes:
        return "no node has joined"
    wanted = workload.template.node_name or dict(workload.template.node_selector).get(HOSTNAME)
    return f"there is no node {wanted!r}; there are {', '.join(sorted(state.nodes))}"


def _refusals(state: State) -> dict[tuple[str, str], list[int]]:
    """(owner, revision) → start times of pods refused since its newest pod that was not."""
    newest: dict[str, int] = {}
    for pod in state.endpoints.values():
        newest[pod.owner] = max(newest.get(pod.owner, 0), pod.started_at)
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for refused in state.refused_pods.values():
        if not refused.retry and refused.started_at > newest.get(refused.owner, -1):
            labels = dict(refused.labels)
            revision = labels.get(TEMPLATE_HASH) or labels.get(REVISION_HASH) or ""
            found[refused.owner, revision].append(refused.started_at)
    return found


def _backoff(refused_at: list[int], now: int) -> tuple[int, bool]:
    """(milliseconds to wait, whether to try only one pod)"""
    if not refused_at:
        return 0, False
    rounds = len(set(refused_at))  # all pods of one plan start at one time
    delay = min(BACKOFF_MS << min(rounds - 1, 30), BACKOFF_MS_MAX)
    passed = max(0, now - max(refused_at)) // 1_000_000
    return max(0, delay - passed), True


def _pod(
    workload: Workload, place: str, node: str, addresses: tuple[str, ...], now: int, draw: Draw
) -> PodStarted:
    template = workload.template
    base = workload.name
    if workload.kind == "Deployment":
        base = f"{base}-{workload.revision}"
    generated = workload.kind not in ("StatefulSet", "Pod")
    name = f"{base}-"[: _NAME_MAX - _SUFFIX_DIGITS] + _suffix(draw) if generated else place
    return PodStarted(
        uid=str(uuid.UUID(bytes=draw(16), version=4)),
        namespace=workload.namespace,
        name=name,
        node=node,
        addresses=addresses,
        labels=labels_of(workload, name),
        started_at=now,
        service_account=template.service_account,
        ports=template.named_ports,
        owner=workload.owner,
        host_network=template.host_network,
    )


def _suffix(draw: Draw) -> str:
    return "".join(SAFE_DIGITS[byte % len(SAFE_DIGITS)] for byte in draw(_SUFFIX_DIGITS))

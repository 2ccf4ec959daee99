"""`tabard apply`, `delete`, `scale` and `label`: what an operator changes, as observed events."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import Enum
from typing import assert_never

from tabard.bus.port import Bus
from tabard.cli.failing import Exit, Failure, Unfinished, fail
from tabard.cli.get import known
from tabard.cli.kinds import workload as workload_kind
from tabard.cli.naming import place_of
from tabard.cli.printing import tell
from tabard.cli.reach import Target, with_bus
from tabard.cli.views import nodes, selected
from tabard.cli.wait import settled
from tabard.cluster.errors import NotReached
from tabard.cluster.publish import outcome, publish
from tabard.events.codec import type_name
from tabard.events.ledger import PolicyRefused
from tabard.events.observed import (
    NamespaceLabelsSet,
    NodeLeft,
    ObservedEvent,
    PodLabelsChanged,
    PodStopped,
    WorkloadRemoved,
    WorkloadSet,
)
from tabard.identity.labels import NAMESPACE_KEY
from tabard.ledger.follow import catch_up
from tabard.ledger.state import EndpointState, State
from tabard.manifests.events import applied, removed
from tabard.manifests.objects import Manifest, Manifests, Role
from tabard.manifests.reading import STANDARD_INPUT, read
from tabard.manifests.workloads import (
    API_VERSIONS,
    DEFAULT_NAMESPACE,
    REPLICAS_MAX,
    SCALABLE,
    read_workload,
    scaled,
)
from tabard.policy.matching import matches
from tabard.policy.reading import read_policies


class Until(Enum):
    """How long a change waits."""

    PUBLISHED = "published"
    TAKEN = "taken"
    """The allocator took it; what it refused is known."""
    ENFORCED = "enforced"


Change = Callable[[Bus, State], Awaitable[Sequence[ObservedEvent]]]


async def carry_out(
    bus: Bus, state: State, events: Sequence[ObservedEvent], until: Until, timeout_s: float
) -> tuple[str, ...]:
    """Publish, tell what was published, and wait; what was refused, a line each.

    `state` gives the names of what events know by UID. Unfinished if it takes too long.
    """
    published = await publish(bus, events)
    for sequence, event in zip(published.sequences, events, strict=True):
        tell(f"OBSERVED/{sequence}  {described(event, state)}")
    if until is Until.PUBLISHED or not events:
        return ()
    try:
        found = await outcome(bus, published, timeout_s)
    except NotReached as error:
        raise Unfinished("published, but not decided in time", error) from error
    if until is Until.ENFORCED:
        try:
            (await settled(bus, None, timeout_s)).tell()
        except NotReached as error:
            raise Unfinished("decided, but not enforced in time", error) from error
    else:
        tell(f"taken through LEDGER/{found.ledger}")
    return tuple(
        f"{refused.kind if isinstance(refused, PolicyRefused) else 'Pod'} "
        f"{place_of(refused.namespace, refused.name)} refused: {refused.reason}"
        for refused in found.refused
    )


def described(event: ObservedEvent, state: State) -> str:
    """`policy.set  NetworkPolicy shop/web`; a pod by its name, if `state` knows it."""
    values = {name: getattr(event, name) for name in type(event).__slots__}
    if pod := state.endpoints.get(values.get("uid", "")):
        what = f"{pod.namespace}/{pod.name}"
    elif "document" in values:
        metadata = values["document"].get("metadata") or {}
        place = place_of(metadata.get("namespace") or "", metadata.get("name") or "")
        what = f"{values['document'].get('kind')} {place}"
    elif "kind" in values:
        what = f"{values['kind']} {place_of(values['namespace'], values['name'])}"
    else:
        what = str(values.get("name") or values.get("uid") or "")
    return f"{type_name(event)}  {what}"


def _change(
    what: str, change: Change, until: Until, timeout_s: float, cluster: str, nats: str
) -> None:
    async def work(bus: Bus, target: Target) -> tuple[str, ...]:
        state = State()
        events = await change(bus, state)
        if not events:
            tell("nothing to change")
        return await carry_out(bus, state, events, until, timeout_s)

    refusals = with_bus(what, cluster, nats, work)
    if refusals:
        for line in refusals:
            tell(line)
        tell("next: mend what was refused and apply it again; a version in force stays in force")
        raise SystemExit(Exit.FAILED)


def objects_in(paths: Sequence[str]) -> Manifests:
    """What `paths` hold; what has no effect is told."""
    found = read(paths)
    for note in found.notes:
        tell(f"note: {note}")
    if not found.objects:
        shown = ["stdin" if path == STANDARD_INPUT else path for path in paths]
        raise Failure(f"{', '.join(shown)} holds no object that Tabard knows")
    return found


def applied_to(state: State, objects: Sequence[Manifest]) -> list[ObservedEvent]:
    """What brings `objects` about; tells what their author may not have meant."""
    events = applied(objects, state.namespaces)
    declared = {each.name for each in objects if each.role is Role.NAMESPACE} | {DEFAULT_NAMESPACE}
    for event in events:
        if isinstance(event, NamespaceLabelsSet) and event.name not in declared:
            tell(f"note: namespace {event.name} was not there; made")
    for policy in _idle(state, objects):
        tell(f"note: policy {place_of(policy.namespace, policy.name)} selects no pod now")
    return events


def _idle(state: State, objects: Sequence[Manifest]) -> Iterable[Manifest]:
    """Policies among `objects` that select no pod that runs, and none of those that come along."""
    coming = [read_workload(each.document) for each in objects if each.role is Role.WORKLOAD]
    labels = [
        {("k8s", key): value for key, value in each.template.labels}
        | {("k8s", NAMESPACE_KEY): each.namespace}
        for each in coming
    ]
    for each in objects:
        if each.role is Role.POLICY:
            read = read_policies(each.document, each.origin)
            policies = [policy for policy in read if not policy.selects_nodes]
            selects = any(matches(policy.subject, own) for policy in policies for own in labels)
            if policies and not selects and not selected(state, policies):
                yield each


def apply(paths: Sequence[str], until: Until, timeout_s: float, cluster: str, nats: str) -> None:
    async def change(bus: Bus, state: State) -> Sequence[ObservedEvent]:
        found = objects_in(paths)
        await catch_up(bus, state)
        return applied_to(state, found.objects)

    _change("apply", change, until, timeout_s, cluster, nats)


def delete_objects(
    paths: Sequence[str], until: Until, timeout_s: float, cluster: str, nats: str
) -> None:
    async def change(bus: Bus, state: State) -> Sequence[ObservedEvent]:
        objects = objects_in(paths).objects
        await catch_up(bus, state)
        there = []
        for each in objects:
            if _known(state, each):
                there.append(each)
            else:
                tell(f"{each.kind} {place_of(each.namespace, each.name)} was not there")
        if not there:
            raise Failure("nothing of it was there", "tabard get workloads")
        return removed(there)

    _change("delete", change, until, timeout_s, cluster, nats)


def _known(state: State, manifest: Manifest) -> bool:
    match manifest.role:
        case Role.NAMESPACE:
            return manifest.name in state.namespaces
        case Role.POLICY:
            return manifest.key in state.policies or manifest.key in state.refused_policies
        case Role.WORKLOAD:
            return manifest.key in state.workloads
    assert_never(manifest.role)


def delete_pods(
    names: Sequence[str], until: Until, timeout_s: float, cluster: str, nats: str
) -> None:
    async def change(bus: Bus, state: State) -> Sequence[ObservedEvent]:
        await catch_up(bus, state)
        return [event for name in names for event in _stopped(pod_named(state, name))]

    _change("delete pod", change, until, timeout_s, cluster, nats)


def delete_nodes(
    names: Sequence[str], until: Until, timeout_s: float, cluster: str, nats: str
) -> None:
    async def change(bus: Bus, state: State) -> Sequence[ObservedEvent]:
        await catch_up(bus, state)
        rows = {row["name"]: row for row in nodes(await known(bus, state))}
        for name in names:
            if name not in rows:
                raise Failure(f"the ledger has no node {name}", "tabard get nodes")
            if (status := rows[name]["status"]) in ("Current", "Lagging", "Failing"):
                raise Failure(
                    f"node {name} is {status}: its agent runs, and would enforce as if it were "
                    "none of the cluster",
                    f"stop the agent of {name}, wait 15 s, and delete it again",
                )
        return [NodeLeft(name) for name in names]

    _change("delete node", change, until, timeout_s, cluster, nats)


def _stopped(pod: EndpointState) -> list[ObservedEvent]:
    """What ends a pod. A bare one ends with its workload, or it would be started again."""
    bare = ("Pod", pod.namespace, pod.name)
    own = [WorkloadRemoved(*bare)] if pod.owner == "/".join(bare) else []
    return [*own, PodStopped(pod.uid)]


def scale(
    workload: tuple[str, str, str],
    replicas: int,
    until: Until,
    timeout_s: float,
    cluster: str,
    nats: str,
) -> None:
    asked, namespace, name = workload
    kind = workload_kind(asked, API_VERSIONS)
    if kind == "DaemonSet":
        choose = "give its template another nodeSelector and apply it, or tabard up with more nodes"
        fail("scale", Failure("a DaemonSet has one pod per node", choose, Exit.USAGE))
    if kind not in SCALABLE:
        can = ", ".join(each.lower() for each in SCALABLE)
        fact = f"{asked!r} is no kind that can be scaled; those are {can}"
        fail("scale", Failure(fact, f"tabard get workloads -n {namespace}", Exit.USAGE))
    if replicas > REPLICAS_MAX:
        most = f"tabard scale {asked}/{name} -n {namespace} --replicas {REPLICAS_MAX}"
        fact = f"{replicas} replicas are too many: a workload has up to {REPLICAS_MAX}"
        fail("scale", Failure(fact, most, Exit.USAGE))

    async def change(bus: Bus, state: State) -> Sequence[ObservedEvent]:
        await catch_up(bus, state)
        kept = state.workloads.get((kind, namespace, name))
        if kept is None:
            raise Failure(
                f"the ledger has no {kind} {namespace}/{name}",
                f"tabard get workloads -n {namespace}",
            )
        return [WorkloadSet(scaled(kept.document, replicas), kept.origin)]

    _change("scale", change, until, timeout_s, cluster, nats)


def label(
    pod: str,
    changes: Sequence[tuple[str, str | None]],
    until: Until,
    timeout_s: float,
    cluster: str,
    nats: str,
) -> None:
    async def change(bus: Bus, state: State) -> Sequence[ObservedEvent]:
        await catch_up(bus, state)
        found = pod_named(state, pod)
        carried = state.relabels.get(found.uid, found).labels
        labels = dict(carried)
        for key, value in changes:
            if value is None:
                labels.pop(key, None)
            else:
                labels[key] = value
        pairs = tuple(sorted(labels.items()))
        return [] if pairs == carried else [PodLabelsChanged(found.uid, pairs)]

    _change("label the pod", change, until, timeout_s, cluster, nats)


def pod_named(state: State, place: str) -> EndpointState:
    """The pod `namespace/name`; Failure if there is none."""
    namespace, _, name = place.partition("/")
    for uid in state.by_namespace.get(namespace, {}):
        if state.endpoints[uid].name == name:
            return state.endpoints[uid]
    raise Failure(f"the ledger has no pod {place}", f"tabard get pods -n {namespace}")

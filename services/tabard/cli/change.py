"""`tabard apply`, `delete`, `scale` and `label`: what an operator changes, as observed events."""

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum

from tabard.bus.port import Bus
from tabard.cli.failing import Exit, Failure
from tabard.cli.printing import tell
from tabard.cli.reach import Target, with_bus
from tabard.cli.wait import settled
from tabard.cluster.publish import outcome, publish
from tabard.events.codec import type_name
from tabard.events.ledger import PolicyRefused
from tabard.events.observed import ObservedEvent, PodLabelsChanged, PodStopped, WorkloadSet
from tabard.ledger.follow import catch_up
from tabard.ledger.state import EndpointState, State
from tabard.manifests.events import applied, removed
from tabard.manifests.objects import Manifests
from tabard.manifests.reading import read
from tabard.manifests.workloads import scaled


class Until(Enum):
    """How long a change waits."""

    PUBLISHED = "published"
    TAKEN = "taken"
    """The allocator took it; what it refused is known."""
    ENFORCED = "enforced"


Change = Callable[[Bus, State], Awaitable[Sequence[ObservedEvent]]]


async def carry_out(
    bus: Bus, events: Sequence[ObservedEvent], until: Until, timeout_s: float
) -> tuple[str, ...]:
    """Publish, tell what was published, and wait; what was refused, a line each."""
    published = await publish(bus, events)
    for sequence, event in zip(published.sequences, events, strict=True):
        tell(f"OBSERVED/{sequence}  {described(event)}")
    if until is Until.PUBLISHED or not events:
        return ()
    found = await outcome(bus, published, timeout_s)
    if until is Until.ENFORCED:
        through, nodes = await settled(bus, None, timeout_s)
        tell(f"{nodes} nodes enforce LEDGER/{through}")
    else:
        tell(f"taken through LEDGER/{found.ledger}")
    return tuple(
        f"{refused.kind if isinstance(refused, PolicyRefused) else 'Pod'} "
        f"{refused.namespace}/{refused.name} refused: {refused.reason}"
        for refused in found.refused
    )


def described(event: ObservedEvent) -> str:
    """`policy.set  NetworkPolicy shop/web`"""
    values = {name: getattr(event, name) for name in type(event).__slots__}
    if "document" in values:
        metadata = values["document"].get("metadata") or {}
        what = (
            f"{values['document'].get('kind')} {metadata.get('namespace')}/{metadata.get('name')}"
        )
    elif "kind" in values:
        what = f"{values['kind']} {values['namespace']}/{values['name']}"
    else:
        what = str(values.get("name") or values.get("uid") or "")
    return f"{type_name(event)}  {what}"


def _change(
    what: str, change: Change, until: Until, timeout_s: float, cluster: str, nats: str
) -> None:
    async def work(bus: Bus, target: Target) -> tuple[str, ...]:
        events = await change(bus, State())
        if not events:
            tell("nothing to change")
        return await carry_out(bus, events, until, timeout_s)

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
        raise Failure(f"{', '.join(paths)} holds no object that Tabard knows")
    return found


def apply(paths: Sequence[str], until: Until, timeout_s: float, cluster: str, nats: str) -> None:
    async def change(bus: Bus, state: State) -> Sequence[ObservedEvent]:
        found = objects_in(paths)
        await catch_up(bus, state)
        return applied(found.objects, state.namespaces)

    _change("apply", change, until, timeout_s, cluster, nats)


def delete_objects(
    paths: Sequence[str], until: Until, timeout_s: float, cluster: str, nats: str
) -> None:
    async def change(bus: Bus, state: State) -> Sequence[ObservedEvent]:
        return removed(objects_in(paths).objects)

    _change("delete", change, until, timeout_s, cluster, nats)


def delete_pods(
    names: Sequence[str], until: Until, timeout_s: float, cluster: str, nats: str
) -> None:
    async def change(bus: Bus, state: State) -> Sequence[ObservedEvent]:
        await catch_up(bus, state)
        return [PodStopped(pod_named(state, name).uid) for name in names]

    _change("delete pod", change, until, timeout_s, cluster, nats)


def scale(
    workload: tuple[str, str, str],
    replicas: int,
    until: Until,
    timeout_s: float,
    cluster: str,
    nats: str,
) -> None:
    async def change(bus: Bus, state: State) -> Sequence[ObservedEvent]:
        await catch_up(bus, state)
        kind, namespace, name = workload
        key = next((key for key in state.workloads if _same(key, workload)), None)
        if key is None:
            raise Failure(
                f"the ledger has no {kind} {namespace}/{name}",
                f"tabard get workloads -n {namespace}",
            )
        kept = state.workloads[key]
        return [WorkloadSet(scaled(kept.document, replicas), kept.origin)]

    _change("scale", change, until, timeout_s, cluster, nats)


def _same(key: tuple[str, str, str], asked: tuple[str, str, str]) -> bool:
    """Kinds are compared as kubectl does: case and plural do not matter."""
    return key[1:] == asked[1:] and asked[0].lower() in (key[0].lower(), f"{key[0].lower()}s")


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
        labels = dict(found.labels)
        for key, value in changes:
            if value is None:
                labels.pop(key, None)
            else:
                labels[key] = value
        pairs = tuple(sorted(labels.items()))
        return [] if pairs == found.labels else [PodLabelsChanged(found.uid, pairs)]

    _change("label the pod", change, until, timeout_s, cluster, nats)


def pod_named(state: State, place: str) -> EndpointState:
    """The pod `namespace/name`; Failure if there is none."""
    namespace, _, name = place.partition("/")
    for uid in state.by_namespace.get(namespace, {}):
        if state.endpoints[uid].name == name:
            return state.endpoints[uid]
    raise Failure(f"the ledger has no pod {place}", f"tabard get pods -n {namespace}")

"""What an observed event may lead to, and why one may lead to nothing (ARCHITECTURE.md, decisions
41 and 50)."""

from collections.abc import Mapping
from typing import assert_never

from tabard.events import ledger as events
from tabard.events import observed
from tabard.events.observed import Document, ObservedEvent, Pairs
from tabard.invariants.cluster import Cluster, Facts, Key
from tabard.policy.reading import CLUSTERWIDE_KINDS

AHEAD = (
    events.IdentityAllocated,
    events.EndpointUnbound,
    events.PodRefused,
    events.RelabelPlanned,
    events.RebindPlanned,
)
"""What may be written ahead of the rest, of an event that asks for more than a batch takes."""

CLOCKS = (
    events.IdentityAllocated,
    events.IdentityRetired,
    events.IdentityReleased,
    events.NumbersExhausted,
    events.NumbersAvailable,
    events.NodeLost,
    events.NodeReturned,
    events.NameForgotten,
    events.EpochClaimed,
    events.SettingsAdopted,
    events.EventQuarantined,
    events.CursorAdvanced,
)
"""What needs no observed event for its cause."""


def follows(event: events.LedgerEvent, cause: ObservedEvent | None, place: int) -> bool:
    """Whether `event` may be an effect of OBSERVED/`place`, which is `cause` (None: unreadable)."""
    if event == events.EventQuarantined("OBSERVED", place, getattr(event, "reason", "")):
        return True
    match cause, event:
        case (
            observed.PodStarted()
            | observed.PodLabelsChanged()
            | observed.NamespaceLabelsSet()
            | observed.NamespaceRemoved()
            | observed.PolicySet()
            | observed.NodeJoined()
            | observed.NameAnswered(),
            events.IdentityAllocated(),
        ):
            return True
        case observed.PodStarted() as pod, events.EndpointBound() as bound:
            return _told(pod) == _told(bound) and set(bound.addresses) <= set(pod.addresses)
        case observed.PodStarted(uid), events.PodRefused(other):
            return uid == other
        case (
            observed.PodLabelsChanged(uid, labels),
            events.EndpointRelabelled(other, _, now) | events.RelabelPlanned(other, _, now),
        ):
            return uid == other and labels == now
        case observed.PodLabelsChanged(uid, labels), events.EndpointBound() as bound:
            return uid == bound.uid and labels == bound.labels
        case (
            observed.PodLabelsChanged(uid),
            events.PodRefused(other) | events.EndpointUnbound(other),
        ):
            return uid == other
        case (
            observed.PodStopped(uid),
            events.EndpointUnbound(other) | events.EndpointTombstoned(other),
        ):
            return uid == other
        case observed.NamespaceLabelsSet(name, labels), events.NamespaceLabelled(other, now):
            return name == other and labels == now
        case observed.NamespaceRemoved(name), events.NamespaceForgotten(other):
            return name == other
        case (
            observed.NamespaceLabelsSet(name) | observed.NamespaceRemoved(name),
            events.EndpointsRebound(other) | events.RebindPlanned(other),
        ):
            return name == other
        case (
            observed.NamespaceLabelsSet(name) | observed.NamespaceRemoved(name),
            events.PodRefused(_, namespace),
        ):
            return namespace in (name, name[:253])
        case (
            observed.NamespaceLabelsSet() | observed.NamespaceRemoved(),
            events.EndpointUnbound() | events.RelabelPlanned(),
        ):
            return True
        case observed.PolicySet(document), events.PolicyAccepted(_, _, _, accepted):
            return document == accepted
        case observed.PolicySet(), events.PolicyRefused():
            return True
        case observed.WorkloadSet(document), events.WorkloadAccepted(_, _, _, accepted):
            return document == accepted
        case (
            observed.PolicyRemoved(kind, namespace, name),
            events.PolicyForgotten(was, within, named),
        ) | (
            observed.WorkloadRemoved(kind, namespace, name),
            events.WorkloadForgotten(was, within, named),
        ):
            return (kind, namespace, name) == (was, within, named)
        case (
            observed.NodeJoined(name, addresses, cidrs, labels),
            events.NodeAdded(other, those, ranges, told)
            | events.NodeRefused(other, those, ranges, told),
        ):
            return (name, addresses, cidrs, labels) == (other, those, ranges, told)
        case observed.NodeLeft(name), events.NodeRemoved(other):
            return name == other
        case observed.NameAnswered(_, name), events.NameResolved(other) | events.NameForgotten(
            other
        ):
            return name == other
        case observed.QuarantineRequested(stream, at), events.EventQuarantined(other, sequence):
            return (stream, at) == (other, sequence)
        case observed.TrimRequested(before), events.LedgerTrimmed(other_before):
            return before == other_before
        case _:
            return False


def is_due(event: events.LedgerEvent, cluster: Cluster) -> bool:
    """Whether `event` may come without a cause, since what it carries out was left open before."""
    match event:
        case events.EndpointBound(uid) | events.PodRefused(uid):
            return uid in cluster.refused
        case events.EndpointRelabelled(uid, identity, labels):
            return cluster.planned.get(uid) == (identity, labels)
        case events.EndpointsRebound(_, changes):
            return all(
                cluster.planned.get(uid, (0, ()))[0] == identity for uid, identity in changes
            )
        case events.NodeAdded(name):
            return name in cluster.refused_nodes
        case _:
            return isinstance(event, CLOCKS)


def is_true(event: ObservedEvent, cluster: Cluster) -> bool:
    """Whether the ledger says what `event` does, or why not: then it has had its effect, or needs
    none."""
    match event:
        case observed.PodStarted(uid):
            if uid in cluster.bound or (uid in cluster.stopped and uid not in cluster.waiting):
                return True
            refused = cluster.refused.get(uid)
            # One too large to be carried is refused without its fields.
            return refused is not None and (not refused.node or _told(refused) == _told(event))
        case observed.PodLabelsChanged(uid, labels):
            return _has(cluster, uid, labels)
        case observed.PodStopped(uid):
            is_there = uid in cluster.bound or uid in cluster.waiting
            return uid in cluster.stopped and not is_there
        case observed.NamespaceLabelsSet(name, labels):
            return cluster.namespaces.get(name) == labels
        case observed.NamespaceRemoved(name):
            return name not in cluster.namespaces
        case observed.PolicySet(document):
            key = key_of(document)
            return key in cluster.refused_policies or cluster.policies.get(key) == document
        case observed.PolicyRemoved(kind, namespace, name):
            key = (kind, namespace, name)
            return key not in cluster.policies and key not in cluster.refused_policies
        case observed.WorkloadSet(document):
            return cluster.workloads.get(key_of(document)) == document
        case observed.WorkloadRemoved(kind, namespace, name):
            return (kind, namespace, name) not in cluster.workloads
        case observed.NodeJoined(name, addresses, cidrs, labels):
            facts = Facts(addresses, cidrs, labels)
            return cluster.refused_nodes.get(name, cluster.nodes.get(name)) == facts
        case observed.NodeLeft(name):
            return name not in cluster.nodes and name not in cluster.refused_nodes
        case observed.NameAnswered():
            return True  # whether a policy asks for the name is not looked into
        case observed.QuarantineRequested(stream, sequence):
            return (stream, sequence) in cluster.quarantined
        case observed.TrimRequested(before):
            return before in cluster.trimmed
        case _:
            assert_never(event)


def is_undone(event: ObservedEvent, later: ObservedEvent | None) -> bool:
    """Whether `later`, the very next one, says of the same subject, and whole, what `event` says:
    then `event` may be passed over."""
    match event, later:
        case (
            observed.PodLabelsChanged(uid),
            observed.PodLabelsChanged(other) | observed.PodStopped(other),
        ):
            return uid == other
        case (
            observed.NamespaceLabelsSet(name) | observed.NamespaceRemoved(name),
            observed.NamespaceLabelsSet(other) | observed.NamespaceRemoved(other),
        ):
            return name == other
        case observed.NodeJoined(name), observed.NodeJoined(other) | observed.NodeLeft(other):
            return name == other
        case (
            (observed.PolicySet() | observed.PolicyRemoved()) as first,
            (observed.PolicySet() | observed.PolicyRemoved()) as second,
        ):
            return _key(first) == _key(second)
        case (
            (observed.WorkloadSet() | observed.WorkloadRemoved()) as first,
            (observed.WorkloadSet() | observed.WorkloadRemoved()) as second,
        ):
            return _key(first) == _key(second)
        case _:
            return False


def never_ran(pod: observed.PodStarted, cluster: Cluster) -> bool:
    """Whether a pod that is known to have stopped may be left out whole: no address is anybody's
    that it would take."""
    return not any(address in cluster.addresses for address in pod.addresses)


def key_of(document: Document) -> Key:
    """(kind, namespace, name) of a manifest; what is not text counts as empty."""
    found = document.get("metadata")
    metadata = found if isinstance(found, Mapping) else {}
    kind = _text(document.get("kind"))
    namespace = _text(metadata.get("namespace", "default")) or "default"
    return kind, "" if kind in CLUSTERWIDE_KINDS else namespace, _text(metadata.get("name"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _key(
    event: observed.PolicySet
    | observed.PolicyRemoved
    | observed.WorkloadSet
    | observed.WorkloadRemoved,
) -> Key:
    if isinstance(event, observed.PolicySet | observed.WorkloadSet):
        return key_of(event.document)
    return event.kind, event.namespace, event.name


def _told(
    pod: observed.PodStarted | events.EndpointBound | events.PodRefused,
) -> tuple[object, ...]:
    """What says which pod it is, and what it may do."""
    return (
        pod.uid,
        pod.namespace,
        pod.name,
        pod.node,
        pod.labels,
        pod.started_at,
        pod.service_account,
        pod.ports,
        pod.owner,
        pod.host_network,
    )


def _has(cluster: Cluster, uid: str, labels: Pairs) -> bool:
    """Whether a pod has, or is to have, or was refused with these labels; or is nobody's."""
    bound = cluster.bound.get(uid)
    if bound is not None:
        planned = cluster.planned.get(uid)
        return labels == (bound.labels if planned is None else planned[1])
    refused = cluster.refused.get(uid)
    if refused is None or (uid in cluster.stopped and uid not in cluster.waiting):
        return True
    return not refused.node or refused.labels == labels

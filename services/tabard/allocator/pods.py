"""Pods: their start, label change and stop, and another try for those that wait for a number."""

import dataclasses
from typing import Any

from tabard.allocator import validity
from tabard.allocator.plan import Indexes, Plan, Refusal, check_size
from tabard.allocator.relabels import is_known
from tabard.events.ledger import (
    BEHIND_MAX,
    EndpointBound,
    EndpointRelabelled,
    EndpointTombstoned,
    EndpointUnbound,
    LedgerEvent,
    PodRefused,
    RelabelPlanned,
)
from tabard.events.observed import Pairs, PodLabelsChanged, PodStarted, PodStopped
from tabard.identity.labels import LABELS_MAX
from tabard.identity.numbers import Reserved
from tabard.ledger.state import EndpointState, State

_HELD = "pods that started later hold all of its addresses"
_FIELDS = tuple(field.name for field in dataclasses.fields(PodStarted))


def start(state: State, indexes: Indexes, pod: PodStarted) -> list[LedgerEvent]:
    """A pod was placed on a node, which need not be known yet.

    A start again, or after the stop, changes nothing; a label change since then stands.
    """
    if pod.uid in state.endpoints:
        return []
    if pod.uid in state.tombstones and pod.uid not in state.waiting:
        return []
    return _settled(state, indexes, pod)


def relabel(state: State, indexes: Indexes, change: PodLabelsChanged) -> list[LedgerEvent]:
    """A running pod carries other labels: it has another identity as soon as every node knows that.

    If the new identity cannot be had, the pod loses the old one and is refused: it must not go on
    with rights that its labels no longer give. A pod that was refused is tried again; one that is
    not known (its start will tell its labels) or has stopped is left alone.
    """
    endpoint = state.endpoints.get(change.uid)
    if endpoint is not None:
        return _moved(state, indexes, endpoint, change.labels)
    refused = state.waiting.get(change.uid)
    if refused is None and change.uid not in state.tombstones:
        refused = state.refused_pods.get(change.uid)
    if refused is None or refused.labels == change.labels or not refused.node:
        return []  # without a node: too large to be kept whole, only another start can tell it
    return _settled(state, indexes, dataclasses.replace(_pod(refused), labels=change.labels))


def stop(state: State, stopped: PodStopped) -> list[LedgerEvent]:
    """A pod stopped; if that is known before its start, the start will change nothing."""
    if stopped.uid in state.endpoints:
        return [EndpointUnbound(stopped.uid)]
    if stopped.uid in state.tombstones and stopped.uid not in state.waiting:
        return []
    return [EndpointTombstoned(stopped.uid)]


def retry(state: State, indexes: Indexes, events_max: int) -> list[LedgerEvent]:
    """Another try for the pods that wait for a number, oldest first."""
    plan = Plan(state, indexes)
    outcomes: list[LedgerEvent] = []
    for refused in state.waiting.values():
        if len(outcomes) + len(plan.allotment) > events_max - 2:
            break
        if refused.uid in state.endpoints:
            continue  # its refusal was cut off before it was unbound; the event comes again
        # While the space is full this is all that a waiting pod costs on a tick.
        if plan.allotment.left or plan.known(refused) is not None:
            outcome = bind(plan, _pod(refused))
            if not (isinstance(outcome, PodRefused) and outcome.retry):
                outcomes.append(outcome)
    return [*plan.allotment.events, *outcomes]


def reclaim(state: State, indexes: Indexes) -> list[LedgerEvent]:
    """A pod that was refused since later ones held its addresses, and that can be bound by now.

    Starts and stops come in any order, and starts are told by nodes' clocks: whoever has not
    stopped when all that started later have is there.
    """
    for refused in state.refused_pods.values():
        if refused.reason.startswith(_HELD) and refused.uid not in state.tombstones:
            if all(address in state.bindings for address in refused.addresses):
                continue  # still, or by others: most ticks end here
            plan = Plan(state, indexes)
            outcome = bind(plan, _pod(refused))
            if isinstance(outcome, EndpointBound) or outcome.retry:
                return [*plan.allotment.events, outcome]
    return []


def bind(plan: Plan, pod: PodStarted) -> EndpointBound | PodRefused:
    """How `pod` comes out of `plan`, from which it may draw a number."""
    try:
        bound = _bound(plan, pod)
    except Refusal as refusal:
        return refused_pod(pod, refusal)
    plan.claim(bound.addresses, bound.started_at)
    return bound


def resolve(plan: Plan, pod: PodStarted | EndpointState, labels: Pairs) -> int:
    """The identity of a pod with `labels`. Refusal if it cannot have one."""
    if pod.host_network:
        return Reserved.HOST
    if len(labels) > LABELS_MAX:
        raise Refusal(
            f"the pod has {len(labels)} labels, more than {LABELS_MAX}; labels reach every node: "
            "move what is no identity into annotations"
        )
    return plan.number(plan.label_set(pod, labels))


def refused_pod(pod: PodStarted | EndpointState, refusal: Refusal) -> PodRefused:
    """The refusal of `pod`; of one too large to be carried, only what names it, and no node."""
    refused = PodRefused(**_fields(pod), reason=refusal.reason, retry=refusal.retry)
    try:
        check_size(refused)
    except Refusal as too_large:
        return dataclasses.replace(
            refused,
            namespace=pod.namespace[:253],
            name=pod.name[:253],
            node="",
            reason=too_large.reason if refused.retry else refused.reason,
            retry=False,
            addresses=(),
            labels=(),
            service_account="",
            ports=(),
            owner="",
        )
    return refused


def _settled(state: State, indexes: Indexes, pod: PodStarted) -> list[LedgerEvent]:
    plan = Plan(state, indexes)
    outcome = bind(plan, pod)
    if isinstance(outcome, PodRefused):
        before = state.waiting.get(pod.uid) or state.refused_pods.get(pod.uid)
        # The reason may name figures of the moment; the same refusal again is no news.
        if before is not None and dataclasses.replace(outcome, reason=before.reason) == before:
            return []
    return [*plan.allotment.events, outcome]


def _bound(plan: Plan, pod: PodStarted) -> EndpointBound:
    if fault := validity.pod(pod):
        raise Refusal(f"the pod is not valid: {fault}")
    addresses = () if pod.host_network else _won(plan, pod)
    bound = EndpointBound(**{**_fields(pod), "addresses": addresses}, identity=0)
    check_size(bound)
    return dataclasses.replace(bound, identity=int(resolve(plan, pod, pod.labels)))


def _won(plan: Plan, pod: PodStarted) -> tuple[str, ...]:
    """The addresses that no pod with a later start holds; of two equal starts the later told."""
    won = []
    for address in pod.addresses:
        held_since = plan.started_at(address)
        if held_since is None or held_since <= pod.started_at:
            won.append(address)
    if pod.addresses and not won:
        raise Refusal(f"{_HELD}: {', '.join(pod.addresses)}")
    return tuple(won)


def _moved(
    state: State, indexes: Indexes, endpoint: EndpointState, labels: Pairs
) -> list[LedgerEvent]:
    uid, planned = endpoint.uid, state.relabels.get(endpoint.uid)
    if labels == (endpoint.labels if planned is None else planned.labels):
        return []
    plan = Plan(state, indexes)
    try:
        # As it will be at its longest, in case that it has to wait.
        check_size(EndpointRelabelled(uid, 0, labels, ("-" * 253,) * BEHIND_MAX))
        number = int(resolve(plan, endpoint, labels))
    except Refusal as refusal:
        lost = refused_pod(dataclasses.replace(endpoint, labels=labels), refusal)
        return [lost, EndpointUnbound(uid)]
    if number == endpoint.identity or is_known(plan, number):
        return [*plan.allotment.events, EndpointRelabelled(uid, number, labels)]
    return [*plan.allotment.events, RelabelPlanned(uid, number, labels)]


def _pod(refused: PodRefused) -> PodStarted:
    return PodStarted(**_fields(refused))


def _fields(pod: PodStarted | PodRefused | EndpointState) -> dict[str, Any]:
    return {name: getattr(pod, name) for name in _FIELDS}

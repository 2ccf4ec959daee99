"""Policies and workloads: what is kept as its author wrote it."""

from tabard.allocator import validity
from tabard.allocator.plan import REASON_MAX, Indexes, Refusal, check_size, number_cidrs
from tabard.events.ledger import (
    LedgerEvent,
    PolicyAccepted,
    PolicyForgotten,
    PolicyRefused,
    WorkloadAccepted,
    WorkloadForgotten,
)
from tabard.events.observed import (
    PolicyRemoved,
    PolicySet,
    WorkloadRemoved,
    WorkloadSet,
)
from tabard.ledger.state import State
from tabard.policy.model import PolicyError
from tabard.policy.reading import KINDS, check_keys, read_object


def set_policy(state: State, indexes: Indexes, event: PolicySet) -> list[LedgerEvent]:
    """A policy (or what policies refer to) is in force from here on, or refused; then a version
    accepted before stays.

    Each CIDR that it names gets an identity first.
    """
    key = validity.key_of(event.document)
    try:
        return _accepted(state, indexes, event)
    except (PolicyError, Refusal) as error:
        kind, namespace, name = (part[:253] for part in key)
        reason, origin = str(error)[:REASON_MAX], event.origin[:REASON_MAX]
        refused = PolicyRefused(kind, namespace, name, reason, origin)
        return [] if state.refused_policies.get((kind, namespace, name)) == refused else [refused]


def _accepted(state: State, indexes: Indexes, event: PolicySet) -> list[LedgerEvent]:
    if fault := validity.document(event.document):
        raise Refusal(fault)
    kind, *_ = validity.key_of(event.document)
    if kind not in KINDS:
        raise Refusal(f"kind {kind!r} is not read; {', '.join(KINDS)} are")
    policy = read_object(event.document, event.origin)
    check_keys(policy, indexes.label_filter)
    before = state.policies.get(policy.key)
    unchanged = before is not None and before.document == event.document
    if unchanged and policy.key not in state.refused_policies:
        return []
    accepted = PolicyAccepted(*policy.key, event.document, event.origin)
    check_size(accepted)
    return [*number_cidrs(state, indexes, policy.cidrs()), accepted]


def remove_policy(state: State, event: PolicyRemoved) -> list[LedgerEvent]:
    key = (event.kind, event.namespace, event.name)
    if key in state.policies or key in state.refused_policies:
        return [PolicyForgotten(*key)]
    return []


def set_workload(state: State, event: WorkloadSet) -> list[LedgerEvent]:
    """Passed on to whoever runs pods; Refusal if it is too large to be carried."""
    key = validity.key_of(event.document)
    before = state.workloads.get(key)
    if before is not None and before.document == event.document:
        return []
    accepted = WorkloadAccepted(*key, event.document, event.origin)
    check_size(accepted)
    return [accepted]


def remove_workload(state: State, event: WorkloadRemoved) -> list[LedgerEvent]:
    key = (event.kind, event.namespace, event.name)
    return [WorkloadForgotten(*key)] if key in state.workloads else []

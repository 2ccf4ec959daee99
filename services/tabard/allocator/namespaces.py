"""Namespaces: a change of their labels changes every pod in them, all at once."""

import dataclasses
from collections.abc import Mapping, Sequence

from tabard.allocator.plan import Indexes, Plan, Refusal, check_size
from tabard.allocator.pods import refused_pod, resolve
from tabard.allocator.relabels import CHANGES_MAX, is_known, rebinding
from tabard.events.ledger import (
    EndpointUnbound,
    LedgerEvent,
    NamespaceForgotten,
    NamespaceLabelled,
    RebindPlanned,
    RelabelPlanned,
)
from tabard.events.observed import NamespaceLabelsSet, NamespaceRemoved
from tabard.ledger.state import State


def label(state: State, indexes: Indexes, event: NamespaceLabelsSet) -> list[LedgerEvent]:
    """A namespace carries these labels from here on."""
    labels = dict(event.labels)
    head = NamespaceLabelled(event.name, event.labels)
    check_size(head)
    known = state.namespaces.get(event.name) == labels
    return _changed(state, indexes, event.name, labels, [] if known else [head])


def remove(state: State, indexes: Indexes, event: NamespaceRemoved) -> list[LedgerEvent]:
    """A namespace is gone; pods still in it lose its labels."""
    head = [NamespaceForgotten(event.name)] if event.name in state.namespaces else []
    return _changed(state, indexes, event.name, {}, head)


def _changed(
    state: State,
    indexes: Indexes,
    name: str,
    labels: Mapping[str, str],
    head: Sequence[LedgerEvent],
) -> list[LedgerEvent]:
    """Refusals and allocations, then plans, `head` and all changes of identity.

    What stands before `head` takes no pod from one identity to another, so it may be written ahead
    of the rest where all of it together is too long for one batch. The pods are looked at even if
    the namespace is known to be so: their change may have been cut off by a bus that died.
    """
    plan = Plan(state, indexes, {name: labels})
    refusals: list[LedgerEvent] = []
    planned: list[LedgerEvent] = []
    changes: list[tuple[str, int]] = []
    for uid in state.by_namespace.get(name, ()):
        endpoint = state.endpoints[uid]
        relabel = state.relabels.get(uid)
        carried = endpoint.labels if relabel is None else relabel.labels
        try:
            number = resolve(plan, endpoint, carried)
        except Refusal as refusal:
            # As for a label change of its own: it must not keep rights that it no longer has.
            refused = refused_pod(dataclasses.replace(endpoint, labels=carried), refusal)
            refusals += [refused, EndpointUnbound(uid)]
            continue
        if number == (endpoint.identity if relabel is None else relabel.identity):
            continue
        if carried == endpoint.labels:
            changes.append((uid, number))
        else:
            planned.append(RelabelPlanned(uid, number, carried))
    rebound: list[LedgerEvent] = []
    if all(is_known(plan, number) for number in {number for _, number in changes}):
        rebound += rebinding(name, changes)
    else:
        planned += (
            RebindPlanned(name, tuple(changes[start : start + CHANGES_MAX]))
            for start in range(0, len(changes), CHANGES_MAX)
        )
    return [*refusals, *plan.allotment.events, *planned, *head, *rebound]

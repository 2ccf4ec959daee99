"""Manifests as events: what `apply` and `delete` publish, in the order that the rest needs.

Namespaces come before policies, so that their labels count from the first pod on, and policies
before workloads, so that no pod starts before what isolates it; before a policy comes what it may
refer to. Removal goes the other way round.
"""

from collections.abc import Collection, Iterable

from tabard.events.observed import (
    NamespaceLabelsSet,
    NamespaceRemoved,
    ObservedEvent,
    PolicyRemoved,
    PolicySet,
    WorkloadRemoved,
    WorkloadSet,
)
from tabard.manifests.fields import Field
from tabard.manifests.objects import Manifest, Role
from tabard.policy.reading import REFERENT_KINDS


def applied(objects: Iterable[Manifest], known: Collection[str] = ()) -> list[ObservedEvent]:
    """The events that bring `objects` about.

    A namespace that is used but not declared is published without labels, save one in `known`
    (those that the ledger has): applying must not take labels away that it says nothing about.
    """
    found = list(objects)
    labels = {
        manifest.name: Field(manifest.document)["metadata"]["labels"].labels()
        for manifest in found
        if manifest.role is Role.NAMESPACE
    }
    used = {manifest.namespace for manifest in found if manifest.namespace}
    for name in sorted(used - labels.keys() - set(known)):
        labels[name] = ()
    return [
        *(NamespaceLabelsSet(name, pairs) for name, pairs in labels.items()),
        *(PolicySet(m.document, m.origin) for m in _policies(found)),
        *(WorkloadSet(m.document, m.origin) for m in found if m.role is Role.WORKLOAD),
    ]


def removed(objects: Iterable[Manifest]) -> list[ObservedEvent]:
    """The events that take `objects` away; namespaces only where they are declared."""
    found = list(objects)
    return [
        *(WorkloadRemoved(*m.key) for m in found[::-1] if m.role is Role.WORKLOAD),
        *(PolicyRemoved(*m.key) for m in _policies(found)[::-1]),
        *(NamespaceRemoved(m.name) for m in found[::-1] if m.role is Role.NAMESPACE),
    ]


def _policies(found: Iterable[Manifest]) -> list[Manifest]:
    """In their order, but what policies refer to first."""
    policies = (m for m in found if m.role is Role.POLICY)
    return sorted(policies, key=lambda m: m.kind not in REFERENT_KINDS)

"""Policy objects of every kind that is read: from a document to what it states.

Besides policies these are the objects that policies refer to (groups of CIDRs, Services and what is
behind them). After reading, nothing about a document can fail; what a kind cannot say here is
refused with its field's path.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import msgpack

from tabard.identity.labels import NAMESPACE_LABELS_PREFIX, LabelFilter
from tabard.policy import (
    cilium,
    cilium_groups,
    kubernetes,
    schema,
    services,
    staleness,
    tiers,
)
from tabard.policy.model import ANY_SOURCE, Policy, PolicyError, Selector
from tabard.policy.referred import Referent

READ_CACHE_MAX = 4_096
"""Objects kept in parsed form; each is read on every fold, check and compile that meets it."""


@dataclass(frozen=True, slots=True)
class PolicyObject:
    """What a document states: policies (one for each of its `specs`), or something to refer to."""

    kind: str
    namespace: str
    """"" for a cluster-wide kind."""
    name: str
    policies: tuple[Policy, ...] = ()
    referent: Referent | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.kind, self.namespace, self.name)

    def cidrs(self) -> frozenset[str]:
        """Every CIDR that the object itself names: each gets an identity of its own."""
        held = self.referent.cidrs() if self.referent is not None else frozenset()
        return held.union(*(policy.cidrs() for policy in self.policies))


def _cilium(document: Mapping[str, Any], origin: str) -> PolicyObject:
    key, policies = cilium.read(document, origin)
    return PolicyObject(*key, policies=policies)


def _referred(
    read: Callable[[Mapping[str, Any]], tuple[tuple[str, str, str], Referent]],
) -> "_Reader":
    def reader(document: Mapping[str, Any], origin: str) -> PolicyObject:
        key, referent = read(document)
        return PolicyObject(*key, referent=referent)

    return reader


_Reader = Callable[[Mapping[str, Any], str], PolicyObject]


def _one(read: Callable[[Mapping[str, Any], str], Policy]) -> _Reader:
    """The reader of a kind whose objects are one policy each."""

    def reader(document: Mapping[str, Any], origin: str) -> PolicyObject:
        policy = read(document, origin)
        return PolicyObject(*policy.key, policies=(policy,))

    return reader


_READERS: dict[str, tuple[tuple[str, ...], _Reader]] = {
    kubernetes.KIND: ((kubernetes.API_VERSION,), _one(kubernetes.read)),
    tiers.CLUSTER_KIND: ((tiers.CLUSTER_VERSION,), _one(tiers.read_cluster)),
    tiers.ADMIN_KIND: ((tiers.ADMIN_VERSION,), _one(tiers.read_admin)),
    tiers.BASELINE_KIND: ((tiers.ADMIN_VERSION,), _one(tiers.read_baseline)),
    cilium.NAMESPACED: ((cilium.API_VERSION,), _cilium),
    cilium.CLUSTERWIDE: ((cilium.API_VERSION,), _cilium),
    cilium_groups.KIND: (cilium_groups.API_VERSIONS, _referred(cilium_groups.read)),
    services.SERVICE: ((services.CORE_VERSION,), _referred(services.read_service)),
    services.SLICE: ((services.SLICE_VERSION,), _referred(services.read_slice)),
    services.ENDPOINTS: ((services.CORE_VERSION,), _referred(services.read_endpoints)),
}
"""kind → (the apiVersions in which it is read, how)"""

CLUSTERWIDE_KINDS = frozenset(
    (
        cilium.CLUSTERWIDE,
        cilium_groups.KIND,
        tiers.CLUSTER_KIND,
        tiers.ADMIN_KIND,
        tiers.BASELINE_KIND,
    )
)
"""Kinds whose objects have no namespace."""

REFERENT_KINDS = frozenset(
    (cilium_groups.KIND, services.SERVICE, services.SLICE, services.ENDPOINTS)
)
"""Kinds of what policies refer to; they state no policies."""

KINDS: Mapping[str, tuple[str, ...]] = {kind: versions for kind, (versions, _) in _READERS.items()}
"""Kinds of policy objects → the apiVersions in which they are read."""


def read_object(document: Mapping[str, Any], origin: str = "") -> PolicyObject:
    """What `document` states; PolicyError names the first field that is wrong.

    A namespaced object without metadata.namespace lies in `default`.
    """
    try:
        packed: bytes = msgpack.packb(document)
    except (TypeError, ValueError, OverflowError):
        return _read(document, origin)  # holds what no bus carries, such as a YAML date
    return _read_packed(packed, origin)


def read_policies(document: Mapping[str, Any], origin: str = "") -> tuple[Policy, ...]:
    """The policies of `read_object`: none if it is something to refer to."""
    return read_object(document, origin).policies


@lru_cache(maxsize=READ_CACHE_MAX)
def _read_packed(packed: bytes, origin: str) -> PolicyObject:
    return _read(msgpack.unpackb(packed, strict_map_key=False), origin)


def _read(document: object, origin: str) -> PolicyObject:
    if not isinstance(document, Mapping):
        schema.fail("", document, "it must be a mapping of fields")
    kind, version = document.get("kind"), document.get("apiVersion")
    if not isinstance(kind, str) or kind not in _READERS:
        schema.fail("kind", kind, f"what is read here is {', '.join(sorted(_READERS))}")
    versions, reader = _READERS[kind]
    if version not in versions:
        schema.fail("apiVersion", version, f"{kind} is read in {' or '.join(versions)}; convert it")
    found = reader(document, origin)
    return replace(found, policies=staleness.bounded(found.policies, document))


def check_keys(found: PolicyObject, label_filter: LabelFilter) -> None:
    """PolicyError if a selector asks for a label that `label_filter` keeps out of identities.

    Such a requirement could never see its label: the policy would mean something else than it says.
    """
    for policy in found.policies:
        if not policy.selects_nodes:
            _check_selector(
                f"{policy.section}.{policy.subject_field}", policy.subject, label_filter
            )
        for rule in policy.rules:
            for peer, at in zip(rule.peers or (), rule.peer_paths, strict=True):
                if isinstance(peer, Selector):
                    _check_selector(f"{rule.path}.{at}", peer, label_filter)


def _check_selector(path: str, selector: Selector, label_filter: LabelFilter) -> None:
    for need in selector.requirements:
        source = "k8s" if need.source == ANY_SOURCE else need.source
        if not label_filter.relevant_key(need.key, source):
            key = need.key.removeprefix(NAMESPACE_LABELS_PREFIX)
            of = "namespace" if key != need.key else "pod"
            raise PolicyError(
                path,
                f"selects by {of} label {key!r}, which the label filter keeps out of "
                "identities, so that it can never match; select by another label, or include "
                "this one in the label filter (a setting of the install)",
            )

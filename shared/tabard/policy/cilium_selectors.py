"""Cilium's selectors of endpoints and nodes, and what the policy's place adds to them.

A key is written `source:key`; without a source it is the label of any source (GetExtendedKeyFrom in
Cilium's pkg/labels). What is added is what pkg/k8s/apis/cilium.io/utils adds.
"""

import re
from dataclasses import dataclass

from tabard.identity.labels import NAMED_PORT_SOURCE, NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX
from tabard.policy import schema
from tabard.policy.model import ANY_SOURCE, Requirement, Selector

K8S, NODE, RESERVED = "k8s", "node", "reserved"
INIT = "init"
_SOURCE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_ELSEWHERE = {
    "cidr": "name CIDRs in fromCIDR or toCIDR",
    "cidrgroup": "name groups of CIDRs in fromCIDRSet or toCIDRSet",
    "fqdn": "name domains in toFQDNs",
    NODE: "select nodes in fromNodes, toNodes or nodeSelector",
    NAMED_PORT_SOURCE: "name ports in toPorts",
}
"""Sources whose labels no endpoint has, and what selects by them."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a rule is written, which decides what its selectors mean."""

    namespace: str = ""
    """"" for a cluster-wide policy: all namespaces."""
    is_raw: bool = False
    """A rule of Cilium's own API, beneath Kubernetes': selectors mean what they say."""
    selects_init: bool = False
    """The subject is selected by `reserved:init`; such endpoints have no namespace yet."""


def subject(value: object, path: str, scope: Scope) -> Selector:
    """The endpoints that a policy is for: of its own namespace, if it has one."""
    needs = schema.requirements(value, path, _endpoint_label)
    if scope.is_raw or not scope.namespace:
        return Selector(tuple(needs))
    own = Requirement(NAMESPACE_KEY, "In", frozenset((scope.namespace,)))
    for need in needs:
        if _is_namespace(need) and need.operator == "In" and need.values != own.values:
            schema.fail(
                path,
                ", ".join(sorted(need.values)),
                f"a policy selects pods of its own namespace ({scope.namespace}) alone",
            )
    return Selector((own, *needs))


def selects_init(selector: Selector) -> bool:
    return any(need.source == RESERVED and need.key == INIT for need in selector.requirements)


def endpoints(value: object, path: str, scope: Scope) -> Selector:
    """The endpoints that are peers: of the policy's namespace, unless they name another."""
    needs = schema.requirements(value, path, _endpoint_label)
    return Selector((*_place(needs, scope), *needs))


def _place(needs: list[Requirement], scope: Scope) -> tuple[Requirement, ...]:
    if scope.is_raw or any(need.source == RESERVED or _is_namespace(need) for need in needs):
        return ()
    if not scope.namespace:
        # Pods of every namespace, and not the world, which has none.
        return () if scope.selects_init else (Requirement(NAMESPACE_KEY, "Exists"),)
    if any(
        need.source in (K8S, ANY_SOURCE) and need.key.startswith(NAMESPACE_LABELS_PREFIX)
        for need in needs
    ):
        return ()
    return (Requirement(NAMESPACE_KEY, "In", frozenset((scope.namespace,))),)


def _is_namespace(need: Requirement) -> bool:
    return need.key == NAMESPACE_KEY and need.source in (K8S, ANY_SOURCE)


def nodes(value: object, path: str) -> Selector:
    """Nodes by the labels of their Node objects."""
    return Selector(tuple(schema.requirements(value, path, _node_label)))


def _endpoint_label(written: object, path: str) -> tuple[str, str]:
    source, key = _split(written, path)
    if source in _ELSEWHERE:
        schema.fail(path, written, f"no endpoint has labels of this source; {_ELSEWHERE[source]}")
    return source, schema.checked_key(key, path)


def _node_label(written: object, path: str) -> tuple[str, str]:
    source, key = _split(written, path)
    if source not in (ANY_SOURCE, K8S, NODE):
        schema.fail(path, written, "nodes have labels of their own only; leave the source out")
    return NODE, schema.checked_key(key, path)


def _split(written: object, path: str) -> tuple[str, str]:
    if not isinstance(written, str):
        schema.fail(path, written, "it must be a label's key, such as app or k8s:app")
    source, colon, key = written.partition(":")
    if not colon:
        return ANY_SOURCE, written
    if not _SOURCE.fullmatch(source):
        schema.fail(path, written, "before the ':' stands a label's source, such as k8s")
    return source, key

"""The peers of Cilium's rules: from… and to… (pkg/policy/api ingress.go, egress.go, cidr.go)."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from tabard.dataplane.maps import Action, Direction
from tabard.identity.labels import CLUSTER_KEY
from tabard.identity.syntax import DNS_LABEL, DNS_SUBDOMAIN
from tabard.policy import cilium_selectors as selectors
from tabard.policy import schema
from tabard.policy.cilium_ports import domain_names
from tabard.policy.cilium_selectors import RESERVED, Scope
from tabard.policy.model import (
    Cidr,
    CidrGroup,
    DomainName,
    Nodes,
    Peer,
    Requirement,
    Selector,
    Service,
)

GROUP_SOURCE = "cidrgroup"
"""Source of the labels of a CiliumCIDRGroup (pkg/labels LabelSourceCIDRGroup)."""

_CIDR = re.compile(r"([0-9.]+/([0-9]|[1-2][0-9]|3[0-2]))|([0-9A-Fa-f:]+/([0-9]|[1-9][0-9]{1,2}))")
"""What the published schema lets pass, roughly; the rest is `schema.network`'s."""


def _reserved(*names: str) -> tuple[Selector, ...]:
    return tuple(Selector((Requirement(name, "In", frozenset(("",)), RESERVED),)) for name in names)


_ALONE = ("host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver")
ENTITIES: Mapping[str, tuple[Selector, ...] | None] = {
    "all": None,
    "world": _reserved("world", "world-ipv4", "world-ipv6"),
    "world-ipv4": _reserved("world-ipv4"),
    "world-ipv6": _reserved("world-ipv6"),
    # A ledger is of one cluster: what has a cluster label is in this one.
    "cluster": (*_reserved(*_ALONE), Selector((Requirement(CLUSTER_KEY, "Exists"),))),
    **{name: _reserved(name) for name in _ALONE},
    "none": (),
}
"""Entities → whom they stand for; None: everyone (pkg/policy/api/entity.go)."""

_Read = Callable[[object, str, Scope], tuple[Peer, ...] | None]


def fields_of(direction: Direction, action: Action) -> tuple[str, ...]:
    """The fields of a rule that name peers, read or not."""
    if direction is Direction.INGRESS:
        return tuple(f"from{name}" for name in (*_EITHER_WAY, *_NOT_READ))
    names = (*_EITHER_WAY, *_NOT_READ, "Services", *(("FQDNs",) * (action is not Action.DENY)))
    return tuple(f"to{name}" for name in names)


def peers(
    given: Mapping[str, Any], path: str, direction: Direction, action: Action, scope: Scope
) -> list[tuple[str, Peer]] | None:
    """(path beneath the rule's, peer) of all that a rule names; None: everyone.

    A list that is there and empty is nobody, whatever stands beside it. Two lists with something in
    them are refused, as by Cilium.
    """
    side = "from" if direction is Direction.INGRESS else "to"
    for name, instead in _NOT_READ.items():
        if f"{side}{name}" in given:
            schema.not_enforced(f"{path}.{side}{name}", instead.format(side=side))
    names = [name for name in fields_of(direction, action) if name in given]
    listed = {name: schema.items(given, name, path) for name in names}
    filled = [name for name in names if listed[name]]
    if len(filled) > 1:
        one, other, *_ = filled
        schema.fail(
            f"{path}.{other}",
            given[other],
            f"combining {one} and {other} is not supported; give each a rule of its own",
        )
    if "toServices" in filled and given.get("toPorts"):
        schema.fail(
            f"{path}.toPorts",
            given["toPorts"],
            "combining toServices and toPorts is not supported; select the pods by toEndpoints",
        )
    found: list[tuple[str, Peer]] = []
    is_everyone = False
    for name in filled:
        read = _READERS[name.removeprefix(side)]
        for at, item in listed[name]:
            members = read(item, at, scope)
            is_everyone = is_everyone or members is None
            found += ((at.removeprefix(f"{path}."), member) for member in members or ())
    if len(filled) < len(names):
        return []
    return None if is_everyone else found


def _endpoints(value: object, path: str, scope: Scope) -> tuple[Peer, ...] | None:
    selector = selectors.endpoints(value, path, scope)
    return (selector,) if selector.requirements else None


def _entity(value: object, path: str, scope: Scope) -> tuple[Peer, ...] | None:
    if not isinstance(value, str) or value not in ENTITIES:
        schema.fail(path, value, f"unsupported entity; it must be {', '.join(ENTITIES)}")
    return ENTITIES[value]


def _cidr(value: object, path: str, scope: Scope) -> tuple[Peer, ...]:
    if scope.is_raw and isinstance(value, str) and "/" not in value:
        value = f"{value}/{128 if ':' in value else 32}"
    return (Cidr(str(cidr(value, path)), holds_members=False),)


def cidr(value: object, path: str) -> schema.Network:
    """A CIDR as the published schema has it: an address alone is none."""
    rule = "it must be a CIDR such as 10.0.0.0/8 or fd00::/8"
    return schema.network(schema.text(value, path, _CIDR, rule), path)


def _cidr_set(value: object, path: str, scope: Scope) -> tuple[Peer, ...]:
    given = schema.fields(value, path, "cidr", "cidrGroupRef", "cidrGroupSelector", "except")
    kinds = [name for name in given if name != "except"]
    if len(kinds) != 1:
        schema.fail(
            path, value, "it must have one of cidr, cidrGroupRef and cidrGroupSelector, no two"
        )
    holes = [(at, cidr(item, at)) for at, item in schema.items(given, "except", path)]
    excepts = tuple(sorted({str(hole) for _, hole in holes}))
    if "cidrGroupRef" in given:
        rule = "it must be the name of a CiliumCIDRGroup (RFC 1123 subdomain)"
        at = f"{path}.cidrGroupRef"
        name = schema.text(given["cidrGroupRef"], at, DNS_SUBDOMAIN, rule)
        return (CidrGroup(name, excepts=excepts),)
    if "cidrGroupSelector" in given:
        needs = schema.requirements(
            given["cidrGroupSelector"], f"{path}.cidrGroupSelector", _group_label
        )
        return (CidrGroup(selector=Selector(tuple(needs)), excepts=excepts),)
    network = cidr(given["cidr"], f"{path}.cidr")
    for at, hole in holes:
        if hole.version != network.version or not schema.within(hole, network):
            schema.fail(at, str(hole), f"it must lie inside cidr {network}")
    return (Cidr(str(network), excepts, holds_members=False),)


def _group_label(written: object, path: str) -> tuple[str, str]:
    text = written.removeprefix(f"{GROUP_SOURCE}:") if isinstance(written, str) else written
    return GROUP_SOURCE, schema.checked_key(text, path)


def _nodes(value: object, path: str, scope: Scope) -> tuple[Peer, ...]:
    return (Nodes(selectors.nodes(value, path)),)


def _fqdn(value: object, path: str, scope: Scope) -> tuple[Peer, ...]:
    names = domain_names(value, path)
    if len(names) > 1:
        schema.fail(path, value, "only one of matchName and matchPattern is allowed")
    return (DomainName(names[0]),)


def _service(value: object, path: str, scope: Scope) -> tuple[Peer, ...]:
    given = schema.fields(value, path, "k8sService", "k8sServiceSelector")
    if len(given) != 1:
        schema.fail(path, value, "it must have a k8sService or a k8sServiceSelector, not both")
    if "k8sService" in given:
        at = f"{path}.k8sService"
        named = schema.fields(given["k8sService"], at, "serviceName", "namespace")
        rule = "it must be the name of a Service (RFC 1123 label)"
        name = schema.text(named.get("serviceName"), f"{at}.serviceName", DNS_LABEL, rule)
        return (Service(_namespace(named, at), name),)
    at = f"{path}.k8sServiceSelector"
    selecting = schema.fields(given["k8sServiceSelector"], at, "selector", "namespace")
    if "selector" not in selecting:
        schema.fail(f"{at}.selector", None, "it must be a label selector")
    needs = schema.requirements(selecting["selector"], f"{at}.selector", _service_label)
    return (Service(_namespace(selecting, at), selector=Selector(tuple(needs))),)


def _service_label(written: object, path: str) -> tuple[str, str]:
    text = written.removeprefix("k8s:") if isinstance(written, str) else written
    return "k8s", schema.checked_key(text, path)


def _namespace(given: Mapping[str, Any], path: str) -> str:
    """Of Services; absent or empty: of every namespace."""
    value = given.get("namespace", "")
    rule = "it must be the name of a namespace (RFC 1123 label)"
    return "" if value == "" else schema.text(value, f"{path}.namespace", DNS_LABEL, rule)


_EITHER_WAY: Mapping[str, _Read] = {
    "Endpoints": _endpoints,
    "Entities": _entity,
    "CIDR": _cidr,
    "CIDRSet": _cidr_set,
    "Nodes": _nodes,
}
_READERS: Mapping[str, _Read] = {**_EITHER_WAY, "Services": _service, "FQDNs": _fqdn}
_NOT_READ = {
    "Groups": "name what the group holds in {side}CIDRSet, or in a CiliumCIDRGroup",
    "Requires": "it is deprecated; put its labels into every selector of {side}Endpoints, or deny "
    "all others (by NotIn)",
}

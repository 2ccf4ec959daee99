"""Reading the cluster-wide policies of policy.networking.k8s.io, which are judged in tiers.

ClusterNetworkPolicy (v1alpha2) lies in the tier that it names, AdminNetworkPolicy (v1alpha1) in
ADMIN, BaselineAdminNetworkPolicy (v1alpha1) in BASELINE. They isolate nothing: what no rule of
theirs matches goes on to the next tier.

Within a tier the rules that select a pod are judged in the order of (priority, kind, name, place in
the document), and the first that matches decides. The specification leaves open which of two
policies of one priority goes first; here it is by kind and name, as they are spelt. A
BaselineAdminNetworkPolicy has no priority and comes after every ClusterNetworkPolicy.

The schema is checked here, at the edge (sigs.k8s.io/network-policy-api, apis/v1alpha1 and
apis/v1alpha2 with their experimental fields); after reading, nothing about a document can fail.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tabard.dataplane.maps import Action, Direction, Tier
from tabard.identity.labels import NODE_SOURCE
from tabard.policy import schema, tiers_ports
from tabard.policy.kubernetes import pods_among
from tabard.policy.model import (
    ALL_PORTS,
    Cidr,
    DomainName,
    Nodes,
    Peer,
    Policy,
    Port,
    Rule,
    Selector,
)

CLUSTER_KIND = "ClusterNetworkPolicy"
CLUSTER_VERSION = "policy.networking.k8s.io/v1alpha2"
ADMIN_KIND = "AdminNetworkPolicy"
BASELINE_KIND = "BaselineAdminNetworkPolicy"
ADMIN_VERSION = "policy.networking.k8s.io/v1alpha1"

BASELINE_NAME = "default"
"""The one name that a BaselineAdminNetworkPolicy can have."""
PRIORITY_MAX = 1_000
RULE_NAME_MAX = 100
SET_MAX = 25
"""Most networks, and most domain names, of one peer."""
CIDR_LENGTH_MAX = 43

_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(\*\.)?({_LABEL}\.)+{_LABEL}\.?")
_TIERS = {"Admin": Tier.ADMIN, "Baseline": Tier.BASELINE}
_INSIDE = ("namespaces", "pods")


@dataclass(frozen=True, slots=True)
class _Form:
    """What is another in each kind."""

    actions: Mapping[str, Action]
    items_max: int
    """Most rules of one direction, peers of one rule, and ports of one rule."""
    outside: tuple[str, ...]
    """What an egress peer may be beside pods."""
    ports: str
    """The field of a rule that holds its ports."""
    port: Callable[[object, str], tuple[Port, ...]]
    nameless: frozenset[Action] = frozenset()
    """Actions of rules in which a named port may stand beside peers that have none, where it
    means nothing: v1alpha1 checked this late, and what was allowed then is allowed."""


def read_cluster(document: Mapping[str, Any], origin: str) -> Policy:
    """A ClusterNetworkPolicy; PolicyError names the first field that is wrong."""
    known = ("tier", "priority", "subject", "ingress", "egress")
    name, spec = _object(document, known)
    tier = _TIERS[schema.choice(spec.get("tier"), "spec.tier", _TIERS)]
    return _policy(_CLUSTER, CLUSTER_KIND, name, spec, origin, tier, _priority(spec))


def read_admin(document: Mapping[str, Any], origin: str) -> Policy:
    """An AdminNetworkPolicy; PolicyError names the first field that is wrong."""
    name, spec = _object(document, ("priority", "subject", "ingress", "egress"))
    return _policy(_ADMIN, ADMIN_KIND, name, spec, origin, Tier.ADMIN, _priority(spec))


def read_baseline(document: Mapping[str, Any], origin: str) -> Policy:
    """The BaselineAdminNetworkPolicy; PolicyError names the first field that is wrong."""
    name, spec = _object(document, ("subject", "ingress", "egress"))
    if name != BASELINE_NAME:
        schema.fail("metadata.name", name, f"the one {BASELINE_KIND} is named {BASELINE_NAME!r}")
    last = PRIORITY_MAX + 1
    return _policy(_BASELINE, BASELINE_KIND, name, spec, origin, Tier.BASELINE, last)


def _object(document: Mapping[str, Any], known: tuple[str, ...]) -> tuple[str, Mapping[str, Any]]:
    """The object's name, and its spec."""
    top = schema.fields(document, "", "apiVersion", "kind", "metadata", "spec", "status")
    _, _, name = schema.metadata(top, is_clusterwide=True)
    return name, schema.fields(top.get("spec"), "spec", *known)


def _priority(spec: Mapping[str, Any]) -> int:
    return schema.integer(spec.get("priority"), "spec.priority", 0, PRIORITY_MAX)


def _policy(
    form: _Form,
    kind: str,
    name: str,
    spec: Mapping[str, Any],
    origin: str,
    tier: Tier,
    priority: int,
) -> Policy:
    subject_field, given = schema.one_of(spec.get("subject"), "spec.subject", *_INSIDE)
    path = f"subject.{subject_field}"
    rules = [
        _rule(form, item, at, direction)
        for direction, field in ((Direction.INGRESS, "ingress"), (Direction.EGRESS, "egress"))
        for at, item in schema.counted(spec, field, "spec", 0, form.items_max)
    ]
    return Policy(
        kind=kind,
        namespace="",
        name=name,
        subject=_pods(subject_field, given, f"spec.{path}"),
        isolates=frozenset(),
        rules=tuple(rules),
        origin=origin,
        tier=tier,
        priority=priority,
        subject_field=path,
    )


def _rule(form: _Form, value: object, path: str, direction: Direction) -> Rule:
    side = "from" if direction is Direction.INGRESS else "to"
    given = schema.fields(value, path, "name", "action", side, form.ports)
    label = given.get("name", "")
    if not isinstance(label, str) or len(label) > RULE_NAME_MAX:
        schema.fail(f"{path}.name", label, f"it must be text of at most {RULE_NAME_MAX} characters")
    action = form.actions[schema.choice(given.get("action"), f"{path}.action", form.actions)]
    kinds = _INSIDE if direction is Direction.INGRESS else (*_INSIDE, *form.outside)
    peers: list[tuple[Peer, str]] = []
    outside = ""
    for at, item in schema.counted(given, side, path, 1, form.items_max):
        kind, wanted = schema.one_of(item, at, *kinds)
        if kind == "domainNames" and action is not Action.ALLOW:
            reason = "domainNames stand in Accept rules alone; deny what is left in a later rule"
            schema.fail(at, kind, reason)
        outside = outside or ("" if kind in _INSIDE else f"{at}.{kind}")
        peers += ((peer, own.removeprefix(f"{path}.")) for peer, own in _peer(kind, wanted, at))
    ports: list[tuple[Port, str]] = []
    if form.ports in given:
        for at, item in schema.counted(given, form.ports, path, 1, form.items_max):
            for port in form.port(item, at):
                if port.name and outside and action not in form.nameless:
                    schema.fail(at, port.name, f"what {outside} names has no named ports")
                ports.append((port, at.removeprefix(f"{path}.")))
    return Rule(
        direction,
        tuple(peer for peer, _ in peers),
        tuple(port for port, _ in ports) or ALL_PORTS,
        path,
        action,
        tuple(at for _, at in peers),
        tuple(at for _, at in ports),
    )


def _peer(kind: str, value: object, path: str) -> Iterator[tuple[Peer, str]]:
    """What one item names, and where each was written."""
    at = f"{path}.{kind}"
    match kind:
        case "namespaces" | "pods":
            yield _pods(kind, value, at), path
        case "nodes":
            needs = schema.selector(value, at, lambda key, _: key)
            yield Nodes(Selector(tuple(replace(need, source=NODE_SOURCE) for need in needs))), path
        case "networks":
            for own, text in _set(value, kind, path):
                if isinstance(text, str) and len(text) > CIDR_LENGTH_MAX:
                    schema.fail(own, text, f"it is longer than {CIDR_LENGTH_MAX} characters")
                yield Cidr(str(schema.network(text, own))), own
        case "domainNames":
            for own, text in _set(value, kind, path):
                yield _domain(text, own), own
        case _:
            raise AssertionError(f"{kind} is none of a peer's fields")


def _domain(value: object, path: str) -> DomainName:
    rule = "it must be a domain name of two labels or more, such as example.org or *.example.org"
    name = schema.text(value, path, _DOMAIN, rule).lower().removesuffix(".")
    return DomainName(f"**{name[1:]}" if name.startswith("*.") else name)


def _set(value: object, field: str, path: str) -> Iterator[tuple[str, Any]]:
    """(path, item) of a list that names each item once."""
    seen: list[object] = []
    for at, item in schema.counted({field: value}, field, path, 1, SET_MAX):
        if item in seen:
            schema.fail(at, item, "it is there twice; remove one of them")
        seen.append(item)
        yield at, item


def _pods(kind: str, value: object, path: str) -> Selector:
    """Pods by the labels of their namespaces, and for `pods` by their own too."""
    if kind == "namespaces":
        return pods_among(value, path, {}, path)
    given = schema.fields(value, path, "namespaceSelector", "podSelector")
    if not given:
        schema.fail(path, value, "it must have a namespaceSelector or a podSelector; {} is all")
    # Typed clients write a selector that was left out as an empty one (NamespacedPod).
    return pods_among(
        given.get("namespaceSelector", {}),
        f"{path}.namespaceSelector",
        given.get("podSelector", {}),
        f"{path}.podSelector",
    )


_OUTSIDE = ("nodes", "networks")
_BASELINE_ACTIONS = {"Allow": Action.ALLOW, "Deny": Action.DENY}
_ALLOWING = frozenset({Action.ALLOW})
_CLUSTER = _Form(
    {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS},
    25,
    (*_OUTSIDE, "domainNames"),
    "protocols",
    tiers_ports.of_protocol,
)
_ADMIN = _Form(
    {**_BASELINE_ACTIONS, "Pass": Action.PASS},
    100,
    _OUTSIDE,
    "ports",
    tiers_ports.of_port,
    _ALLOWING,
)
_BASELINE = _Form(_BASELINE_ACTIONS, 100, _OUTSIDE, "ports", tiers_ports.of_port, _ALLOWING)

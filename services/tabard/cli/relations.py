"""What objects have to do with each other: who selects, names, holds or runs whom. Pure."""

from collections.abc import Iterable, Iterator
from typing import assert_never

from tabard.cli.records import Row
from tabard.cli.views import Reading, identities, nodes, pods, policies
from tabard.cli.views import selected_identities as selected
from tabard.dataplane.maps import Direction, Protocol
from tabard.identity.labels import NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX, LabelSet, cidr_label
from tabard.identity.numbers import is_pod
from tabard.ledger.state import ObjectKey, State, enforcement_of
from tabard.policy.matching import labels_of, matches, seen_labels
from tabard.policy.model import (
    ANY_SOURCE,
    Cidr,
    CidrGroup,
    DomainName,
    Nodes,
    Peer,
    Policy,
    Port,
    Requirement,
    Rule,
    Selector,
    Service,
)
from tabard.policy.reading import read_policies
from tabard.policy.referents import in_force


def of_pod(reading: Reading, pod: Row) -> Row:
    """{identity, isolation, policies, node} of a row of `pods`."""
    number = pod["identity"]
    # A pod with its node's addresses has no interface that could be guarded.
    subject = [] if pod["host_network"] else list(_selecting(reading.state, number))
    isolated = {direction for policy in subject for direction in policy.isolates}
    match enforcement_of(reading.state):
        case "always":
            isolated = set() if pod["host_network"] else set(Direction)
        case "never":
            isolated = set()
    return {
        "identity": _one(identities(reading), "identity", number),
        "isolation": None
        if number is None
        else {
            "ingress": Direction.INGRESS in isolated,
            "egress": Direction.EGRESS in isolated,
        },
        "policies": _rows(reading, [policy.key for policy in subject]),
        "node": _one(nodes(reading), "name", pod["node"]),
    }


def of_identity(reading: Reading, identity: Row) -> Row:
    """{pods, selected_by, named_by} of a row of `identities`."""
    number = identity["identity"]
    selecting = [policy.key for policy in _selecting(reading.state, number)]
    return {
        "pods": [row for row in pods(reading) if row["identity"] == number],
        "selected_by": _rows(reading, selecting),
        "named_by": list(_naming(reading.state, number)),
    }


def of_node(reading: Reading, node: Row) -> Row:
    """{pods} of a row of `nodes`."""
    return {"pods": [row for row in pods(reading) if row["node"] == node["name"]]}


def of_policy(reading: Reading, policy: Row) -> Row:
    """{rules, pods, document} of a row of `policies`; empty and null if none is in force."""
    accepted = reading.state.policies.get((policy["kind"], policy["namespace"], policy["name"]))
    if accepted is None:
        return {"rules": [], "pods": [], "document": None}
    read = read_policies(accepted.document, accepted.origin)
    numbers = selected(reading.state, read)
    return {
        "rules": [_rule(rule) for policy in read for rule in policy.rules],
        "pods": [row for row in pods(reading) if row["identity"] in numbers],
        "document": accepted.document,
    }


def of_binding(reading: Reading, binding: Row) -> Row:
    """{pod} of a row of `bindings`."""
    return {"pod": _one(pods(reading), "uid", binding["uid"])}


def of_name(reading: Reading, name: Row) -> Row:
    """{asked_by} of a row of `names`."""
    return {
        "asked_by": [
            row
            for row in policies(reading)
            if "/".join((row["kind"], row["namespace"], row["name"])) in name["policies"]
        ]
    }


def of_workload(reading: Reading, workload: Row) -> Row:
    """{pods, document} of a row of `workloads`."""
    key = (workload["kind"], workload["namespace"], workload["name"])
    return {
        "pods": [row for row in pods(reading) if row["owner"] == "/".join(key)],
        "document": reading.state.workloads[key].document,
    }


def _one(rows: Iterable[Row], key: str, value: object) -> Row | None:
    return next((row for row in rows if row[key] == value), None)


def _selecting(state: State, number: int | None) -> Iterator[Policy]:
    identity = state.identities.get(number) if number is not None else None
    if identity is None or number is None or not is_pod(number):
        return
    labels = labels_of(identity.labels)
    for _, policy in in_force(state):
        if not policy.selects_nodes and matches(policy.subject, labels):
            yield policy


def _rows(reading: Reading, keys: list[ObjectKey]) -> list[Row]:
    return [
        row for row in policies(reading) if (row["kind"], row["namespace"], row["name"]) in keys
    ]


def _naming(state: State, number: int) -> Iterator[Row]:
    """Rules by which the identity is someone's peer."""
    identity = state.identities.get(number)
    if identity is None:
        return
    labels = seen_labels(number, identity.labels)
    for _, policy in in_force(state):
        for rule in policy.rules:
            if by := _named_by(rule, labels):
                yield {
                    "kind": policy.kind,
                    "namespace": policy.namespace,
                    "name": policy.name,
                    "rule": rule.path,
                    "action": rule.action.name.lower(),
                    "direction": rule.direction.name.lower(),
                    "by": by,
                }


def _named_by(rule: Rule, labels: LabelSet) -> str:
    if rule.peers is None:
        return "anyone"
    for peer in rule.peers:
        if isinstance(peer, Selector) and matches(peer, labels_of(labels)):
            return "selector"
        if isinstance(peer, Cidr) and cidr_label(peer.prefix) in labels:
            return "cidr"
    return ""


def _rule(rule: Rule) -> Row:
    return {
        "direction": rule.direction.name.lower(),
        "rule": rule.path,
        "action": rule.action.name.lower(),
        "peers": None if rule.peers is None else [_peer(peer) for peer in rule.peers],
        "ports": [_port(port) for port in rule.ports],
    }


def _peer(peer: Peer) -> str:
    """`app=web`, `10.0.0.0/8 but 10.1.0.0/16`, `world`, `service shop/web`, `name *.example.com`"""
    match peer:
        case Cidr():
            return _but(peer.prefix, peer.excepts)
        case Selector():
            return _selector(peer) or "everyone"
        case CidrGroup():
            return _but(f"CIDR group {_referred(peer.name, peer.selector)}", peer.excepts)
        case Service():
            of = "/".join(filter(None, (peer.namespace, _referred(peer.name, peer.selector))))
            return f"service {of}"
        case Nodes():
            return f"nodes {_selector(peer.selector) or 'all'}"
        case DomainName():
            return f"name {peer.pattern}"
        case _:
            assert_never(peer)


def _but(what: str, excepts: tuple[str, ...]) -> str:
    return f"{what} but {', '.join(excepts)}" if excepts else what


def _referred(name: str, selector: Selector | None) -> str:
    return name if selector is None else f"of {_selector(selector) or 'any labels'}"


def _selector(selector: Selector) -> str:
    """`app=web, tier in (a,b), !canary`; empty if it asks for nothing, `any pod` for no more."""
    parts = []
    for requirement in selector.requirements:
        if (requirement.key, requirement.operator) == (NAMESPACE_KEY, "Exists"):
            continue  # what every pod has
        key = _key(requirement)
        values = ",".join(sorted(requirement.values))
        match requirement.operator:
            case "In" if not values:
                parts.append(key)
            case "In" if len(requirement.values) == 1:
                parts.append(f"{key}={values}")
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(key)
            case _:
                parts.append(f"!{key}")
    return ", ".join(parts) or ("any pod" if selector.requirements else "")


def _key(requirement: Requirement) -> str:
    """`namespace` of a pod's place, `namespace:team` of a label of its namespace; `world` and the
    like of reserved labels, `docker:role` of a source of another kind."""
    if requirement.key == NAMESPACE_KEY:
        return "namespace"
    own = requirement.key.removeprefix(NAMESPACE_LABELS_PREFIX)
    if own != requirement.key:
        return f"namespace:{own}"
    known = requirement.source in ("k8s", "reserved", "node", ANY_SOURCE)
    return own if known else f"{requirement.source}:{own}"


def _port(port: Port) -> str:
    """`80/TCP`, `8000-8080/TCP`, `http/TCP`, `any/TCP`, `any`, `53/UDP for *.example.com`"""
    if port.protocol is Protocol.ANY and port.lookups is None:
        return "any"
    if port.name:
        number = port.name
    elif (port.first, port.last) == (0, 65_535):
        number = "any"
    else:
        number = f"{port.first}" if port.first == port.last else f"{port.first}-{port.last}"
    said = f"{number}/{port.protocol.name}"
    if port.lookups is None:
        return said
    return f"{said} for {', '.join(sorted(port.lookups)) or 'no name'}"

"""Cilium's unit tests (suites' README, 4): a row a check, on the product's functions."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from conformance import neutral
from conformance.examples import unsupported
from conformance.neutral import label
from conformance.story import CaseError, LeftOut, Row, Rows, Story, why
from tabard.dataplane.maps import Action, Direction, Protocol, strength
from tabard.identity.labels import label_set
from tabard.policy import cilium
from tabard.policy.matching import labels_of, matches
from tabard.policy.model import Cidr, Peer, Policy, PolicyError, Selector
from tabard.policy.networks import Networks
from tabard.policy.painting import Part, painted
from tabard.policy.parties import IP, ip
from tabard.policy.reading import read_object

VALID, INVALID = "valid", "refused"


def reader(file: Path) -> Callable[[], Story | Rows]:
    return partial(_read, file)


def _read(file: Path) -> Story | Rows:
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        name, rows = table["table"], table["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaseError(f"{file} cannot be read: {why(error)}") from error
    if name == "mapstate_precedence":
        return neutral.story(_precedence(rows))
    if name not in TABLES:
        raise CaseError(f"{file}: no table is called {name}")
    return tuple(row for each in rows for row in TABLES[name](each))


def _policies(rules: Sequence[Any]) -> tuple[Policy, ...]:
    return cilium.read_rules(rules)


def _document(kind: str, namespace: str, spec: Mapping[str, Any]) -> tuple[Policy, ...]:
    metadata = {"name": "row", **({"namespace": namespace} if namespace else {})}
    document = {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}
    return read_object(document).policies


def _validation(row: Mapping[str, Any]) -> Iterator[Row]:
    """What Cilium takes is taken, or is unsupported by declaration; what it refuses is refused."""

    def found() -> str:
        try:
            _policies([row["rule"]])
        except PolicyError as error:
            tag = unsupported(error)
            if tag and row["valid"]:
                raise LeftOut(tag) from error
            return f"{INVALID}: {error}" if row["valid"] else INVALID
        return VALID

    yield Row(row["name"], VALID if row["valid"] else INVALID, found)


def _cidr(row: Mapping[str, Any]) -> Iterator[Row]:
    rule = {"endpointSelector": {}, "ingress": [{"fromCIDRSet": [{"cidr": row["cidr"]}]}]}

    def found() -> str:
        try:
            _policies([rule])
        except PolicyError:
            return INVALID
        return VALID

    yield Row(row["cidr"], VALID if row["valid_in_crd_schema"] else INVALID, found)


def _masks(row: Mapping[str, Any]) -> Iterator[Row]:
    """0-0 in Cilium is every port; an end below the start is the start alone."""
    first, last = row["start"], max(row["start"], row["end"])
    if (row["start"], row["end"]) == (0, 0):
        last = 65_535
    expected = sorted((each["port"], int(each["mask"], 16)) for each in row["masks"])

    def found() -> str:
        blocks = painted(frozenset({Part(Protocol.TCP, first, last, strength(Action.ALLOW))}))
        masks = ((block.port, 0xFFFF << (16 - block.bits) & 0xFFFF) for block in blocks)
        return str(sorted(masks))

    yield Row(f"ports {row['name']}", str(expected), found)


def _entities(row: Mapping[str, Any]) -> Iterator[Row]:
    rule = {"endpointSelector": {}, "ingress": [{"fromEntities": row["entities"]}]}
    labels = [label(text) for text in row["labels"]]

    def found() -> str:
        try:
            policies = _policies([rule])
        except PolicyError as error:
            return str(error)
        rules = [rule for policy in policies for rule in policy.rules]
        is_anyone = any(rule.peers is None for rule in rules)
        return _yes(is_anyone or any(_names(peer, labels) for peer in _peers(policies)))

    yield Row(row["name"], _yes(row["match"]), found)


def _default_deny(row: Mapping[str, Any]) -> Iterator[Row]:
    for direction in Direction:
        name = direction.name.lower()

        def found(direction: Direction = direction) -> str:
            policies = _policies([row["rule"]])
            return _yes(any(direction in policy.isolates for policy in policies))

        yield Row(f"{row['name']}, {name}", _yes(row[f"default_deny_{name}"]), found)


def _injection(row: Mapping[str, Any]) -> Iterator[Row]:
    """A selector after injection means what the expected one means, written as a raw rule."""
    given = {"endpointSelector": row["endpointSelector"]}
    wanted = {"endpointSelector": row["result_endpointSelector"]}
    if "fromEndpoints" in row:
        given["ingress"] = [{"fromEndpoints": row["fromEndpoints"]}]
        wanted["ingress"] = [{"fromEndpoints": row["result_fromEndpoints"]}]

    def meaning(policies: tuple[Policy, ...]) -> str:
        subjects = {_meaning(policy.subject) for policy in policies}
        return f"{sorted(subjects)} {sorted(map(_meaning, _peers(policies)))}"

    def found() -> str:
        return meaning(_document(row["kind"], row["policy_namespace"], given))

    yield Row(row["name"], meaning(_policies([wanted])), found)


def _meaning(peer: Any) -> str:
    """A selector's requirements, whatever their order; a key from any source is Kubernetes' own."""
    assert isinstance(peer, Selector), peer
    needs = {
        (need.key, need.operator, tuple(sorted(need.values)), need.source.replace("any", "k8s"))
        for need in peer.requirements
    }
    return str(sorted(needs))


def _selected(row: Mapping[str, Any]) -> Iterator[Row]:
    """Which CIDRs a list comes down to, and whether all of the world lies in it."""
    families = {"203.0.113.9": row["enable_ipv4"], "2001:db8::9": row["enable_ipv6"]}
    world = [ip(text) for text, is_enabled in families.items() if is_enabled]
    rule = {"endpointSelector": {}, "ingress": [{"fromCIDR": row["cidrs"]}]}
    prefixes = sorted(
        each.removeprefix("cidr:") for each in row["selector_labels"] if each.startswith("cidr:")
    )

    def peers() -> list[Cidr]:
        return [peer for peer in _peers(_policies([rule])) if isinstance(peer, Cidr)]

    def found() -> str:
        return str(sorted(peer.prefix for peer in peers()))

    def holds_world() -> str:
        return _yes(all(any(_holds(peer, at) for peer in peers()) for at in world))

    yield Row(row["name"], str(prefixes), found)
    yield Row(f"{row['name']}, the world", _yes(row["matches_reserved_world"]), holds_world)


def _excepted(row: Mapping[str, Any]) -> Iterator[Row]:
    """What is left of a CIDR: each address where something begins or ends."""
    cidr = {"cidr": row["cidr"], "except": row["except"]}
    rule = {"endpointSelector": {}, "ingress": [{"fromCIDRSet": [cidr]}]}
    left = [ip_network(text) for text in row["prefixes"]]
    named = [ip_network(text) for text in (row["cidr"], *row["except"], *row["prefixes"])]
    ends = sorted({end for net in named for end in (net[0] - 1, net[0], net[-1], net[-1] + 1)})

    def found() -> str:
        (peer,) = _peers(_policies([rule]))
        assert isinstance(peer, Cidr), peer
        return str([str(end) for end in ends if _holds(peer, end)])

    expected = [str(end) for end in ends if any(end in net for net in left)]
    yield Row(row["name"], str(expected), found)


TABLES: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Row]]] = {
    "cidr_except_expansion": _excepted,
    "cidr_syntax": _cidr,
    "cidr_to_selectors": _selected,
    "default_deny_derivation": _default_deny,
    "entity_match": _entities,
    "namespace_injection": _injection,
    "port_range_to_masks": _masks,
    "rule_validation": _validation,
}

_WHO: Mapping[str, tuple[str, dict[str, Any]]] = {
    "world": ("198.51.100.7", {"fromEntities": ["world"]}),
    "subnet": ("192.0.2.77", {"fromCIDR": ["192.0.2.0/24"]}),
    "ip": ("192.0.2.3", {"fromCIDR": ["192.0.2.3/32"]}),
}
"""An identity of mapstate_precedence → an address that has it, and the rule that names it."""


def _precedence(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each row a step of one neutral case: the entries as rules, their verdicts as probes."""
    return {
        "format": neutral.FORMAT,
        "endpoints": {"subject": {"labels": ["any:subject"]}},
        "externals": {name: {"ip": at, "entities": ["world"]} for name, (at, _) in _WHO.items()},
        "steps": [
            {
                "name": row["name"],
                "actions": [{"clear_rules": True}, {"rules": _entries(row)}],
                "probes": [
                    {
                        "from": verdict["identity"],
                        "to": "subject",
                        "port": verdict["port"],
                        "protocol": verdict["protocol"],
                        "direction": "ingress",
                        "expect": verdict["verdict"],
                    }
                    for verdict in row["verdicts"]
                ],
            }
            for row in rows
        ],
    }


def _entries(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    rules = [("ingress", {"fromEntities": ["all"]})] if row["with_allow_all"] else []
    for entry in (row["a"], row["b"]):
        rule = dict(_WHO[entry["identity"]][1])
        if entry["protocol"] != "any":
            port = {"port": str(entry["port"]), "protocol": entry["protocol"]}
            rule["toPorts"] = [{"ports": [port]}]
        rules.append(("ingressDeny" if entry["deny"] else "ingress", rule))
    return [{"endpointSelector": {}, section: [rule]} for section, rule in rules]


def _peers(policies: tuple[Policy, ...]) -> list[Peer]:
    return [peer for policy in policies for rule in policy.rules for peer in rule.peers or ()]


def _holds(peer: Cidr, at: IP) -> bool:
    held = Networks((peer.prefix, *peer.excepts)).holding(at)
    return peer.prefix in held and not held & set(peer.excepts)


def _names(peer: Peer, labels: list[str]) -> bool:
    assert isinstance(peer, Selector), peer
    return matches(peer, labels_of(label_set(labels)))


def _yes(value: bool) -> str:
    return "yes" if value else "no"

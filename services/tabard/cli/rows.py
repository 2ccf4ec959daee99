"""Policies, rules and ports as rows, with the keys that `tabard.cli.judgements` documents. Pure."""

from collections.abc import Sequence

from tabard.cli.ground import Ground
from tabard.cli.naming import place_of
from tabard.cli.records import Row
from tabard.dataplane.maps import Protocol
from tabard.ledger.state import ObjectKey
from tabard.policy.rulings import Grant
from tabard.policy.traffic import EVERYTHING, PORT_MAX, Traffic, joined

OTHER = "OTHER"
"""What `connections` calls the protocols without a name."""
_NAMES = {protocol: protocol.name for protocol in Protocol} | {Protocol.ANY: OTHER}
_PROTOCOLS = {name: protocol for protocol, name in _NAMES.items()}


def connections(traffic: Traffic) -> list[Row]:
    """[{protocol, first, last}]; everything is the one of protocol ANY, and OTHER are the protocols
    without a name."""
    if traffic == EVERYTHING:
        return [{"protocol": Protocol.ANY.name, "first": 0, "last": PORT_MAX}]
    return [
        {"protocol": _NAMES[protocol], "first": first, "last": last}
        for protocol, ranges in traffic.items()
        for first, last in ranges
    ]


def traffic_of(rows: Sequence[Row]) -> Traffic:
    """What `connections` makes such rows of."""
    return joined({_PROTOCOLS[row["protocol"]]: ((row["first"], row["last"]),)} for row in rows)


def rule_row(ground: Ground, grant: Grant) -> Row:
    return object_row(grant.policy) | {
        "tier": grant.tier.name.lower(),
        "priority": grant.priority,
        "action": grant.action.name.lower(),
        "rule": grant.rule,
        "peer": None if grant.peer is None else grant.peer_path,
        "port": None if grant.port is None else grant.port_path,
        "traffic": {
            "protocol": grant.protocol.name,
            "first": grant.first,
            "last": grant.last,
        },
        "lookups": None if grant.lookups is None else sorted(grant.lookups),
        "origin": ground.origin(grant.policy, grant.rule),
        "event": _acceptance(ground, grant.policy),
    }


def policy_row(ground: Ground, key: ObjectKey) -> Row:
    return object_row(key) | {"origin": ground.origin(key, ""), "event": _acceptance(ground, key)}


def named(row: Row) -> str:
    """`namespace/name` of a row, or the name of what is in no namespace."""
    return place_of(row["namespace"], row["name"])


def object_row(key: ObjectKey) -> Row:
    return dict(zip(("kind", "namespace", "name"), key, strict=True))


def _acceptance(ground: Ground, key: ObjectKey) -> str | None:
    step = ground.provenance.policies.get(key) if ground.provenance is not None else None
    return None if step is None else step.place

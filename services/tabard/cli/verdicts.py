"""What `tabard policy check` answers, as plain values. Pure.

Rows are mappings of JSON values with the keys that `tabard.cli.judgements` documents.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from tabard.cli.ground import Ground
from tabard.cli.naming import PortAsked, ports
from tabard.cli.records import date
from tabard.dataplane.maps import Direction, Protocol, Reason
from tabard.ledger.provenance import Step
from tabard.ledger.state import ObjectKey
from tabard.policy.engine import Grant
from tabard.policy.misses import misses
from tabard.policy.parties import Party, Role
from tabard.policy.traffic import EVERYTHING, PORT_MAX, Traffic, contains

Row = dict[str, Any]


def answer(
    ground: Ground,
    source: Party,
    destination: Party,
    asked: tuple[str, str],
    wanted: Sequence[PortAsked] = (),
) -> Row:
    """The answer on `wanted` (any port if empty); `asked` is how the two were named.

    NotThere if a port's name means nothing at the destination.
    """
    ends = (source, destination)
    checks = [
        _check(ground, ends, one.text, (protocol, port))
        for one in wanted
        for protocol, port in ports(ground.state, one, destination)
    ]
    if not wanted:
        checks = [_check(ground, ends, None, None)]
    return {
        "sequence": ground.sequence,
        "allowed": all(check["allowed"] for check in checks),
        "from": _party(ground, source, asked[0]),
        "to": _party(ground, destination, asked[1]),
        "checks": checks,
        "connections": connections(ground.engine.allowed(*ends)),
        "events": _events(ground, ends, checks),
    }


def _check(
    ground: Ground,
    ends: tuple[Party, Party],
    asked: str | None,
    ask: tuple[Protocol, int] | None,
) -> Row:
    """The row of one port, or of any if `ask` is None."""
    source, destination = ends
    egress = _half(ground, Direction.EGRESS, source, destination, ask)
    ingress = _half(ground, Direction.INGRESS, destination, source, ask)
    protocol, port = (None, None) if ask is None else (ask[0].name, ask[1])
    passing = ground.engine.allowed(*ends)
    return {
        "asked": asked,
        "protocol": protocol,
        "port": port,
        # Both halves may let something pass, and nothing pass both.
        "allowed": bool(passing) if ask is None else contains(passing, *ask),
        "egress": egress,
        "ingress": ingress,
    }


def _half(
    ground: Ground,
    direction: Direction,
    subject: Party,
    peer: Party,
    ask: tuple[Protocol, int] | None,
) -> Row | None:
    if subject.role is not Role.POD:
        return None
    engine = ground.engine
    passing = engine.allowed_half(direction, subject, peer)
    at_once = engine.at_once(direction, subject, peer)
    grants: list[Grant] = []
    if at_once is None:
        grants = [
            grant
            for grant in engine.grants(direction, subject, peer)
            if ask is None or grant.covers(*ask)
        ][: None if ask is None else 1]
    reason = Reason.ALLOWED_POLICY if grants else Reason.DENIED_POLICY
    if at_once is not None:
        reason = at_once
    missed = []
    if reason is Reason.DENIED_POLICY:
        missed = misses(engine, direction, subject, peer, *(ask or ()))
    return {
        "allowed": reason.allowed,
        "reason": reason.name.lower(),
        "isolated_by": [
            policy_row(ground, policy.key) for policy in engine.isolating(direction, subject)
        ],
        "rules": [rule_row(ground, grant) for grant in grants],
        "misses": [
            _object(miss.policy)
            | {"path": miss.path, "why": miss.why, "origin": ground.origin(miss.policy, miss.path)}
            for miss in missed
        ],
        "connections": connections(passing),
    }


def connections(traffic: Traffic) -> list[Row]:
    """[{protocol, first, last}]; everything is the one of protocol ANY."""
    if traffic == EVERYTHING:
        return [{"protocol": "ANY", "first": 0, "last": PORT_MAX}]
    return [
        {"protocol": protocol.name, "first": first, "last": last}
        for protocol, ranges in traffic.items()
        for first, last in ranges
    ]


def rule_row(ground: Ground, grant: Grant) -> Row:
    return _object(grant.policy) | {
        "rule": grant.rule,
        "peer": None if grant.peer is None else grant.peer_path,
        "port": None if grant.port is None else grant.port_path,
        "allows": {
            "protocol": grant.protocol.name,
            "first": grant.first,
            "last": grant.last,
        },
        "origin": ground.origin(grant.policy, grant.rule),
        "event": _acceptance(ground, grant.policy),
    }


def policy_row(ground: Ground, key: ObjectKey) -> Row:
    return _object(key) | {"origin": ground.origin(key, ""), "event": _acceptance(ground, key)}


def _object(key: ObjectKey) -> Row:
    return dict(zip(("kind", "namespace", "name"), key, strict=True))


def _acceptance(ground: Ground, key: ObjectKey) -> str | None:
    step = ground.provenance.policies.get(key) if ground.provenance is not None else None
    return None if step is None else step.place


def _party(ground: Ground, party: Party, asked: str) -> Row:
    pod = ground.state.endpoints.get(party.uid)
    known = ground.state.identities.get(party.identity)
    return {
        "asked": asked,
        "role": party.role.value,
        "namespace": pod and pod.namespace,
        "name": pod and pod.name,
        "uid": pod and pod.uid,
        "owner": pod and pod.owner,
        # Manifests know no nodes; what stands for them there keeps pods apart, and no more.
        "nodes": sorted(party.nodes) if ground.provenance is not None else [],
        "address": party.address and str(party.address),
        "identity": party.identity,
        "labels": list(known.labels) if known is not None else [],
    }


def _events(ground: Ground, ends: Iterable[Party], checks: Iterable[Row]) -> list[Row]:
    """What made the two, and accepted the policies that decided, oldest first."""
    known = ground.provenance
    if known is None:
        return []
    steps: dict[tuple[int, str], Row] = {}

    def led(step: Step | None, of: str) -> None:
        if step is not None:
            steps[step.sequence, of] = {
                "sequence": step.sequence,
                "place": step.place,
                "type": step.type,
                "of": of,
                "at": step.at,
                "time": date(step.at),
                "cause": step.cause,
            }

    for party in ends:
        if party.role is Role.NODE:
            for node in party.nodes:
                led(known.nodes.get(node), f"node {node}")
        if (pod := ground.state.endpoints.get(party.uid)) is None:
            continue
        led(known.namespaces.get(pod.namespace), f"namespace {pod.namespace}")
        led(known.identities.get(pod.identity), f"identity {pod.identity}")
        if (life := known.endpoints.get(pod.uid)) is not None:
            led(life.bound, f"pod {pod.namespace}/{pod.name}")
            led(life.changed, f"pod {pod.namespace}/{pod.name}")
    for check in checks:
        for half in (check["egress"], check["ingress"]):
            for row in deciding(half):
                key = (row["kind"], row["namespace"], row["name"])
                led(known.policies.get(key), f"policy {row['namespace']}/{row['name']}")
    return [steps[at] for at in sorted(steps)]


def decided(said: Row) -> tuple[Any, ...]:
    """What of an answer makes it another: the verdicts, what decides them, who is meant."""
    halves = [
        None if half is None else (half["reason"], deciding(half), half["misses"])
        for check in said["checks"]
        for half in (check["egress"], check["ingress"])
    ]
    allowed = [check["allowed"] for check in said["checks"]]
    is_of_any_port = any(check["protocol"] is None for check in said["checks"])
    passing = said["connections"] if is_of_any_port else None
    return said["from"], said["to"], allowed, halves, passing


def deciding(half: Row | None) -> list[Row]:
    """The policies that decide a half: those whose rules allow it, or all that isolate the pod."""
    if half is None:
        return []
    found: list[Row] = half["rules"] or half["isolated_by"]
    return found

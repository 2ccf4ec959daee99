"""What `tabard policy check` answers, as plain values. Pure.

Rows are mappings of JSON values with the keys that `tabard.cli.judgements` documents.
"""

from collections.abc import Hashable, Iterable, Sequence
from functools import reduce
from itertools import chain
from typing import Any

from tabard.cli.ground import Ground
from tabard.cli.naming import PortAsked, place_of, ports
from tabard.cli.records import date
from tabard.dataplane.maps import Direction, Protocol, Reason
from tabard.ledger.provenance import Step
from tabard.ledger.state import ObjectKey
from tabard.policy.engine import Grant
from tabard.policy.misses import misses
from tabard.policy.parties import Party, Role
from tabard.policy.traffic import EVERYTHING, PORT_MAX, Traffic, contains, intersection

Row = dict[str, Any]
Ends = tuple[Party, Party]
"""Source and destination, each at one of its addresses."""


def answer(
    ground: Ground,
    ways: Sequence[Ends],
    asked: tuple[str, str],
    wanted: Sequence[PortAsked] = (),
) -> Row:
    """The answer on `wanted` (any port if empty) by all `ways`, the ends of one flow at each two
    of their addresses; `asked` is how they were named.

    NotThere if a port's name means nothing at the destination.
    """
    source, destination = ways[0]
    checks = [
        check
        for one in dict.fromkeys(wanted)
        for protocol, port in ports(ground.state, one, destination)
        for check in _checks(ground, ways, one.text, (protocol, port))
    ]
    if not wanted:
        checks = _checks(ground, ways, None, None)
    return {
        "sequence": ground.sequence,
        "allowed": all(check["allowed"] for check in checks),
        "from": _party(ground, source, asked[0]),
        "to": _party(ground, destination, asked[1]),
        "checks": checks,
        "connections": connections(_passing(ground, ways)),
        "events": _events(ground, chain.from_iterable(ways), checks),
    }


def _passing(ground: Ground, ways: Sequence[Ends]) -> Traffic:
    """What may pass by all of them."""
    return reduce(intersection, (ground.engine.allowed(*ends) for ends in ways))


def _checks(
    ground: Ground, ways: Sequence[Ends], asked: str | None, ask: tuple[Protocol, int] | None
) -> list[Row]:
    """One row if all ways have one verdict, else one for each verdict that a family has."""
    alike: dict[tuple[str, Hashable], list[Ends]] = {}
    for ends in ways:
        passing = ground.engine.allowed(*ends)
        verdict = frozenset(passing.items()) if ask is None else contains(passing, *ask)
        alike.setdefault((_family(ends), verdict), []).append(ends)
    if len({verdict for _, verdict in alike}) == 1:
        return [_check(ground, ways, None, asked, ask)]
    return [_check(ground, same, family, asked, ask) for (family, _), same in alike.items()]


def _family(ends: Ends) -> str:
    """IPv4 or IPv6; empty if neither end has an address."""
    return next((f"IPv{end.address.version}" for end in ends if end.address), "")


def _check(
    ground: Ground,
    ways: Sequence[Ends],
    family: str | None,
    asked: str | None,
    ask: tuple[Protocol, int] | None,
) -> Row:
    """The row of one port, or of any if `ask` is None; the first of the ways explains it."""
    source, destination = ways[0]
    egress = _half(ground, Direction.EGRESS, source, destination, ask)
    ingress = _half(ground, Direction.INGRESS, destination, source, ask)
    protocol, port = (None, None) if ask is None else (ask[0].name, ask[1])
    passing = _passing(ground, ways)
    return {
        "asked": asked,
        "protocol": protocol,
        "port": port,
        "family": family,
        "from": source.address and str(source.address),
        "to": destination.address and str(destination.address),
        # Both halves may let something pass, and nothing pass both.
        "allowed": bool(passing) if ask is None else contains(passing, *ask),
        "egress": egress,
        "ingress": ingress,
        "connections": connections(passing),
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
                led(known.policies.get(key), f"policy {place_of(row['namespace'], row['name'])}")
    return [steps[at] for at in sorted(steps)]


def decided(said: Row) -> tuple[Any, ...]:
    """What of an answer makes it another: the verdicts, what decides them, who is meant."""
    halves = [
        None if half is None else (half["reason"], deciding(half), half["misses"])
        for check in said["checks"]
        for half in (check["egress"], check["ingress"])
    ]
    verdicts = [
        (check["family"], check["allowed"], check["protocol"] is None and check["connections"])
        for check in said["checks"]
    ]
    return said["from"], said["to"], verdicts, halves


def deciding(half: Row | None) -> list[Row]:
    """The policies that decide a half: those whose rules allow it, or all that isolate the pod."""
    if half is None:
        return []
    found: list[Row] = half["rules"] or half["isolated_by"]
    return found

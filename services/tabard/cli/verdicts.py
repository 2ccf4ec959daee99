"""What `tabard policy check` answers, as plain values. Pure.

Rows are mappings of JSON values with the keys that `tabard.cli.judgements` documents.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import chain
from typing import Any

from tabard.cli.ground import Ground
from tabard.cli.naming import PortAsked, place_of, ports
from tabard.cli.records import Row, date
from tabard.cli.rows import connections, named, object_row, policy_row, rule_row
from tabard.dataplane.maps import Action, Direction, Protocol, Reason
from tabard.ledger.provenance import Provenance, Step
from tabard.policy.engine import Engine, keys
from tabard.policy.misses import Finding, findings, misses
from tabard.policy.model import CidrGroup, DomainName, Peer, Service
from tabard.policy.parties import Party, Role
from tabard.policy.patterns import matches_name
from tabard.policy.rulings import Half
from tabard.policy.traffic import Traffic, contains, intersection

_CONSIDERED = ("priority", "action", "path", "part", "why")
"""What is told of each rule that was considered, beside whose it is."""
Ends = tuple[Party, Party]
"""Source and destination, each at one of its addresses."""
Flow = tuple[Direction, Party, Party]
"""Direction, subject and peer."""
Ask = tuple[Protocol, int] | None
"""The protocol and port that were asked for; None for any."""


def answer(
    ground: Ground,
    ways: Sequence[Ends],
    asked: tuple[str, str],
    wanted: Sequence[PortAsked] = (),
    *,
    whole: bool = False,
) -> Row:
    """The answer on `wanted` (any port if empty) by all `ways`, the ends of one flow at each two
    of their addresses; `asked` is how they were named.

    `whole`: with all that was considered. NotThere if a port's name means nothing at the
    destination.
    """
    source, destination = ways[0]
    checks = [
        check
        for one in dict.fromkeys(wanted)
        for protocol, port in ports(ground.state, one, destination)
        for check in _checks(ground, ways, one.text, (protocol, port), whole=whole)
    ]
    if not wanted:
        checks = _checks(ground, ways, None, None, whole=whole)
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
    ground: Ground,
    ways: Sequence[Ends],
    asked: str | None,
    ask: Ask,
    *,
    whole: bool,
) -> list[Row]:
    """One row if all ways have one verdict, else one for each verdict that a family has."""
    alike: dict[tuple[str, Hashable], list[Ends]] = {}
    for ends in ways:
        passing = ground.engine.allowed(*ends)
        verdict = frozenset(passing.items()) if ask is None else contains(passing, *ask)
        alike.setdefault((_family(ends), verdict), []).append(ends)
    if len({verdict for _, verdict in alike}) == 1:
        return [_check(ground, ways, None, asked, ask, whole=whole)]
    return [
        _check(ground, same, family, asked, ask, whole=whole) for (family, _), same in alike.items()
    ]


def _family(ends: Ends) -> str:
    """IPv4 or IPv6; empty if neither end has an address."""
    return next((f"IPv{end.address.version}" for end in ends if end.address), "")


def _check(
    ground: Ground,
    ways: Sequence[Ends],
    family: str | None,
    asked: str | None,
    ask: Ask,
    *,
    whole: bool,
) -> Row:
    """The row of one port, or of any if `ask` is None; the first of the ways explains it."""
    source, destination = ways[0]
    egress = _half(ground, Direction.EGRESS, source, destination, ask, whole=whole)
    ingress = _half(ground, Direction.INGRESS, destination, source, ask, whole=whole)
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
    ground: Ground, direction: Direction, subject: Party, peer: Party, ask: Ask, *, whole: bool
) -> Row | None:
    engine = ground.engine
    if not engine.is_judged(subject):
        return None
    flow = (direction, subject, peer)
    passing = engine.allowed_half(*flow)
    half = _of_any(engine, flow, passing) if ask is None else engine.half(*flow, *ask)
    assert half is not None, "policies can hold for the subject"
    is_asked = engine.at_once(*flow) is None
    decided = [half.rule] if half.rule is not None else []
    overruled = []
    if is_asked and ask is None:
        rulings = [grant for grant, _ in engine.ruling(*flow).decided]
        decided = [grant for grant in rulings if grant.action is not Action.PASS]
        allowing = (grant for grant in engine.grants(*flow) if grant.allows)
        overruled = [grant for grant in allowing if grant not in decided]
    elif is_asked and ask is not None:
        overruled = [
            grant
            for grant in engine.grants(*flow)
            if grant.covers(*ask)
            and grant.action is not Action.PASS
            and grant.allows is not half.allowed
        ]
    missed = misses(engine, *flow, *(ask or ())) if half.reason is Reason.DENIED_POLICY else []
    row = {
        "allowed": half.allowed,
        "reason": half.reason.name.lower(),
        "tier": None if half.tier is None or ask is None else half.tier.name.lower(),
        "isolated_by": [policy_row(ground, key) for key in half.isolating],
        "rules": [rule_row(ground, grant) for grant in decided],
        "passes": [rule_row(ground, grant) for grant in half.passes],
        "overruled": [rule_row(ground, grant) for grant in overruled],
        "misses": [_finding(ground, miss, "path", "why") for miss in missed],
        "connections": connections(passing),
    }
    if whole:
        found = findings(engine, *flow, *(ask or ())) if is_asked else []
        row["considered"] = [_finding(ground, one, *_CONSIDERED) for one in found]
    return row


def _of_any(engine: Engine, flow: Flow, passing: Traffic) -> Half:
    """How traffic on any port fares: allowed if any is."""
    direction, subject, _ = flow
    isolating = keys(engine.isolating(direction, subject))
    at_once = engine.at_once(*flow)
    if at_once is not None:
        return Half(direction, at_once, isolating)
    rulings = [grant for grant, _ in engine.ruling(*flow).decided]
    reason = Reason.DENIED_POLICY
    if passing:
        allows = any(grant.allows for grant in rulings)
        reason = Reason.ALLOWED_POLICY if allows else Reason.ALLOWED_NO_POLICY
    passes = tuple(grant for grant in rulings if grant.action is Action.PASS)
    return Half(direction, reason, isolating, passes=passes)


def _finding(ground: Ground, found: Finding, *keys: str) -> Row:
    said = {
        "priority": found.priority,
        "action": found.action.name.lower(),
        "path": found.path,
        "part": found.part.value,
        "why": found.why,
    }
    return (
        object_row(found.policy)
        | {"tier": found.tier.name.lower()}
        | {key: said[key] for key in keys}
        | {"origin": ground.origin(found.policy, found.path)}
    )


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
        for half, peer in ((check["egress"], check["to"]), (check["ingress"], check["from"])):
            for row in deciding(half):
                key = (row["kind"], row["namespace"], row["name"])
                led(known.policies.get(key), f"policy {named(row)}")
                for written in ground.engine.written(key, row.get("peer") or ""):
                    for step, of in _referred(known, written, peer):
                        led(step, of)
    return [steps[at] for at in sorted(steps)]


def _referred(known: Provenance, written: Peer, address: str | None) -> Iterator[tuple[Step, str]]:
    """What made a reference stand for whom it does, as far as it is by name."""
    match written:
        case DomainName():
            for (name, held), step in known.names.items():
                if held == address and matches_name(written.pattern, name):
                    yield step, f"name {name}"
        case CidrGroup() | Service():
            for key, step in known.policies.items():
                kind, namespace, name = key
                of_group = isinstance(written, CidrGroup) and kind == "CiliumCIDRGroup"
                of_service = isinstance(written, Service) and (kind, namespace) == (
                    "Service",
                    written.namespace,
                )
                if (of_group or of_service) and name == written.name:
                    yield step, f"{kind} {place_of(namespace, name)}"
        case _:
            pass


def decided(said: Row) -> tuple[Any, ...]:
    """What of an answer makes it another: the verdicts, what decides them, who is meant."""
    halves = [
        None
        if half is None
        else (half["reason"], deciding(half), half["overruled"], half["misses"])
        for check in said["checks"]
        for half in (check["egress"], check["ingress"])
    ]
    verdicts = [
        (check["family"], check["allowed"], check["protocol"] is None and check["connections"])
        for check in said["checks"]
    ]
    return said["from"], said["to"], verdicts, halves


def deciding(half: Row | None) -> list[Row]:
    """The policies that decide a half: those whose rules do, and all that isolate the pod where
    rules leave it to that."""
    if half is None:
        return []
    found: list[Row] = [*half["passes"], *half["rules"]]
    if not half["rules"] or (half["reason"] == "denied_policy" and half["tier"] is None):
        found += half["isolated_by"]
    return found

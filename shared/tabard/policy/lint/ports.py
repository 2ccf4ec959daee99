"""Ports that no pod has: by a name that none gives them, or a number that none declares."""

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import chain, groupby
from operator import itemgetter

from tabard.dataplane.maps import Direction, Protocol
from tabard.policy.landscape import bits
from tabard.policy.lint import catalogue
from tabard.policy.lint.survey import Finding, Survey
from tabard.policy.model import Policy, Port, Rule, Selector

DECLARABLE = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
DECLARED_MAX = 4
"""Ports of the pods that a message lists."""


def ports(survey: Survey) -> Iterator[Finding]:
    """TB105 and TB106."""
    for policy in survey.policies:
        if policy.selects_nodes:
            continue
        for rule in policy.rules:
            pods = _destinations(survey, policy, rule)
            if not pods:
                continue
            written = zip(rule.ports, rule.port_paths, strict=False)
            for at, spelled in groupby(written, itemgetter(1)):
                found = [
                    list(_of_port(survey, policy, f"{rule.path}.{at}", port, pods))
                    for port, _ in spelled
                    if port.protocol in DECLARABLE
                ]
                # Of a port of any protocol it is enough that one of them is there.
                if all(found):
                    yield from chain.from_iterable(found[:1])


def _of_port(survey: Survey, policy: Policy, path: str, port: Port, pods: int) -> Iterator[Finding]:
    of = _of_name if port.name else _of_number
    return of(survey, policy, path, port, pods)


def _destinations(survey: Survey, policy: Policy, rule: Rule) -> int:
    """The pods that traffic of the rule goes to; none if others than pods may be meant."""
    if rule.direction is Direction.INGRESS:
        return survey.subject(policy)
    found = 0
    for peer in rule.peers or ():
        met = survey.land.select(peer) if isinstance(peer, Selector) else 0
        if not met or met & ~survey.land.subjects:
            return 0
        found |= met
    return found & survey.land.pods


def _of_name(survey: Survey, policy: Policy, path: str, port: Port, pods: int) -> Iterator[Finding]:
    names = {
        name
        for bit in bits(pods)
        for name, _, protocol in survey.land.ports[bit]
        if protocol == port.protocol.name
    }
    if port.name in names:
        return
    why = f"none of {_who(survey, pods)} names a {port.protocol.name} port {port.name}"
    if close := get_close_matches(port.name, sorted(names), n=1):
        why += f"; did you mean {close[0]}?"
    elif names:
        why += f"; they name {', '.join(sorted(names)[:DECLARED_MAX])}"
    yield Finding(catalogue.UNKNOWN_PORT_NAME, policy.key, path, why)


def _of_number(
    survey: Survey, policy: Policy, path: str, port: Port, pods: int
) -> Iterator[Finding]:
    declared = [survey.ports.get(survey.land.numbers[bit]) for bit in bits(pods)]
    if not declared or not all(declared):
        return  # what declares nothing may listen on anything
    there = {
        number
        for each in declared
        for protocol, number in each or ()
        if protocol == port.protocol.name
    }
    if any(port.first <= number <= port.last for number in there):
        return
    shown = ", ".join(map(str, sorted(there)[:DECLARED_MAX])) or "none"
    number = str(port.first) if port.first == port.last else f"{port.first}-{port.last}"
    yield Finding(
        catalogue.UNDECLARED_PORT,
        policy.key,
        path,
        f"none of {_who(survey, pods)} declares {number}/{port.protocol.name}; their "
        f"{port.protocol.name} ports are {shown}",
    )


def _who(survey: Survey, pods: int) -> str:
    names = [survey.name(bit) for bit in bits(pods)]
    return names[0] if len(names) == 1 else f"{len(names)} workloads ({names[0]}, …)"

"""What policies name: where port numbers and addresses begin to mean something else."""

from collections.abc import Iterable, Mapping
from typing import Any

from tabard.dataplane.maps import Protocol
from tabard.ledger.state import State
from tabard.policy.model import PolicyError
from tabard.policy.reading import read_object

WITH_PORTS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)


def ports_of(documents: Iterable[Mapping[str, Any]], state: State) -> dict[Protocol, set[int]]:
    """The port numbers from which on a verdict may differ: of the policies, and of named ports."""
    cuts: dict[Protocol, set[int]] = {protocol: set() for protocol in WITH_PORTS}
    for document in documents:
        try:
            policies = read_object(document).policies
        except PolicyError:
            continue  # whoever applies it says so
        for rule in (rule for policy in policies for rule in policy.rules):
            for port in rule.ports:
                if port.protocol in cuts and not port.name:
                    cuts[port.protocol] |= {port.first, port.last + 1}
    for endpoint in state.endpoints.values():
        for _, number, protocol in endpoint.ports:
            cuts[Protocol[protocol]] |= {number, number + 1}
    return cuts


def networks_of(documents: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Every CIDR that the policies name, their exceptions included."""
    found: set[str] = set()
    for document in documents:
        try:
            found |= read_object(document).cidrs()
        except PolicyError:
            continue
    return frozenset(found)

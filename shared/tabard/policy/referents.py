"""What policies refer to, and what it stands for in one state of the cluster.

`resolve` puts Selectors and Cidrs in the place of references; a reference to what is not there
stands for nobody, as an empty list of peers does.
"""

import ipaddress
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import assert_never

from tabard.identity.labels import LabelSet, host_cidr
from tabard.ledger.state import State
from tabard.policy import reading, schema
from tabard.policy.matching import labels_of, matches
from tabard.policy.model import (
    Cidr,
    CidrGroup,
    DomainName,
    Nodes,
    Peer,
    Policy,
    Reference,
    Rule,
    Selector,
    Service,
)
from tabard.policy.patterns import matches_name
from tabard.policy.referred import Backends, CidrSet, ServiceFront


@dataclass(frozen=True, slots=True)
class NodeAddresses:
    """A node's labels, of source `node`, and its underlay addresses as CIDRs."""

    labels: LabelSet
    prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Referents:
    """All there is to refer to. Equal values resolve every policy alike."""

    groups: tuple[CidrSet, ...] = ()
    services: tuple[ServiceFront, ...] = ()
    backends: tuple[Backends, ...] = ()
    nodes: tuple[NodeAddresses, ...] = ()
    """Those that have labels, by name: the addresses of others have no identity of their own."""
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Domain names, sorted, each with the addresses that stand for it.

    Not until when: an address that is said once more changes no policy.
    """


NOTHING = Referents()


def referents_of(state: State) -> Referents:
    """All that policies can refer to in `state`, each kind in the order of its objects' keys."""
    groups: list[CidrSet] = []
    services: list[ServiceFront] = []
    backends: list[Backends] = []
    for key in sorted(key for key in state.policies if key[0] in reading.REFERENT_KINDS):
        accepted = state.policies[key]
        referent = reading.read_object(accepted.document, accepted.origin).referent
        match referent:
            case CidrSet():
                groups.append(referent)
            case ServiceFront():
                services.append(referent)
            case Backends():
                backends.append(referent)
            case None:
                raise AssertionError(f"{key} is read as nothing to refer to")
            case _:
                assert_never(referent)
    nodes = (
        NodeAddresses(node.label_set(), node.cidrs())
        for _, node in sorted(state.nodes.items())
        if node.labels
    )
    names = tuple((name, tuple(sorted(held))) for name, held in sorted(state.names.items()))
    return Referents(tuple(groups), tuple(services), tuple(backends), tuple(nodes), names)


def resolve(policy: Policy, referents: Referents) -> Policy:
    """The policy with what its references stand for in their place; the same if it has none."""
    if not any(True for _ in policy.references()):
        return policy
    return replace(policy, rules=tuple(_rule(rule, referents) for rule in policy.rules))


def in_force(state: State) -> list[tuple[Policy, Policy]]:
    """Every policy of a state, by its object's key and place in it: (as written, resolved)."""
    referents = referents_of(state)
    return [
        (policy, resolve(policy, referents))
        for _, accepted in sorted(state.policies.items())
        for policy in reading.read_policies(accepted.document, accepted.origin)
    ]


def _rule(rule: Rule, referents: Referents) -> Rule:
    if rule.peers is None:
        return rule
    found: list[Peer] = []
    paths: list[str] = []
    for peer, path in zip(rule.peers, rule.peer_paths, strict=True):
        for member in [peer] if isinstance(peer, Selector | Cidr) else _members(peer, referents):
            found.append(member)
            paths.append(path)
    return replace(rule, peers=tuple(found), peer_paths=tuple(paths))


def _members(reference: Reference, referents: Referents) -> Iterator[Peer]:
    match reference:
        case CidrGroup():
            yield from _grouped(reference, referents)
        case Service():
            yield from _served(reference, referents)
        case Nodes():
            for node in referents.nodes:
                if matches(reference.selector, labels_of(node.labels)):
                    yield from map(Cidr, node.prefixes)
        case DomainName():
            for address in sorted(_addresses(reference.pattern, referents.names)):
                yield Cidr(host_cidr(address), holds_members=False)
        case _:
            assert_never(reference)


def _addresses(pattern: str, names: tuple[tuple[str, tuple[str, ...]], ...]) -> set[str]:
    """The addresses that stand for the names of a pattern."""
    if "*" not in pattern:
        at = bisect_left(names, (pattern,))
        names = names[at : at + 1]
    return {address for name, held in names if matches_name(pattern, name) for address in held}


def _grouped(reference: CidrGroup, referents: Referents) -> Iterator[Peer]:
    holes = [ipaddress.ip_network(hole) for hole in reference.excepts]
    for group in referents.groups:
        if reference.selector is None:
            is_meant = group.name == reference.name
        else:
            is_meant = matches(reference.selector, labels_of(group.labels))
        for prefix in group.prefixes if is_meant else ():
            network = ipaddress.ip_network(prefix)
            own = [hole for hole in holes if hole.version == network.version]
            if not any(schema.within(network, hole) for hole in own):
                inside = tuple(str(hole) for hole in own if schema.within(hole, network))
                yield Cidr(prefix, inside, holds_members=False)


def _served(reference: Service, referents: Referents) -> Iterator[Peer]:
    """Whoever is behind the Services meant, on any port: a Service's ports narrow nothing.

    A Service with a selector stands for the pods that it selects (its EndpointSlices say no more);
    one without for its backends' addresses, which hold no pods and no nodes, as all of Cilium's
    CIDRs (pkg/policy/k8s service.go). By a label that the label filter keeps out of identities a
    Service selects nobody here.
    """
    for front in referents.services:
        if reference.namespace not in ("", front.namespace):
            continue
        if reference.name not in ("", front.name):
            continue
        if reference.selector and not matches(reference.selector, labels_of(front.labels)):
            continue
        if front.pods is not None:
            yield front.pods
            continue
        for behind in referents.backends:
            if (behind.namespace, behind.service) == (front.namespace, front.name):
                for prefix in behind.prefixes:
                    yield Cidr(prefix, holds_members=False)

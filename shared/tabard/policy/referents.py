"""What policies refer to, and what it stands for in one state of the cluster.

`resolve` puts Selectors and Cidrs in the place of references; a reference to what is not there
stands for nobody, as an empty list of peers does.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import assert_never

from tabard.identity.labels import LabelSet
from tabard.ledger.state import State
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


@dataclass(frozen=True, slots=True)
class CidrSet:
    """A CiliumCIDRGroup's CIDRs, canonical, and its labels by (source, key)."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    prefixes: tuple[str, ...] = ()

    def cidrs(self) -> frozenset[str]:
        return frozenset(self.prefixes)


@dataclass(frozen=True, slots=True)
class NodeAddresses:
    """A node's labels, of source `node`, and its underlay addresses as CIDRs."""

    labels: LabelSet
    prefixes: tuple[str, ...]


Referent = CidrSet


@dataclass(frozen=True, slots=True)
class Referents:
    """All there is to refer to. Equal values resolve every policy alike."""

    groups: tuple[CidrSet, ...] = ()
    nodes: tuple[NodeAddresses, ...] = ()
    """Those that have labels, by name: the addresses of others have no identity of their own."""


NOTHING = Referents()


def referents_of(state: State) -> Referents:
    """All that `state` has to refer to."""
    nodes = [
        NodeAddresses(node.label_set(), node.cidrs())
        for _, node in sorted(state.nodes.items())
        if node.labels
    ]
    return Referents(nodes=tuple(nodes))


def resolve(policy: Policy, referents: Referents) -> Policy:
    """The policy with what its references stand for in their place; the same if it has none."""
    if not any(True for _ in policy.references()):
        return policy
    return replace(policy, rules=tuple(_rule(rule, referents) for rule in policy.rules))


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
        case Nodes():
            for node in referents.nodes:
                if matches(reference.selector, labels_of(node.labels)):
                    yield from map(Cidr, node.prefixes)
        case CidrGroup() | Service() | DomainName():
            yield from ()
        case _:
            assert_never(reference)

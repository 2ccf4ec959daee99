"""What policies refer to, and what it stands for in one state of the cluster.

`resolve` puts Selectors and Cidrs in the place of references; a reference to what is not there
stands for nobody, as an empty list of peers does.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import assert_never

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


Referent = CidrSet


@dataclass(frozen=True, slots=True)
class Referents:
    """All there is to refer to. Equal values resolve every policy alike."""

    groups: tuple[CidrSet, ...] = ()


NOTHING = Referents()


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
        case CidrGroup() | Service() | Nodes() | DomainName():
            yield from ()
        case _:
            assert_never(reference)

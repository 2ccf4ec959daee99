"""What policies refer to, and what it stands for in one state of the cluster.

`resolve` puts Selectors and Cidrs in the place of references; a reference to what is not there
stands for nobody, as an empty list of peers does.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import assert_never

from tabard.identity.labels import host_cidr
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
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Domain names, sorted, each with the addresses that stand for it (`policy.names`)."""


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
        case DomainName():
            for address in sorted(_addresses(reference.pattern, referents.names)):
                yield Cidr(host_cidr(address), holds_members=False)
        case CidrGroup() | Service() | Nodes():
            yield from ()
        case _:
            assert_never(reference)


def _addresses(pattern: str, names: tuple[tuple[str, tuple[str, ...]], ...]) -> set[str]:
    """The addresses that stand for the names of a pattern."""
    if "*" not in pattern:
        at = bisect_left(names, (pattern,))
        names = names[at : at + 1]
    return {address for name, held in names if matches_name(pattern, name) for address in held}

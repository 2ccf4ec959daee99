"""Whom a rule names, and which of them somebody is."""

from collections.abc import Iterator

from tabard.policy.model import Cidr, Peer, Policy, Rule, Selector
from tabard.policy.selectors import Selectors


class Naming:
    """A rule of a policy; the selectors among its peers stand by their places."""

    __slots__ = ("named", "policy", "rule", "sees_addresses", "selectors")

    def __init__(self, policy: Policy, rule: Rule, selectors: Selectors) -> None:
        self.policy = policy
        self.rule = rule
        paths = rule.peer_paths
        self.named: tuple[tuple[int | Cidr, str], ...] = tuple(
            (peer if isinstance(peer, Cidr) else selectors.places[selector_of(peer)], path)
            for peer, path in zip(rule.peers or (), paths, strict=True)
        )
        self.selectors = frozenset(peer for peer, _ in self.named if isinstance(peer, int))
        self.sees_addresses = any(isinstance(peer, Cidr) for peer, _ in self.named)

    def matching(
        self, matched: frozenset[int], held: frozenset[str], is_world: bool
    ) -> Iterator[tuple[bool, str | None]]:
        """(whether it is a CIDR, path) of each of its peers that matches."""
        if self.rule.peers is None:
            yield False, None
        elif self.sees_addresses or not self.selectors.isdisjoint(matched):
            for named, path in self.named:
                if isinstance(named, int):
                    if named in matched:
                        yield False, path
                elif holds(named, held, is_world):
                    yield True, path


def holds(named: Cidr, held: frozenset[str], is_world: bool) -> bool:
    """Whether the address in the CIDRs `held` is meant."""
    return (
        (is_world or named.holds_members)
        and named.prefix in held
        and held.isdisjoint(named.excepts)
    )


def selector_of(peer: Peer) -> Selector:
    assert isinstance(peer, Selector), f"{peer} was not resolved"
    return peer


def selectors_of(policy: Policy) -> Iterator[Selector]:
    yield policy.subject
    for rule in policy.rules:
        yield from (peer for peer in rule.peers or () if isinstance(peer, Selector))

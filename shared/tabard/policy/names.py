"""Domain names: which ones policies ask for, and which addresses may stand for one. Pure."""

import ipaddress
from collections.abc import Iterable, Iterator

from tabard.events.ledger import LedgerEvent, PolicyAccepted, PolicyForgotten
from tabard.ledger.state import ObjectKey, State
from tabard.policy.model import DomainName
from tabard.policy.networks import network
from tabard.policy.patterns import Patterns
from tabard.policy.reading import read_policies

ADDRESSES_OF_NAME_MAX = 50
"""Most addresses that stand for one name; newer ones take the place of those that end first.

Each has an identity and policy entries of its own, as Cilium's had while it set 50 by default
(tofqdns-endpoint-max-ip-per-hostname).
"""
ADDRESSES_MAX = 16_384
"""Most addresses that stand for names in all; then no further ones are taken."""
ANSWER_KEPT_S_MAX = 604_800
"""Longest that an answer counts, whatever its time to live: a week, as RFC 8767 4 recommends and
BIND does (max-cache-ttl), so that no server makes an address stand for ever."""


class Asked:
    """The names for whose addresses accepted policies ask, kept in step with a state by `note`."""

    def __init__(self, state: State) -> None:
        self._of: dict[ObjectKey, frozenset[str]] = {}
        for accepted in state.policies.values():
            self._take(accepted)
        self._patterns = Patterns(self)

    def __iter__(self) -> Iterator[str]:
        """The patterns."""
        return (pattern for patterns in self._of.values() for pattern in patterns)

    def __contains__(self, name: str) -> bool:
        return name in self._patterns

    def by(self, name: str) -> list[ObjectKey]:
        """The policies that ask for it, by key."""
        return sorted(key for key, patterns in self._of.items() if name in Patterns(patterns))

    def note(self, event: LedgerEvent) -> None:
        """The state has gone on by `event`."""
        match event:
            case PolicyAccepted():
                before = self._of.pop((event.kind, event.namespace, event.name), None)
                if self._take(event) != before:
                    self._patterns = Patterns(self)
            case PolicyForgotten():
                if self._of.pop((event.kind, event.namespace, event.name), None):
                    self._patterns = Patterns(self)
            case _:
                pass

    def _take(self, accepted: PolicyAccepted) -> frozenset[str] | None:
        found = frozenset(
            peer.pattern
            for policy in read_policies(accepted.document, accepted.origin)
            for peer in policy.references()
            if isinstance(peer, DomainName)
        )
        if not found:
            return None
        self._of[accepted.kind, accepted.namespace, accepted.name] = found
        return found


def acceptable(state: State, name: str, addresses: Iterable[str]) -> list[str]:
    """Those that may stand for the name: outside of the cluster, and not of this link alone, so
    that no answer makes a pod, a node or its loopback the world."""
    held = state.names.get(name, {})
    return [address for address in addresses if address in held or _is_outside(state, address)]


def _is_outside(state: State, address: str) -> bool:
    ip = ipaddress.ip_address(address)
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        return False  # an IPv4 address by another name, which no packet bears
    if address in state.bindings:
        return False
    return not any(
        address in node.addresses or any(ip in network(cidr) for cidr in node.pod_cidrs)
        for node in state.nodes.values()
    )


def is_news(state: State, name: str, addresses: Iterable[str], ttl_s: int, now: int) -> bool:
    """Whether an answer that may be kept for `ttl_s` says more than the ledger: an address that
    does not stand for the name, ends before the answer does, or has less than half of its time
    left.

    An answer counts for ANSWER_KEPT_S_MAX at most. `now` in nanoseconds since the Unix epoch.
    """
    kept_ms = 0 if state.settings is None else state.settings.names_kept_ms
    needed = now + max(min(ttl_s, ANSWER_KEPT_S_MAX) * 1_000_000_000, kept_ms * 500_000)
    held = state.names.get(name, {})
    return any(held.get(address, 0) < needed for address in addresses)


def has_room(state: State, name: str, addresses: Iterable[str]) -> bool:
    """Whether all of `addresses` can stand for `name` within the bounds."""
    held = state.names.get(name, {})
    new = sum(address not in held for address in addresses)
    more = min(len(held) + new, ADDRESSES_OF_NAME_MAX) - len(held)
    return not new or sum(map(len, state.names.values())) + more <= ADDRESSES_MAX

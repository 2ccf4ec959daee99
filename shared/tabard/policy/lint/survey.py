"""What lint rules look at, and what they find."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tabard.ledger.state import ObjectKey, State
from tabard.policy.landscape import Group, Landscape
from tabard.policy.lint.catalogue import Rule, Severity
from tabard.policy.model import Peer, Policy
from tabard.policy.model import Rule as PolicyRule
from tabard.policy.newcomers import with_newcomers
from tabard.policy.referents import in_force

ALWAYS_THERE = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})
"""Namespaces of every cluster, whether or not manifests declare them."""


@dataclass(frozen=True, slots=True)
class Finding:
    rule: Rule
    object: ObjectKey
    path: str
    """Field path in the object; "" for all of it."""
    message: str
    origin: str = field(default="", compare=False)
    """`file:line`, where whoever asks knows it."""

    @property
    def severity(self) -> Severity:
        return self.rule.severity


@dataclass(frozen=True, slots=True)
class Spoken:
    """Peers of one rule that were written in one place, and whom they stand for."""

    path: str
    written: tuple[Peer, ...]
    resolved: tuple[Peer, ...]


class Survey:
    """A state, read once for all rules.

    `documents` are objects that are no policies but may say something of them (namespaces).
    `ports` are all containerPorts of each identity, as far as they are known. `whole` says that
    the state is a cluster's, with all its namespaces, not what some manifests would bring about.
    """

    def __init__(
        self,
        state: State,
        documents: Mapping[ObjectKey, Mapping[str, Any]],
        ports: Mapping[int, frozenset[tuple[str, int]]],
        *,
        whole: bool,
    ) -> None:
        self.state = state
        self.documents = {
            **documents,
            **{key: accepted.document for key, accepted in state.policies.items()},
        }
        self.ports = ports
        self.whole = whole
        found = in_force(state)
        self.written = [written for written, _ in found]
        self.policies = [resolved for _, resolved in found]
        """The same, with what references stand for."""
        self.land = Landscape(*with_newcomers(state))

    @cached_property
    def groups(self) -> Sequence[Group]:
        return self.land.groups(self.policies)

    @property
    def has_pods(self) -> bool:
        return bool(self.land.pods)

    def pairs(self) -> Iterator[tuple[Policy, Policy]]:
        """(as written, resolved)"""
        return zip(self.written, self.policies, strict=True)

    def subject(self, policy: Policy) -> int:
        """The pods that it selects."""
        return self.land.select(policy.subject) & self.land.pods

    @cached_property
    def namespaces(self) -> Mapping[str, Mapping[str, str]]:
        """Name → labels, that of the name included."""
        names = set(self.state.namespaces).union(
            endpoint.namespace for endpoint in self.state.endpoints.values()
        )
        return {name: self.state.namespaces.get(name, {}) for name in sorted(names)}

    def name(self, bit: int) -> str:
        """`shop/web` of the workloads whose pods have the identity."""
        number = self.land.numbers[bit]
        return ", ".join(self._named.get(number, [str(number)]))

    @cached_property
    def _named(self) -> Mapping[int, Sequence[str]]:
        found: dict[int, dict[str, None]] = {}
        for endpoint in self.state.endpoints.values():
            name = endpoint.owner.rpartition("/")[2] or endpoint.name
            found.setdefault(endpoint.identity, {}).setdefault(f"{endpoint.namespace}/{name}")
        return {number: list(names) for number, names in found.items()}


def spoken(written: PolicyRule, resolved: PolicyRule) -> list[Spoken]:
    """The peers of a rule by where they were written; none if it takes anyone."""
    found: dict[str, tuple[list[Peer], list[Peer]]] = {}
    for peer, path in zip(written.peers or (), written.peer_paths, strict=True):
        found.setdefault(path, ([], []))[0].append(peer)
    for peer, path in zip(resolved.peers or (), resolved.peer_paths, strict=True):
        found.setdefault(path, ([], []))[1].append(peer)
    return [
        Spoken(f"{written.path}.{path}", tuple(one), tuple(other))
        for path, (one, other) in found.items()
    ]

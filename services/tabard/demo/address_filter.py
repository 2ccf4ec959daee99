"""The yardstick: an enforcer by address, built the usual way.

On every node one nft set for each peer selector of each policy that selects a pod of that node,
and in it the address of every pod in the cluster that the selector matches. Whenever a pod starts
or stops, each node whose sets it belongs to has elements to write. The sets are real, in the nodes'
own namespaces; no rule refers to them, so they judge nothing.
"""

import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tabard.identity.numbers import is_pod
from tabard.ledger.state import State
from tabard.netns import enter
from tabard.policy.matching import labels_of, matches
from tabard.policy.model import Selector
from tabard.policy.reading import read_policies

TABLE = "tabard_yardstick"

Sets = Mapping[str, frozenset[str]]
"""Set name → addresses."""


@dataclass(frozen=True, slots=True)
class Written:
    """What one change cost one node."""

    elements: int
    seconds: float


def peer_sets(state: State, node: str) -> dict[str, frozenset[str]]:
    """The sets that an enforcer by address needs on `node`, and who is in them."""
    labels = {
        number: labels_of(identity.labels)
        for number, identity in state.identities.items()
        if is_pod(number)
    }
    local = {pod.identity for pod in state.endpoints.values() if pod.node == node}
    sets: dict[str, frozenset[str]] = {}
    for index, key in enumerate(sorted(state.policies)):
        accepted = state.policies[key]
        rules = [
            rule
            for policy in read_policies(accepted.document, accepted.origin)
            if any(matches(policy.subject, labels[number]) for number in local if number in labels)
            for rule in policy.rules
        ]
        for rule_index, rule in enumerate(rules):
            for peer_index, peer in enumerate(rule.peers or ()):
                if isinstance(peer, Selector):
                    matching = {number for number in labels if matches(peer, labels[number])}
                    name = f"p{index}r{rule_index}d{rule.direction.value}s{peer_index}"
                    sets[name] = frozenset(
                        address
                        for endpoint in state.endpoints.values()
                        if endpoint.identity in matching
                        for address in endpoint.addresses
                    )
    return sets


class AddressFilter:
    """The sets of one node, kept in the kernel of its namespace (or only counted, if none)."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._sets: dict[str, frozenset[str]] = {}

    def bring_to(self, sets: Sets) -> Written:
        """Write what differs, as one nft transaction; blocks."""
        commands: list[str] = [] if self._sets else [f"add table inet {TABLE}"]
        elements = 0
        for name, members in sets.items():
            before = self._sets.get(name)
            if before is None:
                commands += [
                    f"add set inet {TABLE} {name}_{family} {{ type {family}_addr ; }}"
                    for family in ("ipv4", "ipv6")
                ]
                before = frozenset()
            for verb, changed in (("add", members - before), ("delete", before - members)):
                elements += len(changed)
                commands += _elements(verb, name, changed)
        began = time.perf_counter()
        if commands and self._namespace:
            enter.call(self._namespace, lambda: _nft(commands))
        self._sets.update(sets)
        return Written(elements, time.perf_counter() - began)


def _elements(verb: str, name: str, addresses: Iterable[str]) -> list[str]:
    return [
        f"{verb} element inet {TABLE} {name}_{'ipv6' if ':' in address else 'ipv4'} {{ {address} }}"
        for address in sorted(addresses)
    ]


def _nft(commands: list[str]) -> None:
    subprocess.run(
        ["nft", "-f", "-"],
        input="\n".join(commands) + "\n",
        text=True,
        check=True,
        capture_output=True,
    )

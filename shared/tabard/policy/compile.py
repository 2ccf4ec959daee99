"""From the folded ledger to the maps of one node.

The maps are a function of state, node, mode and attachments alone; what a Compiler remembers only
saves time. Where the ledger leaves a question open the answer is the closed one: no endpoint entry,
no match.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tabard.dataplane.maps import Address, Direction, Endpoint, Maps, Mode
from tabard.identity.numbers import Reserved, is_pod
from tabard.ledger.state import ObjectKey, State
from tabard.policy.matching import IdentityIndex
from tabard.policy.prefixes import PrefixMap, Universe, packed
from tabard.policy.rules import Entries, Prepared, RuleSet, hash64, rule_set

ALWAYS_KNOWN = frozenset(
    number.value
    for number in (
        Reserved.HOST,
        Reserved.WORLD,
        Reserved.REMOTE_NODE,
        Reserved.WORLD_IPV4,
        Reserved.WORLD_IPV6,
    )
)
"""Reserved identities that peers can have here."""


@dataclass(frozen=True, slots=True)
class Provisional:
    """What a starting pod was found to be before the ledger bound it (a known label set)."""

    identity: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod's interface on this node."""

    uid: str
    ifindex: int
    mac: bytes
    host_mac: bytes
    provisional: Provisional | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """Why a node must know a remote pod's address: a local endpoint's egress rule names it."""

    uid: str
    """The local endpoint."""
    policy: ObjectKey
    rule: str
    """Field path of the rule in the policy."""


def incarnation(uid: str) -> int:
    """What stands for a pod's UID in its endpoint entries."""
    return hash64(uid.encode())


class Compiler:
    """Compiles maps; keeps what it read and matched, for the next time."""

    def __init__(self) -> None:
        self._index = IdentityIndex()
        self._policies: dict[ObjectKey, Prepared] = {}
        self._universe = Universe({})
        self._prefixes = PrefixMap(self._universe, {}, "", Mode.OVERLAY)
        self._entries: dict[int, Entries] = {}

    def compile(
        self, state: State, node: str, mode: Mode, attachments: Mapping[str, Attachment]
    ) -> Maps:
        """The maps that `node` is to enforce, its pods attached by `attachments` (by UID)."""
        self._prepare(state, node, mode)
        local = _local_pods(state, node, attachments)
        rule_sets = self._rule_sets({identity for _, identity, _ in local})
        in_use = {rules.id: rules for rules in rule_sets.values() if rules.id}
        self._entries = {id: self._entries_of(rules) for id, rules in in_use.items()}
        return Maps(
            identities=ALWAYS_KNOWN | state.identities.keys(),
            policies=frozenset().union(*(entries.keys for entries in self._entries.values())),
            nodes=frozenset(
                packed(text) for known in state.nodes.values() for text in known.addresses
            ),
            prefixes=self._prefixes.entries,
            hosts=self._hosts(state, node, mode),
            endpoints={
                at: _endpoint(attachment, identity, rule_sets[identity])
                for at, identity, attachment in local
            },
        )

    def explain_span(
        self, state: State, node: str, attachments: Mapping[str, Attachment], remote: str
    ) -> list[Need]:
        """Which local egress rules make `node` know the binding of the remote address `remote`.

        In overlay mode a node without such a rule writes nothing for a pod that starts elsewhere.
        """
        self._prepare(state, node, Mode.OVERLAY)
        holder = state.endpoints.get(state.bindings.get(remote, ""))
        if holder is None or holder.node == node or holder.host_network:
            return []
        local = _local_pods(state, node, attachments)
        rule_sets = self._rule_sets({identity for _, identity, _ in local})
        found: dict[Need, None] = {}
        for _, identity, attachment in local:
            rules = rule_sets[identity]
            for prepared in rules.policies:
                for rule, peers in prepared.rules:
                    keys = rules.keys(rule, peers, self._index, self._universe)
                    named = {key.identity for key in keys if key.direction is Direction.EGRESS}
                    if self._prefixes.names(named, holder.identity, packed(remote)):
                        found[Need(attachment.uid, prepared.policy.key, rule.path)] = None
        return list(found)

    def _prepare(self, state: State, node: str, mode: Mode) -> None:
        """Bring what is remembered up to `state`."""
        self._index.update(
            {
                number: identity.labels
                for number, identity in state.identities.items()
                if is_pod(number)
            }
        )
        before = self._policies
        self._policies = {}
        for key, accepted in sorted(state.policies.items()):
            known = before.get(key)
            if known is None or known.accepted is not accepted:
                known = Prepared(accepted, self._index)
            self._policies[key] = known
        numbers = {}
        for prepared in self._policies.values():
            for cidr, labels in prepared.cidrs.items():
                if labels in state.numbers:
                    numbers[cidr] = state.numbers[labels]
        if numbers != self._universe.numbers:
            self._universe = Universe(numbers)
        if not self._prefixes.is_made_from(self._universe, state.nodes, node, mode):
            self._prefixes = PrefixMap(self._universe, state.nodes, node, mode)

    def _rule_sets(self, identities: set[int]) -> dict[int, RuleSet]:
        selecting: dict[int, list[Prepared]] = {identity: [] for identity in identities}
        for prepared in self._policies.values():
            for identity in prepared.subject.numbers & identities:
                selecting[identity].append(prepared)
        return {
            identity: rule_set(policies, self._index.ports(identity))
            for identity, policies in selecting.items()
        }

    def _entries_of(self, rules: RuleSet) -> Entries:
        known = self._entries.get(rules.id)
        if known is not None and known.is_current(rules, self._index, self._universe):
            return known
        return Entries(rules, self._index, self._universe)

    def _hosts(self, state: State, node: str, mode: Mode) -> dict[Address, int]:
        """Addresses of nodes, and of the remote pods that this node must know."""
        hosts: dict[Address, int] = {}
        named: frozenset[int] = frozenset()
        if mode is Mode.OVERLAY:
            named = named.union(*(entries.egress_peers for entries in self._entries.values()))
        if mode is Mode.NATIVE or named:
            for endpoint in state.endpoints.values():
                if endpoint.node == node or endpoint.host_network:
                    continue
                for text in endpoint.addresses:
                    at = packed(text)
                    if mode is Mode.NATIVE or self._prefixes.names(named, endpoint.identity, at):
                        hosts[at] = endpoint.identity
        # A node's address is the node's, whatever a pod claims.
        for name, known in state.nodes.items():
            if name != node:
                hosts.update((packed(text), Reserved.REMOTE_NODE.value) for text in known.addresses)
        if node in state.nodes:
            hosts.update(
                (packed(text), Reserved.HOST.value) for text in state.nodes[node].addresses
            )
        return hosts


def _local_pods(
    state: State, node: str, attachments: Mapping[str, Attachment]
) -> list[tuple[Address, int, Attachment]]:
    """(address, identity, attachment) for each address of each pod attached here."""
    nodes = {text for known in state.nodes.values() for text in known.addresses}
    claims: dict[str, list[tuple[int, Attachment]]] = {}
    for uid, attachment in attachments.items():
        bound = state.endpoints.get(uid)
        addresses: tuple[str, ...] = ()
        identity = Reserved.UNKNOWN.value
        if bound is not None:
            if bound.node == node and not bound.host_network:
                identity, addresses = bound.identity, bound.addresses
        elif attachment.provisional is not None and uid not in state.tombstones:
            # Ahead of the ledger: never against it, so an address that it gives to another waits.
            identity = attachment.provisional.identity
            addresses = tuple(
                text for text in attachment.provisional.addresses if text not in state.bindings
            )
        if is_pod(identity) and identity in state.identities:
            for text in addresses:
                if text not in nodes:
                    claims.setdefault(text, []).append((identity, attachment))
    # Two pods ahead of the ledger with one address: it decides.
    return [
        (packed(text), *claimants[0]) for text, claimants in claims.items() if len(claimants) == 1
    ]


def _endpoint(attachment: Attachment, identity: int, rules: RuleSet) -> Endpoint:
    return Endpoint(
        incarnation=incarnation(attachment.uid),
        identity=identity,
        policy=rules.id,
        flags=rules.flags,
        ifindex=attachment.ifindex,
        mac=attachment.mac,
        host_mac=attachment.host_mac,
    )

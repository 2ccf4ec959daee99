"""From the folded ledger to the maps of one node.

The maps are a function of state, node, mode and attachments alone. A Compiler that is told which
events were folded finds them again by looking only at what those touched: all that it remembers is
an index. Where the ledger leaves a question open the answer is the closed one: no endpoint entry,
no match.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TypeVar, assert_never

from tabard.dataplane.maps import (
    AT_CIDR,
    Address,
    Direction,
    Endpoint,
    EndpointFlag,
    Maps,
    Mode,
    PolicyKey,
    PrefixEntry,
    Strength,
    address_text,
)
from tabard.dataplane.port import Change
from tabard.events import ledger as events
from tabard.identity.labels import LabelSet, cidr_label, split_label
from tabard.identity.numbers import Reserved, is_cidr
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.state import ObjectKey, State, enforcement_of
from tabard.policy.entries import Entries
from tabard.policy.growth import Growth, most
from tabard.policy.hosts import Hosts, is_by_address
from tabard.policy.local import Attachment as Attachment
from tabard.policy.local import LocalPods
from tabard.policy.local import Provisional as Provisional
from tabard.policy.local import incarnation as incarnation
from tabard.policy.local import node_incarnation as node_incarnation
from tabard.policy.matching import (
    NO_PORTS,
    RESERVED_LABELS,
    IdentityIndex,
    Matched,
    seen_labels,
)
from tabard.policy.model import Cidr
from tabard.policy.prefixes import Prefix, PrefixMap, Universe, address_alone, members, packed
from tabard.policy.rules import RuleSet, rule_set
from tabard.policy.touched import Touched
from tabard.policy.watched import Watched

K = TypeVar("K")
V = TypeVar("V")

HOST = Reserved.HOST.value

ALWAYS_KNOWN = frozenset(RESERVED_LABELS)
"""Reserved identities that peers can have here."""


@dataclass(frozen=True, slots=True)
class Need:
    """Why a node must know a remote pod's address: a local endpoint's egress rule names it, or is
    there although what no rule denies is allowed, while unknown peers drop."""

    uid: str
    """The local pod; "" is the node itself."""
    policy: ObjectKey
    rule: str
    """Field path of the rule in the policy."""


class Compiler:
    """Compiles maps: at once (`compile`), or as the ledger goes on (`note`, then `update`)."""

    def __init__(self) -> None:
        self._begin("", Mode.OVERLAY)

    def _begin(self, node: str, mode: Mode) -> None:
        self._state: State | None = None
        """What `maps` were made from; None if that is not known, or they were never made."""
        self._sequence = 0
        """Through which `_touched` was noted."""
        self._touched = Touched()
        self._place = (node, mode)
        self._index = IdentityIndex()
        self._policies = Watched(self._index, node)
        self._universe = Universe({})
        self._prefix_map = PrefixMap(self._universe, {}, "", mode)
        self._pods = LocalPods(node)
        self._own: set[str] = set()
        """The node's addresses."""
        self._enforcement: events.Enforcement = "default"
        self._entries: dict[int, Entries] = {}
        """Rule sets of local pods, and of the node if policies select it, by their id."""
        self._rules_of: dict[int, Entries] = {}
        """The same by the identities of those pods; HOST is the node."""
        self._naming: dict[Matched | Cidr, set[Entries]] = {}
        """The same by their rules' peers."""
        self._named: Counter[int] = Counter()
        """How many of them need to know a peer (`Entries.egress_peers`); none is 0."""
        self._hosts = Hosts(node, mode)
        self._identities: set[int] = set()
        self._policy_entries: dict[PolicyKey, Strength] = {}
        self._nodes: set[Address] = set()
        self._prefixes: dict[Prefix, PrefixEntry] = {}
        self._bound: dict[Address, int] = {}
        self._endpoints: dict[Address, Endpoint] = {}
        self.maps = Maps(
            self._policy_entries,
            self._identities,
            self._nodes,
            self._prefixes,
            self._bound,
            self._endpoints,
        )
        """The result, of the six above. `update` changes it in place, `compile` makes another."""

    def compile(
        self, state: State, node: str, mode: Mode, attachments: Mapping[str, Attachment]
    ) -> Maps:
        """The maps that `node` is to enforce, its pods attached by `attachments` (by UID)."""
        self._begin(node, mode)
        all_of_it = Touched(
            numbers={*state.identities, *ALWAYS_KNOWN},
            policies=set(state.policies),
            nodes=True,
            everything=True,
        )
        self._go_on(state, attachments, all_of_it)
        return self.maps

    def note(self, records: Iterable[LedgerRecord]) -> bool:
        """The state has gone on by `records`; whether the maps may be others than before."""
        if self._state is None:
            return True
        for record in records:
            if record.sequence == self._sequence + 1:
                self._sequence = record.sequence
                self._touch(record.event)
            elif record.sequence > self._sequence:
                self._state = None  # something was folded that was not told
                return True
        return bool(self._touched)

    def update(
        self, state: State, node: str, mode: Mode, attachments: Mapping[str, Attachment]
    ) -> Change | None:
        """Make `maps` what `compile` would, and say by what change.

        None if they were compiled anew (as for another state than before, or one that has gone on
        by more than was noted): then `maps` is another object.
        """
        if (
            self._state is not state
            or self._sequence != state.sequence
            or self._place != (node, mode)
        ):
            self.compile(state, node, mode, attachments)
            return None
        touched, self._touched = self._touched, Touched()
        return self._go_on(state, attachments, touched)

    def explain_span(
        self, state: State, node: str, attachments: Mapping[str, Attachment], remote: str
    ) -> list[Need]:
        """Which local egress rules make `node` know the binding of the remote address `remote`.

        In overlay mode a node without such a rule writes nothing for a pod that starts elsewhere.
        """
        self.update(state, node, Mode.OVERLAY, attachments)
        holder = state.endpoints.get(state.bindings.get(remote, ""))
        if holder is None or holder.node == node or holder.host_network:
            return []
        at = packed(remote)
        local = {(one.uid, identity) for identity, one in self._pods.placed.values()}
        if HOST in self._rules_of:
            local.add(("", HOST))
        found: dict[Need, None] = {}
        for uid, identity in sorted(local):
            entries = self._rules_of[identity]
            for clause in entries.clauses:
                if clause.rule.direction is not Direction.EGRESS:
                    continue
                named = clause.numbers(self._index, self._universe)
                if entries.is_open or self._prefix_map.names(named, holder.identity, at):
                    found[Need(uid, clause.policy.key, clause.rule.path)] = None
        return list(found)

    def growth(self, keys: Iterable[PolicyKey]) -> Growth | None:
        """Which policy and rule ask for the most of these entries of the last result."""
        new: dict[Entries, set[int]] = {}
        for key in keys:
            if (entries := self._entries.get(key.policy)) is not None:  # else it is passing away
                new.setdefault(entries, set()).add(key.identity)
        return most(new, self._index, self._universe)

    def _touch(self, event: events.LedgerEvent) -> None:
        touched = self._touched
        match event:
            case events.NodeAdded() | events.NodeRemoved():
                touched.nodes = True
            case events.IdentityAllocated() | events.IdentityRetired():
                touched.numbers.add(event.identity)
            case events.SettingsAdopted():
                touched.numbers.update(number for number, _ in event.fixed)
                touched.settings = True
            case events.EndpointBound():
                if self._hosts.follows_pods or self._pods.concerns(event.uid, event.addresses):
                    touched.uids.add(event.uid)
                    touched.addresses.update(event.addresses)
            case (
                events.EndpointRelabelled()
                | events.EndpointUnbound()
                | events.EndpointTombstoned()
                | events.PodRefused()
            ):
                if self._hosts.follows_pods or self._pods.concerns(event.uid):
                    touched.uids.add(event.uid)
            case events.EndpointsRebound():
                for uid, _ in event.changes:
                    if self._hosts.follows_pods or self._pods.concerns(uid):
                        touched.uids.add(uid)
            case events.PolicyAccepted() | events.PolicyForgotten():
                touched.policies.add((event.kind, event.namespace, event.name))
            case events.NameResolved() | events.NameForgotten():
                touched.referents = True
            case (
                events.CursorAdvanced()
                | events.EpochClaimed()
                | events.EventQuarantined()
                | events.IdentityReleased()
                | events.LedgerTrimmed()
                | events.NamespaceForgotten()
                | events.NamespaceLabelled()
                | events.NodeLost()
                | events.NodeRefused()
                | events.NodeReturned()
                | events.NumbersAvailable()
                | events.NumbersExhausted()
                | events.PolicyRefused()
                | events.RebindPlanned()
                | events.RelabelPlanned()
                | events.WorkloadAccepted()
                | events.WorkloadForgotten()
            ):
                pass  # no map depends on them; what follows from them comes as events of their own
            case _:
                assert_never(event)

    def _go_on(
        self, state: State, attachments: Mapping[str, Attachment], touched: Touched
    ) -> Change:
        self._state = None  # until all of it is done
        live = {number: state.identities.get(number) for number in touched.numbers}
        known = {number for number, one in live.items() if one or number in ALWAYS_KNOWN}
        identities = _move(self._identities, known, touched.numbers - known)

        stale: dict[Entries, set[int]] = {}
        """Rule sets, and the peers for whom their entries may be others."""
        labels = {
            number: RESERVED_LABELS.get(number) if one is None else seen_labels(number, one.labels)
            for number, one in live.items()
        }
        for matched, number in self._index.update(labels):
            for entries in self._naming.get(matched, ()):
                stale.setdefault(entries, set()).add(number)
        gone, new = self._policies.update(state, touched)
        here = self._rules_of.keys()
        subjects: set[int] = set()
        for one in (*gone, *new):
            subjects |= {HOST} if one.subject is None else one.subject.numbers & here
        if self._enforcement != enforcement_of(state):
            self._enforcement = enforcement_of(state)
            subjects |= here
        moved = self._moved(state, touched.numbers)
        around = self._around(moved)
        laid_out = self._lay_out(state, moved, stale, is_anew=touched.nodes)
        texts, numbers = self._pods.update(state, attachments, touched)
        turned, made, dropped = self._select(subjects | numbers)
        settled, newly = self._refresh(stale, made, dropped)
        passing = self._passing_away(dropped, moved, around) | self._passing_by(made, moved, around)
        passing = {k: v for k, v in passing.items() if k not in self._policy_entries}
        for prepared in gone:
            prepared.release(self._index)

        nodes: tuple[frozenset[Address], frozenset[Address]] = (frozenset(), frozenset())
        if touched.nodes:
            addresses = {packed(text) for one in state.nodes.values() for text in one.addresses}
            nodes = _move(self._nodes, addresses, self._nodes - addresses)
        is_there = self._prefixes.keys() & laid_out.keys()
        prefixes = _settle(self._prefixes, laid_out)
        new_numbers = set(moved.values())
        widened = {
            place: entry
            for place, entry in prefixes[0].items()
            if place in is_there and entry.identity not in new_numbers and not touched.nodes
        }
        hosts = self._find_hosts(state, touched, newly, moved.keys())
        texts.update(*(self._places(number) for number in turned))
        if touched.nodes:
            own = state.nodes.get(self._place[0])
            texts |= self._own
            self._own = set(own.addresses) if own is not None else set()
            texts |= self._own
        endpoints = _settle(self._endpoints, {packed(text): self._endpoint(text) for text in texts})

        self._state, self._sequence, self._touched = state, state.sequence, Touched()
        return Change(
            policies_set={**settled[0], **passing},
            identities_added=identities[0],
            nodes_added=nodes[0],
            prefixes_set={k: v for k, v in prefixes[0].items() if k not in widened},
            hosts_set=hosts[0],
            endpoints_set=endpoints[0],
            endpoints_removed=endpoints[1],
            hosts_removed=hosts[1],
            prefixes_widened=widened,
            prefixes_removed=prefixes[1],
            nodes_removed=nodes[1],
            identities_removed=identities[1],
            policies_removed=settled[1] | passing.keys(),
            rebound=self._rebound(state, touched, hosts)
            if any(endpoints) and not touched.everything
            else frozenset(),
        )

    def _rebound(
        self,
        state: State,
        touched: Touched,
        hosts: tuple[Mapping[Address, int], frozenset[Address]],
    ) -> frozenset[Address]:
        """Those of `hosts` where others are than before: no pod, or one that was touched."""
        if touched.nodes:  # whose addresses these may be, whatever pods claim
            return hosts[1].union(hosts[0])
        texts = {at: address_text(at) for at in hosts[1].union(hosts[0])}
        others = {None, *touched.uids}
        return frozenset(
            at
            for at, text in texts.items()
            if text in touched.addresses or state.bindings.get(text) in others
        )

    def _around(self, moved: Iterable[str]) -> dict[str, tuple[int | None, int]]:
        """The number that each CIDR has, and whose its addresses are (`PrefixMap.around`)."""
        if not self._entries:
            return {}
        numbers = self._universe.numbers
        return {cidr: (numbers.get(cidr), self._prefix_map.around(cidr)) for cidr in moved}

    def _passing_away(
        self,
        dropped: Iterable[Entries],
        moved: Mapping[str, int | None],
        around: Mapping[str, tuple[int | None, int]],
    ) -> dict[PolicyKey, Strength]:
        """Entries of a rule set for CIDRs that come before endpoints are turned away from it."""
        return dict(
            entry
            for entries in dropped
            for cidr, (_, before) in around.items()
            if (number := moved[cidr]) is not None
            for entry in entries.as_of(number, before)
        )

    def _passing_by(
        self,
        made: Iterable[Entries],
        moved: Mapping[str, int | None],
        around: Mapping[str, tuple[int | None, int]],
    ) -> dict[PolicyKey, Strength]:
        """Entries of a new rule set for CIDRs that go after endpoints were turned to it."""
        return dict(
            entry
            for entries in made
            for cidr, (before, _) in around.items()
            if before is not None and moved[cidr] is None
            for entry in entries.as_of(before, self._prefix_map.around(cidr))
        )

    def _lay_out(
        self,
        state: State,
        moved: Mapping[str, int | None],
        stale: dict[Entries, set[int]],
        *,
        is_anew: bool,
    ) -> dict[Prefix, PrefixEntry | None]:
        """Have CIDRs and pods' ranges of now; entries of `prefixes` that may be others."""
        universe = self._universe
        asked = {peer for cidr in moved for peer in universe.around(cidr)}
        before = {peer: members(universe, peer) for peer in asked}
        universe.update(moved)
        for peer in asked:
            if others := before[peer] ^ members(universe, peer):
                for entries in self._naming[peer]:
                    stale.setdefault(entries, set()).update(others)
        if not is_anew:
            return self._prefix_map.update(moved)
        self._prefix_map = PrefixMap(universe, state.nodes, *self._place)
        gone = self._prefixes.keys() - self._prefix_map.entries.keys()
        return {**dict.fromkeys(gone), **self._prefix_map.entries}

    def _moved(self, state: State, touched: Set[int]) -> dict[str, int | None]:
        """CIDRs that have another number than before, or none any more."""
        looked = set(self._policies.recounted)
        for number in filter(is_cidr, touched):
            looked.add(self._universe.cidrs.get(number, ""))
            if (identity := state.identities.get(number)) is not None:
                looked.update(key for _, key, _ in map(split_label, identity.labels))
        found: dict[str, int | None] = {}
        for cidr in looked:
            now = None
            if cidr in self._policies.cidrs:
                now = state.numbers.get(LabelSet((cidr_label(cidr),)))
            if now != self._universe.numbers.get(cidr):
                found[cidr] = now
        return found

    def _select(self, subjects: Set[int]) -> tuple[set[int], list[Entries], list[Entries]]:
        """Decide the rule sets of these identities: those that have another than before, the rule
        sets that are new here, and those that nobody has any more."""
        turned: set[int] = set()
        made: list[Entries] = []
        left: dict[Entries, None] = {}
        for number in subjects:
            before, now = self._rules_of.pop(number, None), None
            if self._is_here(number):
                rules = self._rule_set(number)
                now = self._entries.get(rules.id)
                if now is None:
                    now = self._entries[rules.id] = Entries(rules)
                    made.append(now)
                    for peer in now.masks:
                        if isinstance(peer, Cidr) and peer not in self._naming:
                            self._universe.track(peer)
                        self._naming.setdefault(peer, set()).add(now)
                self._rules_of[number] = now
                now.subjects.add(number)
            if now is not before:
                turned.add(number)
                if before is not None:
                    before.subjects.discard(number)
                    left[before] = None
        dropped = [entries for entries in left if not entries.subjects]
        for entries in dropped:
            del self._entries[entries.rules.id]
            for peer in entries.masks:
                self._naming[peer].discard(entries)
                if not self._naming[peer]:
                    del self._naming[peer]
                    if isinstance(peer, Cidr):
                        self._universe.release(peer)
        return turned, made, dropped

    def _is_here(self, number: int) -> bool:
        """Whether it needs a rule set: a local pod's identity; HOST if policies select the node."""
        return self._policies.selects_node if number == HOST else number in self._pods.places

    def _places(self, number: int) -> Set[str]:
        """The addresses here that have this identity."""
        return self._own if number == HOST else self._pods.places.get(number, set())

    def _rule_set(self, number: int) -> RuleSet:
        if number == HOST:  # no mode isolates a node that no policy isolates
            enforcement: events.Enforcement = "never" if self._enforcement == "never" else "default"
            return rule_set(self._policies.guarding(), NO_PORTS, enforcement)
        policies = self._policies.selecting(number)
        return rule_set(policies, self._index.ports(number), self._enforcement)

    def _refresh(
        self, stale: dict[Entries, set[int]], made: list[Entries], dropped: list[Entries]
    ) -> tuple[tuple[Mapping[PolicyKey, Strength], frozenset[PolicyKey]], set[int]]:
        """Make the policy map right; what was set and removed, and the peers that must be known
        now, or not any more."""
        found: dict[PolicyKey, Strength | None] = {}
        named: Counter[int] = Counter()
        for entries in dropped:
            stale.pop(entries, None)
            found.update(dict.fromkeys(entries.keys()))
            named.subtract(entries.egress_peers)
        for entries in made:
            stale.pop(entries, None)
            found.update(entries.fill(self._index, self._universe))
            named.update(entries.egress_peers)
        naming: dict[int, list[Matched | Cidr]] = {
            number: [*self._index.matching(number), *self._universe.naming(number)]
            for number in set().union(*stale.values())
        }
        for entries, peers in stale.items():
            named.subtract(peers & entries.egress_peers)
            theirs = {number: naming[number] for number in peers}
            found.update(entries.refresh(self._index, theirs))
            named.update(peers & entries.egress_peers)
        newly = set()
        for number, more in named.items():
            before = self._named.pop(number, 0)
            now = before + more
            if now:
                self._named[number] = now
            if bool(before) != bool(now):
                newly.add(number)
        return _settle(self._policy_entries, found), newly

    def _find_hosts(
        self, state: State, touched: Touched, newly: Set[int], moved: Set[str]
    ) -> tuple[Mapping[Address, int], frozenset[Address]]:
        addresses: set[str] | None = set()
        if self._place[1] is Mode.OVERLAY:
            addresses = self._addresses(newly, moved, is_anew=touched.nodes)
        if touched.everything or addresses is None:
            found = self._hosts.everything(state, self._prefix_map, self._named)
            return _settle_all(self._bound, found)
        return _settle(
            self._bound,
            self._hosts.changed(state, self._prefix_map, self._named, newly, addresses, touched),
        )

    def _addresses(self, newly: Set[int], moved: Set[str], *, is_anew: bool) -> set[str] | None:
        """At which addresses pods may be named by them now, or not any more; None: at any."""
        of_cidrs = set(filter(is_cidr, newly))
        is_by_place = is_by_address(self._named.keys() - {0})
        if is_by_address(newly - of_cidrs) or (is_by_place and is_anew):
            return None
        cidrs = self._universe.cidrs
        looked = {cidrs[number & ~AT_CIDR] for number in of_cidrs if number & ~AT_CIDR in cidrs}
        if of_cidrs or is_by_place:
            looked |= moved  # which has those that were in the universe until now
        found = {address_alone(cidr) for cidr in looked}
        return None if None in found else {text for text in found if text is not None}

    def _endpoint(self, text: str) -> Endpoint | None:
        if text in self._own:
            return self._node_endpoint()
        if text not in self._pods.placed:
            return None
        identity, attachment = self._pods.placed[text]
        rules = self._rules_of[identity].rules
        return Endpoint(
            incarnation=incarnation(attachment.uid),
            identity=identity,
            policy=rules.id,
            flags=rules.flags,
            ifindex=attachment.ifindex,
            mac=attachment.mac,
            host_mac=attachment.host_mac,
            stale_after_s=rules.stale_after_s,
        )

    def _node_endpoint(self) -> Endpoint | None:
        entries = self._rules_of.get(HOST)
        if entries is None or not entries.rules.policies:
            return None
        return Endpoint(
            incarnation=node_incarnation(self._place[0]),
            identity=HOST,
            policy=entries.rules.id,
            flags=entries.rules.flags | EndpointFlag.NODE,
            ifindex=0,
            mac=bytes(6),
            host_mac=bytes(6),
        )


def _move(entries: set[K], there: Set[K], not_there: Set[K]) -> tuple[frozenset[K], frozenset[K]]:
    """Have some in `entries` and others not; what was added and removed."""
    added, removed = frozenset(there - entries), frozenset(not_there & entries)
    entries |= added
    entries -= removed
    return added, removed


def _settle(entries: dict[K, V], found: Mapping[K, V | None]) -> tuple[dict[K, V], frozenset[K]]:
    """Make `entries` what was found of some keys (None: nothing); what was set and removed."""
    changed = {
        key: value
        for key, value in found.items()
        if value is not None and entries.get(key) != value
    }
    removed = [key for key, value in found.items() if value is None and key in entries]
    entries.update(changed)
    for key in removed:
        del entries[key]
    return changed, frozenset(removed)


def _settle_all(entries: dict[K, V], found: Mapping[K, V]) -> tuple[Mapping[K, V], frozenset[K]]:
    """Make `entries` what was found, of all keys; what was set and removed."""
    if not entries:
        entries.update(found)
        return found, frozenset()
    return _settle(entries, {**dict.fromkeys(entries.keys() - found.keys()), **found})

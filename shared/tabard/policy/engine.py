"""What the accepted policies say of a flow, and by which rule: read off the folded ledger directly.

No maps, no entries, no ids: labels, addresses and CIDRs, and rules in the order in which they are
judged. So this is the second opinion that compiled maps and kernels are held against, and what
explains a verdict. It gives the same answers as `dataplane.verdict.flow_verdict` on the maps of all
nodes, its reasons those of native mode: an overlay node that knows nothing of a remote pod, since
no egress rule there names it, calls it an unknown peer where this says that no rule allows it.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from tabard.dataplane.maps import Action, Direction, Reason, Tier
from tabard.identity.labels import NamedPorts, cidr_label, label_set, named_ports
from tabard.identity.numbers import CLUSTER_MIN, Reserved, is_pod
from tabard.ledger.state import ObjectKey, State, enforcement_of
from tabard.policy.matching import RESERVED_LABELS, Labels, labels_of
from tabard.policy.model import Cidr, Peer, Policy, Port, Rule
from tabard.policy.naming import Naming, holds, selector_of, selectors_of
from tabard.policy.networks import Networks, longest
from tabard.policy.parties import Parties, Party, Role, Who
from tabard.policy.referents import in_force
from tabard.policy.rulings import REASONS, Decision, Grant, Half, Ruling, in_tier, ruling
from tabard.policy.selectors import Selectors
from tabard.policy.traffic import EVERYTHING, NOTHING, Traffic, intersection


@dataclass(frozen=True, slots=True)
class _Standing:
    """What policies have a say on a subject in one direction, in the order of judging."""

    policies: tuple[Policy, ...]
    isolating: tuple[Policy, ...]
    rules: tuple[Naming, ...]
    is_isolated: bool


_NOBODY = _Standing((), (), (), False)

_Subject = tuple[Role, int, str]
"""What policies can tell of a subject: its role, and a pod's sort or a node's name."""


class Engine:
    """Answers questions about one state; make another after a change.

    It keeps what it found, so that all pairs of many pods cost little more than those of pods that
    policies tell apart.
    """

    def __init__(self, state: State) -> None:
        self.parties = Parties(state)
        self._state = state
        found = in_force(state)
        policies = [resolved for _, resolved in found]
        self._written = {id(resolved): written for written, resolved in found}
        """Policies, by what they were resolved to."""
        self._authored: dict[ObjectKey, list[Policy]] = {}
        for policy, _ in found:
            self._authored.setdefault(policy.key, []).append(policy)
        # Stable: then by kind, namespace, name and place in the document.
        policies.sort(key=lambda policy: (policy.tier, policy.priority))
        self.networks = Networks(frozenset().union(*(policy.cidrs() for policy in policies)))
        """Every CIDR that is named, excepts included."""
        self._selectors = Selectors(
            selector for policy in policies for selector in selectors_of(policy)
        )
        self._enforcement = enforcement_of(state)
        self._order = {id(policy): place for place, policy in enumerate(policies)}
        self._of_subject: dict[tuple[bool, int], list[Policy]] = {}
        """(whether nodes are meant, place of the selector) → policies."""
        self._rules: dict[tuple[int, Direction], list[Naming]] = {}
        """By the place of the policy."""
        for place, policy in enumerate(policies):
            subject = (policy.selects_nodes, self._selectors.places[policy.subject])
            self._of_subject.setdefault(subject, []).append(policy)
            for rule in policy.rules:
                read = Naming(policy, rule, self._selectors)
                self._rules.setdefault((place, rule.direction), []).append(read)
        self._labels: dict[tuple[int, str], Labels] = {}
        self._matched: dict[tuple[int, str], frozenset[int]] = {}
        self._sorts: dict[Hashable, int] = {}
        self._sort_of: dict[tuple[int, str], int] = {}
        self._hosts: dict[str, list[Policy]] = {}
        self._standings: dict[tuple[Direction, _Subject], _Standing] = {}
        self._grants: dict[Hashable, tuple[Grant, ...]] = {}
        self._rulings: dict[Hashable, Ruling] = {}

    def decide(self, source: Who, destination: Who, protocol: int, port: int) -> Decision:
        """The verdict on a flow's first packet; `port` is the destination's, for ICMP the type.

        PartyError if an end is nobody.
        """
        one, other = self.parties.pair(source, destination)
        return Decision(
            one,
            other,
            self.half(Direction.EGRESS, one, other, protocol, port),
            self.half(Direction.INGRESS, other, one, protocol, port),
        )

    def allowed(self, source: Who, destination: Who) -> Traffic:
        """All that may pass from one to the other, exactly (`tabard.policy.traffic`).

        PartyError if an end is nobody.
        """
        one, other = self.parties.pair(source, destination)
        egress = self.allowed_half(Direction.EGRESS, one, other)
        ingress = self.allowed_half(Direction.INGRESS, other, one)
        if egress is EVERYTHING:
            return ingress
        return egress if ingress is EVERYTHING else intersection(egress, ingress)

    def allowed_half(self, direction: Direction, subject: Party, peer: Party) -> Traffic:
        """What the policies of `subject` let pass in `direction`; everything if none can hold."""
        reason = self.at_once(direction, subject, peer)
        if reason is not None:
            return EVERYTHING if reason.allowed else NOTHING
        return self.ruling(direction, subject, peer).allowed

    def half(
        self, direction: Direction, subject: Party, peer: Party, protocol: int, port: int
    ) -> Half | None:
        """What the policies of `subject` say in `direction`; None if none can hold for it."""
        if not self.is_judged(subject):
            return None
        isolating = keys(self.isolating(direction, subject))
        reason = self.at_once(direction, subject, peer)
        if reason is not None:
            return Half(direction, reason, isolating)
        rule, passes = self.deciding(direction, subject, peer, protocol, port)
        if rule is not None:
            reason = REASONS[rule.action]
        elif self.is_isolated(direction, subject):
            reason = Reason.DENIED_POLICY
        else:
            reason = Reason.ALLOWED_NO_POLICY
        return Half(direction, reason, isolating, rule, passes)

    def deciding(
        self, direction: Direction, subject: Party, peer: Party, protocol: int, port: int
    ) -> tuple[Grant | None, tuple[Grant, ...]]:
        """The rule that decides with a known `peer`, and those that passed before it."""
        grants = [
            grant for grant in self.grants(direction, subject, peer) if grant.covers(protocol, port)
        ]
        passes: list[Grant] = []
        for tier in Tier:
            first = next((grant for grant in grants if grant.tier is tier), None)
            if first is not None:
                if first.action is not Action.PASS:
                    return first, tuple(passes)
                passes.append(first)
            if tier is Tier.NETWORK and self.is_isolated(direction, subject):
                break
        return None, tuple(passes)

    def ruling(self, direction: Direction, subject: Party, peer: Party) -> Ruling:
        """How all traffic with a known `peer` fares by the rules of `subject`."""
        key = self._key(direction, subject, peer)
        found = self._rulings.get(key)
        if found is None:
            grants = self.grants(direction, subject, peer)
            found = self._rulings[key] = ruling(grants, self.is_isolated(direction, subject))
        return found

    def alike(self, party: Party) -> Hashable:
        """Equal for parties that no policy tells apart (a pod's own node is let in regardless).

        Pods that are alike have the same named ports too.
        """
        held = self.networks.holding(party.address)
        if party.role is Role.NODE:
            judged = frozenset(map(id, self._host_policies(_node(party))))
            return (party.role, party.identity, judged, held)
        return (party.role, self._sort(self._guise(party, "")), held)

    def at_once(self, direction: Direction, subject: Party, peer: Party) -> Reason | None:
        """The verdict on all that passes between them, if no rule needs to be asked."""
        standing = self._standing(direction, subject)
        if not standing.is_isolated and not standing.policies:
            return Reason.ALLOWED_NO_POLICY
        number = peer.as_seen_on(_node(subject))
        # The node must reach its pods (ARCHITECTURE.md, decision 15).
        if direction is Direction.INGRESS and number == Reserved.HOST:
            return Reason.ALLOWED_HOST
        if number == Reserved.UNKNOWN:
            return Reason.DENIED_UNKNOWN_PEER
        return None

    def is_judged(self, subject: Party) -> bool:
        """Whether policies can hold for it: a pod, or a node that a host policy selects."""
        if subject.role is Role.NODE:
            return bool(self._host_policies(_node(subject)))
        return subject.role is Role.POD

    def is_isolated(self, direction: Direction, subject: Party) -> bool:
        """Whether it is denied what no rule through tier NETWORK allows."""
        return self._standing(direction, subject).is_isolated

    def isolating(self, direction: Direction, subject: Party) -> tuple[Policy, ...]:
        """The policies that isolate `subject` in `direction`, in the order of judging."""
        return self._standing(direction, subject).isolating

    def selecting(self, direction: Direction, subject: Party) -> tuple[Policy, ...]:
        """The policies that have a say on `subject` in `direction`, in the order of judging."""
        return self._standing(direction, subject).policies

    def _standing(self, direction: Direction, subject: Party) -> _Standing:
        if subject.role not in (Role.POD, Role.NODE) or self._enforcement == "never":
            return _NOBODY
        at = (direction, self._subject(subject))
        found = self._standings.get(at)
        if found is None:
            found = self._standings[at] = self._stand(direction, subject)
        return found

    def _stand(self, direction: Direction, subject: Party) -> _Standing:
        if subject.role is Role.NODE:
            chosen = self._host_policies(_node(subject))
        else:
            chosen = self._chosen(self._match(self._guise(subject, "")), nodes=False)
        rules = {id(policy): self._rules_of(policy, direction) for policy in chosen}
        isolating = tuple(policy for policy in chosen if direction in policy.isolates)
        is_always = self._enforcement == "always" and subject.role is Role.POD
        return _Standing(
            tuple(one for one in chosen if direction in one.isolates or rules[id(one)]),
            isolating,
            tuple(read for policy in chosen for read in rules[id(policy)]),
            is_always or bool(isolating),
        )

    def asks_addresses(self, direction: Direction, subject: Party) -> bool:
        """Whether rules of the policies that select `subject` name peers by CIDR."""
        return any(read.sees_addresses for read in self._standing(direction, subject).rules)

    def grants(self, direction: Direction, subject: Party, peer: Party) -> tuple[Grant, ...]:
        """Every item of `subject`'s rules that matches something of a known `peer`'s, in the order
        of judging: of those that cover some traffic the first of a tier decides there."""
        key = self._key(direction, subject, peer)
        found = self._grants.get(key)
        if found is None:
            guise = self._guise(peer, _node(subject))
            matched, held = self._match(guise), self.networks.holding(peer.address)
            grants = [
                grant
                for read in self._standing(direction, subject).rules
                for by_cidr, path in read.matching(matched, held, peer.role is Role.WORLD)
                for grant in self._granted(read, by_cidr, path, subject, peer)
            ]
            grants.sort(key=in_tier)
            found = self._grants[key] = tuple(dict.fromkeys(grants))
        return found

    def _granted(
        self, read: Naming, by_cidr: bool, path: str | None, subject: Party, peer: Party
    ) -> Iterator[Grant]:
        policy, rule = read.policy, read.rule
        for at, port in enumerate(rule.ports):
            is_proxied = rule.action is Action.ALLOW and port.lookups is not None
            for first, last in self.numbers(port, rule.direction, subject, peer, by_cidr=by_cidr):
                yield Grant(
                    policy.key,
                    policy.tier,
                    policy.priority,
                    rule.direction,
                    Action.PROXY if is_proxied else rule.action,
                    rule.path,
                    path,
                    rule.port_paths[at] if rule.port_paths else None,
                    port.protocol,
                    first,
                    last,
                    port.lookups,
                )

    def numbers(
        self, port: Port, direction: Direction, subject: Party, peer: Party, *, by_cidr: bool
    ) -> list[tuple[int, int]]:
        """The runs of ports that `port` of a rule means for a peer, named `by_cidr` or otherwise.

        A name is that of a port of the flow's destination, and a CIDR has no pods to ask.
        """
        if not port.name:
            return [(port.first, port.last)]
        if direction is Direction.EGRESS and by_cidr:
            return []
        owner = subject if direction is Direction.INGRESS else peer
        return sorted(
            (number, number)
            for name, number, protocol in self._ports(owner.identity)
            if name == port.name and protocol == port.protocol.name
        )

    def missing(self, policy: Policy, rule: Rule) -> list[tuple[Peer, str]]:
        """The references of a policy's rule that stand for nobody now, and where they stand."""
        written = self._written[id(policy)].rules[policy.rules.index(rule)]
        pairs = zip(written.peers or (), written.peer_paths, strict=True)
        return [(peer, path) for peer, path in pairs if path not in rule.peer_paths]

    def written(self, key: ObjectKey, path: str) -> list[Peer]:
        """The peers that a policy's author wrote at a field path, references as such."""
        return [
            peer
            for policy in self._authored.get(key, ())
            for rule in policy.rules
            for peer, at in zip(rule.peers or (), rule.peer_paths, strict=True)
            if f"{rule.path}.{at}" == path
        ]

    def names(self, named: Peer, peer: Party, node: str) -> bool:
        """Whether what a policy names is the party, as `node` knows it."""
        if isinstance(named, Cidr):
            held = self.networks.holding(peer.address)
            return holds(named, held, peer.role is Role.WORLD)
        return self._selectors.places[selector_of(named)] in self._match(self._guise(peer, node))

    def labels(self, peer: Party, node: str) -> Labels:
        """What selectors see of the party, as `node` knows it; nothing of who is unknown."""
        return self._labels_of(self._guise(peer, node))

    def _guise(self, peer: Party, node: str) -> tuple[int, str]:
        """Its number there and, outside, the label of the policies' longest CIDR that holds it."""
        within = ""
        if peer.role is Role.WORLD:
            cidr = longest(self.networks.holding(peer.address))
            within = cidr and cidr_label(cidr)
        return peer.as_seen_on(node), within

    def _labels_of(self, guise: tuple[int, str]) -> Labels:
        found = self._labels.get(guise)
        if found is None:
            number, within = guise
            if is_pod(number):
                known = self._state.identities.get(number)
                found = labels_of(known.labels) if known else {}
            else:
                known_by = RESERVED_LABELS.get(number, ())
                found = labels_of(label_set((*known_by, *filter(None, [within]))))
            self._labels[guise] = found
        return found

    def _match(self, guise: tuple[int, str]) -> frozenset[int]:
        """The selectors that match it."""
        found = self._matched.get(guise)
        if found is None:
            labels = self._labels_of(guise)
            # Who has no labels is unknown, and nothing matches the unknown.
            found = self._selectors.matching(labels) if labels else frozenset()
            self._matched[guise] = found
        return found

    def _sort(self, guise: tuple[int, str]) -> int:
        """Equal for labels that no policy tells apart."""
        found = self._sort_of.get(guise)
        if found is None:
            number = guise[0]
            role = CLUSTER_MIN if is_pod(number) else number
            what = (role, self._match(guise), self._ports(number))
            found = self._sort_of[guise] = self._sorts.setdefault(what, len(self._sorts))
        return found

    def _ports(self, number: int) -> NamedPorts:
        known = self._state.identities.get(number)
        return named_ports(known.labels) if known is not None else frozenset()

    def _subject(self, subject: Party) -> _Subject:
        if subject.role is Role.NODE:
            return (subject.role, 0, _node(subject))
        return (subject.role, self._sort(self._guise(subject, "")), "")

    def _key(self, direction: Direction, subject: Party, peer: Party) -> Hashable:
        """Equal for questions whose answers are."""
        guise = self._guise(peer, _node(subject))
        held = self.networks.holding(peer.address)
        return (direction, self._subject(subject), self._sort(guise), held)

    def _chosen(self, matched: frozenset[int], *, nodes: bool) -> list[Policy]:
        """The policies with one of these subjects, in the order of judging."""
        found = [policy for place in matched for policy in self._of_subject.get((nodes, place), ())]
        return sorted(found, key=lambda policy: self._order[id(policy)])

    def _host_policies(self, node: str) -> list[Policy]:
        """The policies that select the node."""
        found = self._hosts.get(node)
        if found is None:
            known = self._state.nodes.get(node)
            labels = labels_of(known.label_set()) if known is not None else {}
            found = self._chosen(self._selectors.matching(labels), nodes=True)
            self._hosts[node] = found
        return found

    def _rules_of(self, policy: Policy, direction: Direction) -> list[Naming]:
        return self._rules.get((self._order[id(policy)], direction), [])


def keys(policies: Iterable[Policy]) -> tuple[ObjectKey, ...]:
    """The objects that state `policies`, each once."""
    return tuple(dict.fromkeys(policy.key for policy in policies))


def decide(state: State, source: Who, destination: Who, protocol: int, port: int) -> Decision:
    """`Engine.decide` for one question; whoever has more of them keeps an Engine."""
    return Engine(state).decide(source, destination, protocol, port)


def allowed(state: State, source: Who, destination: Who) -> Traffic:
    """`Engine.allowed` for one question."""
    return Engine(state).allowed(source, destination)


def _node(party: Party) -> str:
    """Where it is judged; no two nodes share an address in a sane cluster."""
    return min(party.nodes, default="")

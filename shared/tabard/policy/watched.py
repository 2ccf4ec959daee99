"""A state's policies with what their references stand for, and their selectors under watch."""

from collections import Counter
from collections.abc import Mapping
from operator import itemgetter

from tabard.ledger.state import ObjectKey, State
from tabard.policy.matching import IdentityIndex, Labels, Matched, labels_of, matches
from tabard.policy.model import Policy
from tabard.policy.reading import REFERENT_KINDS, read_policies
from tabard.policy.referents import NOTHING, Referents, referents_of, resolve
from tabard.policy.rules import Prepared, meaning
from tabard.policy.touched import Touched


class Watched:
    """Finds out which policies say something else than before, without a look at all of them."""

    def __init__(self, index: IdentityIndex, node: str) -> None:
        self.prepared: dict[ObjectKey, tuple[Prepared, ...]] = {}
        self.cidrs: Counter[str] = Counter()
        """How many policies name a CIDR; canonical text."""
        self.recounted: set[str] = set()
        """Those of which that changed in the last update."""
        self._index = index
        self._node = node
        self._labels: Labels | None = None
        """Of the node; None while the ledger does not know it."""
        self._of_nodes: set[ObjectKey] = set()
        """Objects with policies of nodes, of this one or not."""
        self._guarding: dict[tuple[ObjectKey, int], Prepared] = {}
        """Those policies that select this node; which of its object's each is."""
        self._selecting: dict[Matched, dict[tuple[ObjectKey, int], Prepared]] = {}
        """Policies by their subject; which of its object's each is."""
        self._referring: dict[ObjectKey, tuple[Policy, ...]] = {}
        """Objects whose policies have references, as they were read."""
        self._referents: Referents | None = None
        """What references stand for, while there are any."""

    def update(self, state: State, touched: Touched) -> tuple[list[Prepared], list[Prepared]]:
        """Look again at what may have changed: policies that are no more, whose watch whoever asks
        has to release, and those that are new."""
        gone: list[Prepared] = []
        new: list[Prepared] = []
        self.recounted = set()
        for key, policies in self._read(state, touched).items():
            said = [meaning(policy) for policy in policies]
            before = self.prepared.pop(key, ())
            kept = {one.meaning: one for one in before if one.meaning in said}
            now = tuple(
                kept.get(one) or Prepared(policy, one, self._index)
                for policy, one in zip(policies, said, strict=True)
            )
            if now:
                self.prepared[key] = now
            for number, one in enumerate(before):
                self._leave(one, (key, number))
            for number, one in enumerate(now):
                self._enter(one, (key, number))
            gone += (one for one in before if one.meaning not in kept)
            new += (one for one in now if one.meaning not in kept)
        for one in gone:
            self._count(one, -1)
        for one in new:
            self._count(one, +1)
        return gone, new

    def selecting(self, number: int) -> list[Prepared]:
        """The policies that select a live identity, in the order of their keys."""
        found = sorted(
            item
            for matched in self._index.matching(number)
            for item in self._selecting.get(matched, {}).items()
        )
        return [prepared for _, prepared in found]

    @property
    def selects_node(self) -> bool:
        """Whether any policy selects this node itself."""
        return bool(self._guarding)

    def guarding(self) -> list[Prepared]:
        """The policies that select this node itself, in the order of their keys."""
        return [prepared for _, prepared in sorted(self._guarding.items(), key=itemgetter(0))]

    def _enter(self, prepared: Prepared, place: tuple[ObjectKey, int]) -> None:
        if prepared.subject is None:
            self._guarding[place] = prepared
        else:
            self._selecting.setdefault(prepared.subject, {})[place] = prepared

    def _leave(self, prepared: Prepared, place: tuple[ObjectKey, int]) -> None:
        if prepared.subject is None:
            del self._guarding[place]
            return
        del self._selecting[prepared.subject][place]
        if not self._selecting[prepared.subject]:
            del self._selecting[prepared.subject]

    def _read(self, state: State, touched: Touched) -> Mapping[ObjectKey, tuple[Policy, ...]]:
        """The resolved policies of the objects that are touched, and of all that have references
        if these stand for others than before."""
        read: dict[ObjectKey, tuple[Policy, ...]] = {}
        is_referred = touched.nodes or touched.referents
        for key in touched.policies | self._relabelled(state, touched):
            accepted = state.policies.get(key)
            found = read_policies(accepted.document, accepted.origin) if accepted else ()
            read[key] = tuple(policy for policy in found if self._is_of_here(policy))
            self._of_nodes.discard(key)
            if any(policy.selects_nodes for policy in found):
                self._of_nodes.add(key)
            is_referred |= key[0] in REFERENT_KINDS
            self._referring.pop(key, None)
            if any(any(policy.references()) for policy in read[key]):
                self._referring[key] = read[key]
        if not self._referring:
            self._referents = None
        elif is_referred or self._referents is None:
            before, self._referents = self._referents, referents_of(state)
            if self._referents != before:
                read.update(self._referring)
        referents = self._referents or NOTHING
        return {key: tuple(resolve(one, referents) for one in all) for key, all in read.items()}

    def _relabelled(self, state: State, touched: Touched) -> set[ObjectKey]:
        """Whose policies may select this node now, or not any more, since it has other labels."""
        known = state.nodes.get(self._node) if touched.nodes else None
        labels = labels_of(known.label_set()) if known is not None else None
        if not touched.nodes or labels == self._labels:
            return set()
        self._labels = labels
        return set(self._of_nodes)

    def _is_of_here(self, policy: Policy) -> bool:
        """Other nodes' policies are no business of this one's."""
        if not policy.selects_nodes:
            return True
        return self._labels is not None and matches(policy.subject, self._labels)

    def _count(self, prepared: Prepared, more: int) -> None:
        for cidr in prepared.cidrs:
            self.cidrs[cidr] += more
            self.recounted.add(cidr)
            if not self.cidrs[cidr]:
                del self.cidrs[cidr]

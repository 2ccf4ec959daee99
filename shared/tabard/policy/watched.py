"""A state's policies with what their references stand for, and their selectors under watch."""

from collections import Counter
from collections.abc import Mapping

from tabard.ledger.state import ObjectKey, State
from tabard.policy.matching import IdentityIndex, Matched
from tabard.policy.model import Policy
from tabard.policy.reading import REFERENT_KINDS, read_policies
from tabard.policy.referents import NOTHING, Referents, referents_of, resolve
from tabard.policy.rules import Prepared, meaning
from tabard.policy.touched import Touched


class Watched:
    """Finds out which policies say something else than before, without a look at all of them."""

    def __init__(self, index: IdentityIndex) -> None:
        self.prepared: dict[ObjectKey, tuple[Prepared, ...]] = {}
        self.cidrs: Counter[str] = Counter()
        """How many policies name a CIDR; canonical text."""
        self.recounted: set[str] = set()
        """Those of which that changed in the last update."""
        self._index = index
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
                del self._selecting[one.subject][key, number]
                if not self._selecting[one.subject]:
                    del self._selecting[one.subject]
            for number, one in enumerate(now):
                self._selecting.setdefault(one.subject, {})[key, number] = one
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

    def _read(self, state: State, touched: Touched) -> Mapping[ObjectKey, tuple[Policy, ...]]:
        """The resolved policies of the objects that are touched, and of all that have references
        if these stand for others than before."""
        read: dict[ObjectKey, tuple[Policy, ...]] = {}
        is_referred = touched.nodes or touched.referents
        for key in touched.policies:
            accepted = state.policies.get(key)
            found = read_policies(accepted.document, accepted.origin) if accepted else ()
            # Those for nodes are no pod's: a node has no endpoint here.
            read[key] = tuple(policy for policy in found if not policy.selects_nodes)
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

    def _count(self, prepared: Prepared, more: int) -> None:
        for cidr in prepared.cidrs:
            self.cidrs[cidr] += more
            self.recounted.add(cidr)
            if not self.cidrs[cidr]:
                del self.cidrs[cidr]

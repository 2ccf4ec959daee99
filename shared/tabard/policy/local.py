"""A node's own pods: which of them has which address, and so an endpoint entry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from tabard.identity.numbers import Reserved, is_pod
from tabard.ledger.state import State
from tabard.policy.rules import hash64
from tabard.policy.touched import Touched

K = TypeVar("K")
V = TypeVar("V")


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


def incarnation(uid: str) -> int:
    """What stands for a pod's UID in its endpoint entries."""
    return hash64(uid.encode())


def node_incarnation(name: str) -> int:
    """The same of the node itself."""
    return hash64(b"node", name.encode())


class LocalPods:
    """The pods attached to `node`, and the addresses that are theirs alone."""

    def __init__(self, node: str) -> None:
        self.placed: dict[str, tuple[int, Attachment]] = {}
        """Address → (identity, attachment) of the one pod that has it."""
        self.places: dict[int, set[str]] = {}
        """The same by identity; none is empty."""
        self._node = node
        self._nodes: set[str] = set()
        """Addresses of nodes: no pod's, whatever it claims."""
        self._attached: dict[str, Attachment] = {}
        self._assumed: set[str] = set()
        """UIDs with something provisional: each event about pods may matter to them."""
        self._claims: dict[str, tuple[int, tuple[str, ...]]] = {}
        """UID → its identity, live or not, and the addresses that it claims."""
        self._pods: dict[int, set[str]] = {}
        """The UIDs by that identity."""
        self._claimants: dict[str, set[str]] = {}

    def concerns(self, uid: str, addresses: tuple[str, ...] = ()) -> bool:
        """Whether an event about this pod may change anything here."""
        return (
            bool(self._assumed)
            or uid in self._attached
            or any(text in self._claimants for text in addresses)
        )

    def update(
        self, state: State, attachments: Mapping[str, Attachment], touched: Touched
    ) -> tuple[set[str], set[int]]:
        """Look again at what may have changed: these addresses, with pods of these identities."""
        uids = self._assumed | self._changed(attachments)
        uids.update(touched.uids & self._attached.keys())
        uids.update(*(self._claimants.get(text, ()) for text in touched.addresses))
        uids.update(*(self._pods.get(number, ()) for number in touched.numbers))
        if touched.nodes:
            self._nodes = {text for known in state.nodes.values() for text in known.addresses}
            uids.update(self._attached)
        texts: set[str] = set()
        for uid in uids:
            texts.update(self._claim(state, uid))
        numbers: set[int] = set()
        for text in texts:
            numbers.update(self._place(text))
        return texts, numbers

    def _changed(self, attachments: Mapping[str, Attachment]) -> set[str]:
        if attachments == self._attached:
            return set()
        before, self._attached = self._attached, dict(attachments)
        changed = before.keys() - attachments.keys()
        changed |= {uid for uid, one in attachments.items() if before.get(uid) != one}
        for uid in changed:
            one = attachments.get(uid)
            if one is not None and one.provisional is not None:
                self._assumed.add(uid)
            else:
                self._assumed.discard(uid)
        return changed

    def _claim(self, state: State, uid: str) -> set[str]:
        """Find out anew what a pod claims; all addresses that it claimed or claims."""
        before, addresses_before = self._claims.pop(uid, (0, ()))
        if before:
            _take_out(self._pods, before, uid)
        for text in addresses_before:
            _take_out(self._claimants, text, uid)
        attachment = self._attached.get(uid)
        if attachment is None:
            return set(addresses_before)
        identity, addresses = self._claimed(state, attachment)
        if identity:
            self._pods.setdefault(identity, set()).add(uid)
        if not (is_pod(identity) and identity in state.identities):
            addresses = ()
        addresses = tuple(text for text in addresses if text not in self._nodes)
        for text in addresses:
            self._claimants.setdefault(text, set()).add(uid)
        self._claims[uid] = identity, addresses
        return {*addresses_before, *addresses}

    def _claimed(self, state: State, attachment: Attachment) -> tuple[int, tuple[str, ...]]:
        bound, provisional = state.endpoints.get(attachment.uid), attachment.provisional
        if bound is not None:
            if bound.node == self._node and not bound.host_network:
                return bound.identity, bound.addresses
        elif provisional is not None and attachment.uid not in state.tombstones:
            # Ahead of the ledger: never against it, so an address that it gives to another waits.
            free = (text for text in provisional.addresses if text not in state.bindings)
            return provisional.identity, tuple(free)
        return Reserved.UNKNOWN.value, ()

    def _place(self, text: str) -> set[int]:
        """Decide who has an address; the identities that lost or have it."""
        numbers = set()
        if (before := self.placed.pop(text, None)) is not None:
            numbers.add(before[0])
            _take_out(self.places, before[0], text)
        claimants = self._claimants.get(text, set())
        if len(claimants) == 1:  # two pods ahead of the ledger with one address: it decides
            (uid,) = claimants
            identity = self._claims[uid][0]
            numbers.add(identity)
            self.placed[text] = identity, self._attached[uid]
            self.places.setdefault(identity, set()).add(text)
        return numbers


def _take_out(groups: dict[K, set[V]], key: K, member: V) -> None:
    groups[key].discard(member)
    if not groups[key]:
        del groups[key]

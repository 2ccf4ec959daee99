"""The `hosts` map of one node: the addresses of nodes, and of the remote pods that it must know.

In native mode those are all; in overlay mode the node's *span*: pods whom a local egress entry
names.
"""

from collections.abc import Collection, Container, Iterable, Iterator

from tabard.dataplane.maps import Address, Mode, address_text
from tabard.identity.numbers import Reserved, is_pod
from tabard.ledger.state import EndpointState, State
from tabard.policy.prefixes import PrefixMap, packed
from tabard.policy.touched import Touched


class Hosts:
    """Finds the entries that may have changed, without a look at all pods."""

    def __init__(self, node: str, mode: Mode) -> None:
        self._node = node
        self._mode = mode
        self._nodes: dict[Address, int] = {}
        self._shown: dict[str, EndpointState] = {}
        """Remote pods that have entries, by UID: the state forgets what a stopped one held."""
        self._by_identity: _ByIdentity | None = None
        """In overlay mode, while anyone is named."""

    @property
    def follows_pods(self) -> bool:
        """Whether an event about any pod may change an entry."""
        return self._mode is Mode.NATIVE or self._by_identity is not None

    def everything(
        self, state: State, prefixes: PrefixMap, named: Collection[int]
    ) -> dict[Address, int]:
        """All entries, from `state` alone. `named` are the peers of local egress entries."""
        self._by_identity = None
        if named and self._mode is Mode.OVERLAY:
            self._by_identity = _ByIdentity(filter(self._is_remote, state.endpoints.values()))
        self._shown = {}
        found: dict[Address, int] = {}
        are_known = self._mode is Mode.NATIVE
        if self.follows_pods:
            for endpoint in filter(self._is_remote, state.endpoints.values()):
                for text in endpoint.addresses:
                    at = packed(text)
                    if are_known or self._is_known(at, endpoint, prefixes, named):
                        found[at] = endpoint.identity
                        self._shown[endpoint.uid] = endpoint
        # A node's address is the node's, whatever a pod claims.
        self._nodes = _nodes(state, self._node)
        found.update(self._nodes)
        return found

    def changed(
        self,
        state: State,
        prefixes: PrefixMap,
        named: Collection[int],
        newly: Iterable[int],
        at: Iterable[str],
        touched: Touched,
    ) -> dict[Address, int | None]:
        """Entries that may be others than before, None for no entry.

        `newly` are the identities that are `named` since the last call, or not any more; `at` the
        addresses by which a pod may be.
        """
        texts = set(touched.addresses) if self.follows_pods else set()
        texts.update(at)
        if touched.nodes:
            before, self._nodes = self._nodes, _nodes(state, self._node)
            moved = (at for at, _ in before.items() ^ self._nodes.items())
            texts.update(map(address_text, moved))
        if self._by_identity is not None:
            for uid in touched.uids:
                self._by_identity.put(uid, self._identity(state.endpoints.get(uid)))
        elif named and self._mode is Mode.OVERLAY:
            self._by_identity = _ByIdentity(filter(self._is_remote, state.endpoints.values()))
        uids = set(touched.uids) if self.follows_pods else set()
        if self._by_identity is not None:
            for number in newly:
                uids.update(self._by_identity.uids(number))
            if not named:
                self._by_identity = None
        for uid in uids:
            for endpoint in (self._shown.pop(uid, None), state.endpoints.get(uid)):
                if endpoint is not None:
                    texts.update(endpoint.addresses)
        return {packed(text): self._find(text, state, prefixes, named) for text in texts}

    def _find(
        self, text: str, state: State, prefixes: PrefixMap, named: Container[int]
    ) -> int | None:
        at = packed(text)
        if at in self._nodes:
            return self._nodes[at]
        holder = state.endpoints.get(state.bindings.get(text, ""))
        if holder is None or not self._is_remote(holder):
            return None
        if not self._is_known(at, holder, prefixes, named):
            return None
        self._shown[holder.uid] = holder
        return holder.identity

    def _identity(self, endpoint: EndpointState | None) -> int | None:
        """Of a remote pod."""
        return endpoint.identity if endpoint and self._is_remote(endpoint) else None

    def _is_remote(self, endpoint: EndpointState) -> bool:
        return endpoint.node != self._node and not endpoint.host_network

    def _is_known(
        self, at: Address, endpoint: EndpointState, prefixes: PrefixMap, named: Container[int]
    ) -> bool:
        return self._mode is Mode.NATIVE or prefixes.names(named, endpoint.identity, at)


class _ByIdentity:
    """UIDs of remote pods by their identity."""

    def __init__(self, endpoints: Iterable[EndpointState]) -> None:
        self._identities: dict[str, int] = {}
        self._uids: dict[int, set[str]] = {}
        for endpoint in endpoints:
            self.put(endpoint.uid, endpoint.identity)

    def put(self, uid: str, identity: int | None) -> None:
        """A pod has this identity now; None: it is gone."""
        before = self._identities.pop(uid, None)
        if before is not None:
            self._uids[before].discard(uid)
            if not self._uids[before]:
                del self._uids[before]
        if identity is not None:
            self._identities[uid] = identity
            self._uids.setdefault(identity, set()).add(uid)

    def uids(self, identity: int) -> Iterator[str]:
        return iter(self._uids.get(identity, ()))


def is_by_address(newly: Iterable[int]) -> bool:
    """Whether pods that are named by these, or taken for them, may have any identity."""
    return not all(map(is_pod, newly))


def _nodes(state: State, node: str) -> dict[Address, int]:
    found: dict[Address, int] = {}
    for name, known in state.nodes.items():
        if name != node:
            found.update((packed(text), Reserved.REMOTE_NODE.value) for text in known.addresses)
    if node in state.nodes:
        found.update((packed(text), Reserved.HOST.value) for text in state.nodes[node].addresses)
    return found

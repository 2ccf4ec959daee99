"""The nodes of a cluster as compiled maps: shared by the planes that enforce them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from conformance.planes.plane import PlaneError
from tabard.dataplane.maps import Address, Endpoint, Maps, Mode, is_of_node
from tabard.dataplane.port import Change
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.state import State
from tabard.policy.compile import Attachment, Compiler

VIEWS = {mode.name.lower(): mode for mode in Mode}


@dataclass(slots=True)
class Nodes:
    """Each node's compiler in one mode, which goes on from step to step, and who is where.

    `ifindex` numbers the pods' interfaces by UID.
    """

    mode: Mode
    ifindex: Callable[[str], int]
    local: dict[Address, tuple[str, Endpoint]] = field(default_factory=dict)
    """Address of a pod, or of a node that policies select → its node and its entry there."""
    _compilers: dict[str, Compiler] = field(default_factory=dict)
    _state: State = field(default_factory=State)

    def follow(
        self, state: State, records: Sequence[LedgerRecord]
    ) -> dict[str, tuple[Maps, Change | None]]:
        """The maps that each node is to enforce, `state` having gone on by `records`, and by what
        change they came about; None if they were compiled anew. The maps go on in place."""
        compiled = {}
        self._state = state
        self.local = {}
        for node in state.nodes:
            compiler = self._compilers.setdefault(node, Compiler())
            compiler.note(records)
            change = compiler.update(state, node, self.mode, self._attached(node))
            compiled[node] = (compiler.maps, change)
            self.local |= {at: (node, endpoint) for at, endpoint in compiler.maps.endpoints.items()}
        return compiled

    def check(self) -> None:
        """PlaneError if what went on from step to step is not what is compiled from the end."""
        for node, compiler in self._compilers.items():
            anew = Compiler().compile(self._state, node, self.mode, self._attached(node))
            if compiler.maps != anew:
                raise PlaneError(f"the maps of {node} went on to others than are compiled anew")

    def _attached(self, node: str) -> dict[str, Attachment]:
        return {
            uid: Attachment(uid, self.ifindex(uid), b"\2\0\0\0\0\1", b"\6\0\0\0\0\1")
            for uid in self._state.by_node.get(node, {})
        }

    def ends(
        self, source: Address, destination: Address
    ) -> tuple[tuple[str, Endpoint] | None, tuple[str, Endpoint] | None, int | None]:
        """Sender and receiver, where they are pods or nodes that policies select, and what the
        packet is marked with when it comes to the receiver: between nodes only the overlay carries
        the sender's identity, and a node has no mark."""
        sender, receiver = self.local.get(source), self.local.get(destination)
        mark = None
        if sender is not None and receiver is not None and not is_of_node(sender[1]):
            is_marked = self.mode is Mode.OVERLAY or sender[0] == receiver[0]
            mark = sender[1].identity if is_marked else None
        return sender, receiver, mark


End = tuple[str, Endpoint]
"""A node, and an entry in its maps."""


def is_with_node(sender: End | None, receiver: End | None) -> bool:
    """Whether either is a node that policies select."""
    return any(end is not None and is_of_node(end[1]) for end in (sender, receiver))


def hooks(sender: End | None, receiver: End | None) -> list[tuple[str, End]]:
    """Where a packet is judged: (hook, whose). Of a pod and its own node one hook asks both."""
    found = []
    if sender is not None and receiver is not None and sender[0] == receiver[0]:
        if is_of_node(sender[1]):
            return [("to_pod", receiver)]
        if is_of_node(receiver[1]):
            return [("from_pod", sender)]
    if sender is not None:
        found.append(("to_wire" if is_of_node(sender[1]) else "from_pod", sender))
    if receiver is not None:
        found.append(("from_wire" if is_of_node(receiver[1]) else "to_pod", receiver))
    return found

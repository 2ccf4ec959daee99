"""The nodes of a cluster as compiled maps: shared by the planes that enforce them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from conformance.planes.plane import PlaneError
from tabard.dataplane.maps import Address, Endpoint, Maps, Mode
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
    """Pod address → its node and its endpoint entry there."""
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
        """Sender and receiver, where they are pods, and what the packet is marked with when it
        comes to the receiver: between nodes only the overlay carries the sender's identity."""
        sender, receiver = self.local.get(source), self.local.get(destination)
        mark = None
        if sender is not None and receiver is not None:
            is_marked = self.mode is Mode.OVERLAY or sender[0] == receiver[0]
            mark = sender[1].identity if is_marked else None
        return sender, receiver, mark

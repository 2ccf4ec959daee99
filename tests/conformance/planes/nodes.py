"""The nodes of a cluster as compiled maps: shared by the planes that enforce them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tabard.dataplane.maps import Address, Endpoint, Maps, Mode
from tabard.ledger.state import State
from tabard.policy.compile import Attachment, Compiler

VIEWS = {mode.name.lower(): mode for mode in Mode}


@dataclass(slots=True)
class Nodes:
    """Each node's compiler in one mode, kept from step to step, and who is where.

    `ifindex` numbers the pods' interfaces by UID.
    """

    mode: Mode
    ifindex: Callable[[str], int]
    local: dict[Address, tuple[str, Endpoint]] = field(default_factory=dict)
    """Pod address → its node and its endpoint entry there."""
    _compilers: dict[str, Compiler] = field(default_factory=dict)

    def follow(self, state: State) -> dict[str, Maps]:
        """The maps that each node is to enforce now."""
        compiled = {}
        self.local = {}
        for node in state.nodes:
            attachments = {
                uid: Attachment(uid, self.ifindex(uid), b"\2\0\0\0\0\1", b"\6\0\0\0\0\1")
                for uid in state.by_node.get(node, {})
            }
            compiler = self._compilers.setdefault(node, Compiler())
            maps = compiled[node] = compiler.compile(state, node, self.mode, attachments)
            self.local |= {at: (node, endpoint) for at, endpoint in maps.endpoints.items()}
        return compiled

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

"""What ledger events touch of that which maps are made from."""

from dataclasses import dataclass, field

from tabard.ledger.state import ObjectKey


@dataclass(slots=True)
class Touched:
    """Whose entries may be others than before. What they are now, the state says."""

    numbers: set[int] = field(default_factory=set)
    """Identities that came or went."""
    uids: set[str] = field(default_factory=set)
    """Pods that were bound, went, or are another identity."""
    addresses: set[str] = field(default_factory=set)
    """Addresses that were bound, perhaps away from another pod."""
    policies: set[ObjectKey] = field(default_factory=set)
    nodes: bool = False
    referents: bool = False
    """What policies refer to, other than policy objects and nodes."""
    settings: bool = False
    everything: bool = False
    """All pods; for a start."""

    def __bool__(self) -> bool:
        return bool(
            self.numbers
            or self.uids
            or self.addresses
            or self.policies
            or self.nodes
            or self.referents
            or self.settings
        )

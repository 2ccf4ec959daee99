"""How often things are done that no event asks for."""

from dataclasses import dataclass, field

from tabard.allocator.commands import Limits


@dataclass(frozen=True, slots=True)
class Pace:
    """In seconds, but for `limits` and `node_ranges`."""

    tick_s: float = 1.0
    poll_s: float = 0.5
    """Between two looks for an operator's word while stopped."""
    checkpoint_s: float = 10.0
    word_s: float = 0.5
    """Between two words of the leader; those of others come half as often."""
    look_s: float = 0.25
    """Between two looks of a follower at the leader."""
    silence_s: float = 2.0
    """After so much silence of the leader a follower takes the lead: four words were not said."""
    spread_s: float = 0.25
    """Within which several followers do so, one after the other by chance."""
    flows_s: float = 5.0
    """Between two looks whether FLOWS is there."""
    limits: Limits = field(default_factory=Limits)
    node_ranges: tuple[str, ...] = ()
    """CIDRs in which addresses and pod CIDRs of nodes must lie; none: anywhere."""
    snapshot_events: int = 100_000
    """Ledger events after which another snapshot is due."""
    snapshot_s: float = 3600.0
    """After so long it is due also after fewer, if there were any."""
    snapshot_look_s: float = 5.0
    """At most, between two looks whether one is."""

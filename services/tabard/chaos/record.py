"""What a run writes down while it goes on, and all that the checkers judge it by. Pure.

All times are Unix nanoseconds of this machine's clock, which no fault moves: `clock` faults move
what one service believes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

CONVERGE_S_MAX = 60.0
"""Longest that a cluster may take, once its faults are healed, until it is as it should be."""


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault from its injection until it was healed, and when the cluster had converged again."""

    scenario: str
    fault: str
    target: str
    """What it hit: a process, a node, a file."""
    began: int
    healed: int
    detail: str = ""
    converged: int = 0
    """0: it did not, in the time that it had."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A scenario carried out once: from before its first fault until the cluster had converged, or
    had not in time. What happens between two phases is counted to the one before."""

    scenario: str
    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An event that the bus acknowledged to the workload: from then on it may not be lost."""

    sequence: int
    """On OBSERVED."""
    event_id: str
    payload_hash: str
    """BLAKE2b of the stored payload, 16 bytes, hex."""
    kind: str
    """Event type, `pod.started` …"""
    at: int


@dataclass(frozen=True, slots=True)
class Packet:
    """One probe, from its first packet until it was answered or given up."""

    source: str
    """UID of the pod that sent."""
    source_address: str
    destination_address: str
    port: int
    protocol: str
    """`TCP` or `UDP`."""
    began: int
    ended: int
    passed: bool
    answered: str = ""
    """`namespace/name` of the pod that answered, as it says itself; empty if nobody did."""
    opened: int = 0
    """Of an exchange on a flow that was open already: when that was opened; 0 if this opens one."""
    kind: str = "pod"
    """`pod`, or what forged it: `stranger` (outside of all nodes), `forger` (a pod that lies)."""
    how: str = ""
    """How it was made, if by hand: `in a tunnel, with …`."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a node or an allocator said on STATUS, when the run heard it and the bus stored it."""

    name: str
    kind: str
    """`node` or `allocator`."""
    sequence: int
    stored_at: int
    heard_at: int
    role: str = ""
    epoch: int = 0
    holder: str = ""
    place: int = 0
    """Its sequence on STATUS, which keeps the last words alone: a gap is words that were missed."""
    digest: str = ""
    """Of the node's folded state at `digest_at`, hex; empty if it said none."""
    digest_at: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A ledger event as somebody was shown it while faults were on: it must still be that one."""

    sequence: int
    chain: str
    """Its chain hash, hex."""
    at: int


@dataclass(frozen=True, slots=True)
class Dump:
    """A node's kernel maps beside compile(fold(ledger, sequence)), once the run had converged."""

    node: str
    sequence: int
    entries: int
    differences: tuple[str, ...]
    """One sentence each."""
    at: int


@dataclass(slots=True)
class Record:
    """A whole run."""

    seed: int
    scenarios: tuple[str, ...]
    mode: str
    began: int
    ended: int = 0
    rate_per_s: float = 0.0
    """How much the workload was to have happen."""
    minutes: float = 0.0
    """For how long it was to go round again; each scenario is carried out once anyway."""
    phases: list[Phase] = field(default_factory=list)
    injected: list[Injected] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    dumps: list[Dump] = field(default_factory=list)
    unanswered: int = 0
    """Events that the workload published without an acknowledgement: they may be there or not."""
    failures: list[str] = field(default_factory=list)
    """What kept a scenario from being carried out: then it proved nothing."""
    versions: Mapping[str, str] = field(default_factory=dict)

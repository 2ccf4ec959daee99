"""What checkers are given: all that is true in a simulated cluster, and all that was said in it.

A checker reads, and changes nothing. Times are nanoseconds since the Unix epoch by the true clock,
which no process has; steps count from 1.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tabard.bus.port import Stored
from tabard.dataplane.maps import Maps, Mode, Reason
from tabard.dataplane.port import Change
from tabard.events.envelope import Recorded
from tabard.events.ledger import LedgerEvent, SettingsAdopted
from tabard.events.observed import ObservedEvent, PodStarted
from tabard.ledger.state import State
from tabard.policy.compile import Attachment


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An event that the bus acknowledged to the workload: from then on it may not be lost."""

    sequence: int
    """On OBSERVED."""
    event_id: str
    payload: bytes
    event: ObservedEvent
    at: int
    step: int


@dataclass(frozen=True, slots=True)
class Word:
    """What a node or an allocator said on STATUS, as it was stored."""

    name: str
    kind: Literal["node", "allocator"]
    sequence: int
    at: int
    step: int
    role: str = ""
    epoch: int = 0
    holder: str = ""
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Append:
    """A batch that an allocator's process tried to append to LEDGER, when the bus decided on it."""

    allocator: str
    holder: str
    """The process: a restarted allocator is another."""
    epoch: int
    """Under which it believed to lead; that which it claims, of a claim."""
    expected_last: int
    messages: int
    stored: bool
    """False: refused by the fence."""
    step: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What one hook said of a packet."""

    hook: str
    """`from_pod`, `to_pod`, `from_overlay`, `from_wire` or `to_wire`."""
    node: str
    step: int
    at: int
    passed: bool
    reason: Reason | None
    identity: int
    """The sender's, as the packet carried it from there."""
    enforced: int
    """`Node.enforced` then."""
    reached: int
    """`Node.reached` then."""
    settled: bool
    """`Node.settled` then."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that came to its end in this step: it was delivered to a pod, or dropped."""

    source: str
    """UID of the pod that sent; empty for one from outside of the cluster."""
    source_node: str
    source_address: str
    destination_address: str
    destination: str
    """UID of the pod that got it, or that it would have been for; empty if there is none."""
    protocol: int
    source_port: int
    destination_port: int
    sent_at: int
    sent_step: int
    passed: bool
    """Whether it was delivered."""
    opened_step: int
    """When its flow was opened by a packet that passed; `sent_step` if this one opens it."""
    is_answer: bool
    """Whether it goes the other way of a flow that passed."""
    judged: tuple[Judged, ...]
    """Hook by hook, in order."""


@dataclass(slots=True)
class Pod:
    """A pod as its kubelet has it. Its name and addresses may be those of an earlier one."""

    started: PodStarted
    """As published first; `uid` is the incarnation."""
    labels: tuple[tuple[str, str], ...]
    """As published last."""
    interface: str
    running: bool = True
    """Its network namespace is there and sends packets; False once it was stopped."""
    attached: bool = False
    """The gate said that it is up."""


@dataclass(slots=True)
class Node:
    """A node: its kernel, and the agent's process on it, if one runs."""

    name: str
    underlay: str
    pod_cidrs: tuple[str, ...]
    mode: Mode
    maps: Maps
    """The kernel's, live: copy what is to be kept."""
    running: bool = False
    paused: bool = False
    starts: int = 0
    standing: str = ""
    """`waiting`, `offline` or `in_sync`; empty while no agent runs."""
    state: State = field(default_factory=State)
    """What the agent folded, live; an empty one while none runs."""
    read: int = 0
    """`state.sequence`."""
    enforced: int = 0
    """What the agent took the kernel to enforce last (its watermark, said or not); of a restarted
    agent that has not written yet, its predecessor's."""
    reached: int = 0
    """The highest sequence that any agent of this node ever folded to: nothing newer can be in the
    kernel."""
    is_writing: bool = False
    """A write is between two of its stages, or was broken off there by a crash or an error and no
    write ended since."""
    writes: int = 0
    """How many writes were begun."""
    change: Change | None = None
    """What the write is about that is between two stages or was broken off, as `is_writing`."""
    late: frozenset[int] = frozenset()
    """Identities that it has unknown meanwhile."""
    saved: int = 0
    """The ledger sequence of the checkpoint on its disk; 0: none is there that can be read."""
    attached: Mapping[str, Attachment] = field(default_factory=dict)
    """Its pods as the agent knows them, by UID, live; empty while none runs."""
    unwaited: int = 0
    """How often its agents came over events by which nobody waited for the node."""
    said: int = 0
    """The sequence of its last word on STATUS, as stored."""
    settled: bool = False
    """The kernel is known to hold compile(fold(ledger, enforced)): in sync, no write under way, no
    refolding, no trouble."""
    troubles: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Allocator:
    """An allocator's process, if one runs."""

    name: str
    running: bool = False
    paused: bool = False
    starts: int = 0
    holder: str = ""
    role: str = ""
    state: State = field(default_factory=State)
    """Live; of a leader ahead of the ledger by the batch that is being appended."""
    failure: str = ""
    """Why it ended by itself the last time."""


@dataclass(slots=True)
class World:
    """The cluster at the end of a step."""

    seed: int
    mode: Mode
    settings: SettingsAdopted
    """What every allocator is configured with."""
    numbers: int
    """How many cluster identities there are to allocate, from `NumberSpace().first` on."""
    relabel_timeout_ms: int
    step: int = 0
    now: int = 0
    ledger: list[Stored] = field(default_factory=list)
    """All that LEDGER ever stored, trimmed or not: append-only, and LEDGER/s is ledger[s - 1]."""
    records: list[Recorded[LedgerEvent]] = field(default_factory=list)
    """The events of `ledger`, read once for all checkers; nobody's fold looked at them."""
    observed: list[Stored] = field(default_factory=list)
    """Likewise OBSERVED."""
    heard: list[Recorded[ObservedEvent]] = field(default_factory=list)
    """The events of `observed`."""
    trimmed: int = 0
    """LEDGER holds nothing before this sequence any more; 0: all of it."""
    acknowledged: list[Acknowledged] = field(default_factory=list)
    unanswered: int = 0
    """Events that the workload gave up without an acknowledgement: they may be there or not."""
    words: list[Word] = field(default_factory=list)
    """All that was stored on STATUS, in order."""
    appends: list[Append] = field(default_factory=list)
    """All that was tried, in order."""
    nodes: dict[str, Node] = field(default_factory=dict)
    allocators: dict[str, Allocator] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    """By UID, stopped ones too."""
    faults: set[str] = field(default_factory=set)
    """What is not healed, as `cut n1`, `full OBSERVED`, `paused a1`."""
    packets: list[Packet] = field(default_factory=list)
    """Those that ended in this step."""
    converged: bool = False
    """At `finish`: all was healed, and all nodes came to the ledger's end before time was up."""
    counts: Counter[str] = field(default_factory=Counter)
    """What happened so far, by a name for it: `takeovers`, `numbers reused` …"""

"""The Dataplane port: what the agent asks of whatever enforces. All calls block; the agent makes
them on its one worker thread."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol as Interface

from tabard.dataplane.maps import (
    Address,
    Direction,
    Endpoint,
    Maps,
    Mode,
    PolicyKey,
    PrefixEntry,
    Reason,
    Strength,
)

TUNNEL_PORT = 8472
"""UDP port at which a node takes in what other nodes send in the overlay."""


class DataplaneError(Exception):
    """The dataplane could not do it; enforcement stays as it was."""


class MapFull(DataplaneError):
    """A map has no room: `map "hosts" is full (65536 of 65536); raise TABARD_HOSTS_MAX`."""

    def __init__(self, name: str, used: int, size: int, setting: str) -> None:
        super().__init__(f'map "{name}" is full ({used} of {size}); raise {setting}')
        self.name = name


class PoliciesFull(MapFull):
    """What is to be written would not fit in `policies`; nothing of it was."""

    def __init__(self, needed: int, size: int, grew: str) -> None:
        super().__init__("policies", needed, size, "TABARD_POLICIES_MAX")
        blame = f"; of what is new {grew} asks for most" if grew else ""
        self.args = (
            f'map "policies" has no room ({needed} of {size} while old and new entries are both '
            f"there){blame}; name fewer peers or ports there, or raise TABARD_POLICIES_MAX",
        )


class LinkGone(DataplaneError):
    """The interface does not exist (any more)."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the dataplane must know of its own node; fixed for a dataplane's life."""

    name: str
    mode: Mode
    underlay: tuple[Address, ...]
    """The node's own underlay addresses."""
    overlay_device: str = "tabard0"
    """Name of the VXLAN device in the node's network namespace (made if absent)."""
    tunnel_port: int = TUNNEL_PORT
    proxy_device: str = "tabard-dns"
    """Name of the device that the DNS proxy reads, in the node's network namespace."""
    underlay_device: str = ""
    """The device that other machines' packets come in on; if it is not given, nothing is guarded
    there, and policies of the node cannot be enforced."""
    stale_after_s: int = 0
    """The bound of every pod's endpoint, beside its own (Endpoint.stale_after_s); 0: none."""


@dataclass(frozen=True, slots=True)
class MapSizes:
    """Most entries of each map. In the kernel, changing one makes new maps at the agent's start.

    An entry costs about 104 bytes (144 in `policies` and `prefixes`), and only when it is used;
    `conntrack` and `fragments` take their memory at once, about 140 bytes an entry, and evict the
    longest unused when they are full. `events` is the ring buffer's bytes, a power of two.
    """

    identities: int = 65_536
    policies: int = 65_536
    nodes: int = 8_192
    prefixes: int = 65_536
    hosts: int = 262_144
    endpoints: int = 4_096
    conntrack: int = 131_072
    fragments: int = 4_096
    events: int = 1 << 20


NO_TABLES = ("rebound", "knows_late", "is_part")
"""Fields of Change that say how it is written, not what."""


@dataclass(frozen=True, slots=True)
class Change:
    """What turns one Maps value into another, in the order in which it is written.

    Additions and replacements go in field order of Maps, then removals in reverse. Each packet is
    judged as before the change or as after it, since it looks things up in the opposite order:
    endpoint, peer, whether the peer is known, policy entries.

    - A changed rule set has a new policy id: its entries are all there before one store turns the
      endpoint to them. A peer that is new gets its entries before its identity is known.
    - A rule set that endpoints are turned to or away from has entries for CIDRs of both ends, which
      are known at some time between; what neither end has of these is both set and removed.
    - While endpoints are turned to other rule sets, or removed, no pod's identity comes to be known
      and no address leads to somebody else than before: these are nobody until no packet can still
      go by the earlier rule set, and endpoints that are new come after that (`dataplane.turn`).
    - Identities and then policy entries are removed when no packet can still go by what led there.
    - Policy entries are added from the most specific to the least and removed the other way around
      (`specificity`), for a rule set in use that is repaired.
    """

    policies_set: Mapping[PolicyKey, Strength] = field(default_factory=dict)
    identities_added: frozenset[int] = frozenset()
    nodes_added: frozenset[Address] = frozenset()
    prefixes_set: Mapping[tuple[Address, int], PrefixEntry] = field(default_factory=dict)
    hosts_set: Mapping[Address, int] = field(default_factory=dict)
    endpoints_set: Mapping[Address, Endpoint] = field(default_factory=dict)
    endpoints_removed: frozenset[Address] = frozenset()
    hosts_removed: frozenset[Address] = frozenset()
    prefixes_widened: Mapping[tuple[Address, int], PrefixEntry] = field(default_factory=dict)
    """Pods' ranges around which a CIDR goes: they are written when it is removed."""
    prefixes_removed: frozenset[tuple[Address, int]] = frozenset()
    nodes_removed: frozenset[Address] = frozenset()
    identities_removed: frozenset[int] = frozenset()
    policies_removed: frozenset[PolicyKey] = frozenset()
    rebound: frozenset[Address] = field(default=frozenset(), compare=False)
    """Addresses of hosts_set and hosts_removed that lead to others because others are there, and
    not only because a rule names them now, or none any more."""
    knows_late: bool = field(default=False, compare=False)
    """While endpoints are turned CIDRs are treated as pods' identities are: for a change that does
    not know what each rule set says of whom."""
    is_part: bool = field(default=False, compare=False)
    """What is left out of it is still to come: it leads to no maps that are whole."""

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self._tables())

    def counts(self) -> dict[str, int]:
        """Entries written or deleted, per map."""
        found: dict[str, int] = {}
        for name in self._tables():
            entries = len(getattr(self, name))
            if entries:
                map_name = name.rpartition("_")[0]
                found[map_name] = found.get(map_name, 0) + entries
        return found

    @classmethod
    def _tables(cls) -> tuple[str, ...]:
        return tuple(name for name in cls.__slots__ if name not in NO_TABLES)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict event as the dataplane reports it (new flows and refusals)."""

    at: int
    """Nanoseconds since the Unix epoch."""
    direction: Direction
    reason: Reason
    source: Address
    destination: Address
    source_identity: int
    destination_identity: int
    protocol: int
    source_port: int
    destination_port: int


class Dataplane(Interface):
    """Enforces a Maps value on one node's interfaces."""

    @property
    def kind(self) -> str:
        """`ebpf` or `memory`."""
        ...

    @property
    def sizes(self) -> MapSizes: ...

    @property
    def guards_node(self) -> bool:
        """Whether it sees what the node itself sends and gets, so as to enforce policies of it."""
        ...

    def open(self) -> None:
        """Take over what an earlier agent of this node left, or make it. Idempotent."""
        ...

    def read(self) -> Maps:
        """What is enforced now, read back entry by entry (for drift and for taking over)."""
        ...

    def write(self, change: Change) -> None:
        """Apply a change in Change's order. On an error (MapFull, DataplaneError) the removals
        are not done and nothing is more open than before; call again with a fresh diff."""
        ...

    def refresh(self, at: int) -> None:
        """What is enforced was the ledger's newest at `at` (nanoseconds of CLOCK_BOOTTIME). It
        stays said when the agent is gone: new flows are denied by how long ago it is (`is_stale`).
        Before the first call it was never."""
        ...

    def forget(self, is_another: Callable[[Address, int], bool]) -> int:
        """Forget the flows whose peer, by (address, identity when it was last judged), is another
        now; how many. Packets of theirs are judged afresh, and what answers them by their own
        direction: it does not open them the other way.

        For peers that packets do not tell from what they were: those whose binding the maps do not
        hold, and those whose number may become another's.
        """
        ...

    def attach(self, uid: str, interface: str) -> tuple[int, bytes]:
        """Guard the pod's host-side interface before traffic flows; its (ifindex, host MAC).

        Until an endpoint entry names the interface, everything through it is dropped. LinkGone if
        the interface does not exist. Attaching again is no error.
        """
        ...

    def attached(self) -> Mapping[str, int]:
        """uid → ifindex of each attached interface that still exists."""
        ...

    def detach(self, uid: str) -> None:
        """Forget the interface (it may be gone already)."""
        ...

    def divert(self) -> int | None:
        """A descriptor of the packets that policy allows through the DNS proxy: each read gives
        one, and each write lets one go on, or sends an answer (`agent.dns.frames`). While it is
        closed they are dropped. None if they pass by themselves.
        """
        ...

    def watch(self, deliver: Callable[[list[Verdict]], None]) -> Callable[[], None]:
        """Call `deliver` on the running event loop with verdicts as they come; returns stop."""
        ...

    def counters(self) -> Mapping[tuple[Direction, Reason], int]:
        """Packets by direction and reason since the maps were made."""
        ...

    def close(self) -> None:
        """Let go of handles. Enforcement goes on."""
        ...

    def remove(self) -> None:
        """Take everything of this node out of the kernel (the node leaves)."""
        ...

"""What the agent says about itself: one record that its parts fill in and STATUS is made from."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tabard.dataplane.maps import MAP_NAMES
from tabard.events.status import Holder, NodeStatus


@dataclass(frozen=True, slots=True)
class Age:
    """How old what the node knows is; times in nanoseconds since the Unix epoch, 0 for never."""

    fresh_at: int = 0
    stale_since: int = 0
    stale_after_ms: int = 0
    deny_after_ms: int = 0


class Report:
    """Progress and troubles of one agent; `changed` is set whenever either moved."""

    def __init__(self, node: str, dataplane: str) -> None:
        self.node = node
        self.dataplane = dataplane
        self.sequence = 0
        """The watermark; 0 until the agent has written what the ledger's end asks for."""
        self.endpoints = 0
        self.drift = 0
        self.writes: Counter[str] = Counter()
        self.full: Counter[str] = Counter()
        """Map → writes that it refused because it was full."""
        self.digest = b""
        """Of the folded state at `digest_at`."""
        self.digest_at = 0
        self.troubles: dict[str, str] = {}
        """Part of the agent → why it does not go on."""
        self.lag = 0
        """Events that the ledger is known to have beyond `sequence`."""
        self.age = Age()
        self.holder: Holder | None = None
        self.heartbeat_ms = 0
        self.changed = asyncio.Event()

    def enforced(self, sequence: int, endpoints: int) -> None:
        if (sequence, endpoints) != (self.sequence, self.endpoints):
            self.sequence, self.endpoints = sequence, endpoints
            self.changed.set()

    def digested(self, sequence: int, digest: bytes) -> None:
        self.digest_at, self.digest = sequence, digest
        self.changed.set()

    def wrote(self, counts: Mapping[str, int]) -> None:
        self.writes.update(counts)
        self.changed.set()

    def fail(self, part: str, message: str) -> bool:
        """Note a trouble; True if it is news."""
        if self.troubles.get(part) == message:
            return False
        self.troubles[part] = message
        self.changed.set()
        return True

    def clear(self, part: str) -> bool:
        """The trouble is over; True if there was one."""
        if self.troubles.pop(part, None) is None:
            return False
        self.changed.set()
        return True

    @property
    def error(self) -> str:
        return "; ".join(self.troubles[part] for part in sorted(self.troubles))

    @property
    def map_writes(self) -> tuple[tuple[str, int], ...]:
        return tuple((name, self.writes[name]) for name in MAP_NAMES)

    def status(self) -> NodeStatus:
        return NodeStatus(
            node=self.node,
            sequence=self.sequence,
            dataplane=self.dataplane,
            endpoints=self.endpoints,
            map_writes=self.map_writes,
            error=self.error,
            drift=self.drift,
            full=tuple(sorted(self.full.items())),
            digest=self.digest,
            digest_at=self.digest_at,
            holder=self.holder,
            heartbeat_ms=self.heartbeat_ms,
            lag=self.lag,
            fresh_at=self.age.fresh_at,
            stale_since=self.age.stale_since,
            stale_after_ms=self.age.stale_after_ms,
            deny_after_ms=self.age.deny_after_ms,
        )

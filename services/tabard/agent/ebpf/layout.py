"""The kernel's maps: their shapes, and entries to and from bytes. bpf/maps.h is the same in C.

The compiler is handed these numbers and sizes (`definitions`), and the C asserts its structs
against them, so that the two cannot drift apart.
"""

import hashlib
import struct
from dataclasses import dataclass, fields
from typing import Final

from tabard.dataplane.maps import (
    Address,
    Direction,
    Endpoint,
    EndpointFlag,
    Mode,
    PolicyKey,
    PrefixEntry,
    PrefixFlag,
    Protocol,
    Reason,
    Strength,
    Tier,
)
from tabard.dataplane.port import MapSizes, Verdict

# enum bpf_map_type and map flags (uapi/linux/bpf.h).
HASH, ARRAY, PERCPU_ARRAY, LRU_HASH, LPM_TRIE, RINGBUF = 1, 2, 6, 9, 11, 27
NO_PREALLOC = 1

FORMAT = 4
"""What the entries mean. Raise it when a struct's fields change: maps of the same format and entry
sizes are copied into new ones, of another format they are left for the agent to fill anew."""

REASONS_MAX = 32
"""Counters a direction has; reasons are smaller."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What BPF_MAP_CREATE takes and BPF_OBJ_GET_INFO_BY_FD must give back."""

    name: str
    kind: int
    key: int
    value: int
    entries: int
    flags: int = 0


POLICY_MAPS: Final = ("identities", "policies", "nodes", "prefixes", "hosts", "endpoints")
"""The maps that a Maps value fills; `settings` says what else is the node's own."""
STATE_MAPS: Final = ("conntrack", "fragments", "counters", "events")
"""What packets leave behind; carried over to a new schema while its own shape is the same."""


def shapes(sizes: MapSizes) -> tuple[Shape, ...]:
    """All maps. A map's number in the programs is its place here."""
    return (
        Shape("settings", ARRAY, 4, SETTINGS.size, 1),
        Shape("identities", HASH, 4, 1, sizes.identities, NO_PREALLOC),
        Shape("policies", LPM_TRIE, POLICY.size, STRENGTH.size, sizes.policies, NO_PREALLOC),
        Shape("nodes", HASH, 16, 1, sizes.nodes, NO_PREALLOC),
        Shape("prefixes", LPM_TRIE, PREFIX_KEY.size, PREFIX.size, sizes.prefixes, NO_PREALLOC),
        Shape("hosts", HASH, 16, 4, sizes.hosts, NO_PREALLOC),
        Shape("endpoints", HASH, 16, ENTRY.size, sizes.endpoints, NO_PREALLOC),
        Shape("conntrack", LRU_HASH, FLOW_KEY.size, FLOW.size, sizes.conntrack),
        Shape("fragments", LRU_HASH, 40, 8, sizes.fragments),
        Shape("counters", PERCPU_ARRAY, 4, 8, len(Direction) * REASONS_MAX),
        Shape("events", RINGBUF, 0, 0, sizes.events),
        Shape("scratch", PERCPU_ARRAY, 4, 60, 2),
    )


def schema(sizes: MapSizes) -> str:
    """Names format and shapes, `<format>-<hash>`; maps of another schema are other maps."""
    text = repr([tuple(getattr(s, f.name) for f in fields(Shape)) for s in shapes(sizes)])
    return f"{FORMAT}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def is_same_format(schema: str) -> bool:
    return schema.startswith(f"{FORMAT}-")


def definitions() -> dict[str, int]:
    """Numbers that bpf/*.h take from here. The same for all sizes, so that programs are too."""
    found = {"EVENT_SIZE": EVENT.size}
    for number, shape in enumerate(shapes(MapSizes())):
        found[f"MAP_{shape.name}"] = number
        if shape.kind != RINGBUF:
            found[f"MAP_{shape.name}_KEY"] = shape.key
            found[f"MAP_{shape.name}_VALUE"] = shape.value
    return found


SETTINGS_KEY: Final = bytes(4)
"""The only key of `settings`."""
PRESENT: Final = b"\1"
"""The value of a map that is a set."""


@dataclass(frozen=True, slots=True)
class Settings:
    mode: Mode
    overlay_ifindex: int
    """0 in native mode."""
    tunnel_port: int
    filled: bool
    """These maps hold a full set: links may be moved to the programs that read them."""
    proxy_ifindex: int = 0
    """The DNS proxy's device; 0 before there was one."""
    guards_node: bool = False
    """Policies select the node itself."""
    stale_after_s: int = 0
    """As NodeConfig's."""
    fresh_at: int = 0
    """As `Dataplane.refresh` is told; 0 before."""


SETTINGS = struct.Struct("=III2s?xIIQ")
IDENTITY = struct.Struct("=I")
POLICY = struct.Struct("=IQIBB2s")
STRENGTH = struct.Struct("=I")
PREFIX_KEY = struct.Struct("=I16s")
PREFIX = struct.Struct("=IB?2x16s")
ENDPOINT = struct.Struct("=QQII6s6sHH")
ENTRY = struct.Struct(f"=I4x{ENDPOINT.size}s{ENDPOINT.size}s")
"""Which side counts (its last bit), and the two sides."""
FLOW_KEY = struct.Struct("=16s16s2s2sBB2x")
FLOW = struct.Struct("=QQQIB3x")
EVENT = struct.Struct("=Q16s16sII2s2sBBBx")
COUNTER = struct.Struct("=Q")

_ANY_BITS = 104
"""Policy id, identity, tier and direction: what an entry for ANY protocol fixes of a key."""


def pack_settings(settings: Settings) -> bytes:
    return SETTINGS.pack(
        settings.mode,
        settings.overlay_ifindex,
        settings.proxy_ifindex,
        settings.tunnel_port.to_bytes(2, "big"),
        settings.guards_node,
        settings.filled,
        settings.stale_after_s,
        settings.fresh_at,
    )


def unpack_settings(value: bytes) -> Settings:
    mode, ifindex, proxy, port, guards, filled, after_s, fresh_at = SETTINGS.unpack(value)
    return Settings(
        mode=Mode(mode),
        overlay_ifindex=ifindex,
        tunnel_port=int.from_bytes(port, "big"),
        filled=bool(filled),
        proxy_ifindex=proxy,
        guards_node=guards,
        stale_after_s=after_s,
        fresh_at=fresh_at,
    )


def pack_policy(key: PolicyKey) -> bytes:
    bits = _ANY_BITS if key.protocol == Protocol.ANY else _ANY_BITS + 8 + key.port_bits
    return POLICY.pack(
        bits,
        key.policy,
        key.identity,
        key.tier << 1 | key.direction,
        key.protocol,
        key.port.to_bytes(2, "big"),
    )


def unpack_policy(key: bytes) -> PolicyKey:
    bits, policy, identity, side, protocol, port = POLICY.unpack(key)
    return PolicyKey(
        policy,
        Direction(side & 1),
        identity,
        Protocol(protocol),
        int.from_bytes(port, "big"),
        max(0, bits - _ANY_BITS - 8),
        Tier(side >> 1),
    )


def pack_strength(value: Strength) -> bytes:
    return STRENGTH.pack(value)


def unpack_strength(value: bytes) -> Strength:
    return Strength(STRENGTH.unpack(value)[0])


def pack_prefix_key(key: tuple[Address, int]) -> bytes:
    return PREFIX_KEY.pack(key[1], key[0])


def unpack_prefix_key(key: bytes) -> tuple[Address, int]:
    bits, address = PREFIX_KEY.unpack(key)
    return Address(address), bits


def pack_prefix(entry: PrefixEntry) -> bytes:
    return PREFIX.pack(entry.identity, entry.flags, bool(entry.tunnel), entry.tunnel)


def unpack_prefix(value: bytes) -> PrefixEntry:
    identity, flags, remote, tunnel = PREFIX.unpack(value)
    return PrefixEntry(identity, PrefixFlag(flags), tunnel if remote else b"")


def pack_entry(endpoint: Endpoint) -> bytes:
    """A new endpoint's entry."""
    return ENTRY.pack(0, pack_endpoint(endpoint), b"")


def unpack_entry(value: bytes) -> Endpoint:
    current, *sides = ENTRY.unpack(value)
    return unpack_endpoint(sides[current & 1])


def pack_endpoint(endpoint: Endpoint) -> bytes:
    """One side of an entry."""
    return ENDPOINT.pack(
        endpoint.incarnation,
        endpoint.policy,
        endpoint.identity,
        endpoint.ifindex,
        endpoint.mac,
        endpoint.host_mac,
        endpoint.flags,
        endpoint.stale_after_s,
    )


def unpack_endpoint(value: bytes) -> Endpoint:
    incarnation, policy, identity, ifindex, mac, host_mac, flags, after_s = ENDPOINT.unpack(value)
    return Endpoint(
        incarnation, identity, policy, EndpointFlag(flags), ifindex, mac, host_mac, after_s
    )


def flow_peer(key: bytes, value: bytes) -> tuple[Address, int]:
    """Of a conntrack entry: the local pod's peer, as (address, identity)."""
    source, destination, *_, direction = FLOW_KEY.unpack(key)
    *_, peer, _ = FLOW.unpack(value)
    return Address(source if direction == Direction.INGRESS else destination), peer


FLOW_FORGOTTEN: Final = 64
"""Among a flow's flags, as in bpf/conntrack.h."""


def forgotten(value: bytes) -> bytes:
    """A conntrack entry's value without its peer, to be judged afresh."""
    *reasons, _, flags = FLOW.unpack(value)
    return FLOW.pack(*reasons, 0, flags | FLOW_FORGOTTEN)


def unpack_event(record: bytes, epoch_offset_ns: int) -> Verdict:
    """`epoch_offset_ns`: the Unix epoch's clock less the monotonic one."""
    at, source, to, source_identity, to_identity, source_port, to_port, protocol, way, reason = (
        EVENT.unpack(record)
    )
    return Verdict(
        at=at + epoch_offset_ns,
        direction=Direction(way),
        reason=Reason(reason),
        source=source,
        destination=to,
        source_identity=source_identity,
        destination_identity=to_identity,
        protocol=protocol,
        source_port=int.from_bytes(source_port, "big"),
        destination_port=int.from_bytes(to_port, "big"),
    )

"""Frames at all hooks of the kernel's programs, in both modes: judged as the packets that they are.

An input is a list: the mode, then [hook, mark, frame] of each frame, one after the other, so that
flows and fragments of before count. Needs root; without it there is nothing to hunt here.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import msgpack

import packets
from fuzzing.parsers.mutation import MSGPACK, read_msgpack
from fuzzing.parsers.target import Target
from kernel import Kernel
from laboratory import SIZES
from odd_frames import bent, world
from tabard.dataplane.maps import Mode
from traffic import HOOKS, LOCAL, NODE_PARTY, NODES, PARTIES, REMOTE
from twins import Twins, tunnelled_sources

PROXY = "from_proxy"
NODES_KNOWN = [place for pair in PARTIES[NODE_PARTY : NODE_PARTY + 2] for place in pair]
FRAMES_MAX = 16
FRAME_BYTES_MAX = 2_000


@contextmanager
def frames() -> Iterator[Target]:
    """The target, with kernels of its own."""
    kernels: dict[Mode, Kernel] = {}
    with tempfile.TemporaryDirectory() as directory:
        sources = tunnelled_sources(Path(directory))
        try:
            for mode in Mode:
                kernels[mode] = Kernel(mode, SIZES, sources)
            yield frames_at(kernels)
        finally:
            for kernel in kernels.values():
                kernel.remove()


def frames_at(kernels: Mapping[Mode, Kernel]) -> Target:
    """The target on these kernels, which have `tunnelled_sources`."""
    by_name = {mode.name: kernel for mode, kernel in kernels.items()}
    return Target("frames", MSGPACK, _seeds, lambda data: _take(by_name, data), short=150)


def _take(kernels: Mapping[str, Kernel], data: bytes) -> None:
    try:
        mode, *sent = read_msgpack(data)
    except (ValueError, TypeError):
        return
    if not isinstance(mode, str) or mode not in kernels:
        return
    twins = Twins(kernels[mode], Mode[mode])
    twins.put(replace(world(), nodes=frozenset(NODES_KNOWN)))
    for each in sent[:FRAMES_MAX]:
        match each:
            case [str() as hook, int() as mark, bytes() as frame] if hook in (*HOOKS, PROXY):
                least = 14 + (20 if frame[12:14] == b"\x08\x00" else 40)
                whole = frame[:FRAME_BYTES_MAX].ljust(least, b"\0")
                twins.odd(hook, whole, 1, mark & 0xFFFFFF if mark >= 0 else None)


def _seeds() -> list[bytes]:
    random, found = Random(5), []
    for mode in Mode:
        for hook in HOOKS:
            sent: list[Any] = [[hook, random.choice((-1, 0, 300)), bent(random)] for _ in range(4)]
            found.append([mode.name, *sent])
        for special in _special():
            found.append([mode.name, *([hook, 300, special] for hook in (*HOOKS, PROXY))])
    return list(map(msgpack.packb, found))


def _special() -> Iterator[bytes]:
    """Deep extension headers, tags, tunnels in tunnels, fragments that overlap."""
    (v4, v6), (other4, other6) = LOCAL[0], LOCAL[1]
    for source, target in ((v4, other4), (v6, other6), (v4, REMOTE[0][0]), (v6, REMOTE[0][1])):
        plain = packets.packet(source, target, packets.TCP, 40_000, 80)
        yield plain
        for tag in (
            b"\x81\x00\x00\x07",
            b"\x88\xa8\x00\x07\x81\x00\x00\x07",
            b"\x88\x47\x00\x00\x11\x40",
        ):
            yield plain[:12] + tag + plain[12:]
        inner = packets.packet(
            source, target, packets.UDP, 1, 8472, payload=packets.vxlan(7, plain)
        )
        yield inner
        for node in (NODES[1], NODES[2]):
            ends = [each[":" in source] for each in (node, NODES[0])]
            for load in (plain, inner, plain[:20], b""):
                tunnelled = packets.vxlan(300, load)
                yield packets.packet(*ends, packets.UDP, 50_000, 8472, payload=tunnelled)
        kinds = (packets.HOP_BY_HOP, packets.ROUTING, packets.DESTINATION, 51, 135, 139, 140, 253)
        for depth in (1, 6, 7, 40):
            for kind in kinds if ":" in source else ():
                yield packets.packet(
                    source, target, packets.UDP, 1, 5353, ext_headers=(kind,) * depth
                )
        for offset, more in ((0, True), (8, False), (8, True), (65_528, True)):
            yield packets.packet(
                source, target, packets.UDP, 1, 5353, fragment=(7, offset, more), payload=bytes(24)
            )

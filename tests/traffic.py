"""Random traffic of one node: who there is, what they send, and what happens in between.

A step is a plain value that finds its meaning when it is played: the same seed gives the same
traffic, and a found sequence can be written down as a named test.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import assert_never

from frames import own_icmp
from tabard.dataplane.maps import Address, Protocol, address
from tabard.dataplane.memory import Action
from tabard.dataplane.packet import ECHO, ECHO_REPLY, NEIGHBOUR, PORTS, Fragment, Packet, TcpFlag
from twins import Twins

IFINDEXES = (100, 101, 102)
"""Of the local pods' interfaces."""
LOCAL = (
    ("10.1.1.7", "fd10:1:1::7"),
    ("10.1.1.8", "fd10:1:1::8"),
    ("10.244.1.1", "fd10:f4:1::1"),
)
REMOTE = (("10.1.9.9", "fd10:1:9::9"), ("10.244.2.2", "fd10:f4:2::2"))
NODES = (("192.168.9.1", "fd99:1::"), ("192.168.9.2", "fd99:2::"), ("192.168.9.3", "fd99:3::"))
"""This node, another, and one that nobody knows."""
OUTSIDE = (
    ("10.1.1.9", "fd10:1:1::9"),
    ("203.0.113.9", "2001:db8::9"),
    ("10.244.1.77", "fd10:f4:1::77"),
    ("169.254.1.1", "fe80::1"),
    ("224.0.0.1", "ff02::1"),
    ("0.0.0.0", "::"),
)
Party = tuple[Address, Address]
PARTIES: tuple[Party, ...] = tuple(
    (address(v4), address(v6)) for v4, v6 in (*LOCAL, *REMOTE, *NODES, *OUTSIDE)
)
_HOME = {place: n for n, pair in enumerate(PARTIES[: len(LOCAL)]) for place in pair}
NODE_PARTY = len(LOCAL) + len(REMOTE)

TRANSPORT_PORTS = (79, 80, 81, 5353, 8472, 40_000)
FLAGS = tuple(map(TcpFlag, (0, 1, 2, 4, 16, 17, 18, 20)))
SENDERS = (0, 1, 2, 6, 128, 300, 301, 256, 257, 0xFFFFFF, 1 << 24, 0x1000100)
AGES_S = (7, 41, 4001)
"""No sum of some comes near a lifetime."""
KINDS = ("send",) * 6 + ("answer",) * 4 + ("again",) * 3 + ("odd", "error", "part", "age", "change")
HOOKS = ("from_pod", "to_pod", "from_wire", "to_wire", "from_overlay")


@dataclass(frozen=True)
class Send:
    """Where packets like this come by, or as `hook` and the rest say."""

    packet: Packet
    hook: str = ""
    slot: int = 0
    sender: int | None = None


@dataclass(frozen=True)
class Answer:
    """To the packet sent `back` packets ago, back the way that it came."""

    back: int
    flags: TcpFlag


@dataclass(frozen=True)
class Again:
    back: int
    flags: TcpFlag


@dataclass(frozen=True)
class Error:
    """An ICMP error about that packet, from its target or someone else."""

    back: int
    type: int
    reporter: int | None


@dataclass(frozen=True)
class Part:
    """A fragment of that packet."""

    back: int
    fragment: Fragment


@dataclass(frozen=True)
class Age:
    seconds: int


@dataclass(frozen=True)
class Change:
    number: int


Step = Send | Answer | Again | Error | Part | Age | Change


def steps(random: Random, count: int, changes: int) -> Iterator[Step]:
    """`count` steps or a few more, of few parties; a change is a number below `changes`."""
    cast = (*random.sample(PARTIES[: len(LOCAL)], 2), *random.sample(PARTIES[len(LOCAL) :], 3))
    for _ in range(count):
        back, flags = random.randint(1, 4), random.choice(FLAGS)
        match random.choice(KINDS):
            case "send":
                yield Send(packet(random, cast))
            case "odd":
                hook = random.choice(HOOKS)
                sender = random.choice((None, *SENDERS))
                yield Send(packet(random, cast), hook, random.randrange(len(LOCAL)), sender)
            case "answer":
                yield Answer(back, flags)
            case "again":
                yield Again(back, flags)
            case "error":
                reporter = random.choice((None, random.randrange(len(PARTIES))))
                yield Error(back, random.choice((1, 2, 3, 4, 11, 12)), reporter)
            case "part":
                yield Part(back, fragment(random))
            case "age":
                yield Age(random.choice(AGES_S))
            case "change":
                yield Change(random.randrange(changes))
                yield from (Again(3, flags), Again(3, flags), Again(3, flags))


def packet(random: Random, cast: Sequence[Party] = PARTIES) -> Packet:
    """A packet of one of the first two of the cast, mostly."""
    family = random.randrange(2)
    if random.random() < 0.03:
        return discovery(random)
    local, other = random.choice(cast[:2]), random.choice(cast)
    ends = [(local, other), (other, local), (other, random.choice(cast))]
    source, target = random.choices(ends, (6, 6, 1))[0]
    base = Packet(source[family], target[family], 0)
    icmp = own_icmp(base)
    base = replace(
        base, protocol=random.choice((*PORTS, *PORTS, *PORTS, icmp, icmp, 1, 58, 47, 255))
    )
    if base.is_ipv6:
        base = replace(base, hop_limit=random.choice((64, 255)))
    if random.random() < 0.1:
        piece = fragment(random)
        base = replace(base, fragment=piece)
        if not piece.is_first:
            return replace(base, protocol=0) if base.is_ipv6 else base
    if base.protocol in PORTS:
        source_port, port = random.choice(TRANSPORT_PORTS), random.choice(TRANSPORT_PORTS)
        base = replace(base, source_port=source_port, destination_port=port)
        if base.protocol == Protocol.TCP:
            base = replace(base, tcp_flags=random.choice(FLAGS))
    elif base.protocol == icmp:
        types = (1, 128, 128, 129, 133, 135) if base.is_ipv6 else (0, 3, 8, 8, 11, 13)
        base = replace(base, icmp_type=random.choice(types), icmp_id=random.randrange(3))
    return base


def discovery(random: Random) -> Packet:
    pods, link, unset = PARTIES[: len(LOCAL)], PARTIES[-3:-1], PARTIES[-1]
    source = random.choice((*pods, *link, unset))[1]
    target = random.choice((*pods, *link, *link))[1]
    return Packet(
        source,
        target,
        Protocol.ICMPV6,
        icmp_type=random.choice(NEIGHBOUR),
        hop_limit=random.choice((255, 255, 64)),
        fragment=random.choice((None, None, None, Fragment(1, True))),
    )


def fragment(random: Random) -> Fragment:
    return Fragment(random.randint(1, 2), random.random() < 0.5)


class Player:
    """Plays steps to both twins. `who` tells as whom a remote sender comes through the
    tunnel, or None if not that way; `change` changes the maps."""

    def __init__(
        self, twins: Twins, who: Callable[[Address], int | None], change: Callable[[int], None]
    ) -> None:
        self._twins = twins
        self._who = who
        self._change = change
        self._sent: list[Packet] = []

    def play(self, step: Step) -> None:
        match step:
            case Send(packet, hook, slot, sender):
                self._send(packet, hook, slot, sender)
            case Answer(back, flags):
                if about := self._recall(back):
                    self._send(answer(about, flags))
            case Again(back, flags):
                if about := self._recall(back):
                    self._send(again(about, flags))
            case Error(back, type, reporter):
                if (about := self._recall(back)) and about.quoted is None:
                    source = about.destination
                    if reporter is not None:
                        source = PARTIES[reporter][about.is_ipv6]
                    self._send(
                        Packet(source, about.source, own_icmp(about), icmp_type=type, quoted=about)
                    )
            case Part(back, fragment):
                if (about := self._recall(back)) and about.quoted is None:
                    self._send(part(about, fragment))
            case Age(seconds):
                self._twins.age(seconds)
            case Change(number):
                self._change(number)
            case _:
                assert_never(step)

    def _recall(self, back: int) -> Packet | None:
        return self._sent[-back] if len(self._sent) >= back else None

    def _send(
        self, packet: Packet, hook: str = "", slot: int = 0, sender: int | None = None
    ) -> None:
        self._sent.append(packet)
        twins = self._twins
        if not hook:
            hook, slot, sender = self._way(packet)
        match hook:
            case "from_pod":
                outcome = twins.from_pod(IFINDEXES[slot], packet)
            case "from_wire":
                outcome = twins.from_wire(packet)
            case "to_wire":
                outcome = twins.to_wire(packet)
            case "from_overlay":
                outer = PARTIES[NODE_PARTY + slot][packet.is_ipv6]
                outcome = twins.from_overlay(outer, sender or 0, packet)
            case _:
                mark = None if sender is None else sender & 0xFFFFFF
                outcome = twins.to_pod(IFINDEXES[slot], packet, mark)
        if outcome.action is Action.DELIVER and outcome.ifindex in IFINDEXES:
            twins.to_pod(outcome.ifindex, packet, outcome.identity)

    def _way(self, packet: Packet) -> tuple[str, int, int | None]:
        if (home := _HOME.get(packet.source)) is not None:
            return "from_pod", home, None
        if packet.source in PARTIES[NODE_PARTY]:
            home = _HOME.get(packet.destination)
            return ("to_wire", 0, None) if home is None else ("to_pod", home, None)
        if packet.destination in PARTIES[NODE_PARTY]:
            return "from_wire", 0, None
        if (sender := self._who(packet.source)) is not None:
            return "from_overlay", 1, sender
        return "to_pod", _HOME.get(packet.destination, 0), None


def answer(packet: Packet, flags: TcpFlag) -> Packet:
    turned = replace(
        packet,
        source=packet.destination,
        destination=packet.source,
        source_port=packet.destination_port,
        destination_port=packet.source_port,
        quoted=None,
    )
    if packet.fragment is not None and not packet.fragment.is_first:
        return turned
    if packet.protocol == Protocol.TCP:
        return replace(turned, tcp_flags=flags)
    icmp = own_icmp(packet)
    if packet.protocol == icmp and packet.icmp_type == ECHO[icmp]:
        return replace(turned, icmp_type=ECHO_REPLY[icmp])
    return turned


def again(packet: Packet, flags: TcpFlag) -> Packet:
    has_flags = packet.fragment is None or packet.fragment.is_first
    is_tcp = packet.protocol == Protocol.TCP
    return replace(packet, tcp_flags=flags) if is_tcp and has_flags else packet


def part(packet: Packet, fragment: Fragment) -> Packet:
    if fragment.is_first:
        is_later = packet.fragment is not None and not packet.fragment.is_first
        return packet if is_later else replace(packet, fragment=fragment)
    protocol = 0 if packet.is_ipv6 else packet.protocol
    return Packet(
        packet.source,
        packet.destination,
        protocol,
        hop_limit=packet.hop_limit,
        fragment=fragment,
    )

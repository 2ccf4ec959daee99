"""Random traffic of one node: who there is, what they send, and what happens in between.

A step is a plain value that finds its meaning when it is played: the same seed gives the same
traffic, and a found sequence can be written down as a named test.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

from tabard.dataplane.maps import Address, Protocol, address
from tabard.dataplane.memory import Action, Outcome
from tabard.dataplane.packet import ECHO, ECHO_REPLY, PORTS, Fragment, Packet, TcpFlag
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
PARTIES = tuple(
    tuple(address(text) for text in pair) for pair in (*LOCAL, *REMOTE, *NODES, *OUTSIDE)
)
_HOME = {place: n for n, pair in enumerate(PARTIES[: len(LOCAL)]) for place in pair}
NODE_PARTY = len(LOCAL) + len(REMOTE)

TRANSPORT_PORTS = (79, 80, 81, 5353, 8472, 40_000)
FLAGS = tuple(map(TcpFlag, (0, 1, 2, 4, 16, 17, 18, 20)))
SENDERS = (0, 1, 2, 6, 128, 300, 301, 256, 257, 0xFFFFFF, 1 << 24, 0x1000100)
AGES_S = (7, 41, 4001)
"""No sum of some comes near a lifetime."""
KINDS = ("send",) * 6 + ("answer",) * 4 + ("again",) * 3 + ("odd", "error", "part", "age", "change")
HOOKS = ("from_pod", "to_pod", "from_wire", "from_overlay")


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


def icmp(packet: Packet) -> Protocol:
    return Protocol.ICMPV6 if packet.is_ipv6 else Protocol.ICMP


def steps(random: Random, count: int, changes: int) -> Iterator[Step]:
    """`count` steps; a change is a number below `changes`."""
    for _ in range(count):
        back, flags = random.randint(1, 4), random.choice(FLAGS)
        match random.choice(KINDS):
            case "send":
                yield Send(packet(random))
            case "odd":
                hook = random.choice(HOOKS)
                sender = random.choice((None, *SENDERS))
                yield Send(packet(random), hook, random.randrange(len(LOCAL)), sender)
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


def packet(random: Random) -> Packet:
    family = random.randrange(2)
    local, other = random.choice(PARTIES[: len(LOCAL)]), random.choice(PARTIES)
    ends = [(local, other), (other, local), (other, random.choice(PARTIES))]
    source, target = random.choices(ends, (6, 6, 1))[0]
    base = Packet(source[family], target[family], 0)
    own_icmp = icmp(base)
    base = replace(base, protocol=random.choice((*PORTS, *PORTS, *PORTS, own_icmp, own_icmp, 1, 58, 47, 255)))
    if base.is_ipv6:
        base = replace(base, hop_limit=random.choice((64, 255)))
    if random.random() < 0.1:
        base = replace(base, fragment=fragment(random))
        if not base.fragment.is_first:
            return replace(base, protocol=0) if base.is_ipv6 else base
    if base.protocol in PORTS:
        source_port, port = random.choice(TRANSPORT_PORTS), random.choice(TRANSPORT_PORTS)
        base = replace(base, source_port=source_port, destination_port=port)
        if base.protocol == Protocol.TCP:
            base = replace(base, tcp_flags=random.choice(FLAGS))
    elif base.protocol == own_icmp:
        types = (1, 128, 128, 129, 133, 135) if base.is_ipv6 else (0, 3, 8, 8, 11, 13)
        base = replace(base, icmp_type=random.choice(types), icmp_id=random.randrange(3))
    return base


def fragment(random: Random) -> Fragment:
    return Fragment(random.randint(1, 2), random.random() < 0.5)


class Player:
    """Plays steps to both twins. `who` tells a sender's identity, `change` changes the maps."""

    def __init__(
        self, twins: Twins, who: Callable[[Address], int], change: Callable[[int], None]
    ) -> None:
        self._twins = twins
        self._who = who
        self._change = change
        self._sent: list[Packet] = []
        self.outcomes: list[Outcome] = []

    def play(self, step: Step) -> None:
        match step:
            case Send(packet, hook, slot, sender):
                self._send(packet, hook, slot, sender)
            case Answer(back, flags):
                if packet := self._recall(back):
                    self._send(answer(packet, flags))
            case Again(back, flags):
                if packet := self._recall(back):
                    is_tcp = packet.protocol == Protocol.TCP and packet.quoted is None
                    has_flags = is_tcp and (packet.fragment is None or packet.fragment.is_first)
                    self._send(replace(packet, tcp_flags=flags) if has_flags else packet)
            case Error(back, type, reporter):
                if (packet := self._recall(back)) and packet.quoted is None:
                    family = int(packet.is_ipv6)
                    source = (
                        packet.destination if reporter is None else PARTIES[reporter][family]
                    )
                    self._send(
                        Packet(
                            source, packet.source, icmp(packet), icmp_type=type, quoted=packet
                        )
                    )
            case Part(back, fragment):
                if (packet := self._recall(back)) and packet.quoted is None:
                    self._send(part(packet, fragment))
            case Age(seconds):
                self._twins.age(seconds)
            case Change(number):
                self._change(number)

    def _recall(self, back: int) -> Packet | None:
        return self._sent[-back] if len(self._sent) >= back else None

    def _send(
        self, packet: Packet, hook: str = "", slot: int = 0, sender: int | None = None
    ) -> None:
        self._sent.append(packet)
        twins = self._twins
        family = int(packet.is_ipv6)
        if not hook:
            home = _HOME.get(packet.source)
            hook, slot = ("to_pod", 0) if home is None else ("from_pod", home)
            if home is None:
                sender = self._who(packet.source) if sender is None else None
                hook = "from_overlay" if sender is not None and packet.source_port % 2 else hook
                slot = _HOME.get(packet.destination, 0)
        match hook:
            case "from_pod":
                outcome = twins.from_pod(IFINDEXES[slot], packet)
            case "from_wire":
                outcome = twins.from_wire(packet)
            case "from_overlay":
                outer = PARTIES[NODE_PARTY + slot % len(NODES)][family]
                outcome = twins.from_overlay(outer, sender or 0, packet)
            case _:
                mark = None if sender is None else sender & 0xFFFFFF
                outcome = twins.to_pod(IFINDEXES[slot], packet, mark)
        self.outcomes.append(outcome)
        if outcome.action is Action.DELIVER and outcome.ifindex in IFINDEXES:
            self.outcomes.append(twins.to_pod(outcome.ifindex, packet, outcome.identity))


def answer(packet: Packet, flags: TcpFlag = TcpFlag(0)) -> Packet:  # noqa: B008
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
    if packet.protocol == icmp(packet) and packet.icmp_type == ECHO[icmp(packet)]:
        return replace(turned, icmp_type=ECHO_REPLY[icmp(packet)])
    return turned


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

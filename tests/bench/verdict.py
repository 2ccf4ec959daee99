"""A verdict in the kernel: nanoseconds a packet from random sources, by BPF_PROG_TEST_RUN."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import population
from bench.driver import Driver
from bench.figures import Figure, Target, Yardstick
from bench.lab import Lab
from entries import INGRESS_ISOLATED, allowing
from packets import ACK, SYN, TCP, packet
from tabard.agent.ebpf.dataplane import EbpfDataplane
from tabard.dataplane.maps import (
    Direction,
    Endpoint,
    Mode,
    PolicyKey,
    Protocol,
    Reason,
    address,
)
from tabard.dataplane.port import Change, MapSizes, NodeConfig

NEEDS_KERNEL = True
BINDINGS = (1_000, 100_000, 1_000_000)
ALLOW_NS_MAX = (250, 500, 800)
IDENTITIES = 60_000
ALLOWED = 16_384
"""Identities that the pod's policy admits, an entry each."""
FLOWS = 65_536
"""Open flows at a time; conntrack has room for twice as many."""
PACKETS = 200_000
RUNS = 5
POD, PORT, CLIENT_PORT = "192.0.2.10", 80, 40_000
POLICY, FIRST_IDENTITY = 7, 256
SOURCE, DESTINATION, SOURCE_PORT = 14 + 12, 14 + 16, 14 + 20
"""Offsets in a frame with IPv4 and without options."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of packet to a pod whose ingress is enforced, and what it must be judged."""

    name: str
    what: str
    reason: Reason
    means: str


ALLOW = Case(
    "allow",
    "allowed, of an open flow",
    Reason.ALLOWED_ESTABLISHED,
    "What each packet to a pod costs but its flow's first; that many flows are open at random.",
)
REPLY = Case(
    "reply", "allowed, reply to the pod", Reason.ALLOWED_ESTABLISHED, "What each answer costs."
)
NEW = Case(
    "new",
    "allowed, first of its flow",
    Reason.ALLOWED_POLICY,
    "What the first packet of a connection costs: policy, an event, a flow opened in a full "
    "conntrack, as on a node that has run for long.",
)
DENY = Case(
    "deny", "denied", Reason.DENIED_POLICY, "What a refused packet costs, its event included."
)


def run(lab: Lab) -> list[Figure]:
    figures: list[Figure] = []
    parse: list[float] = []
    for bindings, most in zip(BINDINGS, ALLOW_NS_MAX, strict=True):
        lab.tell(f"{bindings:,} bindings")
        with _rig(lab, lab.scaled(bindings, 100)) as rig:
            figures += rig.measured(bindings, most)
            parse += rig.parse
    empty = figures[0].yardstick
    means = "The part of it that finds addresses and ports."
    figures.append(Figure("verdict.parse", "parsing alone", "ns", tuple(parse), None, empty, means))
    return figures


class Rig:
    """A node with `bindings` known addresses, and a pod with ingress policies."""

    def __init__(self, lab: Lab, driver: Driver, dataplane: EbpfDataplane, bindings: int) -> None:
        self.parse: list[float] = []
        self._lab = lab
        self._driver = driver
        self._dataplane = dataplane
        identities = min(bindings, IDENTITIES)
        allowed = min(ALLOWED, identities // 2)
        self._fill(bindings, identities, allowed)
        numbers = list(range(bindings))
        random.Random(bindings).shuffle(numbers)
        self._friends = [n for n in numbers if n % identities < allowed]
        self._others = [n for n in numbers if n % identities >= allowed]

    def _fill(self, bindings: int, identities: int, allowed: int) -> None:
        known = range(FIRST_IDENTITY, FIRST_IDENTITY + identities)
        self._dataplane.write(
            Change(
                identities_added=frozenset(known),
                policies_set=allowing(
                    PolicyKey(POLICY, Direction.INGRESS, number, Protocol.TCP, PORT, 16)
                    for number in known[:allowed]
                ),
                hosts_set={
                    address(population.address(n)): known[n % identities] for n in range(bindings)
                },
                endpoints_set={
                    address(POD): Endpoint(
                        incarnation=1,
                        identity=FIRST_IDENTITY,
                        policy=POLICY,
                        flags=INGRESS_ISOLATED,
                        ifindex=1,
                        mac=bytes(6),
                        host_mac=bytes(6),
                    )
                },
            )
        )

    def measured(self, bindings: int, most: float) -> list[Figure]:
        empty: list[float] = []
        looked: list[float] = []
        found: dict[Case, list[float]] = {case: [] for case in (ALLOW, REPLY, NEW, DENY)}
        for _ in range(RUNS):
            empty.append(self._alone("empty"))
            self.parse.append(self._alone("parse_alone"))
            looked.append(self._look_up() + empty[-1])
            for case, values in found.items():
                values.append(self._case(case) + empty[-1])
        look_up = Figure(
            f"verdict.look_up.{bindings}",
            f"the address alone; {bindings:,} bindings",
            "ns",
            tuple(looked),
            None,
            Yardstick("empty program", tuple(empty)),
            "One look-up of a random address: what memory and caches make of so many.",
        )
        return [
            look_up,
            *(
                Figure(
                    f"verdict.{case.name}.{bindings}",
                    f"{case.what}; {bindings:,} bindings",
                    "ns",
                    tuple(values),
                    Target(most) if case is ALLOW else None,
                    Yardstick("empty program", tuple(empty)),
                    case.means,
                )
                for case, values in found.items()
            ),
        ]

    def _alone(self, name: str) -> float:
        return self._driver.alone(name, _request(SYN), self._lab.scaled(PACKETS, 1000))

    def _look_up(self) -> float:
        """As `_case`, of one look-up in `hosts`."""
        driver, runs = self._driver, self._lab.scaled(PACKETS, 1000)
        driver.addresses(_packed(self._friends))
        took = driver.run("look_up", _request(ACK), runs, address_offset=SOURCE)
        return took - driver.run("empty", _request(ACK), runs, address_offset=SOURCE)

    def _case(self, case: Case) -> float:
        """Nanoseconds a packet, less those of an empty program on the same frames."""
        driver, runs = self._driver, self._lab.scaled(PACKETS, 1000)
        driver.forget_flows()
        frame, offset, port_offset = _request(ACK), SOURCE, 0
        if case is NEW:
            frame, port_offset = _request(SYN), SOURCE_PORT
            driver.addresses(_packed(self._friends))
            # Fill conntrack: from then on each new flow puts an old one out.
            driver.run("to_pod", frame, runs, address_offset=offset, port_offset=port_offset)
        elif case is DENY:
            driver.addresses(_packed(self._others))
        else:
            flows = self._friends[:FLOWS]
            driver.addresses(_packed(flows))
            if case is ALLOW:
                driver.run("to_pod", _request(SYN), len(flows), address_offset=SOURCE)
            else:
                asked = packet(POD, "10.0.0.0", TCP, CLIENT_PORT, PORT, flags=SYN)
                driver.run("from_pod", asked, len(flows), address_offset=DESTINATION)
                frame = packet("10.0.0.0", POD, TCP, PORT, CLIENT_PORT, flags=SYN | ACK)
        before = Counter(self._dataplane.counters())
        took = driver.run("to_pod", frame, runs, address_offset=offset, port_offset=port_offset)
        counted = Counter(self._dataplane.counters()) - before
        # Random ports meet now and then: then the flow is open already.
        right = counted[Direction.INGRESS, case.reason]
        assert right >= 0.95 * runs, (case.name, counted)
        return took - driver.run(
            "empty", frame, runs, address_offset=offset, port_offset=port_offset
        )


@contextmanager
def _rig(lab: Lab, bindings: int) -> Iterator[Rig]:
    sizes = MapSizes(hosts=bindings + 16, identities=65_536)
    config = NodeConfig("n1", Mode.NATIVE, ())
    dataplane = EbpfDataplane(
        config, cluster=lab.name, sizes=sizes, compiled=lab.directory / "compiled"
    )
    try:
        dataplane.open()
        with Driver(dataplane, lab.name, "n1", sizes, bindings) as driver:
            yield Rig(lab, driver, dataplane, bindings)
    finally:
        dataplane.remove()


def _request(flags: int) -> bytes:
    return packet("10.0.0.0", POD, TCP, CLIENT_PORT, PORT, flags=flags)


def _packed(numbers: list[int]) -> list[bytes]:
    return [address(population.address(number))[-4:] for number in numbers]

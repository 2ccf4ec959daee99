"""Five opinions on one flow, which must be one: the naive oracle, the policy engine, the compiled
maps' one meaning, and the packet itself in memory and in the kernel (the twins)."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import count, product
from random import Random

import oracle
import traffic
from fuzzing.cases import STRANGER, Case
from fuzzing.cluster import Cluster
from strategies import PORTS, PROTOCOLS
from tabard.dataplane.maps import Address, Mode, Protocol, Reason, address_text
from tabard.dataplane.memory import Action
from tabard.dataplane.packet import Packet, TcpFlag
from tabard.dataplane.verdict import flow_verdict
from tabard.policy.rulings import Half
from traffic import IFINDEXES, LOCAL, NODE_PARTY, PARTIES, REMOTE, Player
from twins import Twins

PODS = len(LOCAL) + len(REMOTE)
ECHO = (8, 128)
"""Type of an echo request, by family."""
SOURCE_PORTS = 50_000
"""Ports from here on are no other traffic's, so that every probe is a new flow."""

Halves = tuple[bool | None, bool | None]
"""Whether (egress, ingress) allows; None where this opinion has nothing to say."""


def check(case: Case, twins: Twins | None) -> int:
    """The flows asked about; AssertionError if two opinions differ. Without `twins` no packet is
    sent.

    The calling thread must see the traffic's interfaces if there are twins.
    """
    cluster = Cluster(Mode[case.mode], case.pods, twins.put if twins else lambda maps: None)
    for what in case.first:
        cluster.change(what)
    ports = count(SOURCE_PORTS)
    with twins.told_the_same() if twins else nullcontext():
        asked = _probe(case, cluster, twins, ports)
        if twins:
            player = Player(twins, cluster.who, lambda n: cluster.change(case.later[n]))
            for step in traffic.steps(Random(case.seed), case.count, len(case.later)):
                player.play(step)
        for what in case.later:
            cluster.change(what)
        return asked + _probe(case, cluster, twins, ports)


def _probe(case: Case, cluster: Cluster, twins: Twins | None, ports: Iterator[int]) -> int:
    """Ask about every protocol and port of each pair, and send one packet of each outcome."""
    asked, judges, engine = 0, cluster.judges(), cluster.engine()
    for source, target, family in case.pairs:
        ends = PARTIES[source][family], PARTIES[target][family]
        sent: set[Halves] = set()
        for name, port in _flows(family):
            protocol = _protocol(name, family)
            decision = engine.decide(*map(address_text, ends), protocol, port)
            verdict = flow_verdict(judges, *ends, protocol, port)
            said = {
                "oracle": _oracle(cluster, source, target, ends, name, port),
                "engine": (_allows(decision.egress), _allows(decision.ingress)),
                "maps": (_allows(verdict.egress), _allows(verdict.ingress)),
            }
            if twins is not None and said["engine"] not in sent:
                sent.add(said["engine"])
                packet = _packet(ends, protocol, port, next(ports))
                said["packet"] = _sent(cluster, source, target, packet, twins)
            _agree(said, f"{source} to {target}, {name}/{port} over IPv{(4, 6)[family]}")
            asked += 1
    return asked


def _flows(family: int) -> Iterable[tuple[str, int]]:
    return (*product(PROTOCOLS, PORTS), ("ICMP", ECHO[family]))


def _protocol(name: str, family: int) -> Protocol:
    return Protocol.ICMPV6 if name == "ICMP" and family else Protocol[name]


def _agree(said: dict[str, Halves], flow: str) -> None:
    for half, name in enumerate(("egress", "ingress")):
        opinions = {halves[half] for halves in said.values()} - {None}
        assert len(opinions) <= 1, f"opinions part on the {name} of {flow}: {said}"


def _allows(said: Half | Reason | None) -> bool | None:
    return None if said is None else said.allowed


def _oracle(
    cluster: Cluster, source: int, target: int, ends: Iterable[Address], name: str, port: int
) -> Halves:
    if STRANGER in (source, target):
        return None, None  # it knows no unknown addresses
    one, other = map(address_text, ends)
    egress, ingress = oracle.allows(
        cluster.policies.values(),
        cluster.namespaces,
        cluster.party(source, one),
        cluster.party(target, other),
        port,
        name,
    )
    its_own_node = NODE_PARTY + (target >= len(LOCAL))  # which a pod always lets in
    return (
        egress if source < PODS else None,
        ingress if target < PODS and source != its_own_node else None,
    )


def _packet(ends: tuple[Address, Address], protocol: Protocol, port: int, own_port: int) -> Packet:
    base = Packet(*ends, protocol)
    if protocol in (Protocol.ICMP, Protocol.ICMPV6):
        return replace(base, icmp_type=port, icmp_id=own_port)
    flags = TcpFlag.SYN if protocol is Protocol.TCP else TcpFlag(0)
    return replace(base, source_port=own_port, destination_port=port, tcp_flags=flags)


def _sent(cluster: Cluster, source: int, target: int, packet: Packet, twins: Twins) -> Halves:
    """What becomes of the packet on the first node: out of its pod there, and into another."""
    egress = ingress = mark = None
    if source < len(LOCAL):
        mark = cluster.identity(packet.source)
        egress = _allows(twins.from_pod(IFINDEXES[source], packet).reason)
        assert egress is not None
    if target < len(LOCAL):
        if len(LOCAL) <= source < PODS and (number := cluster.who(packet.source)) is not None:
            outer = PARTIES[NODE_PARTY + 1][packet.is_ipv6]
            outcome = twins.from_overlay(outer, number, packet)
            assert outcome.action is Action.DELIVER
            mark = outcome.identity
        ingress = _allows(twins.to_pod(IFINDEXES[target], packet, mark).reason)
        assert ingress is not None
    return egress, ingress

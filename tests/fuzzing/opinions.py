"""Five opinions on one flow, which must be one: the naive oracle, the policy engine, the compiled
maps' one meaning, and the packet itself in memory and in the kernel (the twins)."""

from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

import oracle
import traffic
from fuzzing.cases import STRANGER, Case, Probe
from fuzzing.cluster import Cluster
from tabard.dataplane.maps import Mode, Protocol, Reason, address_text
from tabard.dataplane.memory import Action
from tabard.dataplane.packet import Packet, TcpFlag
from tabard.dataplane.verdict import flow_verdict
from tabard.policy.engine import Half
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
    """The probes asked; AssertionError if two opinions differ. Without `twins` no packet is sent.

    The calling thread must see the traffic's interfaces if there are twins.
    """
    cluster = Cluster(Mode[case.mode], case.pods, twins.put if twins else lambda maps: None)
    for what in case.first:
        cluster.change(what)
    ports = count(SOURCE_PORTS)
    if twins is None:
        _probe(case, cluster, None, ports)
        for what in case.later:
            cluster.change(what)
        return _probe(case, cluster, None, ports)
    with twins.told_the_same():
        _probe(case, cluster, twins, ports)
        player = Player(twins, cluster.who, lambda n: cluster.change(case.later[n]))
        for step in traffic.steps(Random(case.seed), case.count, len(case.later)):
            player.play(step)
        return _probe(case, cluster, twins, ports)


def _probe(case: Case, cluster: Cluster, twins: Twins | None, ports: Any) -> int:
    judges, engine = cluster.judges(), cluster.engine()
    for probe in case.probes:
        packet = _packet(probe, next(ports))
        port = packet.icmp_type if probe[3] == "ICMP" else packet.destination_port
        ends = (packet.source, packet.destination)
        verdict = flow_verdict(judges, *ends, packet.protocol, port)
        decision = engine.decide(*map(address_text, ends), packet.protocol, port)
        said: dict[str, Halves] = {
            "oracle": _oracle(cluster, probe, packet, port),
            "engine": (_allows(decision.egress), _allows(decision.ingress)),
            "maps": (_allows(verdict.egress), _allows(verdict.ingress)),
        }
        if twins is not None:
            said["packet"] = _sent(cluster, probe, packet, twins)
        for half in (0, 1):
            opinions = {halves[half] for halves in said.values()} - {None}
            assert len(opinions) <= 1, f"{('egress', 'ingress')[half]} of {probe}: {said}"
    return len(case.probes)


def _allows(said: Half | Reason | None) -> bool | None:
    return None if said is None else said.allowed


def _packet(probe: Probe, own_port: int) -> Packet:
    source, target, family, name, port = probe
    base = Packet(PARTIES[source][family], PARTIES[target][family], Protocol.TCP)
    if name == "ICMP":
        icmp = (Protocol.ICMP, Protocol.ICMPV6)[family]
        return replace(base, protocol=icmp, icmp_type=ECHO[family], icmp_id=own_port)
    flags = TcpFlag.SYN if name == "TCP" else TcpFlag(0)
    return replace(
        base,
        protocol=Protocol[name],
        source_port=own_port,
        destination_port=port,
        tcp_flags=flags,
    )


def _oracle(cluster: Cluster, probe: Probe, packet: Packet, port: int) -> Halves:
    source, target, _, name, _ = probe
    if STRANGER in (source, target):
        return None, None  # it knows no unknown addresses
    egress, ingress = oracle.allows(
        cluster.policies.values(),
        cluster.namespaces,
        cluster.party(source, address_text(packet.source)),
        cluster.party(target, address_text(packet.destination)),
        port,
        name,
    )
    its_own_node = NODE_PARTY + (target >= len(LOCAL))  # which a pod always lets in
    return (
        egress if source < PODS else None,
        ingress if target < PODS and source != its_own_node else None,
    )


def _sent(cluster: Cluster, probe: Probe, packet: Packet, twins: Twins) -> Halves:
    source, target, *_ = probe
    egress = ingress = None
    mark = cluster.identity(packet.source) if source < len(LOCAL) else None
    if source < len(LOCAL):
        outcome = twins.from_pod(IFINDEXES[source], packet)
        assert outcome.reason is not None
        egress = outcome.reason.allowed
    if target < len(LOCAL):
        if len(LOCAL) <= source < PODS and (number := cluster.who(packet.source)) is not None:
            outer = PARTIES[NODE_PARTY + 1][packet.is_ipv6]
            outcome = twins.from_overlay(outer, number, packet)
            assert outcome.action is Action.DELIVER
            mark = outcome.identity
        outcome = twins.to_pod(IFINDEXES[target], packet, mark)
        assert outcome.reason is not None
        ingress = outcome.reason.allowed
    return egress, ingress

"""What is said of one flow, which must be one opinion: by the naive oracle, the policy engine, the
compiled maps' one meaning, and the packet itself in memory and in the kernel (the twins).

After changes the maps are those that agents came to step by step. Then one more is asked: the maps
of a cluster that was told at once what is now.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import count, product
from random import Random

import oracle
import traffic
from fuzzing.cases import Case
from fuzzing.cluster import Cluster
from strategies import PORTS, PROTOCOLS
from tabard.dataplane.maps import Address, Mode, Protocol, Reason, address_text
from tabard.dataplane.memory import Action
from tabard.dataplane.packet import Packet, TcpFlag
from tabard.dataplane.verdict import Judge, flow_verdict
from tabard.policy.rulings import Half
from tabard.policy.traffic import contains
from traffic import IFINDEXES, LOCAL, NODE_PARTY, PARTIES, REMOTE, Player
from twins import Twins

PODS = len(LOCAL) + len(REMOTE)
ICMP = ((Protocol.ICMP, (8, 13)), (Protocol.ICMPV6, (128, 138)))
"""By family, and types of which a packet opens a flow."""
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
        asked = _probe(case, cluster, {"maps": cluster.judges()}, twins, ports)
        if twins:
            player = Player(twins, cluster.who, lambda n: cluster.change(case.later[n]))
            for step in traffic.steps(Random(case.seed), case.count, len(case.later)):
                player.play(step)
        for what in case.later:
            cluster.change(what)
        judges = {"maps": cluster.judges(), "maps anew": cluster.anew().judges()}
        return asked + _probe(case, cluster, judges, twins, ports)


def _probe(
    case: Case,
    cluster: Cluster,
    judges: Mapping[str, Mapping[str, Judge]],
    twins: Twins | None,
    ports: Iterator[int],
) -> int:
    """Ask about every protocol and port of each pair, and send one packet of each outcome."""
    asked, engine = 0, cluster.engine()
    for source, target, family in case.pairs:
        ends = PARTIES[source][family], PARTIES[target][family]
        texts = address_text(ends[0]), address_text(ends[1])
        may_pass = engine.allowed(*texts)
        sent: set[Halves] = set()
        for protocol, port in _flows(family):
            decision = engine.decide(*texts, protocol, port)
            said = {
                "oracle": _oracle(cluster, source, target, texts, protocol, port),
                "engine": (_allows(decision.egress), _allows(decision.ingress)),
            }
            for name, nodes in judges.items():
                verdict = flow_verdict(nodes, *ends, protocol, port)
                said[name] = (_allows(verdict.egress), _allows(verdict.ingress))
            if twins is not None and said["engine"] not in sent:
                sent.add(said["engine"])
                packet = _packet(ends, protocol, port, next(ports))
                said["packet"] = _sent(cluster, source, target, packet, twins)
            flow = f"{source} to {target}, {protocol.name}/{port} over IPv{(4, 6)[family]}"
            _agree(said, flow)
            assert contains(may_pass, protocol, port) is decision.allowed, (flow, may_pass, said)
            asked += 1
    return asked


def _flows(family: int) -> Iterable[tuple[Protocol, int]]:
    protocol, types = ICMP[family]
    named = map(Protocol.__getitem__, PROTOCOLS)
    return (*product(named, PORTS), *((protocol, type) for type in types))


def _agree(said: dict[str, Halves], flow: str) -> None:
    for half, name in enumerate(("egress", "ingress")):
        opinions = {halves[half] for halves in said.values()} - {None}
        assert len(opinions) <= 1, f"opinions part on the {name} of {flow}: {said}"


def _allows(said: Half | Reason | None) -> bool | None:
    return None if said is None else said.allowed


def _oracle(
    cluster: Cluster,
    source: int,
    target: int,
    ends: tuple[str, str],
    protocol: Protocol,
    port: int,
) -> Halves:
    egress, ingress = oracle.allows(
        cluster.objects.values(),
        cluster.namespaces,
        cluster.party(source, ends[0]),
        cluster.party(target, ends[1]),
        port,
        protocol.name,
        cluster.enforcement,
        cluster.names,
    )
    return (
        egress if cluster.runs(source) else None,
        ingress if cluster.runs(target) else None,
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
    if source < len(LOCAL) and cluster.runs(source):
        mark = cluster.identity(packet.source)
        egress = _allows(twins.from_pod(IFINDEXES[source], packet).reason)
        assert egress is not None
    if target < len(LOCAL) and cluster.runs(target):
        if len(LOCAL) <= source < PODS and (number := cluster.who(packet.source)) is not None:
            outer = PARTIES[NODE_PARTY + 1][packet.is_ipv6]
            outcome = twins.from_overlay(outer, number, packet)
            assert outcome.action is Action.DELIVER
            mark = outcome.identity
        ingress = _allows(twins.to_pod(IFINDEXES[target], packet, mark).reason)
        assert ingress is not None
    return egress, ingress

"""The kernel and the memory dataplane are equal: same action, reason, mark, events and counters.

Maps of no sense at all, random packets, and changes between them (compiled policies: test_fuzz).
EQUAL_EXAMPLES in the environment says how many of each kind and mode (default 50).
"""

import os
import time
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import traffic
from entries import INGRESS_ISOLATED, ISOLATED
from frames import ETHER, frame
from kernel import COMPILED, LOOPBACK, TUNNEL_PORT, Kernel
from laboratory import Laboratory
from tabard.agent.ebpf.source import PROGRAMS, fingerprint, folder
from tabard.dataplane.maps import (
    AT_CIDR,
    MAP_NAMES,
    Address,
    Direction,
    Endpoint,
    EndpointFlag,
    Maps,
    Mode,
    PolicyKey,
    PrefixEntry,
    PrefixFlag,
    Protocol,
    Reason,
    Strength,
    Tier,
    address,
    strength,
)
from tabard.dataplane.maps import Action as PolicyAction
from tabard.dataplane.memory import Action
from tabard.dataplane.packet import Fragment, Packet, TcpFlag
from traffic import IFINDEXES, LOCAL, NODES, PARTIES, Player
from twins import Twins

EXAMPLES = int(os.environ.get("EQUAL_EXAMPLES", "50"))
pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(120 + EXAMPLES)]
examples = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


seeds, counts = st.integers(0, 2**32 - 1), st.integers(1, 120)
modes = pytest.mark.parametrize("mode", Mode)


# ---- maps that no compiler makes


def wild(random: Random) -> Maps:
    """Entries that meet one another and the traffic, and else mean nothing."""
    places = [place for pair in PARTIES for place in pair]
    tunnels = [address(text) for text in NODES[1]]

    def some(most: int) -> range:
        return range(random.randint(0, most))

    def policy() -> PolicyKey:
        key = PolicyKey(
            random.randint(1, 2),
            random.choice(list(Direction)),
            random.choice((0, 0, number(), number(), number() | AT_CIDR)),
            Protocol.ANY,
            tier=random.choice(list(Tier)),
        )
        protocol = random.choice((Protocol.ANY, Protocol.ANY, *Protocol))
        if protocol is Protocol.ANY:
            return key
        bits = random.choice((0, 3, 8, 16))
        port = random.choice((*traffic.TRANSPORT_PORTS, 8, 128)) & (0xFFFF << (16 - bits))
        return replace(key, protocol=protocol, port=port, port_bits=bits)

    def value() -> Strength:
        return strength(random.choice(list(PolicyAction)), random.choice((0, 1, 2, 2**30 - 1)))

    def prefix() -> tuple[Address, int]:
        bits = random.choice((0, 16, 32, 48, 96, 104, 112, 120, 128))
        network = int.from_bytes(random.choice(places)) >> (128 - bits) << (128 - bits)
        return Address(network.to_bytes(16)), bits

    def endpoint(slot: int) -> Endpoint:
        return Endpoint(
            incarnation=random.randint(1, 2),
            identity=random.choice([n for n in traffic.SENDERS if n < 1 << 24]),
            policy=random.randint(1, 2),
            flags=EndpointFlag(random.randint(0, 4095)),
            ifindex=IFINDEXES[slot],
            mac=bytes((2, 0, 0, 0, 0, slot)),
            host_mac=bytes((6, 0, 0, 0, 0, slot)),
            stale_after_s=random.choice((0, 0, 100, 300)),
        )

    def number() -> int:
        return random.choice(traffic.SENDERS)

    def own() -> Endpoint:
        """The node's, or a pod's that has its address, which makes no sense."""
        is_pods = random.random() < 0.1
        found = endpoint(random.randrange(len(IFINDEXES)))
        if is_pods:
            return found
        return replace(found, identity=1, ifindex=0, flags=found.flags | EndpointFlag.NODE)

    endpoints = {place: endpoint(n) for n, pair in enumerate(PARTIES[:3]) for place in pair}
    if random.random() < 0.3:
        del endpoints[random.choice(list(endpoints))]
        endpoints[random.choice(places)] = endpoint(random.randrange(len(IFINDEXES)))
    hosts = {random.choice(places): number() for _ in some(12)}
    if random.random() < 0.5:
        endpoints |= {place: own() for place in PARTIES[traffic.NODE_PARTY]}
        hosts |= {place: 1 for place in PARTIES[traffic.NODE_PARTY] if random.random() < 0.8}
    return Maps(
        identities=frozenset(n for n in traffic.SENDERS if random.random() < 0.8),
        policies={policy(): value() for _ in some(80)},
        nodes=frozenset(PARTIES[traffic.NODE_PARTY + n][f] for n in (0, 1) for f in (0, 1)),
        prefixes={
            prefix(): PrefixEntry(
                number(), PrefixFlag(random.randint(0, 3)), random.choice((b"", *tunnels))
            )
            for _ in some(8)
        },
        hosts=hosts,
        endpoints=endpoints,
    )


def other_here_and_there(random: Random, maps: Maps) -> Maps:
    names = random.sample(MAP_NAMES, random.choice((1, 1, 2)))
    other = wild(random)
    return replace(maps, **{name: getattr(other, name) for name in names})


@modes
@examples
@given(seed=seeds, count=counts)
def test_maps_of_no_sense(lab: Laboratory, mode: Mode, seed: int, count: int) -> None:
    def play(twins: Twins) -> None:
        random = Random(seed)
        base = wild(random)
        worlds = [base, wild(random), *(other_here_and_there(random, base) for _ in range(4))]
        twins.put(worlds[0])
        known = [(random.choice((0, 0, 200, 400)), random.choice((0, 0, 100, 300))) for _ in worlds]

        def change(number: int) -> None:
            twins.put(worlds[number])
            twins.known(*known[number])

        player = Player(twins, lambda place: twins.maps.hosts.get(place), change)
        with twins.told_the_same():
            for step in traffic.steps(random, count, len(worlds)):
                player.play(step)

    lab.play(mode, play)


# ---- what random traffic found, or might not find


def test_only_from_overlay_is_another_program_here(native: Kernel, lab: Laboratory) -> None:
    """The kernels of these tests run what nodes run, save for the tunnel that a test run lacks."""
    kept = [COMPILED / fingerprint(where) for where in (folder(), lab.sources)]
    assert not [
        name
        for name in PROGRAMS
        if name != "from_overlay" and len({(where / name).read_bytes() for where in kept}) != 1
    ]


def small(**changes: Any) -> Maps:
    """One pod without policy, the node next door, and the world."""
    pod = Endpoint(
        incarnation=1,
        identity=256,
        policy=0,
        flags=EndpointFlag(0),
        ifindex=IFINDEXES[0],
        mac=b"\2\0\0\0\0\1",
        host_mac=b"\6\0\0\0\0\1",
    )
    return replace(
        Maps(
            identities=frozenset({2, 6, 256}),
            nodes=frozenset({address(NODES[1][0])}),
            prefixes={(address("0.0.0.0"), 96): PrefixEntry(2)},
            endpoints={POD: pod},
        ),
        **changes,
    )


POD, WORLD = address(LOCAL[0][0]), address("203.0.113.9")


def test_a_node_is_not_reached_through_the_tunnel_whatever_prefix_holds_it(
    lab: Laboratory,
) -> None:
    def play(twins: Twins) -> None:
        tunnel = address(NODES[1][0])
        for identity, action in ((1, Action.PASS), (6, Action.PASS), (2, Action.TUNNEL)):
            entry = PrefixEntry(identity, PrefixFlag.NONE, tunnel)
            twins.put(small(prefixes={(address("0.0.0.0"), 96): entry}))
            syn = Packet(POD, WORLD, Protocol.TCP, 40_000, 80)
            assert twins.from_pod(IFINDEXES[0], syn).action is action

    lab.play(Mode.OVERLAY, play)


def test_a_tunnel_packet_from_a_stranger_is_told_by_the_strangers_address(
    lab: Laboratory,
) -> None:
    def play(twins: Twins) -> None:
        twins.put(small())
        with twins.told_the_same():
            packet = Packet(WORLD, POD, Protocol.TCP, 40_000, 80)
            outcome = twins.from_overlay(address(NODES[2][0]), 300, packet)
            assert outcome.reason is Reason.DENIED_UNKNOWN_NODE

    lab.play(Mode.OVERLAY, play)


def test_a_later_fragment_to_the_tunnel_port_is_told_with_its_ports(
    lab: Laboratory,
) -> None:
    def play(twins: Twins) -> None:
        twins.put(small())
        with twins.told_the_same():
            for is_first in (True, False):
                packet = Packet(POD, WORLD, Protocol.UDP, fragment=Fragment(1, is_first))
                if is_first:
                    packet = replace(packet, source_port=40_000, destination_port=TUNNEL_PORT)
                outcome = twins.from_pod(IFINDEXES[0], packet)
                assert outcome.reason is Reason.DENIED_TUNNEL_PORT

    lab.play(Mode.OVERLAY, play)


def test_a_later_fragment_of_an_error_quotes_nothing(
    lab: Laboratory,
) -> None:
    def play(twins: Twins) -> None:
        pod = replace(small().endpoints[POD], flags=INGRESS_ISOLATED)
        twins.put(small(endpoints={POD: pod}))
        flow = Packet(POD, WORLD, Protocol.TCP, 40_000, 80)
        assert twins.from_pod(IFINDEXES[0], flow).reason is Reason.ALLOWED_NO_POLICY
        error = Packet(WORLD, POD, Protocol.ICMP, icmp_type=3, quoted=flow)
        assert twins.to_pod(IFINDEXES[0], error, None).reason is Reason.ALLOWED_RELATED
        first = replace(error, fragment=Fragment(1, True), quoted=None)
        assert twins.to_pod(IFINDEXES[0], first, None).reason is Reason.DENIED_POLICY
        later = Packet(WORLD, POD, Protocol.ICMP, fragment=Fragment(1, False))
        twins.odd("to_pod", frame(later, bytes(8) + frame(flow)[ETHER:]), IFINDEXES[0], None)

    lab.play(Mode.NATIVE, play)


def test_a_flow_goes_through_the_proxy_while_its_policy_says_so(lab: Laboratory) -> None:
    query = Packet(POD, WORLD, Protocol.UDP, 40_000, 53)
    answer = Packet(WORLD, POD, Protocol.UDP, 53, 40_000)

    def put(twins: Twins, policy: int, action: PolicyAction) -> None:
        keys = [
            PolicyKey(policy, Direction.EGRESS, 2, protocol, 53, 16)
            for protocol in (Protocol.UDP, Protocol.TCP)
        ]
        pod = replace(small().endpoints[POD], policy=policy, flags=ISOLATED)
        twins.put(small(policies=dict.fromkeys(keys, strength(action)), endpoints={POD: pod}))

    def sent(twins: Twins, packet: Packet) -> Reason | None:
        return twins.from_pod(IFINDEXES[0], packet).reason

    def come(twins: Twins, packet: Packet) -> Reason | None:
        return twins.to_pod(IFINDEXES[0], packet, None).reason

    def play(twins: Twins) -> None:
        put(twins, 1, PolicyAction.ALLOW)
        with twins.told_the_same():
            assert sent(twins, query) is Reason.ALLOWED_POLICY
            assert come(twins, answer) is Reason.ALLOWED_ESTABLISHED
            put(twins, 2, PolicyAction.PROXY)
            assert come(twins, answer) is Reason.ALLOWED_PROXY
            for _ in range(2):
                assert sent(twins, query) is Reason.ALLOWED_PROXY
                assert come(twins, answer) is Reason.ALLOWED_PROXY
            put(twins, 3, PolicyAction.ALLOW)
            assert come(twins, answer) is Reason.ALLOWED_ESTABLISHED
            put(twins, 4, PolicyAction.PROXY)
            for first in (True, False):
                part = replace(answer, fragment=Fragment(8, first))
                assert come(twins, part) is Reason.DENIED_PROXY
            for first in (True, False):
                part = replace(query, fragment=Fragment(7, first))
                assert sent(twins, part) is Reason.DENIED_PROXY
            syn = replace(query, protocol=Protocol.TCP, source_port=40_001)
            assert sent(twins, syn) is Reason.DENIED_PROXY
            put(twins, 5, PolicyAction.DENY)
            assert come(twins, answer) is Reason.DENIED_POLICY
            assert sent(twins, query) is Reason.DENIED_POLICY

    lab.play(Mode.OVERLAY, play)


def test_maps_that_are_too_old_open_no_new_flow(lab: Laboratory) -> None:
    """What is open goes on both ways, judged afresh after a change of policy or not."""

    def pod(policy: int = 0, after_s: int = 0) -> dict[str, Any]:
        mine = replace(small().endpoints[POD], policy=policy, stale_after_s=after_s)
        return {"endpoints": {POD: mine}}

    syn = Packet(POD, WORLD, Protocol.TCP, 40_000, 80, tcp_flags=TcpFlag.SYN)
    answer = Packet(WORLD, POD, Protocol.TCP, 80, 40_000)
    coming = Packet(WORLD, POD, Protocol.TCP, 50_000, 443, tcp_flags=TcpFlag.SYN)
    alone = Packet(POD, WORLD, 47)
    later = Packet(POD, WORLD, Protocol.UDP, fragment=Fragment(3, False))

    def play(twins: Twins) -> None:
        def sent(packet: Packet) -> Reason | None:
            return twins.from_pod(IFINDEXES[0], packet).reason

        def got(packet: Packet) -> Reason | None:
            return twins.to_pod(IFINDEXES[0], packet, None).reason

        with twins.told_the_same():
            for own, everyones in ((100, 0), (0, 100), (400, 100)):
                port = 40_000 + own + 2 * everyones
                old, come = replace(syn, source_port=port), replace(coming, source_port=port)
                twins.put(small(**pod(1, own)))
                twins.known(99, everyones)
                assert sent(old) is Reason.ALLOWED_NO_POLICY
                twins.known(101, everyones)
                assert sent(old) is Reason.ALLOWED_ESTABLISHED
                assert got(replace(answer, destination_port=port)) is Reason.ALLOWED_ESTABLISHED
                for new in (replace(syn, source_port=1), alone, later):
                    assert sent(new) is Reason.DENIED_STALE
                assert got(come) is Reason.DENIED_STALE
                twins.put(small(**pod(2, own)))
                assert sent(old) is Reason.ALLOWED_NO_POLICY, "of another policy, and open"
                twins.age(8_001)
                assert sent(old) is Reason.DENIED_STALE, "it has expired"
                twins.known(0, everyones)
                assert sent(old) is Reason.ALLOWED_NO_POLICY
                assert got(come) is Reason.ALLOWED_NO_POLICY

    lab.play(Mode.NATIVE, play)


def test_however_old_maps_are_a_node_goes_on_and_reaches_its_pods(lab: Laboratory) -> None:
    node, place = address(NODES[0][0]), address("203.0.113.9")
    flags = EndpointFlag.NODE
    own = Endpoint(2, 1, 0, flags, 0, bytes(6), bytes(6), 100)

    def play(twins: Twins) -> None:
        pod = replace(small().endpoints[POD], stale_after_s=100, flags=INGRESS_ISOLATED)
        twins.put(small(endpoints={POD: pod, node: own}, hosts={node: 1}))
        twins.known(1_000, 100)
        with twins.told_the_same():
            out = twins.to_wire(Packet(node, place, Protocol.TCP, 40_000, 4222))
            assert out.reason is Reason.ALLOWED_NO_POLICY
            probe = Packet(node, POD, Protocol.TCP, 40_000, 8080)
            assert twins.to_pod(IFINDEXES[0], probe, None).reason is Reason.ALLOWED_HOST
            out = twins.from_pod(IFINDEXES[0], Packet(POD, node, Protocol.TCP, 40_000, 53))
            assert out.reason is Reason.DENIED_STALE

    lab.play(Mode.NATIVE, play)


def test_maps_that_were_never_the_ledgers_are_too_old(native: Kernel) -> None:
    pod = replace(small().endpoints[POD], ifindex=LOOPBACK, stale_after_s=65_535)
    native.put(small(endpoints={POD: pod}))
    syn = frame(Packet(POD, WORLD, Protocol.TCP, 40_000, 80))
    native.dataplane.refresh(0)
    assert native.run("from_pod", syn).reason is Reason.DENIED_STALE
    native.dataplane.refresh(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    assert native.run("from_pod", syn).reason is Reason.ALLOWED_NO_POLICY


def test_what_the_proxy_lets_go_on_is_judged_and_not_sent_there_again(native: Kernel) -> None:
    proxied = PolicyKey(1, Direction.EGRESS, 2, Protocol.UDP, 53, 16)
    pod = replace(small().endpoints[POD], ifindex=LOOPBACK, policy=1, flags=ISOLATED)
    native.put(small(policies={proxied: strength(PolicyAction.PROXY)}, endpoints={POD: pod}))
    query = frame(Packet(POD, WORLD, Protocol.UDP, 40_000, 53))
    other = frame(Packet(POD, WORLD, Protocol.UDP, 40_000, 54))
    answer = frame(Packet(WORLD, POD, Protocol.UDP, 53, 40_000))
    unasked = frame(Packet(WORLD, POD, Protocol.UDP, 53, 40_001))

    def ran(program: str, data: bytes) -> tuple[int, Reason | None, int]:
        found = native.run(program, data, mark=PROXIED)
        return found.action, found.reason, found.mark

    # As if its flow had been forgotten meanwhile, and as it usually is.
    assert ran("from_pod", query) == (0, Reason.ALLOWED_POLICY, 0)
    assert native.run("from_pod", query).reason is Reason.ALLOWED_PROXY
    assert ran("from_pod", query) == (0, Reason.ALLOWED_ESTABLISHED, 0)
    assert ran("to_pod", answer) == (0, Reason.ALLOWED_ESTABLISHED, PROXIED)
    assert ran("to_pod", unasked)[1] is Reason.DENIED_UNKNOWN_PEER
    assert ran("from_pod", other)[1] is Reason.DENIED_POLICY


PROXIED = 0xB8000000
"""bpf/proxy.h, MARK_PROXIED."""

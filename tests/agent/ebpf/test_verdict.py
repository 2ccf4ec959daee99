"""Each rule of the policy decision, by the programs themselves."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entries import INGRESS_ISOLATED, allowing
from kernel import ENFORCED, MARK, REDIRECT, SHOT, Kernel, endpoint
from packets import ICMP, ICMPV6, SCTP, SYN, TCP, UDP, packet
from tabard.dataplane.maps import (
    AT_CIDR,
    Address,
    Direction,
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
    address_text,
    strength,
)
from tabard.dataplane.maps import Action as A
from tabard.dataplane.verdict import Judge
from tabard.identity.numbers import CIDR_SCOPE, is_pod

pytestmark = pytest.mark.ebpf

CIDR_ID = CIDR_SCOPE + 7

POD = {4: "10.1.0.1", 6: "fd00:1::1"}
PEER = {4: "10.2.0.9", 6: "fd00:2::9"}
WORLD = {4: "198.51.100.7", 6: "2001:db8::7"}
ROOT = {4: (address("0.0.0.0"), 96), 6: (address("::"), 0)}

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS

families = pytest.mark.parametrize("v", [4, 6])


def maps(v: int, *policies: PolicyKey, **changes: object) -> Maps:
    base = Maps(
        identities=frozenset({1, 2, 6, 300, 301, CIDR_ID}),
        policies=allowing(policies),
        prefixes={ROOT[v]: PrefixEntry(2)},
        hosts={address(PEER[v]): 301},
        endpoints={address(POD[v]): endpoint(300)},
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def allow(
    direction: Direction,
    identity: int,
    protocol: Protocol = Protocol.TCP,
    port: int = 80,
    bits: int = 16,
) -> PolicyKey:
    return PolicyKey(1, direction, identity, protocol, port, bits)


def out(v: int, proto: int = TCP, port: int = 80, to: dict[int, str] = PEER) -> bytes:
    return packet(POD[v], to[v], proto, 40000, port)


def into(v: int, proto: int = TCP, port: int = 80, source: dict[int, str] = PEER) -> bytes:
    return packet(source[v], POD[v], proto, 40000, port)


@families
def test_a_direction_that_is_not_enforced_lets_all_pass(native: Kernel, v: int) -> None:
    free = endpoint(flags=INGRESS_ISOLATED)
    native.put(maps(v, endpoints={address(POD[v]): free}, hosts={}, prefixes={}))

    assert native.egress(out(v)) is Reason.ALLOWED_NO_POLICY
    assert native.ingress(into(v)) is Reason.DENIED_UNKNOWN_PEER


@families
def test_the_host_reaches_its_pods_and_not_the_other_way(native: Kernel, v: int) -> None:
    native.put(maps(v, hosts={address(PEER[v]): 1}))

    assert native.ingress(into(v)) is Reason.ALLOWED_HOST
    native.forget_flows()
    assert native.egress(out(v)) is Reason.DENIED_POLICY


@families
@pytest.mark.parametrize("identity", [0, 302])
def test_a_peer_without_a_known_identity_is_denied(native: Kernel, v: int, identity: int) -> None:
    everyone = PolicyKey(1, EGRESS, 0, Protocol.ANY), PolicyKey(1, INGRESS, 0, Protocol.ANY)
    native.put(maps(v, *everyone, hosts={address(PEER[v]): identity}))

    assert native.egress(out(v)) is Reason.DENIED_UNKNOWN_PEER
    assert native.ingress(into(v)) is Reason.DENIED_UNKNOWN_PEER


@families
def test_an_address_that_nothing_names_is_unknown_and_not_world(native: Kernel, v: int) -> None:
    everyone = PolicyKey(1, EGRESS, 0, Protocol.ANY)
    native.put(maps(v, everyone, hosts={}, prefixes={}))
    assert native.egress(out(v)) is Reason.DENIED_UNKNOWN_PEER

    native.put(maps(v, everyone, hosts={}))
    assert native.egress(out(v)) is Reason.ALLOWED_POLICY


@families
def test_a_pod_range_hides_the_prefixes_around_it(native: Kernel, v: int) -> None:
    network, bits = {4: ("10.2.0.0", 112), 6: ("fd00:2::", 64)}[v]
    ranges = {ROOT[v]: PrefixEntry(2), (address(network), bits): PrefixEntry(2, PrefixFlag(1))}
    native.put(maps(v, PolicyKey(1, EGRESS, 0, Protocol.ANY), hosts={}, prefixes=ranges))

    assert native.egress(out(v)) is Reason.DENIED_UNKNOWN_PEER
    assert native.egress(out(v, to=WORLD)) is Reason.ALLOWED_POLICY


@families
@pytest.mark.parametrize("proto", [TCP, UDP, SCTP])
def test_an_entry_allows_its_own_port_protocol_direction_and_peer_only(
    native: Kernel, v: int, proto: int
) -> None:
    native.put(maps(v, allow(EGRESS, 301, Protocol(proto), 80)))

    assert native.egress(out(v, proto)) is Reason.ALLOWED_POLICY
    assert native.egress(out(v, proto, 81)) is Reason.DENIED_POLICY
    assert native.egress(out(v, proto, to=WORLD)) is Reason.DENIED_POLICY
    for other in {TCP, UDP, SCTP} - {proto}:
        assert native.egress(out(v, other)) is Reason.DENIED_POLICY
    native.forget_flows()
    assert native.ingress(into(v, proto)) is Reason.DENIED_POLICY


@families
def test_another_policy_id_allows_nothing_here(native: Kernel, v: int) -> None:
    other = PolicyKey(1 << 63 | 1, EGRESS, 301, Protocol.ANY)
    native.put(maps(v, other))
    assert native.egress(out(v)) is Reason.DENIED_POLICY

    native.put(maps(v, other, endpoints={address(POD[v]): endpoint(policy=1 << 63 | 1)}))
    assert native.egress(out(v)) is Reason.ALLOWED_POLICY


@families
def test_port_prefixes_any_port_any_protocol_and_any_peer(native: Kernel, v: int) -> None:
    native.put(
        maps(
            v,
            allow(EGRESS, 301, Protocol.TCP, 8192, 3),
            allow(EGRESS, 301, Protocol.UDP, 0, 0),
            PolicyKey(1, EGRESS, 2, Protocol.ANY),
            allow(EGRESS, 0, Protocol.SCTP, 7),
        )
    )

    ports = {p: native.egress(out(v, TCP, p)) for p in (8191, 8192, 16383, 16384)}
    assert [p for p, reason in ports.items() if reason is Reason.ALLOWED_POLICY] == [8192, 16383]
    assert native.egress(out(v, UDP, 5)) is Reason.ALLOWED_POLICY
    assert native.egress(packet(POD[v], WORLD[v], 47)) is Reason.ALLOWED_POLICY
    assert native.egress(packet(POD[v], PEER[v], 47)) is Reason.DENIED_POLICY
    assert native.egress(out(v, SCTP, 7)) is Reason.ALLOWED_POLICY


@families
def test_icmp_entries_name_the_type(native: Kernel, v: int) -> None:
    proto, echo = {4: (ICMP, 8), 6: (ICMPV6, 128)}[v]
    native.put(maps(v, allow(EGRESS, 301, Protocol(proto), echo)))

    assert native.egress(packet(POD[v], PEER[v], proto, 77, echo)) is Reason.ALLOWED_POLICY
    assert native.egress(packet(POD[v], PEER[v], proto, 77, 13)) is Reason.DENIED_POLICY


@families
def test_a_cidr_rule_holds_for_pods_only_where_the_flag_says_so(native: Kernel, v: int) -> None:
    network, bits = {4: ("10.2.0.0", 112), 6: ("fd00:2::", 64)}[v]
    cidr = {(address(network), bits): PrefixEntry(CIDR_ID, PrefixFlag.CIDR | PrefixFlag.POD_RANGE)}
    rules = (
        PolicyKey(1, EGRESS, CIDR_ID | AT_CIDR, Protocol.ANY),
        PolicyKey(1, INGRESS, CIDR_ID | AT_CIDR, Protocol.ANY),
    )
    both = EndpointFlag.CIDR_PODS_INGRESS | EndpointFlag.CIDR_PODS_EGRESS
    for flag in (EndpointFlag(0), both):
        flags = ENFORCED | flag
        endpoints = {address(POD[v]): endpoint(flags=flags)}
        native.put(maps(v, *rules, prefixes=cidr, endpoints=endpoints))
        native.forget_flows()
        expected = Reason.ALLOWED_POLICY if flag else Reason.DENIED_POLICY
        assert native.egress(out(v)) is expected
        native.forget_flows()
        assert native.ingress(into(v)) is expected

    plain = {key: replace(entry, flags=PrefixFlag(0)) for key, entry in cidr.items()}
    native.put(replace(native.maps, prefixes=plain))
    native.forget_flows()
    assert native.egress(out(v)) is Reason.DENIED_POLICY


ALLOW, DENY, PASS, PROXY = map(strength, (A.ALLOW, A.DENY, A.PASS, A.PROXY))
LEAST, GREATEST = strength(A.PASS, 0), strength(A.DENY, 2**30 - 1)
ADMIN, NETWORK, BASELINE = Tier
TIERS = EndpointFlag.EGRESS_ADMIN | EndpointFlag.EGRESS_NETWORK | EndpointFlag.EGRESS_BASELINE
OPEN = EndpointFlag.EGRESS_ENFORCED | TIERS
"""Not isolated."""
AT = CIDR_ID | AT_CIDR


@families
@pytest.mark.parametrize(
    ("flags", "entries", "expected"),
    [
        # Within a tier: the strongest of peer, anyone and CIDR, whichever it is.
        (OPEN, {(NETWORK, 301): ALLOW, (NETWORK, 0): DENY}, Reason.DENIED_POLICY),
        (OPEN, {(NETWORK, 301): DENY, (NETWORK, 0): ALLOW}, Reason.DENIED_POLICY),
        (OPEN, {(NETWORK, 301): DENY, (NETWORK, 0): strength(A.ALLOW, 1)}, Reason.ALLOWED_POLICY),
        (OPEN, {(NETWORK, 301): ALLOW, (NETWORK, AT): DENY}, Reason.DENIED_POLICY),
        (OPEN, {(NETWORK, 0): DENY, (NETWORK, AT): strength(A.ALLOW, 1)}, Reason.ALLOWED_POLICY),
        (OPEN, {(NETWORK, CIDR_ID): DENY}, Reason.ALLOWED_NO_POLICY),
        (OPEN, {(NETWORK, 301): PROXY}, Reason.ALLOWED_PROXY),
        (OPEN, {(NETWORK, 301): GREATEST, (NETWORK, 0): ALLOW}, Reason.DENIED_POLICY),
        # From tier to tier.
        (OPEN, {(ADMIN, 301): ALLOW, (NETWORK, 301): DENY}, Reason.ALLOWED_POLICY),
        (OPEN, {(ADMIN, 0): DENY, (NETWORK, 301): GREATEST - 2}, Reason.DENIED_POLICY),
        (OPEN, {(ADMIN, 301): PASS, (NETWORK, 301): DENY}, Reason.DENIED_POLICY),
        (OPEN, {(ADMIN, 301): LEAST, (NETWORK, 301): ALLOW}, Reason.ALLOWED_POLICY),
        (OPEN, {(ADMIN, 301): strength(A.PASS, 1), (ADMIN, 0): DENY}, Reason.ALLOWED_NO_POLICY),
        (OPEN, {(ADMIN, 301): PASS, (BASELINE, 301): DENY}, Reason.DENIED_POLICY),
        (OPEN, {(NETWORK, 302): ALLOW, (BASELINE, 0): ALLOW}, Reason.ALLOWED_POLICY),
        (OPEN, {(BASELINE, 0): PASS}, Reason.ALLOWED_NO_POLICY),
        # Isolation stands between the last two tiers.
        (ENFORCED | TIERS, {(BASELINE, 301): ALLOW}, Reason.DENIED_POLICY),
        (ENFORCED | TIERS, {(NETWORK, 301): PASS, (BASELINE, 301): ALLOW}, Reason.DENIED_POLICY),
        (ENFORCED | TIERS, {(ADMIN, 301): ALLOW}, Reason.ALLOWED_POLICY),
        # A tier that the flags do not name is not looked at.
        (OPEN & ~EndpointFlag.EGRESS_ADMIN, {(ADMIN, 0): DENY}, Reason.ALLOWED_NO_POLICY),
        (OPEN & ~EndpointFlag.EGRESS_NETWORK, {(NETWORK, 0): DENY}, Reason.ALLOWED_NO_POLICY),
        (OPEN & ~EndpointFlag.EGRESS_BASELINE, {(BASELINE, 0): DENY}, Reason.ALLOWED_NO_POLICY),
    ],
)
def test_the_strongest_entry_of_the_first_tier_that_decides(
    native: Kernel,
    v: int,
    flags: EndpointFlag,
    entries: dict[tuple[Tier, int], Strength],
    expected: Reason,
) -> None:
    network, bits = {4: ("10.2.0.0", 112), 6: ("fd00:2::", 64)}[v]
    world = maps(
        v,
        policies={
            PolicyKey(1, EGRESS, peer, Protocol.ANY, tier=tier): value
            for (tier, peer), value in entries.items()
        },
        prefixes={(address(network), bits): PrefixEntry(CIDR_ID, PrefixFlag.CIDR)},
        endpoints={address(POD[v]): endpoint(flags=flags | EndpointFlag.CIDR_PODS_EGRESS)},
    )
    native.put(world)
    peer = address(PEER[v])
    own = world.endpoints[address(POD[v])]
    assert Judge(world, Mode.NATIVE).verdict(EGRESS, own, 301, peer, TCP, 80) is expected
    assert native.egress(out(v)) is carried(expected, TCP)


def carried(reason: Reason, proto: int) -> Reason:
    """What the programs make of a verdict: the DNS proxy takes UDP alone."""
    is_lost = reason is Reason.ALLOWED_PROXY and proto != UDP
    return Reason.DENIED_PROXY if is_lost else reason


@families
def test_within_a_narrower_entry_a_broader_one_of_its_peer_says_nothing(
    native: Kernel, v: int
) -> None:
    any_port = PolicyKey(1, EGRESS, 301, Protocol.ANY)
    native.put(maps(v, policies={any_port: ALLOW, allow(EGRESS, 301): strength(A.DENY, 1)}))
    assert native.egress(out(v)) is Reason.DENIED_POLICY
    assert native.egress(out(v, port=81)) is Reason.ALLOWED_POLICY


@families
def test_a_mark_says_who_sent_a_packet(overlay: Kernel, v: int) -> None:
    overlay.put(maps(v, allow(INGRESS, 300), hosts={}, prefixes={}))

    assert overlay.ingress(into(v), mark=MARK | 300) is Reason.ALLOWED_POLICY
    overlay.forget_flows()
    assert overlay.ingress(into(v), mark=MARK | 301) is Reason.DENIED_POLICY
    assert overlay.ingress(into(v), mark=MARK) is Reason.DENIED_UNKNOWN_PEER
    assert overlay.ingress(into(v), mark=300) is Reason.DENIED_UNKNOWN_PEER


@families
def test_without_a_mark_an_address_proves_a_pod_in_native_mode_only(
    native: Kernel, overlay: Kernel, v: int
) -> None:
    for kernel in (native, overlay):
        kernel.put(maps(v, allow(INGRESS, 301), allow(INGRESS, 2)))

    assert native.ingress(into(v)) is Reason.ALLOWED_POLICY
    assert overlay.ingress(into(v)) is Reason.DENIED_UNKNOWN_PEER
    assert overlay.ingress(into(v, source=WORLD)) is Reason.ALLOWED_POLICY


@families
def test_a_local_destination_is_handed_to_its_interface_with_the_senders_mark(
    native: Kernel, v: int
) -> None:
    peer = replace(
        endpoint(301, ifindex=77),
        mac=bytes.fromhex("020000000002"),
        host_mac=bytes.fromhex("060000000002"),
    )
    both = {address(POD[v]): endpoint(300), address(PEER[v]): peer}
    native.put(maps(v, allow(EGRESS, 301), hosts={}, endpoints=both))

    ran = native.run("from_pod", out(v))

    assert (ran.action, ran.reason) == (REDIRECT, Reason.ALLOWED_POLICY)
    assert ran.mark == MARK | 300
    assert ran.frame[:12] == peer.mac + peer.host_mac


@families
def test_a_remote_pod_is_reached_through_the_tunnel_in_overlay_mode_only(
    native: Kernel, overlay: Kernel, v: int
) -> None:
    network, bits = {4: ("10.2.0.0", 112), 6: ("fd00:2::", 64)}[v]
    tunnel = address("192.0.2.2")
    remote = {(address(network), bits): PrefixEntry(0, PrefixFlag.POD_RANGE, tunnel)}
    for kernel, action in ((native, 0), (overlay, REDIRECT)):
        kernel.put(maps(v, allow(EGRESS, 301), prefixes=remote))
        ran = kernel.run("from_pod", out(v))
        assert (ran.action, ran.reason, ran.mark) == (action, Reason.ALLOWED_POLICY, 0)


def test_each_refusal_and_each_new_flow_is_told_once(native: Kernel) -> None:
    native.put(maps(4, allow(EGRESS, 301)))
    for port in (80, 80, 81, 81):
        native.egress(out(4, port=port))

    told = native.events()

    assert [(e.reason, e.destination_port) for e in told] == [
        (Reason.ALLOWED_POLICY, 80),
        (Reason.DENIED_POLICY, 81),
        (Reason.DENIED_POLICY, 81),
    ]
    event = told[0]
    assert (event.source, event.destination) == (address(POD[4]), address(PEER[4]))
    assert (event.source_identity, event.destination_identity) == (300, 301)
    assert (event.direction, event.protocol, event.source_port) == (EGRESS, TCP, 40000)


# ---- against the pure verdict, on random maps and packets


def is_v6(place: Address) -> bool:
    return place[:12] != b"\0" * 10 + b"\xff\xff"


addresses = st.sampled_from(
    [address(a) for n in range(1, 5) for a in (f"10.{n}.0.{n}", f"fd00:{n}::{n}")]
    + [address("198.51.100.7"), address("2001:db8::7")]
)
v4_addresses = addresses.filter(lambda a: not is_v6(a))
v6_addresses = addresses.filter(lambda a: is_v6(a))
strengths = st.builds(strength, st.sampled_from(A), st.sampled_from([0, 1, 2, 2**30 - 1]))
numbers = st.sampled_from([0, 1, 2, 5, 6, 128, 300, 301, 302, 303, CIDR_ID, CIDR_ID + 1])
known = st.frozensets(numbers.filter(bool), min_size=3)
ports = st.sampled_from([0, 1, 7, 8, 22, 80, 81, 443, 8192, 16383, 65535])
named = st.sampled_from([p for p in Protocol if p is not Protocol.ANY])


@st.composite
def policy_keys(draw: st.DrawFn) -> PolicyKey:
    policy, direction = draw(st.sampled_from([1, 2])), draw(st.sampled_from(Direction))
    identity = draw(numbers | st.sampled_from([0, CIDR_ID | AT_CIDR]))
    tier = draw(st.sampled_from(Tier))
    if draw(st.booleans()):
        return PolicyKey(policy, direction, identity, Protocol.ANY, tier=tier)
    bits = draw(st.sampled_from([0, 3, 16]))
    port = draw(ports) & (0xFFFF << (16 - bits))
    return PolicyKey(policy, direction, identity, draw(named), port, bits, tier)


@st.composite
def prefix_items(draw: st.DrawFn) -> tuple[tuple[Address, int], PrefixEntry]:
    bits = draw(st.sampled_from([0, 16, 32, 96, 104, 112, 128]))
    number = int.from_bytes(draw(addresses)) >> (128 - bits) << (128 - bits)
    flags = PrefixFlag(draw(st.integers(0, 3)))
    return (Address(number.to_bytes(16)), bits), PrefixEntry(draw(numbers), flags)


@st.composite
def worlds(draw: st.DrawFn) -> Maps:
    endpoints = {}
    for place in draw(st.sets(addresses, min_size=1, max_size=4)):
        endpoints[place] = endpoint(
            identity=draw(st.sampled_from([128, 300, 301, 302])),
            policy=draw(st.sampled_from([1, 2])),
            flags=EndpointFlag(draw(st.integers(0, 4095))),
        )
    return Maps(
        identities=draw(known),
        policies=draw(st.dictionaries(policy_keys(), strengths, max_size=24)),
        prefixes=dict(draw(st.lists(prefix_items(), max_size=6))),
        hosts=draw(st.dictionaries(addresses, numbers, max_size=6)),
        endpoints=endpoints,
    )


@pytest.mark.parametrize("mode", Mode)
@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_programs_and_pure_verdict_agree_on_random_maps_and_packets(
    mode: Mode, native: Kernel, overlay: Kernel, data: st.DataObject
) -> None:
    kernel = native if mode is Mode.NATIVE else overlay
    world = data.draw(worlds())
    kernel.put(world)
    judge = Judge(world, mode)
    for _ in range(6):
        place = data.draw(st.sampled_from(sorted(world.endpoints)))
        own = world.endpoints[place]
        v6 = is_v6(place)
        other = data.draw(v6_addresses if v6 else v4_addresses)
        proto = data.draw(st.sampled_from([TCP, UDP, SCTP, ICMPV6 if v6 else ICMP, 47]))
        port = data.draw(ports)
        number = port & 0xFF if proto in (ICMP, ICMPV6) else 0 if proto == 47 else port
        kernel.forget_flows()

        frame = _frame(place, other, proto, number)
        peer = judge.destination(other)
        expected = judge.verdict(EGRESS, own, peer, other, proto, number)
        assert kernel.egress(frame) is carried(expected, proto)

        kernel.forget_flows()
        mark = data.draw(st.sampled_from([None, 0, 128, 300, 302, 999]))
        frame = _frame(other, place, proto, number)
        expected = judge.verdict(INGRESS, own, judge.source(other, mark), other, proto, number)
        word = 0 if mark is None else MARK | mark
        assert kernel.ingress(frame, mark=word) is carried(expected, proto)


def _frame(source: Address, destination: Address, proto: int, port: int) -> bytes:
    return packet(
        address_text(source), address_text(destination), proto, 40000, port, flags=SYN, hop_limit=64
    )


def test_the_tunnel_port_is_shut_to_all_but_pods(native: Kernel) -> None:
    free = endpoint(flags=EndpointFlag(0))
    for peer in (0, 1, 2, 6, 7, 300, CIDR_ID):
        native.put(maps(4, hosts={address(PEER[4]): peer}, endpoints={address(POD[4]): free}))
        native.forget_flows()
        ran = native.run("from_pod", out(4, UDP, 8472))
        expected = Reason.ALLOWED_NO_POLICY if is_pod(peer) else Reason.DENIED_TUNNEL_PORT
        assert ran.reason is expected, peer
    native.put(maps(4, hosts={}, prefixes={}, endpoints={address(POD[4]): free}))
    assert native.run("from_pod", out(4, UDP, 8472)).action == SHOT
    assert native.egress(out(4, TCP, 8472)) is Reason.ALLOWED_NO_POLICY

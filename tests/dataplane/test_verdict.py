from dataclasses import replace

import pytest

from entries import INGRESS_ISOLATED, ISOLATED, allowing
from tabard.dataplane.maps import (
    AT_CIDR,
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
    address,
)
from tabard.dataplane.verdict import Judge, flow_verdict

CIDRS = EndpointFlag.CIDR_PODS_INGRESS | EndpointFlag.CIDR_PODS_EGRESS
CIDR_NUMBER = (1 << 24) + 5
POD = Endpoint(1, 256, 77, ISOLATED, 10, bytes(6), bytes(6))
PEER = address("10.1.1.1")


def judge(*keys: PolicyKey, mode: Mode = Mode.OVERLAY) -> Judge:
    maps = Maps(
        identities=frozenset((1, 2, 6, 9, 10, 256, 257, CIDR_NUMBER)),
        policies=allowing(keys),
        prefixes={
            (address("0.0.0.0"), 96): PrefixEntry(9),
            (address("::"), 0): PrefixEntry(10),
            (address("10.1.0.0"), 112): PrefixEntry(CIDR_NUMBER, PrefixFlag.CIDR),
            (address("10.2.0.0"), 112): PrefixEntry(9, PrefixFlag.POD_RANGE),
        },
        hosts={address("192.168.9.1"): 1, address("192.168.9.2"): 6, address("10.2.0.9"): 257},
        endpoints={address("10.2.1.1"): POD},
    )
    return Judge(maps, mode)


def key(identity: int, protocol: Protocol, *port: int) -> PolicyKey:
    return PolicyKey(77, Direction.EGRESS, identity, protocol, *port)


def egress(
    judge: Judge, peer: int, protocol: int = 6, port: int = 80, pod: Endpoint = POD
) -> Reason:
    return judge.verdict(Direction.EGRESS, pod, peer, PEER, protocol, port)


def test_a_direction_without_policy_is_open_even_to_the_unknown() -> None:
    open_pod = replace(POD, flags=INGRESS_ISOLATED)
    assert egress(judge(), 0, pod=open_pod) is Reason.ALLOWED_NO_POLICY
    assert egress(judge(), 999, pod=open_pod) is Reason.ALLOWED_NO_POLICY


def test_the_node_reaches_its_pods_and_not_the_other_way_round() -> None:
    found = judge().verdict(Direction.INGRESS, POD, 1, address("192.168.9.1"), 6, 80)
    assert found is Reason.ALLOWED_HOST
    assert egress(judge(), 1) is Reason.DENIED_POLICY
    remote = judge().verdict(Direction.INGRESS, POD, 6, address("192.168.9.2"), 6, 80)
    assert remote is Reason.DENIED_POLICY


@pytest.mark.parametrize("peer", [0, 3, 999])
def test_an_unknown_peer_is_refused_whatever_the_rules(peer: int) -> None:
    assert egress(judge(key(0, Protocol.ANY)), peer) is Reason.DENIED_UNKNOWN_PEER


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [
        (key(257, Protocol.ANY), True),
        (key(0, Protocol.ANY), True),
        (key(257, Protocol.TCP), True),
        (key(257, Protocol.TCP, 80, 16), True),
        (key(257, Protocol.TCP, 64, 10), True),
        (key(0, Protocol.TCP, 0, 1), True),
        (key(257, Protocol.TCP, 81, 16), False),
        (key(257, Protocol.TCP, 128, 9), False),
        (key(257, Protocol.UDP), False),
        (key(256, Protocol.ANY), False),
        (PolicyKey(77, Direction.INGRESS, 257, Protocol.ANY), False),
        (PolicyKey(78, Direction.EGRESS, 257, Protocol.ANY), False),
    ],
)
def test_an_entry_allows_what_it_covers(entry: PolicyKey, allowed: bool) -> None:
    expected = Reason.ALLOWED_POLICY if allowed else Reason.DENIED_POLICY
    assert egress(judge(entry), 257) is expected


def test_other_protocols_need_an_entry_for_all_traffic() -> None:
    assert egress(judge(key(257, Protocol.TCP)), 257, protocol=47) is Reason.DENIED_POLICY
    assert egress(judge(key(257, Protocol.ANY)), 257, protocol=47) is Reason.ALLOWED_POLICY


def test_a_cidr_rule_holds_for_pods_and_nodes_in_it_only_where_flagged() -> None:
    by_cidr = judge(key(CIDR_NUMBER | AT_CIDR, Protocol.TCP, 80, 16))
    flagged = replace(POD, flags=ISOLATED | CIDRS)
    for peer in (257, 6):
        assert egress(by_cidr, peer, pod=flagged) is Reason.ALLOWED_POLICY
        assert egress(by_cidr, peer, port=81, pod=flagged) is Reason.DENIED_POLICY
        assert egress(by_cidr, peer) is Reason.DENIED_POLICY
    assert egress(by_cidr, 0, pod=flagged) is Reason.DENIED_UNKNOWN_PEER
    outside = by_cidr.verdict(Direction.EGRESS, flagged, 257, address("10.2.0.9"), 6, 80)
    assert outside is Reason.DENIED_POLICY


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("10.2.1.1", 256),  # a local endpoint
        ("10.2.0.9", 257),  # a known pod
        ("192.168.9.1", 1),
        ("192.168.9.2", 6),
        ("10.1.2.3", CIDR_NUMBER),
        ("10.2.0.10", 0),  # in a pods' range, and no pod that is known
        ("8.8.8.8", 9),
        ("2001:db8::1", 10),
    ],
)
def test_whom_a_pod_speaks_to_is_told_by_the_address(text: str, identity: int) -> None:
    assert judge().destination(address(text)) == identity


@pytest.mark.parametrize(
    ("text", "mark", "overlay", "native"),
    [
        ("10.2.0.9", 300, 300, 300),
        ("10.2.0.9", 0, 0, 0),
        ("10.2.0.9", None, 0, 257),
        ("10.2.0.10", None, 0, 0),
        ("192.168.9.1", None, 1, 1),
        ("192.168.9.2", None, 6, 6),
        ("10.1.2.3", None, CIDR_NUMBER, CIDR_NUMBER),
        ("8.8.8.8", None, 9, 9),
    ],
)
def test_who_speaks_to_a_pod_is_told_by_mark_or_address(
    text: str, mark: int | None, overlay: int, native: int
) -> None:
    assert judge(mode=Mode.OVERLAY).source(address(text), mark) == overlay
    assert judge(mode=Mode.NATIVE).source(address(text), mark) == native


def test_an_address_that_no_prefix_holds_is_unknown() -> None:
    assert Judge(Maps(), Mode.NATIVE).destination(PEER) == 0


def test_a_flow_between_outsiders_is_nobodys_to_judge() -> None:
    verdict = flow_verdict({"n1": judge()}, PEER, address("8.8.8.8"), 6, 80)
    assert (verdict.egress, verdict.ingress, verdict.allowed) == (None, None, True)

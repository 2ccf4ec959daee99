"""Flows: what an earlier packet lets pass, and for how long."""

from dataclasses import replace

import pytest

from entries import EGRESS_ISOLATED, INGRESS_ISOLATED, allowing
from kernel import MARK, Kernel, endpoint
from packets import (
    ACK,
    FIN,
    ICMP,
    ICMPV6,
    RST,
    SCTP,
    SYN,
    TCP,
    UDP,
    icmp_error,
    packet,
)
from tabard.dataplane.maps import (
    Direction,
    Endpoint,
    Maps,
    PolicyKey,
    PrefixEntry,
    Protocol,
    Reason,
    address,
)

pytestmark = pytest.mark.ebpf

POD = {4: "10.1.0.1", 6: "fd00:1::1"}
PEER = {4: "10.2.0.9", 6: "fd00:2::9"}
ROUTER = {4: "203.0.113.1", 6: "2001:db8:ffff::1"}
EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
NEW, ESTABLISHED = Reason.ALLOWED_POLICY, Reason.ALLOWED_ESTABLISHED

families = pytest.mark.parametrize("v", [4, 6])
transports = pytest.mark.parametrize("proto", [TCP, UDP, SCTP])

RULES = {
    1: (PolicyKey(1, EGRESS, 301, Protocol.ANY),),
    2: (PolicyKey(2, INGRESS, 301, Protocol.ANY),),
    3: (PolicyKey(3, EGRESS, 301, Protocol.ANY),),
    4: (),
}
"""By policy id: 1 and 3 let the pod speak to the peer, 2 the peer to the pod, 4 nothing."""


def maps(v: int, own: Endpoint | None = None, peer: int = 301) -> Maps:
    return Maps(
        identities=frozenset({1, 2, 300, 301, 302}),
        policies=allowing(key for keys in RULES.values() for key in keys),
        hosts={address(PEER[v]): peer},
        endpoints={address(POD[v]): own or endpoint(300)},
    )


def out(v: int, proto: int = TCP, flags: int = ACK, ports: tuple[int, int] = (40000, 80)) -> bytes:
    return packet(POD[v], PEER[v], proto, *ports, flags=flags)


def back(v: int, proto: int = TCP, flags: int = ACK, ports: tuple[int, int] = (80, 40000)) -> bytes:
    return packet(PEER[v], POD[v], proto, *ports, flags=flags)


@families
@transports
@pytest.mark.parametrize("ports", [(40000, 80), (80, 40000), (5060, 5060)])
def test_answers_pass_the_other_direction(
    native: Kernel, v: int, proto: int, ports: tuple[int, int]
) -> None:
    native.put(maps(v))
    turned = ports[::-1]
    assert native.ingress(back(v, proto, ports=turned)) is Reason.DENIED_POLICY

    assert native.egress(out(v, proto, ports=ports)) is NEW
    assert native.egress(out(v, proto, ports=ports)) is ESTABLISHED
    assert native.ingress(back(v, proto, ports=turned)) is ESTABLISHED
    assert native.ingress(back(v, proto, ports=(turned[0], turned[1] + 1))) is Reason.DENIED_POLICY

    assert native.flows() == 1


@families
def test_a_flow_that_came_in_is_answered_too(native: Kernel, v: int) -> None:
    native.put(maps(v, endpoint(policy=2)))
    assert native.egress(out(v, ports=(80, 40000))) is Reason.DENIED_POLICY

    assert native.ingress(back(v, ports=(40000, 80))) is NEW
    assert native.egress(out(v, ports=(80, 40000))) is ESTABLISHED


@families
def test_flows_of_an_unenforced_direction_are_answered_through_the_enforced_one(
    native: Kernel, v: int
) -> None:
    native.put(maps(v, endpoint(policy=4, flags=INGRESS_ISOLATED)))

    assert native.egress(out(v, flags=SYN)) is Reason.ALLOWED_NO_POLICY
    assert native.ingress(back(v, flags=SYN | ACK)) is ESTABLISHED


@families
def test_echo_answers_are_told_by_their_id(native: Kernel, v: int) -> None:
    proto, echo, reply = {4: (ICMP, 8, 0), 6: (ICMPV6, 128, 129)}[v]
    native.put(maps(v))
    assert native.egress(packet(POD[v], PEER[v], proto, 77, echo)) is NEW

    assert native.ingress(packet(PEER[v], POD[v], proto, 77, reply)) is ESTABLISHED
    assert native.ingress(packet(PEER[v], POD[v], proto, 78, reply)) is Reason.DENIED_POLICY
    assert native.ingress(packet(PEER[v], POD[v], proto, 77, echo)) is Reason.DENIED_POLICY
    assert native.flows() == 1


@families
def test_an_echo_answer_opens_no_flow(native: Kernel, v: int) -> None:
    proto, echo, reply = {4: (ICMP, 8, 0), 6: (ICMPV6, 128, 129)}[v]
    native.put(maps(v))
    assert native.egress(packet(POD[v], PEER[v], proto, echo, reply)) is NEW
    assert native.flows() == 0
    assert native.ingress(packet(PEER[v], POD[v], proto, echo, echo)) is Reason.DENIED_POLICY


# ---- what ends an entry


@families
@transports
def test_a_new_generation_has_both_directions_judged_again(
    native: Kernel, v: int, proto: int
) -> None:
    native.put(maps(v, endpoint(policy=1)))
    native.egress(out(v, proto))

    native.put(maps(v, endpoint(policy=3)))
    assert native.ingress(back(v, proto)) is ESTABLISHED, "allowed by the new rules as well"
    assert native.egress(out(v, proto)) is ESTABLISHED, "the answer renewed the entry"

    native.put(maps(v, endpoint(policy=4)))
    assert native.ingress(back(v, proto)) is Reason.DENIED_POLICY
    assert native.egress(out(v, proto)) is Reason.DENIED_POLICY

    native.put(maps(v, endpoint(policy=1)))
    assert native.ingress(back(v, proto)) is ESTABLISHED, "allowed again"


@families
@transports
def test_an_answer_to_a_revoked_flow_does_not_open_it_the_other_way(
    native: Kernel, v: int, proto: int
) -> None:
    """Or all that the flow itself sends would pass as answers to its answer."""
    native.put(maps(v, endpoint(policy=1)))
    native.egress(out(v, proto))
    native.put(maps(v, endpoint(policy=4, flags=EGRESS_ISOLATED)))

    assert native.ingress(back(v, proto)) is Reason.DENIED_POLICY, "though all may come in"
    assert native.egress(out(v, proto)) is Reason.DENIED_POLICY
    assert native.ingress(back(v, proto)) is Reason.DENIED_POLICY, "a refused packet ends nothing"
    assert native.flows() == 1


@families
def test_a_connection_that_begins_anew_on_a_revoked_flow_is_judged_by_itself(
    native: Kernel, v: int
) -> None:
    native.put(maps(v, endpoint(policy=1)))
    native.egress(out(v))
    native.put(maps(v, endpoint(policy=4, flags=EGRESS_ISOLATED)))

    anew = packet(PEER[v], POD[v], TCP, 80, 40000, flags=SYN)
    assert native.ingress(anew) is Reason.ALLOWED_NO_POLICY
    assert native.ingress(back(v)) is ESTABLISHED
    assert native.egress(out(v)) is ESTABLISHED


@families
def test_enforcement_that_begins_has_flows_judged_again(native: Kernel, v: int) -> None:
    native.put(maps(v, endpoint(policy=4, flags=INGRESS_ISOLATED)))
    native.egress(out(v))
    native.put(maps(v, endpoint(policy=4)))

    assert native.ingress(back(v)) is Reason.DENIED_POLICY
    assert native.egress(out(v)) is Reason.DENIED_POLICY


@families
def test_another_pod_at_the_address_inherits_no_flow(native: Kernel, v: int) -> None:
    native.put(maps(v, endpoint(policy=1, incarnation=1)))
    native.egress(out(v))
    native.put(maps(v, endpoint(policy=1, incarnation=2)))

    assert native.ingress(back(v)) is Reason.DENIED_POLICY
    assert native.egress(out(v)) is NEW
    assert native.ingress(back(v)) is ESTABLISHED


@families
def test_another_peer_at_the_address_is_judged_afresh(native: Kernel, v: int) -> None:
    native.put(maps(v))
    native.egress(out(v))

    native.put(maps(v, peer=302))
    assert native.egress(out(v)) is Reason.DENIED_POLICY
    assert native.ingress(back(v)) is Reason.DENIED_POLICY


@families
def test_an_answer_marked_with_another_identity_is_judged_by_it(overlay: Kernel, v: int) -> None:
    overlay.put(maps(v))
    overlay.egress(out(v))
    assert overlay.ingress(back(v), mark=MARK | 301) is ESTABLISHED
    assert overlay.ingress(back(v), mark=MARK | 302) is Reason.DENIED_POLICY
    assert overlay.ingress(back(v), mark=MARK | 301) is ESTABLISHED, "it ended nobody's flow"


@families
def test_an_unenforced_flow_to_an_unknown_peer_stays_one_flow(overlay: Kernel, v: int) -> None:
    free = endpoint(policy=4, flags=INGRESS_ISOLATED)
    overlay.put(replace(maps(v, free), hosts={}))
    assert overlay.egress(out(v)) is Reason.ALLOWED_NO_POLICY
    assert overlay.ingress(back(v), mark=MARK | 301) is ESTABLISHED
    assert overlay.egress(out(v)) is ESTABLISHED
    assert len(overlay.events()) == 1


@pytest.mark.parametrize(
    ("proto", "answered", "seconds"),
    [(TCP, False, 60), (TCP, True, 8000), (UDP, False, 60), (UDP, True, 60), (SCTP, True, 60)],
)
def test_a_flow_ends_after_its_time(
    native: Kernel, proto: int, answered: bool, seconds: int
) -> None:
    native.put(maps(4))
    for late, expected in ((-5, ESTABLISHED), (5, NEW)):
        native.forget_flows()
        native.egress(out(4, proto))
        if answered:
            native.ingress(back(4, proto))
        native.age_flows(seconds + late)
        assert native.egress(out(4, proto)) is expected
    native.age_flows(seconds + 5)
    assert native.ingress(back(4, proto)) is Reason.DENIED_POLICY


@pytest.mark.parametrize("ending", ["reset", "reset by the peer", "both finished"])
def test_a_closed_connection_is_forgotten_soon(native: Kernel, ending: str) -> None:
    native.put(maps(4))
    native.egress(out(4, flags=SYN))
    native.ingress(back(4, flags=SYN | ACK))
    match ending:
        case "reset":
            native.egress(out(4, flags=RST))
        case "reset by the peer":
            native.ingress(back(4, flags=RST | ACK))
        case _:
            native.egress(out(4, flags=FIN | ACK))
            native.age_flows(100)
            assert native.ingress(back(4)) is ESTABLISHED, "half closed is open"
            native.ingress(back(4, flags=FIN | ACK))
    native.age_flows(8)
    assert native.ingress(back(4)) is ESTABLISHED
    native.age_flows(12)
    assert native.ingress(back(4)) is Reason.DENIED_POLICY


def test_a_new_connection_on_closed_ports_lives_as_long_as_any(native: Kernel) -> None:
    native.put(maps(4))
    native.egress(out(4, flags=SYN))
    native.ingress(back(4, flags=SYN | ACK))
    native.egress(out(4, flags=RST))

    native.egress(out(4, flags=SYN))
    native.ingress(back(4, flags=SYN | ACK))
    native.age_flows(1000)

    assert native.ingress(back(4)) is ESTABLISHED


def test_a_packet_keeps_its_flow_alive(native: Kernel) -> None:
    native.put(maps(4))
    native.egress(out(4, UDP))
    for _ in range(4):
        native.age_flows(40)
        assert native.ingress(back(4, UDP)) is ESTABLISHED


@families
@transports
def test_answers_end_when_their_address_is_another_identitys(
    native: Kernel, v: int, proto: int
) -> None:
    native.put(maps(v, endpoint(policy=2)))
    assert native.ingress(back(v, proto, ports=(40000, 80))) is NEW
    answer = out(v, proto, ports=(80, 40000))
    assert native.egress(answer) is ESTABLISHED
    native.put(maps(v, endpoint(policy=2), peer=302))
    assert native.egress(answer) is Reason.DENIED_POLICY

    native.put(maps(v, endpoint(policy=1)))
    assert native.egress(out(v, proto)) is NEW
    assert native.ingress(back(v, proto)) is ESTABLISHED
    native.put(maps(v, endpoint(policy=1), peer=302))
    assert native.ingress(back(v, proto)) is Reason.DENIED_POLICY


@families
@transports
def test_a_flow_is_forgotten_when_its_unknown_peer_is_another(
    native: Kernel, v: int, proto: int
) -> None:
    """As in overlay mode outside the span: no binding says who the peer is by now."""
    native.put(maps(v, endpoint(policy=2)))
    assert native.ingress(back(v, proto, ports=(40000, 80))) is NEW
    native.put(replace(maps(v, endpoint(policy=2)), hosts={}))
    answer = out(v, proto, ports=(80, 40000))
    asked: list[tuple[bytes, int]] = []
    assert native.dataplane.forget(lambda *peer: asked.append(peer)) == 0  # type: ignore[arg-type, return-value]
    assert asked == [(address(PEER[v]), 301)]
    assert native.egress(answer) is ESTABLISHED
    assert native.dataplane.forget(lambda at, identity: identity == 301) == 1
    assert not native.egress(answer).allowed


def test_a_flow_that_the_pod_opened_is_forgotten_by_whom_it_goes_to(native: Kernel) -> None:
    native.put(maps(4, endpoint(policy=1)))
    assert native.egress(out(4)) is NEW
    assert native.dataplane.forget(lambda at, identity: at != address(PEER[4])) == 0
    assert native.ingress(back(4)) is ESTABLISHED
    native.put(replace(maps(4, endpoint(policy=1)), hosts={}))
    assert native.dataplane.forget(lambda *peer: peer == (address(PEER[4]), 301)) == 1
    assert not native.ingress(back(4)).allowed
    native.put(maps(4, endpoint(policy=1)))
    assert native.ingress(back(4)) is ESTABLISHED, "known again, and still allowed"


@families
@transports
def test_what_answers_a_forgotten_flow_does_not_open_it_the_other_way(
    native: Kernel, v: int, proto: int
) -> None:
    """As a pod that sends again what nobody acknowledged, while the number of its peer retires."""
    native.put(maps(v, endpoint(policy=2)))
    question, answer = back(v, proto, ports=(40000, 80)), out(v, proto, ports=(80, 40000))
    assert native.ingress(question) is NEW
    assert native.egress(answer) is ESTABLISHED
    native.put(maps(v, endpoint(policy=2), peer=302))
    assert native.dataplane.forget(lambda at, identity: identity == 301) == 1
    assert not native.egress(answer).allowed, "though the pod may send what it likes"
    assert native.ingress(question) is Reason.DENIED_POLICY
    assert not native.egress(answer).allowed
    native.put(maps(v, endpoint(policy=2)))
    assert native.egress(answer) is ESTABLISHED
    assert native.ingress(question) is ESTABLISHED


def test_flows_are_replaced_and_never_added(native: Kernel) -> None:
    native.put(maps(4, endpoint(policy=2)))
    native.ingress(back(4, ports=(40000, 80)))
    table = native.dataplane._maps["conntrack"]
    ((key, value),) = table.items()
    native.forget_flows()
    table.replace([(key, value)])
    assert native.flows() == 0


# ---- ICMP errors


def outside(v: int, own: Endpoint | None = None) -> Maps:
    """With the world around, as on every node."""
    root = {4: (address("0.0.0.0"), 96), 6: (address("::"), 0)}[v]
    return replace(maps(v, own), prefixes={root: PrefixEntry(2)})


@families
@pytest.mark.parametrize("proto", [TCP, UDP, SCTP])
def test_an_error_about_a_flow_passes_from_anywhere(native: Kernel, v: int, proto: int) -> None:
    native.put(outside(v))
    router = ROUTER[v]
    kinds = {4: (3, 11, 12), 6: (1, 2, 3, 4)}[v]
    sent = out(v, proto)
    assert native.ingress(icmp_error(router, POD[v], sent)) is Reason.DENIED_POLICY
    native.egress(sent)

    for kind in kinds:
        error = icmp_error(router, POD[v], sent, kind=kind)
        assert native.ingress(error) is Reason.ALLOWED_RELATED, kind
    other = icmp_error(router, POD[v], out(v, proto, ports=(40001, 80)))
    assert native.ingress(other) is Reason.DENIED_POLICY
    assert native.ingress(icmp_error(router, POD[v], sent, kind=5)) is Reason.DENIED_POLICY


@families
def test_an_error_about_a_flow_passes_from_no_other_pod(native: Kernel, v: int) -> None:
    native.put(outside(v))
    sent = out(v)
    native.egress(sent)
    other = icmp_error("10.2.0.8" if v == 4 else "fd00:2::8", POD[v], sent)
    assert native.ingress(other, mark=MARK | 302) is Reason.DENIED_POLICY
    assert native.ingress(other, mark=MARK) is Reason.DENIED_UNKNOWN_PEER
    assert native.ingress(icmp_error(PEER[v], POD[v], sent), mark=MARK | 301) is (
        Reason.ALLOWED_RELATED
    )


@families
def test_an_error_about_an_answer_or_an_echo_passes(native: Kernel, v: int) -> None:
    proto, echo = {4: (ICMP, 8), 6: (ICMPV6, 128)}[v]
    native.put(maps(v, endpoint(policy=2)))
    native.ingress(back(v, ports=(40000, 80)))
    answer = out(v, ports=(80, 40000))
    assert native.ingress(icmp_error(PEER[v], POD[v], answer)) is Reason.ALLOWED_RELATED

    native.put(outside(v, endpoint(policy=1)))
    ping = packet(POD[v], PEER[v], proto, 77, echo)
    native.egress(ping)
    assert native.ingress(icmp_error(ROUTER[v], POD[v], ping)) is Reason.ALLOWED_RELATED


@families
def test_a_pod_may_send_errors_only_about_what_it_was_sent(native: Kernel, v: int) -> None:
    native.put(maps(v, endpoint(policy=2)))
    asked = back(v, UDP, ports=(40000, 53))
    native.ingress(asked)

    assert native.egress(icmp_error(POD[v], PEER[v], asked)) is Reason.ALLOWED_RELATED
    unasked = back(v, UDP, ports=(40000, 54))
    assert native.egress(icmp_error(POD[v], PEER[v], unasked)) is Reason.DENIED_POLICY
    elsewhere = icmp_error(POD[v], "10.2.0.8" if v == 4 else "fd00:2::8", asked)
    assert native.egress(elsewhere) is Reason.DENIED_UNKNOWN_PEER


@families
def test_an_error_about_a_revoked_flow_is_refused(native: Kernel, v: int) -> None:
    native.put(maps(v, endpoint(policy=1)))
    native.egress(out(v))
    native.put(maps(v, endpoint(policy=4)))
    assert native.ingress(icmp_error(PEER[v], POD[v], out(v))) is Reason.DENIED_POLICY


def test_an_error_whose_quotation_is_cut_short_is_no_relation(native: Kernel) -> None:
    native.put(maps(4))
    native.egress(out(4))
    for length in (0, 8, 20, 24, 27):
        error = icmp_error(PEER[4], POD[4], out(4)[: 14 + length])
        assert native.ingress(error) is Reason.DENIED_POLICY, length
    error = icmp_error(PEER[4], POD[4], out(4)[: 14 + 28])
    assert native.ingress(error) is Reason.ALLOWED_RELATED


def test_prefixes_of_the_world_are_judged_again_when_they_change(native: Kernel) -> None:
    def world(identity: int) -> Maps:
        root = {(address("0.0.0.0"), 96): PrefixEntry(identity)}
        return replace(maps(4), hosts={}, prefixes=root)

    native.put(world(301))
    assert native.egress(out(4)) is NEW
    native.put(world(2))
    assert native.egress(out(4)) is Reason.DENIED_POLICY

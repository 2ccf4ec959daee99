from dataclasses import replace
from typing import Any

import pytest

from tabard.dataplane.conntrack import (
    SECOND,
    TIMEOUT_OTHER_NS,
    TIMEOUT_TCP_CLOSED_NS,
    TIMEOUT_TCP_NS,
    TIMEOUT_TCP_UNANSWERED_NS,
)
from tabard.dataplane.maps import Mode, Protocol, Reason, address
from tabard.dataplane.memory import MemoryDataplane
from tabard.dataplane.packet import Fragment, Packet, TcpFlag
from tabard.dataplane.port import MapSizes, NodeConfig
from tabard.policy.diff import diff
from world import World, network_policy

POD, SERVER, OTHER = address("10.244.1.1"), address("10.244.2.1"), address("203.0.113.9")
SYN, ACK, FIN, RST = TcpFlag.SYN, TcpFlag.ACK, TcpFlag.FIN, TcpFlag.RST
ASK = Packet(POD, SERVER, Protocol.TCP, 40_000, 80, tcp_flags=SYN)
ANSWER = Packet(SERVER, POD, Protocol.TCP, 80, 40_000, tcp_flags=SYN | ACK)
TO_SERVER = {"to": [{"podSelector": {"matchLabels": {"app": "server"}}}], "ports": [{"port": 80}]}
ISOLATED = {"policyTypes": ["Ingress", "Egress"]}


class Pod:
    """A pod on n1 whose packets are judged; its policy is `p`. Its server stands on n2."""

    def __init__(self, sizes: MapSizes | None = None, **spec: Any) -> None:
        self.now = SECOND
        self.world = World(nodes=2)
        self.world.pod("x/pod", {"app": "pod"}, ip="10.244.1.1")
        self.world.pod("x/server", {"app": "server"}, ip="10.244.2.1", node="n2")
        self.world.pod("x/second", {"app": "second"}, ip="10.244.2.2", node="n2")
        self.dataplane = MemoryDataplane(
            NodeConfig("n1", Mode.OVERLAY, ()), sizes=sizes, clock=lambda: self.now
        )
        self.policy(**spec)

    def policy(self, **spec: Any) -> None:
        self.world.policy(
            network_policy("p", "x", podSelector={"matchLabels": {"app": "pod"}}, **spec)
        )
        self.update()

    def update(self) -> None:
        maps = self.world.judge("n1").maps
        self.dataplane.write(diff(self.dataplane.read(), maps))
        (self.ifindex,) = {endpoint.ifindex for endpoint in maps.endpoints.values()} or {0}

    def out(self, packet: Packet = ASK) -> Reason:
        return self.dataplane.from_pod(self.ifindex, packet).reason

    def into(self, packet: Packet = ANSWER, sender: str = "x/server") -> Reason:
        """From the sender's node through the tunnel; a sender outside comes unmarked."""
        endpoint = self.world.state.endpoints.get(sender)
        mark = endpoint.identity if endpoint else None
        return self.dataplane.to_pod(self.ifindex, packet, mark).reason


def test_answers_pass_where_only_the_question_was_allowed() -> None:
    pod = Pod(**ISOLATED, egress=[TO_SERVER])
    assert pod.into() is Reason.DENIED_POLICY
    assert pod.out() is Reason.ALLOWED_POLICY
    assert pod.out() is Reason.ALLOWED_ESTABLISHED
    assert pod.into() is Reason.ALLOWED_ESTABLISHED
    for strange in (
        replace(ANSWER, source_port=81),
        replace(ANSWER, destination_port=40_001),
        replace(ANSWER, source=OTHER),
        replace(ANSWER, protocol=Protocol.UDP),
    ):
        assert not pod.into(strange).allowed


def test_a_pod_without_egress_policy_has_its_answers() -> None:
    pod = Pod(policyTypes=["Ingress"])
    assert pod.into() is Reason.DENIED_POLICY
    assert pod.out() is Reason.ALLOWED_NO_POLICY
    assert pod.into() is Reason.ALLOWED_ESTABLISHED


def test_answers_to_what_was_let_in_go_out() -> None:
    pod = Pod(**ISOLATED, ingress=[{"ports": [{"port": 80}]}])
    question = Packet(SERVER, POD, Protocol.TCP, 40_000, 80, tcp_flags=SYN)
    answer = Packet(POD, SERVER, Protocol.TCP, 80, 40_000, tcp_flags=SYN | ACK)
    assert pod.out(answer) is Reason.DENIED_UNKNOWN_PEER
    assert pod.into(question) is Reason.ALLOWED_POLICY
    assert pod.out(answer) is Reason.ALLOWED_ESTABLISHED


def test_a_flow_is_forgotten_when_its_unknown_peer_is_another() -> None:
    pod = Pod(**ISOLATED, ingress=[{"ports": [{"port": 80}]}])
    pod.into(Packet(SERVER, POD, Protocol.TCP, 40_000, 80, tcp_flags=SYN))
    answer = Packet(POD, SERVER, Protocol.TCP, 80, 40_000, tcp_flags=SYN | ACK)
    peer = pod.world.state.endpoints["x/server"].identity
    assert pod.dataplane.forget(lambda at, identity: (at, identity) != (SERVER, peer)) == 0
    assert pod.out(answer) is Reason.ALLOWED_ESTABLISHED
    assert pod.dataplane.forget(lambda at, identity: (at, identity) == (SERVER, peer)) == 1
    assert pod.out(answer) is Reason.DENIED_UNKNOWN_PEER


def test_what_answers_a_forgotten_flow_does_not_open_it_the_other_way() -> None:
    pod = Pod(policyTypes=["Ingress"], ingress=[{"ports": [{"port": 80}]}])
    question = Packet(SERVER, POD, Protocol.TCP, 40_000, 80, tcp_flags=ACK)
    answer = Packet(POD, SERVER, Protocol.TCP, 80, 40_000, tcp_flags=ACK)
    assert pod.into(question) is Reason.ALLOWED_POLICY
    pod.policy(policyTypes=["Ingress"])
    assert pod.dataplane.forget(lambda at, identity: at == SERVER) == 1
    assert not pod.out(answer).allowed, "though the pod may send what it likes"
    assert not pod.into(question).allowed
    pod.policy(policyTypes=["Ingress"], ingress=[{"ports": [{"port": 80}]}])
    assert pod.into(question) is Reason.ALLOWED_POLICY


def test_a_refused_packet_opens_nothing() -> None:
    pod = Pod(**ISOLATED)
    assert not pod.out().allowed
    assert not pod.into().allowed


class TestRevoked:
    """A rule that is gone is gone for established flows, in both directions."""

    def pod(self) -> Pod:
        pod = Pod(**ISOLATED, egress=[TO_SERVER])
        pod.out()
        pod.into()
        return pod

    def test_the_flows_own_packets_are_judged_afresh(self) -> None:
        pod = self.pod()
        pod.policy(**ISOLATED)
        assert not pod.out().allowed
        assert not pod.into().allowed

    def test_answers_alone_are_stopped_too(self) -> None:
        pod = self.pod()
        pod.policy(**ISOLATED)
        assert pod.into() is Reason.DENIED_POLICY
        pod.policy(**ISOLATED, egress=[TO_SERVER])
        assert pod.into() is Reason.ALLOWED_ESTABLISHED  # allowed again

    def test_a_rule_that_another_replaces_keeps_the_flow(self) -> None:
        pod = self.pod()
        pod.policy(**ISOLATED, egress=[{}])
        assert pod.into() is Reason.ALLOWED_ESTABLISHED
        assert pod.out() is Reason.ALLOWED_ESTABLISHED  # renewed by the answer

    def test_a_flow_opened_before_there_was_a_policy_is_judged_by_it(self) -> None:
        pod = Pod()
        pod.world.forget("x", "p")
        pod.update()
        assert pod.out() is Reason.ALLOWED_NO_POLICY
        pod.policy(**ISOLATED)
        assert not pod.into().allowed
        assert not pod.out().allowed

    def test_a_peer_that_became_another_is_judged_afresh(self) -> None:
        pod = self.pod()
        pod.world.relabel("x/server", {"app": "changed"})
        pod.update()
        assert not pod.out().allowed
        assert not pod.into().allowed

    def test_an_answer_from_another_identity_at_the_address_does_not_pass(self) -> None:
        pod = self.pod()
        assert pod.into(sender="x/second") is Reason.DENIED_POLICY

    def test_a_new_pod_at_the_address_inherits_nothing(self) -> None:
        pod = self.pod()
        pod.world.stop("x/pod")
        pod.world.pod("x/pod", {"app": "pod"}, ip="10.244.1.1", uid="again")
        pod.update()
        assert not pod.into().allowed
        assert pod.out() is Reason.ALLOWED_POLICY


def echo(type: int, id: int, *, answer: bool = False) -> Packet:
    ends = (SERVER, POD) if answer else (POD, SERVER)
    return Packet(*ends, Protocol.ICMP, icmp_type=type, icmp_id=id)


def test_echoes_are_answered_by_their_id() -> None:
    pod = Pod(policyTypes=["Ingress"])
    assert pod.out(echo(8, 7)) is Reason.ALLOWED_NO_POLICY
    assert pod.into(echo(0, 7, answer=True)) is Reason.ALLOWED_ESTABLISHED
    assert not pod.into(echo(0, 8, answer=True)).allowed
    assert not pod.into(echo(8, 7, answer=True)).allowed


def error(quoted: Packet, source: object = OTHER) -> Packet:
    return Packet(source, quoted.source, Protocol.ICMP, icmp_type=3, quoted=quoted)


def test_errors_about_a_known_flow_come_in_from_anywhere_on_its_way() -> None:
    pod = Pod(**ISOLATED, egress=[TO_SERVER])
    assert not pod.into(error(ASK), sender="").allowed
    pod.out()
    assert pod.into(error(ASK), sender="") is Reason.ALLOWED_RELATED
    assert not pod.into(error(replace(ASK, destination_port=81)), sender="").allowed
    assert not pod.into(error(replace(ASK, source=SERVER)), sender="").allowed
    fragment = replace(error(ASK), quoted=replace(ASK, fragment=Fragment(1, False)))
    assert not pod.into(fragment, sender="").allowed
    assert not pod.into(replace(error(ASK), quoted=None), sender="").allowed


def test_errors_about_a_flow_do_not_come_from_another_pod() -> None:
    pod = Pod(**ISOLATED, egress=[TO_SERVER])
    pod.out()
    second = address("10.244.2.2")
    assert pod.into(error(ASK, second), sender="x/second") is Reason.DENIED_POLICY
    assert pod.into(error(ASK, second), sender="") is Reason.DENIED_UNKNOWN_PEER
    assert pod.into(error(ASK, SERVER)) is Reason.ALLOWED_RELATED


def test_errors_about_a_revoked_flow_do_not() -> None:
    pod = Pod(**ISOLATED, egress=[TO_SERVER])
    pod.out()
    pod.policy(**ISOLATED)
    assert not pod.into(error(ASK), sender="").allowed


def test_a_pod_may_send_errors_about_what_it_got() -> None:
    pod = Pod(**ISOLATED, ingress=[{}])
    question = Packet(SERVER, POD, Protocol.UDP, 40_000, 80)
    pod.into(question)
    assert pod.out(error(question, POD)) is Reason.ALLOWED_RELATED
    assert not pod.out(error(replace(question, destination=OTHER), POD)).allowed


@pytest.mark.parametrize(
    ("packets", "timeout"),
    [
        ([ASK], TIMEOUT_TCP_UNANSWERED_NS),
        ([ASK, ANSWER], TIMEOUT_TCP_NS),
        ([ASK, ANSWER, replace(ASK, tcp_flags=FIN)], TIMEOUT_TCP_NS),
        (
            [ASK, ANSWER, replace(ASK, tcp_flags=FIN), replace(ANSWER, tcp_flags=FIN | ACK)],
            TIMEOUT_TCP_CLOSED_NS,
        ),
        ([ASK, replace(ANSWER, tcp_flags=RST)], TIMEOUT_TCP_CLOSED_NS),
        ([ASK, replace(ANSWER, tcp_flags=RST), ASK, ANSWER], TIMEOUT_TCP_NS),
        ([replace(ASK, protocol=Protocol.UDP)], TIMEOUT_OTHER_NS),
    ],
)
def test_flows_live_for_their_time(packets: list[Packet], timeout: int) -> None:
    for late, reason in ((0, Reason.ALLOWED_ESTABLISHED), (1, Reason.DENIED_POLICY)):
        pod = Pod(policyTypes=["Ingress"])
        for packet in packets:
            assert (pod.out if packet.source == POD else pod.into)(packet).allowed
        pod.now += timeout + late
        assert pod.into(replace(ANSWER, protocol=packets[0].protocol)) is reason


def test_the_longest_unused_flow_makes_room() -> None:
    pod = Pod(MapSizes(conntrack=2), policyTypes=["Ingress"])
    asks = [replace(ASK, source_port=port) for port in (1001, 1002, 1003)]
    answers = [replace(ANSWER, destination_port=port) for port in (1001, 1002, 1003)]
    pod.out(asks[0])
    pod.out(asks[1])
    assert pod.into(answers[0]) is Reason.ALLOWED_ESTABLISHED
    pod.out(asks[2])
    assert [pod.into(answer).allowed for answer in answers] == [True, False, True]


def test_the_oldest_fragment_makes_room() -> None:
    pod = Pod(MapSizes(fragments=1), policyTypes=["Egress"], egress=[{"ports": [{"port": 80}]}])
    for id in (1, 2):
        pod.out(replace(ASK, destination=OTHER, fragment=Fragment(id, True)))
    reasons = [
        pod.out(replace(ASK, destination=OTHER, fragment=Fragment(id, False))) for id in (1, 2)
    ]
    assert reasons == [Reason.DENIED_FRAGMENT, Reason.ALLOWED_ESTABLISHED]

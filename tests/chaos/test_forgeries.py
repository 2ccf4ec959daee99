from random import Random

from deciding import Desk, started
from tabard.chaos.faults.forgeries import MARK, Flow, Forger, allowed_flow, liars_about
from tabard.dataplane.crafted import in_vxlan
from tabard.dataplane.maps import Protocol
from tabard.events.observed import NodeJoined, PolicySet
from tabard.ledger.state import Node, State
from tabard.netns.names import node_namespace, pod_namespace
from tabard.policy.engine import Engine

PORTS = (("dns", 5300, "UDP"), ("odd", 7, "SCTP"))
NODES = {
    "n1": (("198.18.0.11", "fd00:c612::b"), ("10.244.1.0/24",)),
    "n2": (("198.18.0.12", "fd00:c612::c"), ("10.244.2.0/24",)),
}


def told() -> Desk:
    desk = Desk()
    for name, facts in NODES.items():
        desk.observe(NodeJoined(name, *facts))
    return desk


def flows(state: State) -> set[tuple[str, str, Protocol]]:
    """What is picked in many rounds."""
    picked = [allowed_flow(state, Engine(state), Random(seed)) for seed in range(30)]
    return {(*flow.ends, flow.protocol) for flow in picked if flow is not None}


def test_a_flow_is_between_nodes_and_allowed() -> None:
    desk = told()
    desk.observe(started("a", {"app": "a"}, "10.244.1.1", ports=PORTS))
    desk.observe(started("b", {"app": "b"}, "10.244.2.1", node="n2", ports=PORTS))
    desk.observe(started("c", {"app": "c"}, "10.244.2.2", node="n2"))
    there, back = ("10.244.1.1", "10.244.2.1"), ("10.244.2.1", "10.244.1.1")
    from_c = ("10.244.2.2", "10.244.1.1")
    assert flows(desk.state) == {(*ends, Protocol.UDP) for ends in (there, back, from_c)}
    closed = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": "default"},
        "spec": {"podSelector": {"matchLabels": {"app": "a"}}, "ingress": []},
    }
    desk.observe(PolicySet(closed, "test"))
    assert flows(desk.state) == {(*there, Protocol.UDP)}


def test_who_lost_its_address_to_a_later_pod_is_no_source_and_the_later_one_no_liar() -> None:
    desk = told()
    desk.observe(started("old", {"app": "a"}, "10.244.1.1", at=1))
    desk.observe(started("new", {"app": "a"}, "10.244.1.1", at=2))
    desk.observe(started("b", {"app": "b"}, "10.244.2.1", node="n2", ports=PORTS))
    desk.observe(started("c", {"app": "c"}, "10.244.1.3"))
    found = [allowed_flow(desk.state, Engine(desk.state), Random(seed)) for seed in range(30)]
    sources = {flow.source.uid for flow in found if flow is not None}
    assert sources == {"new", "c"}
    flow = next(flow for flow in found if flow is not None and flow.source.uid == "new")
    assert [pod.uid for pod in liars_about(flow, desk.state)] == ["c"]


def test_every_packet_bears_a_token_of_its_own_and_controls_are_built_as_forged_ones_are() -> None:
    desk = told()
    desk.observe(started("a", {"app": "a"}, "10.244.1.1"))
    desk.observe(started("b", {"app": "b"}, "10.244.2.1", node="n2", ports=PORTS))
    flow = allowed_flow(desk.state, Engine(desk.state), Random(1))
    assert isinstance(flow, Flow)
    forger = Forger("run", flow, Random(1))
    controls = forger.controls(tunnels=True)
    shots = [*controls, *forger.strangers("strange", ["192.0.2.7"])]
    own = Node("n1", *NODES["n1"])
    shots += forger.liars(flow.source, own, [])
    assert len({shot.token for shot in shots}) == len(shots)
    assert all(shot.token.startswith(MARK) and shot.token in shot.data for shot in shots)
    assert {shot.namespace for shot in controls} == {
        node_namespace("run", "n1"),
        pod_namespace("run", "a"),
    }
    identity = flow.source.identity
    datagrams = [shot for shot in shots if not shot.is_raw]
    in_its_name = [shot for shot in datagrams if shot.data[:8] == in_vxlan(identity, b"E")[:8]]
    assert {shot.kind for shot in in_its_name} == {"pod", "stranger", "forger"}

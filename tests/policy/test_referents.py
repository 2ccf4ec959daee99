from dataclasses import replace

from tabard.dataplane.maps import Direction
from tabard.identity.labels import NODE_SOURCE
from tabard.ledger.state import Node, State
from tabard.policy.model import ALL_PORTS, Cidr, Nodes, Policy, Requirement, Rule, Selector
from tabard.policy.referents import NOTHING, NodeAddresses, referents_of, resolve

HOSTNAME = "kubernetes.io/hostname"
EDGE = Requirement("role", "In", frozenset({"edge"}), NODE_SOURCE)
NODES = {
    "n2": Node("n2", ("192.0.2.2", "2001:db8::2"), (), (("role", "edge"),)),
    "n1": Node("n1", ("192.0.2.1",), (), ((HOSTNAME, "n1"), ("role", "core"))),
    "n3": Node("n3", ("192.0.2.3",), ()),
}


def to(*peers: Nodes | Cidr) -> Policy:
    rule = Rule(
        Direction.EGRESS,
        peers,
        ALL_PORTS,
        "spec.egress[0]",
        peer_paths=tuple(f"to[{index}]" for index in range(len(peers))),
    )
    return Policy("ClusterNetworkPolicy", "", "p", Selector(), frozenset(), (rule,))


def test_a_state_has_its_labelled_nodes_to_refer_to() -> None:
    found = referents_of(State(nodes=NODES))
    assert found.nodes == (
        NodeAddresses((f"node:{HOSTNAME}=n1", "node:role=core"), ("192.0.2.1/32",)),
        NodeAddresses(
            (f"node:{HOSTNAME}=n2", "node:role=edge"), ("192.0.2.2/32", "2001:db8::2/128")
        ),
    )
    assert referents_of(State(nodes=dict(reversed(NODES.items())))) == found
    assert referents_of(State(nodes={"n3": NODES["n3"]})) == NOTHING


def test_nodes_stand_for_their_addresses_where_they_were_named() -> None:
    policy = to(Nodes(Selector((EDGE,))), Cidr("10.0.0.0/8"), Nodes(Selector()))
    (rule,) = resolve(policy, referents_of(State(nodes=NODES))).rules
    edge = (Cidr("192.0.2.2/32"), Cidr("2001:db8::2/128"))
    assert rule.peers == (*edge, Cidr("10.0.0.0/8"), Cidr("192.0.2.1/32"), *edge)
    assert rule.peer_paths == ("to[0]", "to[0]", "to[1]", "to[2]", "to[2]", "to[2]")
    assert all(peer.holds_members for peer in rule.peers if isinstance(peer, Cidr))


def test_a_selector_of_nodes_that_are_not_there_names_nobody() -> None:
    none = Nodes(Selector((replace(EDGE, values=frozenset({"lost"})),)))
    (rule,) = resolve(to(none), referents_of(State(nodes=NODES))).rules
    assert rule.peers == ()


def test_pods_labels_are_not_nodes_labels() -> None:
    of_pods = Nodes(Selector((replace(EDGE, source="k8s"),)))
    (rule,) = resolve(to(of_pods), referents_of(State(nodes=NODES))).rules
    assert rule.peers == ()

from dataclasses import replace
from typing import Any

from tabard.dataplane.maps import Direction
from tabard.events.ledger import PolicyAccepted
from tabard.identity.labels import NODE_SOURCE, label_set
from tabard.ledger.state import Node, State
from tabard.policy.model import (
    ALL_PORTS,
    Cidr,
    CidrGroup,
    Nodes,
    Peer,
    Policy,
    Requirement,
    Rule,
    Selector,
    Service,
)
from tabard.policy.referents import NOTHING, NodeAddresses, Referents, referents_of, resolve
from tabard.policy.referred import Backends, CidrSet, ServiceFront

HOSTNAME = "kubernetes.io/hostname"
EDGE = Requirement("role", "In", frozenset({"edge"}), NODE_SOURCE)
NODES = {
    "n2": Node("n2", ("192.0.2.2", "2001:db8::2"), (), (("role", "edge"),)),
    "n1": Node("n1", ("192.0.2.1",), (), ((HOSTNAME, "n1"), ("role", "core"))),
    "n3": Node("n3", ("192.0.2.3",), ()),
}


def to(*peers: Peer) -> Policy:
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


EU = label_set(["cidrgroup:region=eu"])
GROUPS = (
    CidrSet("east", EU, ("10.1.0.0/16", "2001:db8::/32")),
    CidrSet("west", EU, ("10.2.0.0/16", "10.2.3.4/32")),
    CidrSet("none", EU, ()),
    CidrSet("south", label_set([]), ("10.3.0.0/16",)),
)
PODS = Selector((Requirement("app", "In", frozenset({"db"})),))
DB = label_set(["k8s:tier=data"])
SERVICES = Referents(
    services=(
        ServiceFront("data", "db", DB, PODS),
        ServiceFront("data", "legacy", DB, None),
        ServiceFront("shop", "db", label_set([]), None),
    ),
    backends=(
        Backends("data", "legacy", ("192.0.2.1/32",)),
        Backends("data", "legacy", ("2001:db8::1/128",)),
        Backends("data", "db", ("192.0.2.9/32",)),
        Backends("shop", "db", ("192.0.2.7/32",)),
        Backends("shop", "legacy", ("192.0.2.8/32",)),
    ),
)


def resolved(peer: Peer, referents: Referents) -> list[Peer]:
    (rule,) = resolve(to(peer), referents).rules
    assert rule.peer_paths == ("to[0]",) * len(rule.peers or ())
    return list(rule.peers or ())


def world(*prefixes: str) -> list[Cidr]:
    return [Cidr(prefix, holds_members=False) for prefix in prefixes]


def by(key: str, value: str, source: str) -> Selector:
    return Selector((Requirement(key, "In", frozenset({value}), source),))


def test_a_group_of_cidrs_stands_for_its_cidrs_in_the_world() -> None:
    referents = Referents(groups=GROUPS)
    assert resolved(CidrGroup("south"), referents) == world("10.3.0.0/16")
    eu = CidrGroup(selector=by("region", "eu", "cidrgroup"))
    assert resolved(eu, referents) == world(
        "10.1.0.0/16", "2001:db8::/32", "10.2.0.0/16", "10.2.3.4/32"
    )
    assert len(resolved(CidrGroup(selector=Selector()), referents)) == 5
    assert resolved(CidrGroup("north"), referents) == []


def test_what_is_excepted_is_cut_from_the_cidrs_that_hold_it() -> None:
    excepts = ("10.1.2.0/24", "10.2.3.0/24", "10.9.0.0/16", "2001::/16")
    group = CidrGroup(selector=by("region", "eu", "cidrgroup"), excepts=excepts)
    assert resolved(group, Referents(groups=GROUPS)) == [
        Cidr("10.1.0.0/16", ("10.1.2.0/24",), holds_members=False),
        Cidr("10.2.0.0/16", ("10.2.3.0/24",), holds_members=False),
    ]


def test_a_service_stands_for_its_pods_or_for_the_addresses_behind_it() -> None:
    legacy = world("192.0.2.1/32", "2001:db8::1/128")
    assert resolved(Service("data", "db"), SERVICES) == [PODS]
    assert resolved(Service("data", "legacy"), SERVICES) == legacy
    assert resolved(Service("", "db"), SERVICES) == [PODS, *world("192.0.2.7/32")]
    assert resolved(Service("shop", "lost"), SERVICES) == []


def test_services_are_selected_by_their_own_labels() -> None:
    data = [PODS, *world("192.0.2.1/32", "2001:db8::1/128")]
    assert resolved(Service("", selector=by("tier", "data", "k8s")), SERVICES) == data
    assert resolved(Service("shop", selector=by("tier", "data", "k8s")), SERVICES) == []
    assert resolved(Service("shop", selector=Selector()), SERVICES) == world("192.0.2.7/32")


def test_a_state_has_its_objects_to_refer_to_whatever_the_order_they_came_in() -> None:
    def accepted(kind: str, version: str, name: str, **fields: Any) -> PolicyAccepted:
        place = {} if kind == "CiliumCIDRGroup" else {"namespace": "shop"}
        document = {"apiVersion": version, "kind": kind, "metadata": {"name": name, **place}}
        return PolicyAccepted(kind, place.get("namespace", ""), name, document | fields, "")

    objects = [
        accepted("Service", "v1", "b", spec={"selector": {"app": "b"}}),
        accepted("Service", "v1", "a"),
        accepted("Endpoints", "v1", "a", subsets=[{"addresses": [{"ip": "192.0.2.1"}]}]),
        accepted("CiliumCIDRGroup", "cilium.io/v2", "g", spec={"externalCIDRs": ["10.0.0.0/8"]}),
        accepted("NetworkPolicy", "networking.k8s.io/v1", "p", spec={"podSelector": {}}),
    ]
    policies = {(each.kind, each.namespace, each.name): each for each in objects}
    found = referents_of(State(policies=policies))
    assert [each.name for each in found.groups] == ["g"]
    assert [each.name for each in found.services] == ["a", "b"]
    assert [each.prefixes for each in found.backends] == [("192.0.2.1/32",)]
    assert referents_of(State(policies=dict(reversed(policies.items())))) == found

"""What Cilium's policies mean, in the terms of the model."""

from typing import Any

import pytest

from tabard.dataplane.maps import Action, Direction, Protocol
from tabard.identity.labels import CLUSTER_KEY, NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX, LabelFilter
from tabard.policy.cilium import CLUSTERWIDE, NAMESPACED, read_rules
from tabard.policy.model import (
    ALL_PORTS,
    Cidr,
    CidrGroup,
    DomainName,
    Nodes,
    Policy,
    Port,
    Requirement,
    Rule,
    Selector,
    Service,
)
from tabard.policy.reading import check_keys, read_object, read_policies

INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS


def is_in(key: str, value: str, source: str = "k8s") -> Requirement:
    return Requirement(key, "In", frozenset({value}), source)


IN_SHOP = is_in(NAMESPACE_KEY, "shop")
IN_ANY = Requirement(NAMESPACE_KEY, "Exists")


def document(kind: str = NAMESPACED, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "p"} | ({"namespace": "shop"} if kind == NAMESPACED else {})
    spec = spec if "nodeSelector" in spec else {"endpointSelector": {}} | spec
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}


def policy(kind: str = NAMESPACED, **spec: Any) -> Policy:
    (found,) = read_policies(document(kind, **spec))
    return found


def rule(kind: str = NAMESPACED, section: str = "ingress", **given: Any) -> Rule:
    (found,) = policy(kind, **{section: [given]}).rules
    return found


def egress(**given: Any) -> Rule:
    return rule(section="egress", **given)


def ports(*items: dict[str, Any], **beside: Any) -> tuple[Port, ...]:
    return rule(toPorts=[{"ports": list(items), **beside}]).ports


def reserved(*names: str) -> tuple[Selector, ...]:
    return tuple(Selector((is_in(name, "", "reserved"),)) for name in names)


def test_a_policy_is_read_whole() -> None:
    read = policy(
        endpointSelector={"matchLabels": {"role": "backend"}},
        description="who may speak to the backend",
        labels=[{"key": "team", "value": "a", "source": "k8s"}],
        ingress=[
            {
                "fromEndpoints": [{"matchLabels": {"k8s:role": "frontend"}}],
                "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}],
            }
        ],
        egressDeny=[{"toEntities": ["world"]}],
    )
    assert read == Policy(
        kind="CiliumNetworkPolicy",
        namespace="shop",
        name="p",
        subject=Selector((IN_SHOP, is_in("role", "backend", "any"))),
        isolates=frozenset(Direction),
        rules=(
            Rule(
                INGRESS,
                (Selector((IN_SHOP, is_in("role", "frontend"))),),
                (Port(Protocol.TCP, 80, 80),),
                "spec.ingress[0]",
                Action.ALLOW,
                ("fromEndpoints[0]",),
                ("toPorts[0].ports[0]",),
            ),
            Rule(
                EGRESS,
                reserved("world", "world-ipv4", "world-ipv6"),
                ALL_PORTS,
                "spec.egressDeny[0]",
                Action.DENY,
                ("toEntities[0]",) * 3,
            ),
        ),
        subject_field="endpointSelector",
    )


def test_a_policy_of_several_specs_is_several_policies_of_one_object() -> None:
    written = document(ingress=[{}])
    written["specs"] = [
        {"endpointSelector": {"matchLabels": {"a": "1"}}, "egress": [{"toEntities": ["host"]}]},
        {"endpointSelector": {"matchLabels": {"a": "2"}}},
    ]
    found = read_object(written, "f.yaml:1")
    assert found.key == ("CiliumNetworkPolicy", "shop", "p")
    assert [one.section for one in found.policies] == ["spec", "specs[0]", "specs[1]"]
    assert [one.isolates for one in found.policies] == [{INGRESS}, {EGRESS}, set()]
    assert found.policies[1].rules[0].path == "specs[0].egress[0]"
    assert {one.origin for one in found.policies} == {"f.yaml:1"}


def test_a_policy_without_a_namespace_lies_in_default_and_a_clusterwide_one_in_none() -> None:
    written = document()
    del written["metadata"]["namespace"]
    assert read_object(written).key == ("CiliumNetworkPolicy", "default", "p")
    assert policy(CLUSTERWIDE).key == ("CiliumClusterwideNetworkPolicy", "", "p")


@pytest.mark.parametrize(
    ("kind", "selector", "peer"),
    [
        (NAMESPACED, {}, Selector((IN_SHOP,))),
        (CLUSTERWIDE, {}, Selector((IN_ANY,))),
        (
            NAMESPACED,
            {"matchLabels": {"io.kubernetes.pod.namespace": "data"}},
            Selector((is_in(NAMESPACE_KEY, "data", "any"),)),
        ),
        (
            CLUSTERWIDE,
            {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "data"}},
            Selector((is_in(NAMESPACE_KEY, "data"),)),
        ),
        (
            NAMESPACED,
            {"matchExpressions": [{"key": "k8s:" + NAMESPACE_KEY, "operator": "Exists"}]},
            Selector((IN_ANY,)),
        ),
        (
            NAMESPACED,
            {"matchLabels": {NAMESPACE_LABELS_PREFIX + "team": "a"}},
            Selector((is_in(NAMESPACE_LABELS_PREFIX + "team", "a", "any"),)),
        ),
        (
            CLUSTERWIDE,
            {"matchLabels": {NAMESPACE_LABELS_PREFIX + "team": "a"}},
            Selector((IN_ANY, is_in(NAMESPACE_LABELS_PREFIX + "team", "a", "any"))),
        ),
        (NAMESPACED, {"matchLabels": {"reserved:host": ""}}, reserved("host")[0]),
        (CLUSTERWIDE, {"matchLabels": {"reserved:health": ""}}, reserved("health")[0]),
        (
            NAMESPACED,
            {"matchLabels": {"container:image": "x"}},
            Selector((IN_SHOP, is_in("image", "x", "container"))),
        ),
    ],
)
def test_peers_are_of_the_policys_namespace_unless_they_say_another(
    kind: str, selector: dict[str, Any], peer: Selector
) -> None:
    assert rule(kind, fromEndpoints=[selector]).peers == (peer,)
    assert rule(kind, "egress", toEndpoints=[selector]).peers == (peer,)


def test_a_clusterwide_policy_for_starting_endpoints_has_peers_without_a_namespace_too() -> None:
    read = policy(
        CLUSTERWIDE,
        endpointSelector={"matchLabels": {"reserved:init": ""}},
        ingress=[{"fromEndpoints": [{}]}],
    )
    assert read.subject == reserved("init")[0]
    assert read.rules[0].peers is None


def test_an_empty_rule_isolates_and_allows_nobody() -> None:
    read = policy(ingress=[{}], egressDeny=[{}])
    assert [(one.peers, one.ports) for one in read.rules] == [((), ALL_PORTS)] * 2
    assert read.isolates == {INGRESS, EGRESS}


@pytest.mark.parametrize(
    "field", ["Endpoints", "Entities", "CIDR", "CIDRSet", "Nodes", "Services", "FQDNs"]
)
def test_an_empty_list_of_peers_is_nobody_on_any_port(field: str) -> None:
    to_ports = [{"ports": [{"port": "80"}]}] * (field != "Services")
    assert egress(**{f"to{field}": [], "toPorts": to_ports}).peers == ()
    if field not in ("Services", "FQDNs"):
        assert rule(**{f"from{field}": [], "icmps": []}).peers == ()


def test_an_empty_list_beside_a_full_one_is_nobody() -> None:
    assert rule(fromEndpoints=[], fromEntities=["all"]).peers == ()


def test_ports_alone_are_for_everyone() -> None:
    assert rule(toPorts=[{"ports": [{"port": "80"}]}]).peers is None
    assert egress(icmps=[{"fields": [{"type": 8}]}]).peers is None


def test_an_absent_section_does_not_isolate_and_an_empty_one_neither() -> None:
    assert policy().isolates == policy(ingress=[], egress=None).isolates == frozenset()


@pytest.mark.parametrize(
    ("said", "isolates"),
    [
        ({}, {INGRESS}),
        ({"ingress": False}, set()),
        ({"egress": True}, {INGRESS, EGRESS}),
        ({"ingress": False, "egress": True}, {EGRESS}),
        ({"ingress": None}, {INGRESS}),
    ],
)
def test_default_deny_follows_the_sections_unless_it_is_said(
    said: dict[str, Any], isolates: set[Direction]
) -> None:
    assert policy(ingressDeny=[{}], enableDefaultDeny=said).isolates == isolates


@pytest.mark.parametrize(
    ("entity", "peers"),
    [
        ("all", None),
        ("world", reserved("world", "world-ipv4", "world-ipv6")),
        ("world-ipv4", reserved("world-ipv4")),
        ("world-ipv6", reserved("world-ipv6")),
        ("host", reserved("host")),
        ("remote-node", reserved("remote-node")),
        (
            "cluster",
            (
                *reserved("host", "remote-node", "init", "ingress", "health", "unmanaged"),
                *reserved("kube-apiserver"),
                Selector((Requirement(CLUSTER_KEY, "Exists"),)),
            ),
        ),
        ("init", reserved("init")),
        ("health", reserved("health")),
        ("unmanaged", reserved("unmanaged")),
        ("kube-apiserver", reserved("kube-apiserver")),
        ("ingress", reserved("ingress")),
        ("none", ()),
    ],
)
def test_entities_stand_for_reserved_identities(
    entity: str, peers: tuple[Selector, ...] | None
) -> None:
    assert rule(fromEntities=[entity]).peers == peers
    assert egress(toEntities=["none", entity]).peers == peers


def test_everyone_among_entities_is_everyone() -> None:
    assert rule(fromEntities=["host", "all"]).peers is None


def test_cidrs_hold_the_world_alone() -> None:
    read = egress(
        toCIDRSet=[
            {"cidr": "10.0.0.0/8", "except": ["10.2.0.0/16", "10.1.0.1/16", "10.2.0.0/16"]},
            {"cidrGroupRef": "offices", "except": ["192.0.2.0/24"]},
            {"cidrGroupSelector": {"matchLabels": {"region": "eu"}}},
        ]
    )
    assert read.peers == (
        Cidr("10.0.0.0/8", ("10.1.0.0/16", "10.2.0.0/16"), holds_members=False),
        CidrGroup("offices", excepts=("192.0.2.0/24",)),
        CidrGroup(selector=Selector((is_in("region", "eu", "cidrgroup"),))),
    )
    assert read.peer_paths == ("toCIDRSet[0]", "toCIDRSet[1]", "toCIDRSet[2]")
    assert rule(fromCIDR=["2001:DB8::1/48"]).peers == (Cidr("2001:db8::/48", holds_members=False),)
    held = policy(egress=[{"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}]}])
    assert held.rules[0].peers == (Cidr("10.0.0.0/8", ("10.0.0.0/8",), holds_members=False),)


def test_nodes_services_and_domains_are_references() -> None:
    control = {"matchLabels": {"node-role.kubernetes.io/control-plane": ""}}
    selector = Selector((is_in("node-role.kubernetes.io/control-plane", "", "node"),))
    assert rule(fromNodes=[control]).peers == egress(toNodes=[control]).peers == (Nodes(selector),)
    services = [
        {"k8sService": {"serviceName": "db", "namespace": "data"}},
        {"k8sService": {"serviceName": "db"}},
        {"k8sServiceSelector": {"selector": {"matchLabels": {"a": "b"}}, "namespace": "data"}},
    ]
    assert egress(toServices=services).peers == (
        Service("data", "db"),
        Service("", "db"),
        Service("data", selector=Selector((is_in("a", "b"),))),
    )
    domains = [{"matchName": "Example.com."}, {"matchPattern": "*.Example.com"}]
    assert egress(toFQDNs=domains).peers == (DomainName("example.com"), DomainName("*.example.com"))


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"port": "80", "protocol": "TCP"}, [(Protocol.TCP, 80, 80, "")]),
        ({"port": "53", "protocol": "UDP"}, [(Protocol.UDP, 53, 53, "")]),
        ({"port": "5060", "protocol": "SCTP"}, [(Protocol.SCTP, 5060, 5060, "")]),
        (
            {"port": "80"},
            [(each, 80, 80, "") for each in (Protocol.TCP, Protocol.UDP, Protocol.SCTP)],
        ),
        ({"port": "8000", "endPort": 8080, "protocol": "TCP"}, [(Protocol.TCP, 8000, 8080, "")]),
        ({"port": "80", "endPort": 0, "protocol": "TCP"}, [(Protocol.TCP, 80, 80, "")]),
        ({"port": "0", "protocol": "TCP"}, [(Protocol.TCP, 0, 65_535, "")]),
        ({"port": "0", "endPort": 1023, "protocol": "TCP"}, [(Protocol.TCP, 0, 1023, "")]),
        ({"port": "HTTP", "protocol": "TCP"}, [(Protocol.TCP, 0, 65_535, "http")]),
        ({"port": "8", "protocol": "ICMP"}, [(Protocol.ICMP, 8, 8, "")]),
        ({"port": "0", "protocol": "ICMP"}, [(Protocol.ICMP, 0, 65_535, "")]),
        ({"port": "128", "protocol": "ICMPv6"}, [(Protocol.ICMPV6, 128, 128, "")]),
    ],
)
def test_ports_are_read(port: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    assert ports(port) == tuple(Port(*each) for each in expected)


def test_a_port_of_any_protocol_is_none_of_icmp() -> None:
    assert {port.protocol for port in ports({"port": "0", "protocol": "ANY"})} == {
        Protocol.TCP,
        Protocol.UDP,
        Protocol.SCTP,
    }


def test_each_port_says_where_it_was_written() -> None:
    read = egress(
        toPorts=[
            {"ports": [{"port": "1", "protocol": "TCP"}, {"port": "2"}]},
            {"ports": [{"port": "3", "protocol": "UDP"}]},
        ]
    )
    assert read.port_paths == (
        "toPorts[0].ports[0]",
        *["toPorts[0].ports[1]"] * 3,
        "toPorts[1].ports[0]",
    )
    assert read.peer_paths == ()


def test_icmp_types_are_read_by_number_and_by_name() -> None:
    fields = [
        {"type": 8},
        {"type": "0", "family": "IPv4"},
        {"type": "EchoReply"},
        {"type": "EchoRequest", "family": "IPv6"},
        {"type": 255, "family": "IPv6"},
    ]
    read = rule(fromEntities=["world"], icmps=[{"fields": fields[:3]}, {"fields": fields[3:]}])
    assert read.ports == (
        Port(Protocol.ICMP, 8, 8),
        Port(Protocol.ICMP, 0, 0),
        Port(Protocol.ICMP, 0, 0),
        Port(Protocol.ICMPV6, 128, 128),
        Port(Protocol.ICMPV6, 255, 255),
    )
    assert read.port_paths[2:4] == ("icmps[0].fields[2]", "icmps[1].fields[0]")


def test_dns_rules_say_which_names_may_be_asked_for() -> None:
    names = [{"matchName": "Example.com."}, {"matchPattern": "*.example.com"}]
    read = egress(
        toEndpoints=[{"matchLabels": {"k8s-app": "kube-dns"}}],
        toPorts=[{"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": names}}],
    )
    lookups = frozenset({"example.com", "*.example.com"})
    assert read.ports == (Port(Protocol.UDP, 53, 53, lookups=lookups),), "TCP is not proxied"


def test_rules_that_say_nothing_of_content_are_no_rules() -> None:
    assert ports({"port": "80", "protocol": "TCP"}, rules={}) == (Port(Protocol.TCP, 80, 80),)


def test_a_host_policy_selects_nodes_by_their_labels() -> None:
    read = policy(
        CLUSTERWIDE,
        nodeSelector={"matchLabels": {"role": "edge"}},
        ingress=[{"fromEntities": ["cluster"]}],
    )
    assert read.selects_nodes
    assert read.subject == Selector((is_in("role", "edge", "node"),))
    assert read.subject_field == "nodeSelector"
    assert policy(CLUSTERWIDE, nodeSelector={}).subject == Selector()


def test_authentication_that_is_switched_off_is_none() -> None:
    assert rule(fromEntities=["all"], authentication={"mode": "disabled"}).peers is None


def test_raw_rules_mean_what_they_say() -> None:
    everyone, some, nodes = read_rules(
        [
            {"endpointSelector": {}, "ingress": [{"fromEndpoints": [{}]}], "labels": ["k8s:a=b"]},
            {
                "endpointSelector": {"matchLabels": {"any:id": "a"}},
                "egress": [{"toCIDR": ["192.0.2.3", "2001:db9::"]}],
            },
            {
                "nodeSelector": {},
                "ingress": [{"toPorts": [{"ports": [{"port": "1", "protocol": "tcp"}]}]}],
            },
        ],
        "here",
    )
    assert (everyone.subject, everyone.rules[0].peers) == (Selector(), None)
    assert some.subject == Selector((is_in("id", "a", "any"),))
    assert some.rules[0].peers == (
        Cidr("192.0.2.3/32", holds_members=False),
        Cidr("2001:db9::/128", holds_members=False),
    )
    assert some.rules[0].path == "[1].egress[0]"
    assert nodes.selects_nodes
    assert nodes.rules[0].ports == (Port(Protocol.TCP, 1, 1),)
    assert [one.key for one in (everyone, some)] == [
        ("CiliumRule", "", "0"),
        ("CiliumRule", "", "1"),
    ]


def test_labels_that_identities_lack_are_refused_and_derived_and_reserved_ones_are_not() -> None:
    found = read_object(
        document(
            ingress=[
                {"fromEndpoints": [{"matchLabels": {CLUSTER_KEY: "default"}}]},
                {"fromEntities": ["cluster"]},
                {"fromNodes": [{"matchLabels": {"kubernetes.io/os": "linux"}}]},
            ]
        )
    )
    check_keys(found, LabelFilter())
    refused = document(ingress=[{"fromEndpoints": [{"matchLabels": {"pod-template-hash": "x"}}]}])
    with pytest.raises(
        Exception, match=r"^spec.ingress\[0\].fromEndpoints\[0\]: selects by pod label"
    ):
        check_keys(read_object(refused), LabelFilter())

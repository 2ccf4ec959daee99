import copy
import re
from typing import Any

import pytest

from tabard.dataplane.maps import Action, Direction, Protocol, Tier
from tabard.identity.labels import NAMESPACE_KEY, NODE_SOURCE, LabelFilter
from tabard.policy.model import (
    ALL_PORTS,
    Cidr,
    DomainName,
    Nodes,
    Policy,
    PolicyError,
    Port,
    Requirement,
    Selector,
)
from tabard.policy.reading import CLUSTERWIDE_KINDS, check_keys, read_object

VERSIONS = {
    "ClusterNetworkPolicy": "v1alpha2",
    "AdminNetworkPolicy": "v1alpha1",
    "BaselineAdminNetworkPolicy": "v1alpha1",
}
ALLOW = {"ClusterNetworkPolicy": "Accept"}
PORTS = {"ClusterNetworkPolicy": "protocols"}
KINDS = pytest.mark.parametrize("kind", VERSIONS)
NAMESPACED = Requirement(NAMESPACE_KEY, "Exists")
EVERY_POD = Selector((NAMESPACED,))


def of_namespace(key: str, value: str) -> Requirement:
    return Requirement(f"io.cilium.k8s.namespace.labels.{key}", "In", frozenset({value}))


def document(kind: str, name: str = "default", **spec: Any) -> dict[str, Any]:
    """A policy of the kind, whole but for what `spec` says."""
    least: dict[str, Any] = {"subject": {"namespaces": {}}}
    if kind != "BaselineAdminNetworkPolicy":
        least["priority"] = 7
    if kind == "ClusterNetworkPolicy":
        least["tier"] = "Admin"
    return {
        "apiVersion": f"policy.networking.k8s.io/{VERSIONS[kind]}",
        "kind": kind,
        "metadata": {"name": name},
        "spec": least | spec,
    }


def policy(kind: str, **spec: Any) -> Policy:
    (found,) = read_object(document(kind, **spec), "f.yaml:3").policies
    return found


def egress(kind: str, *peers: Any, action: str = "", ports: Any = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"action": action or ALLOW.get(kind, "Allow"), "to": list(peers)}
    if ports is not None:
        rule[PORTS.get(kind, "ports")] = ports
    return rule


def test_a_cluster_network_policy_is_read_whole() -> None:
    found = policy(
        "ClusterNetworkPolicy",
        tier="Baseline",
        priority=1_000,
        subject={
            "pods": {
                "namespaceSelector": {"matchLabels": {"team": "red"}},
                "podSelector": {"matchLabels": {"app": "db"}},
            }
        },
        ingress=[
            {
                "name": "from the red",
                "action": "Pass",
                "from": [{"namespaces": {"matchLabels": {"team": "red"}}}],
                "protocols": [{"udp": {"destinationPort": {"range": {"start": 53, "end": 54}}}}],
            },
            {"action": "Deny", "from": [{"namespaces": {}}]},
        ],
        egress=[
            egress(
                "ClusterNetworkPolicy",
                {"networks": ["10.0.0.0/8", "fd00::/8"]},
                {"domainNames": ["Example.org.", "*.example.org"]},
                {"nodes": {"matchLabels": {"role": "ingress"}}},
            )
        ],
    )
    assert found.key == ("ClusterNetworkPolicy", "", "default")
    assert (found.tier, found.priority, found.origin) == (Tier.BASELINE, 1_000, "f.yaml:3")
    assert (found.section, found.subject_field) == ("spec", "subject.pods")
    assert found.isolates == frozenset()
    app = Requirement("app", "In", frozenset({"db"}))
    assert found.subject == Selector((NAMESPACED, of_namespace("team", "red"), app))
    passed, denied, out = found.rules
    assert (passed.direction, passed.action) == (Direction.INGRESS, Action.PASS)
    assert passed.peers == (Selector((NAMESPACED, of_namespace("team", "red"))),)
    assert passed.ports == (Port(Protocol.UDP, 53, 54),)
    assert (passed.path, passed.peer_paths) == ("spec.ingress[0]", ("from[0]",))
    assert passed.port_paths == ("protocols[0]",)
    assert (denied.action, denied.peers, denied.ports) == (Action.DENY, (EVERY_POD,), ALL_PORTS)
    assert (out.direction, out.action, out.path) == (
        Direction.EGRESS,
        Action.ALLOW,
        "spec.egress[0]",
    )
    role = Requirement("role", "In", frozenset({"ingress"}), NODE_SOURCE)
    assert out.peers == (
        Cidr("10.0.0.0/8"),
        Cidr("fd00::/8"),
        DomainName("example.org"),
        DomainName("**.example.org"),
        Nodes(Selector((role,))),
    )
    assert out.peer_paths == (
        "to[0].networks[0]",
        "to[0].networks[1]",
        "to[1].domainNames[0]",
        "to[1].domainNames[1]",
        "to[2]",
    )
    assert found.cidrs() == {"10.0.0.0/8", "fd00::/8"}


def test_an_admin_network_policy_is_read_whole() -> None:
    found = policy(
        "AdminNetworkPolicy",
        priority=0,
        ingress=[
            {
                "action": "Allow",
                "from": [{"pods": {"podSelector": {"matchLabels": {"app": "web"}}}}],
                "ports": [
                    {"portNumber": {"port": 80}},
                    {"portNumber": {"protocol": "SCTP", "port": 9}},
                    {"portRange": {"protocol": "UDP", "start": 1, "end": 65535}},
                    {"namedPort": "http"},
                ],
            }
        ],
        egress=[egress("AdminNetworkPolicy", {"nodes": {}}, action="Deny")],
    )
    assert found.key == ("AdminNetworkPolicy", "", "default")
    assert (found.tier, found.priority) == (Tier.ADMIN, 0)
    assert found.subject == EVERY_POD
    taken, given = found.rules
    app = Requirement("app", "In", frozenset({"web"}))
    assert taken.peers == (Selector((NAMESPACED, app)),)
    named = [Port(protocol, name="http") for protocol in (Protocol.TCP, Protocol.UDP)]
    assert taken.ports == (
        Port(Protocol.TCP, 80, 80),
        Port(Protocol.SCTP, 9, 9),
        Port(Protocol.UDP, 1, 65_535),
        *named,
        Port(Protocol.SCTP, name="http"),
    )
    assert taken.port_paths == ("ports[0]", "ports[1]", "ports[2]", *("ports[3]",) * 3)
    assert (given.action, given.peers) == (Action.DENY, (Nodes(Selector()),))


def test_the_baseline_policy_comes_after_every_priority() -> None:
    found = policy("BaselineAdminNetworkPolicy", ingress=[])
    assert (found.tier, found.priority) == (Tier.BASELINE, 1_001)


@KINDS
def test_these_kinds_lie_in_no_namespace_and_isolate_nothing(kind: str) -> None:
    rule = {"action": "Deny", "from": [{"namespaces": {}}]}
    found = read_object(document(kind, ingress=[rule]))
    assert kind in CLUSTERWIDE_KINDS
    assert found.key == (kind, "", "default")
    (only,) = found.policies
    assert (only.isolates, only.rules[0].action) == (frozenset(), Action.DENY)


@KINDS
def test_a_policy_without_rules_and_one_with_empty_lists_say_the_same(kind: str) -> None:
    assert policy(kind, ingress=[], egress=[]) == policy(kind, ingress=None) == policy(kind)


def test_a_named_port_adds_nothing_beside_networks_where_v1alpha1_let_it_through() -> None:
    peers = {"networks": ["10.0.0.0/8"]}, {"namespaces": {}}
    for kind in ("AdminNetworkPolicy", "BaselineAdminNetworkPolicy"):
        rule = egress(kind, *peers, ports=[{"namedPort": "dns"}])
        assert policy(kind, egress=[rule]).rules[0].ports[0] == Port(Protocol.TCP, name="dns")
        with pytest.raises(PolicyError, match=r"what spec\.egress\[0\]\.to\[0\]\.networks names"):
            policy(kind, egress=[rule | {"action": "Deny"}])


@KINDS
def test_as_many_as_the_schema_takes_are_read_and_one_more_is_refused(kind: str) -> None:
    most = 25 if kind == "ClusterNetworkPolicy" else 100
    one_port = (
        {"tcp": {"destinationPort": {"number": 1}}}
        if kind == "ClusterNetworkPolicy"
        else {"portNumber": {"port": 1}}
    )
    pod, network = {"namespaces": {}}, [f"10.0.{n}.0/24" for n in range(26)]
    full = egress(kind, *[pod] * most, ports=[one_port] * most)
    assert len(policy(kind, egress=[full] * most).rules) == most
    assert policy(kind, egress=[egress(kind, {"networks": network[:25]})])
    for wrong, path in (
        ([full] * (most + 1), "spec.egress"),
        ([egress(kind, *[pod] * (most + 1))], "spec.egress[0].to"),
        ([egress(kind, pod, ports=[one_port] * (most + 1))], f"[0].{PORTS.get(kind, 'ports')}"),
        ([egress(kind, {"networks": network})], "to[0].networks"),
    ):
        with pytest.raises(PolicyError, match=re.escape(f"{path}: has")):
            policy(kind, egress=wrong)


def rule(**more: Any) -> list[dict[str, Any]]:
    return [{"action": "Deny", "from": [{"namespaces": {}}], **more}]


def out(*peers: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"action": "Deny", "to": list(peers), **more}]


@KINDS
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"isolates": True}, "spec.isolates: unknown field"),
        ({"subject": None}, "spec.subject: is absent"),
        ({"subject": {}}, "spec.subject: is {}; it must have exactly one of namespaces, pods"),
        ({"subject": {"namespaces": {}, "pods": {"podSelector": {}}}}, "exactly one of"),
        ({"subject": {"pods": {}}}, "spec.subject.pods: is {}; it must have a namespaceSelector"),
        ({"subject": {"pods": {"podSelector": {"matchLabels": {"a b": "c"}}}}}, "a label key"),
        (
            {"subject": {"namespaces": {"matchExpressions": [{"key": "a", "operator": "in"}]}}},
            "spec.subject.namespaces.matchExpressions[0].operator: is 'in'",
        ),
        ({"ingress": {}}, "spec.ingress: is {}; it must be a list"),
        ({"ingress": [None]}, "spec.ingress[0]: is absent"),
        ({"ingress": rule(action="allow")}, "spec.ingress[0].action: is 'allow'; it must be"),
        ({"ingress": rule(action=None)}, "spec.ingress[0].action: is absent"),
        ({"ingress": rule(name="x" * 101)}, "spec.ingress[0].name: is 'xxx"),
        ({"ingress": rule(name=3)}, "spec.ingress[0].name: is 3"),
        ({"ingress": rule(to=[])}, "spec.ingress[0].to: unknown field"),
        ({"ingress": [{"action": "Deny"}]}, "spec.ingress[0].from: has 0 items"),
        ({"ingress": rule(**{"from": []})}, "spec.ingress[0].from: has 0 items"),
        ({"ingress": rule(**{"from": [{}]})}, "spec.ingress[0].from[0]: is {}; it must have"),
        ({"ingress": rule(**{"from": [{"nodes": {}}]})}, "from[0].nodes: unknown field"),
        ({"ingress": rule(**{"from": [{"networks": []}]})}, "from[0].networks: unknown field"),
        ({"egress": out({"networks": []})}, "to[0].networks: has 0 items; it takes 1 to 25"),
        ({"egress": out({"networks": ["10.0.0.0"]})}, "to[0].networks[0]: is '10.0.0.0'"),
        ({"egress": out({"networks": ["10.0.0.0/33"]})}, "it must be a CIDR"),
        ({"egress": out({"networks": ["::ffff:10.0.0.0/104"]})}, "not mapped into IPv6"),
        ({"egress": out({"networks": ["10.0.0.0/8"] * 2})}, "networks[1]: is '10.0.0.0/8'"),
        ({"egress": out({"networks": ["f" * 40 + "::/64"]})}, "longer than 43 characters"),
        ({"egress": out({"nodes": {"matchLabels": {"a": "b c"}}})}, "matchLabels['a']: is 'b c'"),
    ],
)
def test_what_the_schema_does_not_take_is_refused(kind: str, spec: Any, said: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(said)):
        policy(kind, **spec)


def protocols(*items: Any) -> dict[str, Any]:
    return {"ingress": rule(protocols=list(items))}


def port(**given: Any) -> dict[str, Any]:
    return {"tcp": {"destinationPort": given}}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"tier": "Network"}, "spec.tier: is 'Network'; it must be Admin or Baseline"),
        ({"tier": None}, "spec.tier: is absent"),
        ({"priority": None}, "spec.priority: is absent; it must be a number in 0-1000"),
        ({"priority": 1_001}, "spec.priority: is 1001"),
        ({"priority": -1}, "spec.priority: is -1"),
        ({"priority": "1"}, "spec.priority: is '1'"),
        ({"priority": True}, "spec.priority: is True"),
        ({"ingress": rule(action="Allow")}, "it must be Accept, Deny or Pass"),
        ({"ingress": rule(ports=[])}, "spec.ingress[0].ports: unknown field"),
        (protocols(), "spec.ingress[0].protocols: has 0 items"),
        (protocols({}), "spec.ingress[0].protocols[0]: is {}; it must have exactly one of"),
        (protocols({"tcp": {}, "udp": {}}), "exactly one of tcp, udp, sctp"),
        (protocols({"tcp": {}}), "protocols[0].tcp: is {}; it must have exactly one of dest"),
        (protocols({"icmp": {}}), "protocols[0].icmp: unknown field"),
        (protocols(port()), "destinationPort: is {}; it must have exactly one of number, range"),
        (protocols(port(number=0)), "destinationPort.number: is 0; it must be a number in 1-65535"),
        (protocols(port(range={"start": 5})), "range.end: is absent"),
        (protocols(port(range={"start": 5, "end": 5})), "range.end: is 5; it must be above start"),
        (protocols(port(range={"start": 5, "end": 65536})), "range.end: is 65536"),
        (protocols({"destinationNamedPort": "No Name"}), "is 'No Name'"),
        (
            {"egress": out({"domainNames": ["example.org"]})},
            "spec.egress[0].to[0]: is 'domainNames'; domainNames stand in Accept rules alone",
        ),
        (
            {"egress": out({"domainNames": ["org"]}, action="Accept")},
            "to[0].domainNames[0]: is 'org'; it must be a domain name",
        ),
        ({"egress": out({"domainNames": ["a.*.org"]}, action="Accept")}, "is 'a.*.org'"),
        (
            {
                "egress": out(
                    {"namespaces": {}},
                    {"nodes": {}},
                    action="Accept",
                    protocols=[{"destinationNamedPort": "dns"}],
                )
            },
            "is 'dns'; what spec.egress[0].to[1].nodes names has no named ports",
        ),
    ],
)
def test_what_a_cluster_network_policy_does_not_take_is_refused(spec: Any, said: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(said)):
        policy("ClusterNetworkPolicy", **spec)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"tier": "Admin"}, "spec.tier: unknown field"),
        ({"priority": 1_001}, "spec.priority: is 1001"),
        ({"ingress": rule(action="Accept")}, "it must be Allow, Deny or Pass"),
        ({"ingress": rule(protocols=[])}, "spec.ingress[0].protocols: unknown field"),
        ({"ingress": rule(ports=[])}, "spec.ingress[0].ports: has 0 items"),
        ({"ingress": rule(ports=[{}])}, "ports[0]: is {}; it must have exactly one of"),
        ({"ingress": rule(ports=[{"portNumber": {}}])}, "portNumber.port: is absent"),
        (
            {"ingress": rule(ports=[{"portNumber": {"port": 1, "protocol": "ICMP"}}])},
            "portNumber.protocol: is 'ICMP'; it must be TCP, UDP or SCTP",
        ),
        (
            {"ingress": rule(ports=[{"portRange": {"start": 9, "end": 8}}])},
            "ports[0].portRange.end: is 8; it must be above start (9)",
        ),
        ({"ingress": rule(ports=[{"namedPort": 80}])}, "ports[0].namedPort: is 80"),
        ({"egress": out({"domainNames": ["example.org"]})}, "to[0].domainNames: unknown field"),
    ],
)
def test_what_an_admin_network_policy_does_not_take_is_refused(spec: Any, said: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(said)):
        policy("AdminNetworkPolicy", **spec)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"priority": 1}, "spec.priority: unknown field"),
        ({"ingress": rule(action="Pass")}, "it must be Allow or Deny"),
    ],
)
def test_what_the_baseline_policy_does_not_take_is_refused(spec: Any, said: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(said)):
        policy("BaselineAdminNetworkPolicy", **spec)


def test_the_baseline_policy_has_one_name() -> None:
    with pytest.raises(PolicyError, match=r"metadata\.name: is 'other'; the one .* 'default'"):
        read_object(document("BaselineAdminNetworkPolicy", "other"))


@KINDS
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("metadata", {"name": "default", "namespace": "shop"}, "this kind is cluster-wide; leave"),
        ("metadata", {}, "metadata.name: is absent"),
        ("metadata", {"name": "No"}, "metadata.name: is 'No'"),
        ("apiVersion", "policy.networking.k8s.io/v1", "is read in policy.networking.k8s.io/v1a"),
        ("spec", None, "spec: is absent"),
        ("data", {}, "data: unknown field"),
    ],
)
def test_a_wrong_frame_is_refused(kind: str, field: str, value: Any, said: str) -> None:
    wrong = copy.deepcopy(document(kind)) | {field: value}
    with pytest.raises(PolicyError, match=re.escape(said)):
        read_object(wrong)


@KINDS
def test_a_key_that_the_label_filter_keeps_out_is_refused_where_it_stands(kind: str) -> None:
    label_filter = LabelFilter(exclude=("tmp",))
    subject = {"pods": {"podSelector": {"matchLabels": {"tmp": "1"}}}}
    with pytest.raises(PolicyError, match=r"spec\.subject\.pods: selects by pod label 'tmp'"):
        check_keys(read_object(document(kind, subject=subject)), label_filter)
    peer = {"namespaces": {"matchLabels": {"tmp": "1"}}}
    check_keys(read_object(document(kind, ingress=rule(**{"from": [peer]}))), label_filter)
    pods = {"pods": {"podSelector": {"matchLabels": {"tmp": "1"}}}}
    with pytest.raises(PolicyError, match=r"spec\.ingress\[0\]\.from\[0\]: selects by pod label"):
        check_keys(read_object(document(kind, ingress=rule(**{"from": [pods]}))), label_filter)
    # Nodes have their labels in the ledger, not in identities.
    nodes = {"nodes": {"matchLabels": {"tmp": "1"}}}
    check_keys(read_object(document(kind, egress=out(nodes))), label_filter)

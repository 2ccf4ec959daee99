"""What is wrong in a Cilium policy, or not enforced, is refused by its field."""

from typing import Any

import pytest

from tabard.policy.cilium import CLUSTERWIDE, NAMESPACED
from tabard.policy.model import NotEnforced, PolicyError
from tabard.policy.reading import read_object


def refusal(kind: str = NAMESPACED, **spec: Any) -> PolicyError:
    metadata = {"name": "p"} | ({"namespace": "shop"} if kind == NAMESPACED else {})
    written = {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}
    with pytest.raises(PolicyError) as error:
        read_object(written)
    return error.value


def of_rule(section: str, **given: Any) -> PolicyError:
    return refusal(endpointSelector={}, **{section: [given]})


def of_port(**given: Any) -> PolicyError:
    return of_rule("egress", toPorts=[{"ports": [given]}])


HTTP = {"http": [{"method": "GET"}]}
PORT = [{"port": "80", "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("section", "given", "path"),
    [
        ("ingress", {"toPorts": [{"ports": PORT, "rules": HTTP}]}, "toPorts[0].rules.http"),
        (
            "egress",
            {"toPorts": [{"ports": PORT, "rules": {"kafka": []}}]},
            "toPorts[0].rules.kafka",
        ),
        (
            "egress",
            {"toPorts": [{"ports": PORT, "rules": {"l7proto": "x"}}]},
            "toPorts[0].rules.l7proto",
        ),
        ("egress", {"toPorts": [{"ports": PORT, "rules": {"l7": []}}]}, "toPorts[0].rules.l7"),
        (
            "egress",
            {"toPorts": [{"ports": PORT, "terminatingTLS": {}}]},
            "toPorts[0].terminatingTLS",
        ),
        (
            "egress",
            {"toPorts": [{"ports": PORT, "originatingTLS": {}}]},
            "toPorts[0].originatingTLS",
        ),
        (
            "egress",
            {"toPorts": [{"ports": PORT, "serverNames": ["a.b"]}]},
            "toPorts[0].serverNames",
        ),
        ("egress", {"toPorts": [{"ports": PORT, "listener": {}}]}, "toPorts[0].listener"),
        ("ingress", {"fromGroups": [{}]}, "fromGroups"),
        ("egress", {"toGroups": [{"aws": {}}]}, "toGroups"),
        ("ingress", {"fromRequires": [{}]}, "fromRequires"),
        ("egress", {"toRequires": [{}]}, "toRequires"),
        ("ingressDeny", {"fromRequires": [{}]}, "fromRequires"),
        ("ingress", {"authentication": {"mode": "required"}}, "authentication"),
    ],
)
def test_what_is_not_enforced_is_refused_by_its_field(
    section: str, given: dict[str, Any], path: str
) -> None:
    error = of_rule(section, **given)
    assert isinstance(error, NotEnforced)
    assert error.path == f"spec.{section}[0].{path}"
    assert error.reason.startswith("Tabard does not enforce it; ")


def test_a_text_for_flow_logs_and_lookups_of_nodes_are_not_enforced() -> None:
    assert refusal(endpointSelector={}, log={"value": "x"}).path == "spec.log"
    dns = {"ports": [{"port": "53"}], "rules": {"dns": [{"matchPattern": "*"}]}}
    error = refusal(CLUSTERWIDE, nodeSelector={}, egress=[{"toPorts": [dns]}])
    assert isinstance(error, NotEnforced)
    assert error.path == "spec.egress[0].toPorts[0].rules.dns"


@pytest.mark.parametrize(
    ("section", "given", "path", "reason"),
    [
        (
            "egress",
            {"toEndpoints": [{}], "toCIDR": ["10.0.0.0/8"]},
            "toCIDR",
            "combining toEndpoints and toCIDR is not supported",
        ),
        (
            "egress",
            {"toCIDR": ["10.0.0.0/8"], "toCIDRSet": [{"cidr": "11.0.0.0/8"}]},
            "toCIDRSet",
            "combining toCIDR and toCIDRSet",
        ),
        (
            "egress",
            {"toEntities": ["world"], "toFQDNs": [{"matchName": "a.b"}]},
            "toFQDNs",
            "combining toEntities and toFQDNs",
        ),
        (
            "ingressDeny",
            {"fromEntities": ["world"], "fromNodes": [{}]},
            "fromNodes",
            "combining fromEntities and fromNodes",
        ),
        (
            "egress",
            {"toServices": [{"k8sService": {"serviceName": "x"}}], "toPorts": [{"ports": PORT}]},
            "toPorts",
            "combining toServices and toPorts",
        ),
        (
            "ingress",
            {"toPorts": [{"ports": PORT}], "icmps": [{"fields": [{"type": 8}]}]},
            "icmps",
            "may only be present without toPorts",
        ),
        ("ingress", {"fromEntities": ["trololo"]}, "fromEntities[0]", "is 'trololo'; unsupported"),
        ("ingress", {"fromEntities": "world"}, "fromEntities", "it must be a list"),
        ("ingress", {"fromEndpoints": [None]}, "fromEndpoints[0]", "it must be a mapping"),
        ("ingress", {"toEndpoints": [{}]}, "toEndpoints", "unknown field; did you mean"),
        ("egressDeny", {"toFQDNs": [{"matchName": "a.b"}]}, "toFQDNs", "unknown field"),
        ("egressDeny", {"authentication": {"mode": "disabled"}}, "authentication", "unknown field"),
        (
            "ingressDeny",
            {"toPorts": [{"ports": PORT, "rules": HTTP}]},
            "toPorts[0].rules",
            "unknown",
        ),
        ("ingress", {"fromCIDR": ["10.0.0.1"]}, "fromCIDR[0]", "is '10.0.0.1'; it must be a CIDR"),
        ("ingress", {"fromCIDR": ["10.0.0.0/33"]}, "fromCIDR[0]", "it must be a CIDR"),
        ("ingress", {"fromCIDR": ["::ffff:10.0.0.0/104"]}, "fromCIDR[0]", "it must be a CIDR"),
        ("ingress", {"fromCIDR": ["::ffff:a00:0/104"]}, "fromCIDR[0]", "are written as IPv4"),
        ("ingress", {"fromCIDR": ["fe80::1%eth0/64"]}, "fromCIDR[0]", "it must be a CIDR"),
        ("ingress", {"fromCIDR": [10]}, "fromCIDR[0]", "it must be a string"),
        ("ingress", {"fromCIDRSet": [{}]}, "fromCIDRSet[0]", "one of cidr, cidrGroupRef"),
        (
            "ingress",
            {"fromCIDRSet": [{"cidr": "10.0.0.0/8", "cidrGroupRef": "x"}]},
            "fromCIDRSet[0]",
            "no two",
        ),
        (
            "ingress",
            {"fromCIDRSet": [{"cidr": "10.0.0.0/16", "except": ["10.0.0.0/8"]}]},
            "fromCIDRSet[0].except[0]",
            "it must lie inside cidr 10.0.0.0/16",
        ),
        (
            "ingress",
            {"fromCIDRSet": [{"cidr": "10.0.0.0/16", "except": ["fd00::/8"]}]},
            "fromCIDRSet[0].except[0]",
            "it must lie inside",
        ),
        (
            "ingress",
            {"fromCIDRSet": [{"cidrGroupRef": "A B"}]},
            "fromCIDRSet[0].cidrGroupRef",
            "name",
        ),
        ("egress", {"toFQDNs": [{}]}, "toFQDNs[0]", "a matchName or a matchPattern"),
        (
            "egress",
            {"toFQDNs": [{"matchName": "a.b", "matchPattern": "*"}]},
            "toFQDNs[0]",
            "only one of matchName and matchPattern",
        ),
        ("egress", {"toFQDNs": [{"matchName": "*.b"}]}, "toFQDNs[0].matchName", "a domain name"),
        (
            "egress",
            {"toFQDNs": [{"matchName": "a" * 256}]},
            "toFQDNs[0].matchName",
            "a domain name",
        ),
        # Trying every way to match this would take years.
        ("egress", {"toFQDNs": [{"matchName": "a" * 254 + "!"}]}, "toFQDNs[0].matchName", "a dom"),
        ("egress", {"toFQDNs": [{"matchPattern": "a..b"}]}, "toFQDNs[0].matchPattern", "a domain"),
        ("egress", {"toServices": [{}]}, "toServices[0]", "a k8sService or a k8sServiceSelector"),
        (
            "egress",
            {"toServices": [{"k8sService": {}}]},
            "toServices[0].k8sService.serviceName",
            "is absent",
        ),
        (
            "egress",
            {"toServices": [{"k8sServiceSelector": {}}]},
            "toServices[0].k8sServiceSelector.selector",
            "a label selector",
        ),
        (
            "ingress",
            {"fromEndpoints": [{"matchExpressions": [{"key": "a", "operator": "in"}]}]},
            "fromEndpoints[0].matchExpressions[0].operator",
            "is 'in'; it must be In, NotIn",
        ),
        (
            "ingress",
            {"fromEndpoints": [{"matchLabels": {"a b": "c"}}]},
            "fromEndpoints[0].matchLabels['a b']",
            "a label key is",
        ),
        (
            "ingress",
            {"fromEndpoints": [{"matchLabels": {"K8S:a": "c"}}]},
            "fromEndpoints[0].matchLabels['K8S:a']",
            "a label's source, such as k8s",
        ),
        (
            "ingress",
            {"fromEndpoints": [{"matchLabels": {"a": "-b"}}]},
            "fromEndpoints[0].matchLabels['a']",
            "a label value is",
        ),
        (
            "ingress",
            {"fromEndpoints": [{"matchLabels": {"cidr:10.0.0.0/8": ""}}]},
            "fromEndpoints[0].matchLabels['cidr:10.0.0.0/8']",
            "name CIDRs in fromCIDR or toCIDR",
        ),
        (
            "ingress",
            {"fromEndpoints": [{"matchLabels": {"port:http": "80"}}]},
            "fromEndpoints[0].matchLabels['port:http']",
            "name ports in toPorts",
        ),
        (
            "ingress",
            {"fromNodes": [{"matchLabels": {"reserved:host": ""}}]},
            "fromNodes[0].matchLabels['reserved:host']",
            "nodes have labels of their own only",
        ),
        ("ingress", {"icmps": [{}]}, "icmps[0].fields", "it must name a type"),
        ("ingress", {"icmps": [{"fields": [{"type": 256}]}]}, "icmps[0].fields[0].type", "0-255"),
        ("ingress", {"icmps": [{"fields": [{"type": True}]}]}, "icmps[0].fields[0].type", "0-255"),
        ("ingress", {"icmps": [{"fields": [{}]}]}, "icmps[0].fields[0].type", "is absent"),
        (
            "ingress",
            {"icmps": [{"fields": [{"type": "PacketTooBig"}]}]},
            "icmps[0].fields[0].type",
            "is 'PacketTooBig'; it must be a number in 0-255, or one of EchoReply",
        ),
        (
            "ingress",
            {"icmps": [{"fields": [{"type": 1, "family": "v4"}]}]},
            "icmps[0].fields[0].family",
            "IPv4",
        ),
        ("ingress", {"toPorts": [{}]}, "toPorts[0].ports", "for every port leave toPorts out"),
        (
            "ingress",
            {"toPorts": [{"ports": [{"port": "53"}], "rules": {"dns": [{"matchName": "a.b"}]}}]},
            "toPorts[0].rules.dns",
            "DNS rules are not allowed on ingress",
        ),
        (
            "egress",
            {"toPorts": [{"ports": [{"port": "53"}], "rules": {"dns": []}}]},
            "toPorts[0].rules.dns",
            "it must have a name",
        ),
        (
            "egress",
            {"toPorts": [{"rules": {"dns": [{"matchName": "a.b"}]}}]},
            "toPorts[0].ports",
            "DNS rules port 53",
        ),
        (
            "ingress",
            {"authentication": {"mode": "x"}},
            "authentication.mode",
            "it must be disabled",
        ),
    ],
)
def test_a_rules_mistake_is_named_by_path_value_and_reason(
    section: str, given: dict[str, Any], path: str, reason: str
) -> None:
    error = of_rule(section, **given)
    assert not isinstance(error, NotEnforced)
    assert error.path == f"spec.{section}[0].{path}"
    assert reason in error.reason


@pytest.mark.parametrize(
    ("port", "field", "reason"),
    [
        ({}, "port", "is absent; it must be a number in quotes"),
        ({"port": 80}, "port", "is 80; it must be a number in quotes"),
        ({"port": "65536"}, "port", "0-65535 without leading zeros"),
        ({"port": "080"}, "port", "without leading zeros"),
        ({"port": "a_b"}, "port", "or a port's name"),
        ({"port": "a-name-that-is-long"}, "port", "at most 15 letters"),
        ({"port": "80", "endPort": 79}, "endPort", "is 79; it must not be below port (80)"),
        ({"port": "80", "endPort": 65_536}, "endPort", "0-65535"),
        ({"port": "80", "endPort": "90"}, "endPort", "0-65535"),
        ({"port": "http", "endPort": 90}, "endPort", "endPort needs a port that is a number"),
        ({"port": "80", "protocol": "tcp"}, "protocol", "is 'tcp'; it must be TCP"),
        ({"port": "80", "protocol": 6}, "protocol", "it must be TCP"),
        ({"port": "256", "protocol": "ICMP"}, "port", "is '256'; for ICMP it is a type in 0-255"),
        ({"port": "echo", "protocol": "ICMPV6"}, "port", "a type in 0-255; write icmps"),
        ({"port": "80", "nodePort": 6}, "nodePort", "unknown field"),
    ],
)
def test_a_ports_mistake_is_named(port: dict[str, Any], field: str, reason: str) -> None:
    error = of_port(**port)
    assert error.path == f"spec.egress[0].toPorts[0].ports[0].{field}"
    assert reason in error.reason


@pytest.mark.parametrize(
    ("port", "field"),
    [
        ({"port": "0"}, "port"),
        ({"port": "53", "endPort": 54}, "endPort"),
        ({"port": "53", "protocol": "SCTP"}, "protocol"),
    ],
)
def test_dns_is_asked_on_one_port_over_udp_and_tcp(port: dict[str, Any], field: str) -> None:
    rules = {"dns": [{"matchPattern": "*"}]}
    error = of_rule("egress", toPorts=[{"ports": [port], "rules": rules}])
    assert error.path == f"spec.egress[0].toPorts[0].ports[0].{field}"
    assert "DNS" in error.reason


def test_lookups_over_tcp_alone_are_not_taken_for_every_port() -> None:
    rules, tcp = {"dns": [{"matchPattern": "*"}]}, {"port": "53", "protocol": "TCP"}
    error = of_rule("egress", toPorts=[{"ports": [tcp], "rules": rules}])
    assert isinstance(error, NotEnforced)
    assert error.path == "spec.egress[0].toPorts[0].rules.dns"


def test_forty_ports_and_types_are_taken_and_not_one_more() -> None:
    ports = [{"port": str(number), "protocol": "TCP"} for number in range(1, 42)]
    fields = [{"type": number} for number in range(41)]
    error = of_rule("ingress", toPorts=[{"ports": ports}])
    assert str(error).startswith("spec.ingress[0].toPorts[0].ports: is 41; at most 40")
    error = of_rule("ingress", icmps=[{"fields": fields}])
    assert str(error).startswith("spec.ingress[0].icmps[0].fields: is 41; at most 40")
    written = {"endpointSelector": {}, "ingress": [{"toPorts": [{"ports": ports[:40]}]}]}
    read_object(
        {
            "apiVersion": "cilium.io/v2",
            "kind": CLUSTERWIDE,
            "metadata": {"name": "p"},
            "specs": [written, {**written, "ingress": [{"icmps": [{"fields": fields[:40]}]}]}],
        }
    )


@pytest.mark.parametrize(
    ("kind", "spec", "path", "reason"),
    [
        (NAMESPACED, {}, "spec.endpointSelector", "one of endpointSelector and nodeSelector"),
        (
            CLUSTERWIDE,
            {"endpointSelector": {}, "nodeSelector": {}},
            "spec.nodeSelector",
            "one of endpointSelector and nodeSelector",
        ),
        (NAMESPACED, {"nodeSelector": {}}, "spec.nodeSelector", f"make it a {CLUSTERWIDE}"),
        (
            NAMESPACED,
            {"endpointSelector": {"matchLabels": {"io.kubernetes.pod.namespace": "data"}}},
            "spec.endpointSelector",
            "is 'data'; a policy selects pods of its own namespace (shop) alone",
        ),
        (
            NAMESPACED,
            {"endpointSelector": {}, "ingres": []},
            "spec.ingres",
            "did you mean 'ingress'",
        ),
        (NAMESPACED, {"endpointSelector": {}, "ingress": {}}, "spec.ingress", "must be a list"),
        (
            NAMESPACED,
            {"endpointSelector": {}, "enableDefaultDeny": {"ingress": "no"}},
            "spec.enableDefaultDeny.ingress",
            "true or false",
        ),
        (
            NAMESPACED,
            {"endpointSelector": {}, "enableDefaultDeny": {"inbound": False}},
            "spec.enableDefaultDeny.inbound",
            "unknown field",
        ),
        (NAMESPACED, {"endpointSelector": {}, "description": 1}, "spec.description", "a string"),
        (NAMESPACED, {"endpointSelector": {}, "labels": ["a=b"]}, "spec.labels[0]", "a mapping"),
        (NAMESPACED, {"endpointSelector": {}, "labels": [{}]}, "spec.labels[0].key", "a string"),
    ],
)
def test_a_policys_mistake_is_named(
    kind: str, spec: dict[str, Any], path: str, reason: str
) -> None:
    error = refusal(kind, **spec)
    assert error.path == path
    assert reason in error.reason


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"spec": None}, "spec"),
        ({"metadata": {}}, "metadata.name"),
        ({"metadata": {"name": "p", "namespace": "shop"}}, "metadata.namespace"),
        ({"metadata": {"name": "P"}}, "metadata.name"),
        ({"apiVersion": "cilium.io/v1"}, "apiVersion"),
        ({"rules": []}, "rules"),
        ({"specs": [{}]}, "specs[0].endpointSelector"),
    ],
)
def test_an_objects_mistake_is_named(change: dict[str, Any], path: str) -> None:
    written = {
        "apiVersion": "cilium.io/v2",
        "kind": CLUSTERWIDE,
        "metadata": {"name": "p"},
        "spec": {"endpointSelector": {}},
    }
    read_object(written)
    with pytest.raises(PolicyError) as error:
        read_object(written | change)
    assert error.value.path == path

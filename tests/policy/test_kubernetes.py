import copy
import datetime
from typing import Any

import pytest

from tabard.dataplane.maps import Direction, Protocol
from tabard.identity.labels import NAMESPACE_KEY, LabelFilter
from tabard.policy import reading
from tabard.policy.model import ALL_PORTS, Cidr, Policy, PolicyError, Port, Requirement, Selector
from tabard.policy.reading import check_keys, read_object
from world import network_policy

IN_DEFAULT = Requirement(NAMESPACE_KEY, "In", frozenset({"default"}))
BOTH = frozenset(Direction)


def read_policy(document: Any, origin: str = "") -> Policy:
    (policy,) = read_object(document, origin).policies
    return policy


def ingress(*rules: Any, **spec: Any) -> dict[str, Any]:
    return network_policy("p", ingress=list(rules), **spec)


def peers_of(*items: Any) -> Any:
    return read_policy(ingress({"from": list(items)})).rules[0].peers


def ports_of(*items: Any) -> Any:
    return read_policy(ingress({"ports": list(items)})).rules[0].ports


def test_the_example_of_the_documentation_is_read_whole() -> None:
    policy = read_policy(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "test-network-policy", "namespace": "default"},
            "spec": {
                "podSelector": {"matchLabels": {"role": "db"}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {
                        "from": [
                            {"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}},
                            {"namespaceSelector": {"matchLabels": {"project": "myproject"}}},
                            {"podSelector": {"matchLabels": {"role": "frontend"}}},
                        ],
                        "ports": [{"protocol": "TCP", "port": 6379}],
                    }
                ],
                "egress": [
                    {
                        "to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}],
                        "ports": [{"protocol": "TCP", "port": 5978}],
                    }
                ],
            },
        },
        "db.yaml:1",
    )
    role = "In", frozenset({"db"})
    assert policy.key == ("NetworkPolicy", "default", "test-network-policy")
    assert policy.origin == "db.yaml:1"
    assert policy.subject == Selector((IN_DEFAULT, Requirement("role", *role)))
    assert policy.isolates == BOTH
    taken, given = policy.rules
    assert taken.path == "spec.ingress[0]"
    assert taken.peers == (
        Cidr("172.17.0.0/16", ("172.17.1.0/24",)),
        Selector(
            (
                Requirement(NAMESPACE_KEY, "Exists"),
                Requirement(
                    "io.cilium.k8s.namespace.labels.project", "In", frozenset({"myproject"})
                ),
            )
        ),
        Selector((IN_DEFAULT, Requirement("role", "In", frozenset({"frontend"})))),
    )
    assert taken.ports == (Port(Protocol.TCP, 6379, 6379),)
    assert (given.direction, given.path) == (Direction.EGRESS, "spec.egress[0]")
    assert policy.cidrs() == {"172.17.0.0/16", "172.17.1.0/24", "10.0.0.0/24"}


def test_both_selectors_in_one_peer_are_anded_and_in_two_are_ored() -> None:
    namespace = {"namespaceSelector": {"matchLabels": {"ns": "x"}}}
    pod = {"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}
    (both,) = peers_of({**namespace, **pod})
    assert [need.key for need in both.requirements] == [
        NAMESPACE_KEY,
        "io.cilium.k8s.namespace.labels.ns",
        "app",
    ]
    assert len(peers_of(namespace, pod)) == 2


def test_a_selector_of_all_namespaces_asks_only_for_a_namespace() -> None:
    assert peers_of({"namespaceSelector": {}}) == (
        Selector((Requirement(NAMESPACE_KEY, "Exists"),)),
    )


@pytest.mark.parametrize("rule", [{}, {"from": []}, {"from": None, "ports": []}])
def test_a_rule_without_peers_and_ports_is_for_all(rule: dict[str, Any]) -> None:
    (read,) = read_policy(ingress(rule)).rules
    assert (read.peers, read.ports) == (None, ALL_PORTS)


@pytest.mark.parametrize("ingress", [None, []])
def test_absent_and_empty_ingress_allow_nothing(ingress: Any) -> None:
    policy = read_policy(network_policy("p", ingress=ingress))
    assert (policy.rules, policy.isolates) == ((), {Direction.INGRESS})


@pytest.mark.parametrize(
    ("spec", "isolates"),
    [
        ({}, {Direction.INGRESS}),
        ({"policyTypes": []}, {Direction.INGRESS}),
        ({"egress": []}, {Direction.INGRESS}),
        ({"egress": [{}]}, BOTH),
        ({"policyTypes": ["Egress"]}, {Direction.EGRESS}),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, {Direction.INGRESS}),
        ({"policyTypes": ["Egress", "Ingress"]}, BOTH),
    ],
)
def test_policy_types_default_as_upstream(spec: Any, isolates: Any) -> None:
    assert read_policy(network_policy("p", **spec)).isolates == isolates


def test_rules_of_a_direction_that_is_not_isolated_have_no_effect() -> None:
    policy = read_policy(network_policy("p", policyTypes=["Ingress"], egress=[{}]))
    assert policy.rules == ()


def test_ports_are_read_with_their_defaults() -> None:
    assert ports_of(
        {},
        {"port": 80},
        {"port": "http", "protocol": "UDP"},
        {"port": 1, "endPort": 65_535, "protocol": "SCTP"},
    ) == (
        Port(Protocol.TCP),
        Port(Protocol.TCP, 80, 80),
        Port(Protocol.UDP, name="http"),
        Port(Protocol.SCTP, 1, 65_535),
    )


def test_cidrs_become_canonical() -> None:
    assert peers_of(
        {
            "ipBlock": {
                "cidr": "10.1.2.3/8",
                "except": ["10.9.9.9/16", "10.1.0.0/16", "10.9.0.0/16"],
            }
        },
        {"ipBlock": {"cidr": "FD00:0::1/8"}},
    ) == (Cidr("10.0.0.0/8", ("10.1.0.0/16", "10.9.0.0/16")), Cidr("fd00::/8"))


def test_absent_parts_stand_for_their_defaults() -> None:
    policy = read_policy(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "p", "annotations": {"any": "thing"}, "uid": "u"},
        }
    )
    assert policy.namespace == "default"
    assert policy.subject == Selector((IN_DEFAULT,))
    assert policy.isolates == {Direction.INGRESS}


def test_null_match_labels_count_as_absent() -> None:
    policy = read_policy(network_policy("p", podSelector={"matchLabels": None}))
    assert policy.subject == Selector((IN_DEFAULT,))


def test_a_document_that_msgpack_cannot_hold_is_read_all_the_same() -> None:
    document = network_policy("p")
    document["metadata"]["creationTimestamp"] = datetime.datetime(2024, 1, 1)
    assert read_policy(document).name == "p"


def test_equal_documents_are_read_once() -> None:
    reading._read_packed.cache_clear()
    document = network_policy("p")
    assert read_policy(document) is read_policy(copy.deepcopy(document))
    assert reading._read_packed.cache_info().maxsize == reading.READ_CACHE_MAX


def rule_with(**peer: Any) -> dict[str, Any]:
    return network_policy("p", ingress=[{}, {"from": [{"podSelector": {}}, peer]}])


def selecting(*expressions: Any, **labels: Any) -> dict[str, Any]:
    return network_policy(
        "p", podSelector={"matchLabels": labels, "matchExpressions": list(expressions)}
    )


def with_port(**port: Any) -> dict[str, Any]:
    return network_policy("p", egress=[{"ports": [{"port": 80}, port]}])


def without(document: dict[str, Any], *path: str) -> dict[str, Any]:
    *above, name = path
    for part in above:
        document = document[part]
    del document[name]
    return document


PEER = "spec.ingress[1].from[1]"
PORT = "spec.egress[0].ports[1]"
REFUSED = {
    "list": ([], "(document)", "mapping"),
    "v1beta1": (
        {**network_policy("p"), "apiVersion": "extensions/v1beta1"},
        "apiVersion",
        "networking.k8s.io/v1",
    ),
    "kind": ({**network_policy("p"), "kind": "Pod"}, "kind", "NetworkPolicy"),
    "unknown top": ({**network_policy("p"), "data": 1}, "data", "unknown field"),
    "no name": (
        {**network_policy("p"), "metadata": {}},
        "metadata.name",
        "is absent; it must be a string",
    ),
    "bad name": (network_policy("P_1"), "metadata.name", "RFC 1123"),
    "bad namespace": (network_policy("p", "a.b"), "metadata.namespace", "RFC 1123"),
    "unknown metadata": (
        {**network_policy("p"), "metadata": {"name": "p", "label": {}}},
        "metadata.label",
        "did you mean 'labels'?",
    ),
    "spec": ({**network_policy("p"), "spec": [1]}, "spec", "mapping"),
    "typo": (network_policy("p", ingres=[]), "spec.ingres", "did you mean 'ingress'?"),
    "policy type": (
        network_policy("p", policyTypes=["Ingress", "ingress"]),
        "spec.policyTypes[1]",
        "Ingress or Egress",
    ),
    "ingress map": (network_policy("p", ingress={}), "spec.ingress", "list"),
    "null rule": (network_policy("p", ingress=[None]), "spec.ingress[0]", "mapping"),
    "to in ingress": (
        network_policy("p", ingress=[{"to": []}]),
        "spec.ingress[0].to",
        "unknown field",
    ),
    "from map": (
        network_policy("p", ingress=[{"from": {"podSelector": {}}}]),
        "spec.ingress[0].from",
        "list",
    ),
    "empty peer": (rule_with(), PEER, "podSelector"),
    "null peer": (rule_with(podSelector=None), PEER, "podSelector"),
    "ipBlock and selector": (
        rule_with(ipBlock={"cidr": "10.0.0.0/8"}, podSelector={}),
        PEER,
        "stands alone",
    ),
    "no cidr": (rule_with(ipBlock={}), f"{PEER}.ipBlock.cidr", "is absent"),
    "cidr without length": (
        rule_with(ipBlock={"cidr": "10.0.0.1"}),
        f"{PEER}.ipBlock.cidr",
        "such as 10.0.0.0/8",
    ),
    "cidr too long": (
        rule_with(ipBlock={"cidr": "10.0.0.0/33"}),
        f"{PEER}.ipBlock.cidr",
        "'10.0.0.0/33'",
    ),
    "cidr netmask": (
        rule_with(ipBlock={"cidr": "10.0.0.0/255.0.0.0"}),
        f"{PEER}.ipBlock.cidr",
        "such as",
    ),
    "cidr mapped": (
        rule_with(ipBlock={"cidr": "::ffff:10.0.0.0/104"}),
        f"{PEER}.ipBlock.cidr",
        "written as IPv4",
    ),
    "except outside": (
        rule_with(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16"]}),
        f"{PEER}.ipBlock.except[1]",
        "inside cidr 10.0.0.0/8",
    ),
    "except of another family": (
        rule_with(ipBlock={"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}),
        f"{PEER}.ipBlock.except[0]",
        "inside",
    ),
    "except of all": (
        rule_with(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}),
        f"{PEER}.ipBlock.except[0]",
        "smaller",
    ),
    "protocol": (with_port(protocol="tcp"), f"{PORT}.protocol", "TCP, UDP or SCTP"),
    "port 0": (with_port(port=0), f"{PORT}.port", "1-65535"),
    "port 65536": (with_port(port=65_536), f"{PORT}.port", "is 65536"),
    "port bool": (with_port(port=True), f"{PORT}.port", "1-65535"),
    "port in quotes": (with_port(port="80"), f"{PORT}.port", "without quotes"),
    "port name": (with_port(port="a--b"), f"{PORT}.port", "name of a containerPort"),
    "long port name": (with_port(port="a" * 16), f"{PORT}.port", "at most 15"),
    "endPort below": (with_port(port=80, endPort=79), f"{PORT}.endPort", "below port (80)"),
    "endPort too high": (with_port(port=80, endPort=65_536), f"{PORT}.endPort", "1-65535"),
    "endPort alone": (with_port(endPort=80), f"{PORT}.endPort", "needs a port"),
    "endPort and name": (with_port(port="web", endPort=80), f"{PORT}.endPort", "is a number"),
    "label key": (selecting(**{"-a": "b"}), "spec.podSelector.matchLabels['-a']", "label key"),
    "label key prefix": (
        selecting(**{"A_/a": "b"}),
        "spec.podSelector.matchLabels['A_/a']",
        "DNS name",
    ),
    "label value": (selecting(a="-"), "spec.podSelector.matchLabels['a']", "label value"),
    "long label value": (selecting(a="b" * 64), "spec.podSelector.matchLabels['a']", "63"),
    "number as label": (selecting(a=1), "spec.podSelector.matchLabels['a']", "in quotes"),
    "derived key": (
        selecting(**{NAMESPACE_KEY: "x"}),
        f"spec.podSelector.matchLabels['{NAMESPACE_KEY}']",
        "use a namespaceSelector",
    ),
    "operator": (
        selecting({"key": "a", "operator": "in", "values": ["b"]}),
        "spec.podSelector.matchExpressions[0].operator",
        "In, NotIn, Exists or DoesNotExist",
    ),
    "In without values": (
        selecting({"key": "a", "operator": "In"}),
        "spec.podSelector.matchExpressions[0].values",
        "needs one value",
    ),
    "Exists with values": (
        selecting({"key": "a", "operator": "Exists", "values": ["b"]}),
        "spec.podSelector.matchExpressions[0].values",
        "takes no values",
    ),
    "value in expression": (
        selecting({"key": "a", "operator": "In", "values": ["b", "?"]}),
        "spec.podSelector.matchExpressions[0].values[1]",
        "label value",
    ),
    "no key": (
        selecting({"operator": "Exists"}),
        "spec.podSelector.matchExpressions[0].key",
        "is absent",
    ),
}


@pytest.mark.parametrize(("document", "path", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_is_refused_by_its_path(document: Any, path: str, reason: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_policy(document)
    assert caught.value.path == path
    assert reason in str(caught.value)


def test_a_prefix_that_is_too_long_is_told_in_plain_words() -> None:
    with pytest.raises(PolicyError) as caught:
        read_policy(rule_with(ipBlock={"cidr": "10.0.0.0/33"}))
    assert caught.value.reason == (
        "is '10.0.0.0/33'; it must be a CIDR such as 10.0.0.0/8 or fd00::/8"
    )


def test_a_wrong_rule_of_a_direction_without_effect_is_refused_too() -> None:
    with pytest.raises(PolicyError, match=r"^spec\.egress\[0\]\.ports\[0\]\.port: is 0"):
        read_policy(network_policy("p", policyTypes=["Ingress"], egress=[{"ports": [{"port": 0}]}]))


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (selecting(**{"pod-template-hash": "1"}), "spec.podSelector"),
        (
            rule_with(podSelector={"matchLabels": {"controller-uid": "1"}}),
            "spec.ingress[1].from[1]",
        ),
        (
            network_policy(
                "p", egress=[{"to": [{"namespaceSelector": {"matchLabels": {"secret": "1"}}}]}]
            ),
            "spec.egress[0].to[0]",
        ),
    ],
)
def test_a_key_that_the_filter_keeps_out_is_refused(document: Any, path: str) -> None:
    label_filter = LabelFilter(exclude=[r"io\.cilium\.k8s\.namespace\.labels\.secret"])
    with pytest.raises(PolicyError, match="label filter") as caught:
        check_keys(read_object(document), label_filter)
    assert caught.value.path == path


def test_keys_that_the_filter_keeps_are_taken() -> None:
    document = network_policy(
        "p",
        podSelector={"matchLabels": {"app.kubernetes.io/name": "web"}},
        ingress=[
            {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "x"}}}]}
        ],
    )
    check_keys(read_object(document), LabelFilter())

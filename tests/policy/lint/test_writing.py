"""Lint rules TB105, TB106, TB3xx and TB4xx: ports, exposure, and words that say something else."""

import pytest

from linting import WEB_AND_DB, document, message, network_policy, told

WEB_IN = "{podSelector: {matchLabels: {app: web}}, ingress: [%s]}"
DB = "{podSelector: {matchLabels: {app: db}}}"


def web(rule: str) -> str:
    return WEB_AND_DB + network_policy(WEB_IN % rule)


def test_a_port_by_a_name_that_no_selected_pod_gives_is_told() -> None:
    text = web(f"{{from: [{DB}], ports: [{{port: htpp}}]}}")
    assert told(text) == [("TB105", "spec.ingress[0].ports[0]")]
    assert message(text, "TB105") == "none of x/web names a TCP port htpp; did you mean http?"


def test_a_port_by_name_in_an_egress_rule_is_held_against_the_peers() -> None:
    text = "{podSelector: {matchLabels: {app: web}}, egress: [{to: [%s], ports: [{port: %s}]}]}"
    assert told(WEB_AND_DB + network_policy(text % (DB, "pg"))) == []
    assert told(WEB_AND_DB + network_policy(text % (DB, "http"))) == [
        ("TB105", "spec.egress[0].ports[0]")
    ]


def test_a_port_that_no_selected_pod_declares_is_worth_a_look() -> None:
    assert told(web(f"{{from: [{DB}], ports: [{{port: 80}}]}}")) == [
        ("TB106", "spec.ingress[0].ports[0]")
    ]
    assert told(web(f"{{from: [{DB}], ports: [{{port: 8000, endPort: 8080}}]}}")) == []


@pytest.mark.parametrize(
    ("port", "expected"),
    [("8080", []), ("http", []), ("80", ["TB106"]), ("htpp", ["TB105"])],
)
def test_of_a_port_of_any_protocol_one_that_is_there_is_enough(
    port: str, expected: list[str]
) -> None:
    spec = (
        "{endpointSelector: {matchLabels: {app: web}}, ingress: [{fromEndpoints: [{}], "
        f"toPorts: [{{ports: [{{port: '{port}'}}]}}]}}]}}"
    )
    text = WEB_AND_DB + document("CiliumNetworkPolicy", "cilium.io/v2", "p", spec, "x")
    assert [rule for rule, _ in told(text)] == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("{}", [("TB301", "spec.ingress[0]")]),
        ("{ports: [{port: http}]}", [("TB302", "spec.ingress[0]")]),
        ("{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}", [("TB301", "spec.ingress[0].from[0]")]),
        ("{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}", []),
        ("{from: [{namespaceSelector: {}}]}", []),
    ],
)
def test_who_lets_the_world_in_is_told(rule: str, expected: list[tuple[str, str]]) -> None:
    assert told(web(rule)) == expected


def test_who_lets_the_world_in_by_an_entity_is_told() -> None:
    spec = "{endpointSelector: {matchLabels: {app: web}}, ingress: [{fromEntities: [world]}]}"
    text = WEB_AND_DB + document("CiliumNetworkPolicy", "cilium.io/v2", "p", spec, "x")
    assert told(text) == [("TB301", "spec.ingress[0].fromEntities[0]")]


def test_a_type_of_icmp_is_named_so() -> None:
    spec = (
        "{endpointSelector: {matchLabels: {app: web}}, "
        "egress: [{icmps: [{fields: [{type: 8, family: IPv4}]}]}]}"
    )
    text = WEB_AND_DB + document("CiliumNetworkPolicy", "cilium.io/v2", "ping", spec, "x")
    assert message(text, "TB303") == "may send to anyone on ICMP type 8"


def test_sending_to_the_world_is_worth_a_look() -> None:
    text = "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{}]}"
    assert told(WEB_AND_DB + network_policy(text)) == [("TB303", "spec.egress[0]")]


def test_pods_cut_off_by_rules_for_the_whole_namespace_are_told() -> None:
    wide = "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: none}}}]}]}"
    assert ("TB304", "spec.podSelector") in told(WEB_AND_DB + network_policy(wide))
    denial = network_policy("{podSelector: {}}", "deny")
    assert "TB304" not in dict(told(WEB_AND_DB + network_policy(wide) + denial)), "it is meant"
    own = "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"
    assert told(WEB_AND_DB + network_policy(own)) == [], "they may speak to each other"


def test_the_annotation_of_old_that_isolates_nothing_is_told() -> None:
    text = """\
    apiVersion: v1
    kind: Namespace
    metadata:
      name: x
      annotations: {net.beta.kubernetes.io/network-policy: '{"ingress": {}}'}
    """
    assert told(text) == [("TB401", "metadata.annotations")]


def test_a_selector_that_is_null_is_told_and_an_empty_one_is_not() -> None:
    null = "{podSelector: {matchLabels: null}, ingress: []}"
    assert told(WEB_AND_DB + network_policy(null)) == [("TB402", "spec.podSelector.matchLabels")]
    assert told(WEB_AND_DB + network_policy("{podSelector: {}, ingress: []}")) == []


def test_an_empty_list_of_peers_is_told_to_be_everyone_or_nobody() -> None:
    assert ("TB403", "spec.ingress[0].from") in told(web("{from: [], ports: [{port: http}]}"))
    spec = (
        "{endpointSelector: {matchLabels: {app: web}}, ingress: [{}], egress: [{toEndpoints: []}]}"
    )
    text = WEB_AND_DB + document("CiliumNetworkPolicy", "cilium.io/v2", "p", spec, "x")
    assert told(text) == [("TB403", "spec.egress[0].toEndpoints"), ("TB403", "spec.ingress[0]")]


def test_rules_of_a_direction_that_policy_types_leaves_out_are_told() -> None:
    spec = f"{{podSelector: {{}}, policyTypes: [Ingress], egress: [{{to: [{DB}]}}]}}"
    assert told(WEB_AND_DB + network_policy(spec)) == [("TB404", "spec.egress")]

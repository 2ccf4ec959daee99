"""Lint rules TB101 to TB108: selectors that match nothing, or less than they say."""

import pytest

from linting import WEB_AND_DB, document, findings, message, network_policy, told
from tabard.policy.lint.catalogue import RULES, Severity
from tabard.policy.lint.run import ignored

DB_FROM = "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [%s], ports: [{port: 5432}]}]}"


def with_peer(peer: str) -> str:
    return WEB_AND_DB + network_policy(DB_FROM % peer)


def test_a_policy_that_selects_no_pod_is_told_with_the_label_that_is_near() -> None:
    text = WEB_AND_DB + network_policy("{podSelector: {matchLabels: {app: webb}}, ingress: []}")
    assert told(text) == [("TB101", "spec.podSelector")]
    assert message(text, "TB101") == ("no pod in namespace x has app=webb; did you mean app=web?")


def test_a_policy_in_a_namespace_without_pods_is_told_so() -> None:
    text = WEB_AND_DB + network_policy("{podSelector: {}, ingress: []}", namespace="y")
    assert message(text, "TB101") == "there is no pod in namespace y"


def test_labels_that_pods_have_but_no_pod_together_are_told() -> None:
    spec = "{podSelector: {matchLabels: {app: web, tier: back}}, ingress: []}"
    assert message(WEB_AND_DB + network_policy(spec), "TB101") == (
        "no pod has app=web and tier=back together"
    )


def test_a_peer_that_no_pod_is_is_told_where_it_stands() -> None:
    text = with_peer(
        "{podSelector: {matchLabels: {app: web}}}, {podSelector: {matchLabels: {ap: web}}}"
    )
    assert told(text) == [("TB102", "spec.ingress[0].from[1]")]
    assert "did you mean the label app?" in message(text, "TB102")


def test_a_peer_that_matches_is_not_told() -> None:
    assert told(with_peer("{podSelector: {matchLabels: {app: web}}}")) == []


def test_a_namespace_selector_that_matches_none_is_told_with_the_one_that_is_near() -> None:
    labels = "{matchLabels: {kubernetes.io/metadata.name: xx}}"
    text = with_peer(f"{{namespaceSelector: {labels}}}")
    assert told(text) == [("TB103", "spec.ingress[0].from[0]")]
    assert "no namespace has" in message(text, "TB103")


def test_namespaces_of_every_cluster_are_taken_to_be_there_in_manifests_alone() -> None:
    text = with_peer(
        "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}"
    )
    assert told(text) == []
    assert told(text, whole=True) == [("TB103", "spec.ingress[0].from[0]")]


@pytest.mark.parametrize(
    "selector",
    [
        "{key: app, operator: In, values: [web, wbe]}",
        "{key: app, operator: NotIn, values: [wbe]}",
        "{key: ap, operator: DoesNotExist}",
    ],
)
def test_a_label_that_no_pod_has_is_told_though_the_selector_matches(selector: str) -> None:
    text = with_peer(f"{{podSelector: {{matchExpressions: [{selector}]}}}}")
    assert ("TB104", "spec.ingress[0].from[0]") in told(text)
    assert "did you mean" in message(text, "TB104")


def test_an_entity_that_nothing_is_here_is_told() -> None:
    spec = "{endpointSelector: {matchLabels: {app: db}}, ingress: [{fromEntities: [%s]}]}"
    for entity, expected in (
        ("health", [("TB107", "spec.ingress[0].fromEntities[0]")]),
        ("cluster", []),
    ):
        policy = document("CiliumNetworkPolicy", "cilium.io/v2", "p", spec % entity, "x")
        assert told(WEB_AND_DB + policy) == expected


def test_a_reference_to_what_is_not_there_is_told() -> None:
    spec = (
        "{endpointSelector: {matchLabels: {app: db}}, "
        "egress: [{toCIDRSet: [{cidrGroupRef: partners}], toPorts: [{ports: [{port: '443'}]}]}]}"
    )
    text = WEB_AND_DB + document("CiliumNetworkPolicy", "cilium.io/v2", "p", spec, "x")
    assert told(text) == [("TB108", "spec.egress[0].toCIDRSet[0]")]
    assert message(text, "TB108").startswith("CiliumCIDRGroup partners: there is none")
    group = document(
        "CiliumCIDRGroup", "cilium.io/v2", "partners", "{externalCIDRs: [192.0.2.0/24]}"
    )
    assert told(text + group) == []


def test_without_workloads_only_what_the_words_say_is_told() -> None:
    text = network_policy("{podSelector: {matchLabels: {app: web}}, ingress: [{}]}")
    assert told(text) == [("TB301", "spec.ingress[0]")]


def test_an_author_names_findings_that_are_meant_by_id_or_name() -> None:
    def annotated(text: str) -> dict[str, object]:
        return {"metadata": {"annotations": {"tabard.io/lint-ignore": text}}}

    assert ignored(annotated("TB101, open-to-world")) == {"TB101", "TB301"}
    assert ignored(annotated("TB999")) == set()
    assert ignored({"metadata": None}) == set()


def test_every_rule_has_its_own_id_and_name() -> None:
    assert len({rule.name for rule in RULES.values()}) == len(RULES)
    assert list(RULES) == sorted(RULES)
    assert {rule.severity for rule in RULES.values()} == set(Severity)


def test_findings_are_the_same_in_whatever_order_policies_stand() -> None:
    one = network_policy("{podSelector: {matchLabels: {app: webb}}, ingress: []}", "a")
    other = network_policy("{podSelector: {}, ingress: [{}]}", "b")
    assert findings(WEB_AND_DB + one + other) == findings(other + one + "---\n" + WEB_AND_DB)

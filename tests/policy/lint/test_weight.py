"""Lint rules TB201 to TB204: parts that are denied before they are asked, or say nothing new."""

from linting import WEB_AND_DB, document, message, network_policy, told

FROM_WEB = "{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}"
DB_FROM_WEB = f"{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{FROM_WEB}]}}"


def test_a_rule_that_another_policy_says_too_is_redundant() -> None:
    wide = "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"
    text = WEB_AND_DB + network_policy(wide, "wide") + network_policy(DB_FROM_WEB, "narrow")
    assert told(text) == [("TB202", "spec")]
    assert message(text, "TB202") == "says nothing that x/wide spec.ingress[0] does not say"


def test_of_a_policy_that_is_needed_only_its_redundant_rule_is_told() -> None:
    rules = f"[{{from: [{{podSelector: {{}}}}]}}, {FROM_WEB}]"
    text = WEB_AND_DB + network_policy(
        f"{{podSelector: {{matchLabels: {{app: db}}}}, ingress: {rules}}}"
    )
    assert told(text) == [("TB203", "spec.ingress[1]")]


def test_of_a_rule_that_is_needed_only_its_redundant_peer_and_port_are_told() -> None:
    rule = (
        "{from: [{podSelector: {}}, {podSelector: {matchLabels: {app: web}}}], "
        "ports: [{port: 5000, endPort: 6000}, {port: pg}]}"
    )
    text = WEB_AND_DB + network_policy(
        f"{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{rule}]}}"
    )
    assert told(text) == [
        ("TB204", "spec.ingress[0].from[1]"),
        ("TB204", "spec.ingress[0].ports[1]"),
    ]


def test_a_default_denial_is_needed_for_pods_that_are_still_to_come() -> None:
    denial = "{podSelector: {}, policyTypes: [Ingress]}"
    text = WEB_AND_DB + network_policy(denial, "deny") + network_policy(DB_FROM_WEB, "db")
    text += network_policy("{podSelector: {matchLabels: {app: web}}, ingress: []}", "web")
    assert told(text) == []


def test_an_allowance_under_a_cilium_denial_is_shadowed() -> None:
    deny = (
        "{endpointSelector: {matchLabels: {app: db}}, "
        "ingressDeny: [{fromEndpoints: [{matchLabels: {app: web}}]}]}"
    )
    text = WEB_AND_DB + network_policy(DB_FROM_WEB, "db")
    text += document("CiliumNetworkPolicy", "cilium.io/v2", "no-web", deny, "x")
    assert told(text) == [("TB201", "spec.ingress[0]")]
    assert message(text, "TB201") == (
        "all that it allows is denied by x/no-web spec.ingressDeny[0]"
    )


def test_an_allowance_under_a_denial_of_the_admin_tier_is_shadowed() -> None:
    deny = (
        "{tier: Admin, priority: 1, subject: {namespaces: {}}, "
        "ingress: [{action: Deny, from: [{namespaces: {}}]}]}"
    )
    version = "policy.networking.k8s.io/v1alpha2"
    text = WEB_AND_DB + network_policy(DB_FROM_WEB, "db")
    text += document("ClusterNetworkPolicy", version, "nobody", deny)
    assert told(text) == [("TB201", "spec.ingress[0]")]
    assert "nobody spec.ingress[0]" in message(text, "TB201")


def test_an_allowance_that_a_pass_leaves_to_its_tier_is_not_shadowed() -> None:
    rules = "[{action: Pass, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}]"
    spec = f"{{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, ingress: {rules}}}"
    version = "policy.networking.k8s.io/v1alpha2"
    text = WEB_AND_DB + network_policy(DB_FROM_WEB, "db")
    text += document("ClusterNetworkPolicy", version, "p", spec)
    assert "TB201" not in [rule for rule, _ in told(text)]


def test_a_denial_of_what_is_not_allowed_anyway_is_redundant_only_beside_another_denial() -> None:
    version = "policy.networking.k8s.io/v1alpha2"
    denial = "{action: Deny, from: [{namespaces: {}}]}"
    spec = "{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [%s]}"
    text = WEB_AND_DB + network_policy("{podSelector: {}, ingress: []}", "none")
    assert told(text + document("ClusterNetworkPolicy", version, "one", spec % denial)) == []
    twice = document("ClusterNetworkPolicy", version, "two", spec % f"{denial}, {denial}")
    assert ("TB203", "spec.ingress[1]") in told(text + twice)


def test_a_denial_is_not_redundant_for_one_of_addresses_that_a_pod_may_have() -> None:
    """An AdminNetworkPolicy's networks may hold a pod; that does not deny the pod elsewhere."""
    version = "policy.networking.k8s.io/v1alpha1"
    pod = "{namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}"
    text = WEB_AND_DB + network_policy(
        "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}", "web"
    )
    text += document(
        "AdminNetworkPolicy",
        version,
        "guard",
        "{priority: 1, subject: {namespaces: {}}, egress: ["
        f"{{action: Deny, to: [{{pods: {pod}}}]}}, "
        "{action: Deny, to: [{networks: [203.0.113.0/24]}]}]}",
    )
    assert [path for rule, path in told(text) if rule == "TB203"] == []

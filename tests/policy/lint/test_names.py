"""Lint rule TB109: domain names whose addresses nobody would learn."""

import pytest

from linting import WEB_AND_DB, document, message, told

FQDN = "{toFQDNs: [{matchName: example.org}]}"
DNS = (
    "{toEndpoints: [{matchLabels: {app: db}}], "
    "toPorts: [{ports: [{port: '53', protocol: UDP}], rules: {dns: [{matchPattern: '*'}]}}]}"
)


def cilium(name: str, *egress: str, app: str = "web") -> str:
    spec = f"{{endpointSelector: {{matchLabels: {{app: {app}}}}}, egress: [{', '.join(egress)}]}}"
    return document("CiliumNetworkPolicy", "cilium.io/v2", name, spec, "x")


def of_names(text: str) -> list[str]:
    return [path for rule, path in told(text) if rule == "TB109"]


def test_a_name_that_nothing_looks_up_is_told_where_it_stands() -> None:
    text = WEB_AND_DB + cilium("a", FQDN)
    assert of_names(text) == ["spec.egress[0].toFQDNs[0]"]
    assert "no rule has x/web look example.org up" in message(text, "TB109")


def test_a_rule_for_dns_in_any_policy_of_the_pods_is_enough() -> None:
    assert of_names(WEB_AND_DB + cilium("a", FQDN, DNS)) == []
    assert of_names(WEB_AND_DB + cilium("a", FQDN) + cilium("b", DNS)) == []


def test_lookups_of_other_pods_are_not_these_pods() -> None:
    assert of_names(WEB_AND_DB + cilium("a", FQDN) + cilium("b", DNS, app="db")) == [
        "spec.egress[0].toFQDNs[0]"
    ]


@pytest.mark.parametrize(
    ("wanted", "looked_up", "is_told"),
    [
        ("example.org", "example.org", False),
        ("www.example.org", "*.example.org", False),
        ("example.org", "*.example.org", True),
        ("example.org", "example.com", True),
        ("*.example.org", "www.example.org", False),
        ("*.example.org", "*.example.org", False),
        ("*.example.org", "*.example.com", True),
        ("*", "www.example.org", False),
    ],
)
def test_a_lookup_teaches_the_names_that_it_may_ask_for(
    wanted: str, looked_up: str, is_told: bool
) -> None:
    fqdn = FQDN.replace("matchName: example.org", f"matchPattern: '{wanted}'")
    dns = DNS.replace("'*'", f"'{looked_up}'")
    found = of_names(WEB_AND_DB + cilium("a", fqdn, dns))
    assert found == (["spec.egress[0].toFQDNs[0]"] if is_told else [])

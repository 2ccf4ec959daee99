"""Lint rule TB109: names that nobody may look up."""

import pytest

from linting import WEB_AND_DB, document, message, told


def named(to: str, dns: str, subject: str = "{matchLabels: {app: web}}") -> str:
    """`web` may reach the names `to`; `subject` may look up those of `dns`."""
    ports = "{ports: [{port: '53', protocol: UDP}], rules: {dns: [" + dns + "]}}"
    asks = f"{{toPorts: [{ports}]}}"
    web = f"{{endpointSelector: {{matchLabels: {{app: web}}}}, egress: [{{toFQDNs: [{to}]}}]}}"
    text = WEB_AND_DB + document("CiliumNetworkPolicy", "cilium.io/v2", "web", web, "x")
    if dns:
        spec = f"{{endpointSelector: {subject}, egress: [{asks}]}}"
        text += document("CiliumNetworkPolicy", "cilium.io/v2", "dns", spec, "x")
    return text


NAME = "{matchName: www.example.com}"


@pytest.mark.parametrize(
    ("to", "dns"),
    [
        (NAME, ""),
        (NAME, "{matchName: example.com}"),
        (NAME, "{matchPattern: '*.example.org'}"),
        ("{matchPattern: '*.example.com'}", "{matchPattern: '*.example.org'}"),
    ],
)
def test_a_name_that_no_lookup_asks_for_is_told(to: str, dns: str) -> None:
    assert ("TB109", "spec.egress[0].toFQDNs[0]") in told(named(to, dns))


@pytest.mark.parametrize(
    ("to", "dns"),
    [
        (NAME, NAME),
        (NAME, "{matchPattern: '*'}"),
        (NAME, "{matchPattern: '*.example.com'}"),
        ("{matchPattern: '*.example.com'}", NAME),
        ("{matchPattern: '*.example.com'}", "{matchPattern: '*.example.com'}"),
        ("{matchPattern: '*'}", NAME),
    ],
)
def test_a_name_that_a_lookup_may_ask_for_is_not_told(to: str, dns: str) -> None:
    assert "TB109" not in [rule for rule, _ in told(named(to, dns))]


def test_lookups_of_other_pods_do_not_count() -> None:
    text = named(NAME, NAME, subject="{matchLabels: {app: db}}")
    assert message(text, "TB109") == (
        "no rule with rules.dns lets the pods look up www.example.com, "
        "so nobody knows what it stands for"
    )

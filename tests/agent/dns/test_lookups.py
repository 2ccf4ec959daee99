from typing import Any

import pytest

from domains import DNS, to_names
from tabard.agent.dns import lookups as module
from tabard.agent.dns.lookups import Lookups, is_proxied
from tabard.events.ledger import NameForgotten, NameResolved
from world import World, network_policy

DNS_LABELS = {"k8s-app": "kube-dns"}


class Shop:
    def __init__(self, *documents: dict[str, Any]) -> None:
        self.world = World()
        self.world.pod("kube-system/dns", DNS_LABELS, ip="10.244.2.53", node="n2")
        self.world.pod("shop/web", {"app": "web"}, ip="10.244.1.5")
        self.lookups = Lookups(self.world.state, "n1")
        for document in documents:
            self.policy(document)

    def policy(self, document: dict[str, Any]) -> None:
        self.world.policy(document)
        self.note()

    def note(self) -> None:
        for record in self.world.untold:
            self.lookups.note(record.event)
        self.world.untold.clear()

    def may(self, name: str, server: str = "10.244.2.53", port: int = 53) -> bool:
        identity = self.world.state.endpoints["shop/web"].identity
        found = name in self.lookups.names(identity, server, port)
        anew = Lookups(self.world.state, "n1").names(identity, server, port)
        assert (name in anew) == found, "kept in step"
        return found


def dns_to(*to: dict[str, Any], **more: Any) -> dict[str, Any]:
    """As `to_names`, with other servers."""
    document = to_names(**more)
    rule = document["spec"]["egress"][0]
    del rule["toEndpoints"]
    for one in to:
        rule |= one
    return document


def test_a_pod_may_ask_for_what_its_policies_name_and_ask_only_whom_they_name() -> None:
    shop = Shop(to_names(lookups=("api.io", "*.example.com"), labels={"app": "web"}))
    assert shop.may("api.io")
    assert shop.may("a.example.com")
    assert not shop.may("a.b.example.com")
    assert not shop.may("api.io", port=54)
    assert not shop.may("api.io", "10.244.1.5")
    assert not shop.may("api.io", "203.0.113.53")
    assert not shop.may("api.io", "10.244.2.99"), "nobody's address"


def test_policies_on_other_pods_and_in_other_namespaces_say_nothing() -> None:
    shop = Shop(
        to_names(name="a", labels={"app": "other"}), to_names(name="b", namespace="elsewhere")
    )
    assert not shop.may("api.io")


def test_the_patterns_of_all_policies_count() -> None:
    shop = Shop(to_names(name="a", lookups=("a.io",)), to_names(name="b", lookups=("b.io",)))
    assert [name for name in ("a.io", "b.io", "c.io") if shop.may(name)] == ["a.io", "b.io"]


def test_a_rule_without_a_word_on_names_allows_every_name() -> None:
    shop = Shop(to_names(lookups=("a.io",)))
    everywhere = {"to": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": 53}]}
    shop.policy(network_policy("np", "shop", policyTypes=["Egress"], egress=[everywhere]))
    assert not shop.may("b.io"), "that is TCP"
    everywhere["ports"] = [{"protocol": "UDP", "port": 50, "endPort": 60}]  # type: ignore[list-item]
    shop.policy(network_policy("np", "shop", policyTypes=["Egress"], egress=[everywhere]))
    assert shop.may("b.io")
    shop.world.forget("shop", "np")
    shop.note()
    assert not shop.may("b.io")


def test_servers_outside_and_on_nodes_are_told_apart() -> None:
    shop = Shop(dns_to({"toCIDRSet": [{"cidr": "203.0.113.0/24", "except": ["203.0.113.9/32"]}]}))
    assert shop.may("a.io", "203.0.113.53")
    assert not shop.may("a.io", "203.0.113.9")
    assert not shop.may("a.io", "192.0.2.1")
    world = Shop(dns_to({"toEntities": ["world"]}))
    assert world.may("a.io", "192.0.2.1")
    assert not world.may("a.io", "192.168.9.1")
    host = Shop(dns_to({"toEntities": ["host"]}))
    assert host.may("a.io", "192.168.9.1")
    assert not host.may("a.io", "192.168.9.2"), "another node"
    assert not host.may("a.io")


def test_ciliums_cidrs_hold_no_pods() -> None:
    shop = Shop(dns_to({"toCIDR": ["10.244.0.0/16"]}))
    assert not shop.may("a.io")


def test_a_server_may_be_one_that_a_name_stands_for() -> None:
    shop = Shop(dns_to({"toFQDNs": [{"matchName": "dns.example"}]}))
    assert not shop.may("a.io", "203.0.113.53")
    shop.world.emit(NameResolved("dns.example", (("203.0.113.53", 9),)))
    shop.note()
    assert shop.may("a.io", "203.0.113.53")
    shop.world.emit(NameForgotten("dns.example", ("203.0.113.53",)))
    shop.note()
    assert not shop.may("a.io", "203.0.113.53")


def test_what_a_pod_may_ask_for_is_compiled_once_until_policies_change() -> None:
    shop = Shop(to_names("api.io", lookups=("*.io",)))
    identity = shop.world.state.endpoints["shop/web"].identity
    first = shop.lookups.names(identity, "10.244.2.53", 53)
    shop.world.emit(NameResolved("api.io", (("203.0.113.53", 9),)))
    shop.note()
    assert shop.lookups.names(identity, "10.244.2.53", 53) is first
    shop.policy(to_names("api.io", name="tcp", lookups=None))
    assert shop.lookups.names(identity, "10.244.2.53", 53) is first, "it lets nobody ask"
    shop.policy(to_names(name="more", lookups=("*.org",)))
    assert "a.org" in shop.lookups.names(identity, "10.244.2.53", 53)


def test_a_pod_that_asks_ever_new_servers_has_patterns_compiled_once_and_little_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FOUND_MAX", 4)
    shop = Shop(dns_to({"toEntities": ["world"]}))
    identity = shop.world.state.endpoints["shop/web"].identity
    made = [shop.lookups.names(identity, f"203.0.113.{n}", 53) for n in range(1, 20)]
    assert all(one is made[0] for one in made)
    assert len(shop.lookups._found) <= 4


def test_sets_of_patterns_are_kept_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPILED_MAX", 2)
    shop = Shop()
    for number in range(5):
        shop.policy(to_names(lookups=(f"*.n{number}.io",)))
        assert shop.may(f"a.n{number}.io")
        assert not shop.may(f"a.n{number - 1}.io")
    assert len(shop.lookups._compiled) == 2


def test_a_server_is_known_by_the_labels_that_it_has_now() -> None:
    shop = Shop(to_names(lookups=("a.io",)))
    assert shop.may("a.io")
    shop.world.relabel("kube-system/dns", {"k8s-app": "other"})
    shop.note()
    assert not shop.may("a.io")


def test_a_retired_identity_may_ask_for_nothing() -> None:
    shop = Shop(to_names())
    assert "a.io" not in shop.lookups.names(999, "10.244.2.53", 53)


def test_only_a_policy_with_names_to_ask_for_needs_the_proxy() -> None:
    world = World()
    for name, document in (
        ("a", to_names("a.io", name="a", lookups=None)),
        ("b", to_names(name="b")),
        ("c", network_policy("c", "shop")),
    ):
        world.policy(document)
        (accepted,) = [held for key, held in world.state.policies.items() if key[2] == name]
        assert is_proxied(accepted) == (name == "b")


def test_the_servers_of_these_tests_are_those_of_the_policies() -> None:
    assert DNS["k8s:k8s-app"] == DNS_LABELS["k8s-app"]

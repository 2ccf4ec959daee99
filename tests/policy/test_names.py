import pytest

from domains import to_names
from tabard.dataplane.maps import Direction, Mode, Protocol, Reason
from tabard.events import ledger as events
from tabard.identity.labels import cidr_label, host_cidr, label_set
from tabard.policy.engine import Engine
from tabard.policy.names import (
    ADDRESSES_MAX,
    ADDRESSES_OF_NAME_MAX,
    Asked,
    acceptable,
    has_room,
    is_news,
)
from tabard.policy.referents import referents_of
from world import World, network_policy

V4, OTHER, V6 = "203.0.113.7", "203.0.113.8", "2001:db8::7"
FOREVER = 1 << 62
WEB, SERVER = "shop/web", "kube-system/dns"


class Shop(World):
    """A pod that may ask for names, and reach what some stand for."""

    def __init__(self, *patterns: str) -> None:
        super().__init__()
        self.pod(SERVER, {"k8s-app": "kube-dns"}, node="n2", ip=("10.244.2.53", "fd00::53"))
        self.pod(WEB, {"app": "web"}, ip=("10.244.1.5", "fd00::5"))
        self.policy(to_names(*patterns))

    def resolved(self, name: str, *addresses: str, until: int = FOREVER) -> None:
        for address in addresses:
            self.identity(label_set((cidr_label(host_cidr(address)),)))
        self.emit(events.NameResolved(name, tuple((one, until) for one in addresses)))

    def forgotten(self, name: str, *addresses: str) -> None:
        self.emit(events.NameForgotten(name, addresses))

    def verdict(self, address: str, port: int = 443, protocol: Protocol = Protocol.TCP) -> Reason:
        """Of the pod's egress: the maps' as they were come to, made anew, and the engine's."""
        found = set()
        engine = Engine(self.state)
        source = "fd00::5" if ":" in address else WEB
        for mode in Mode:
            self.compilers.clear()
            self._told.clear()
            found.add(self.flow(source, address, port, protocol, mode=mode).egress)
        decided = engine.decide(source, address, protocol, port)
        assert decided.egress is not None
        found.add(decided.egress.reason)
        (reason,) = found
        assert reason is not None
        return reason


def test_what_a_name_stands_for_may_be_reached_on_the_rules_ports_alone() -> None:
    shop = Shop("api.example.com")
    assert shop.verdict(V4) is Reason.DENIED_POLICY
    shop.resolved("api.example.com", V4, V6)
    assert shop.verdict(V4) is Reason.ALLOWED_POLICY
    assert shop.verdict(V6) is Reason.ALLOWED_POLICY
    assert shop.verdict(V4, 80) is Reason.DENIED_POLICY
    assert shop.verdict(V4, 443, Protocol.UDP) is Reason.DENIED_POLICY
    assert shop.verdict(OTHER) is Reason.DENIED_POLICY


def test_what_no_longer_stands_for_a_name_is_closed() -> None:
    shop = Shop("*.example.com")
    shop.resolved("api.example.com", V4, OTHER)
    shop.resolved("www.example.com", OTHER)
    shop.forgotten("api.example.com", V4, OTHER)
    assert shop.verdict(V4) is Reason.DENIED_POLICY
    assert shop.verdict(OTHER) is Reason.ALLOWED_POLICY, "another name stands for it"
    shop.forgotten("www.example.com", OTHER)
    assert shop.verdict(OTHER) is Reason.DENIED_POLICY


def test_names_that_the_pattern_does_not_name_open_nothing() -> None:
    shop = Shop("*.example.com")
    shop.policy(to_names("*", name="all", namespace="elsewhere"))
    shop.resolved("example.com", V4)
    shop.resolved("a.b.example.com", V4)
    assert shop.verdict(V4) is Reason.DENIED_POLICY


def test_a_name_that_stands_for_a_pod_or_a_node_does_not_open_it() -> None:
    shop = Shop("api.example.com")
    shop.pod("shop/db", {"app": "db"}, node="n2", ip="10.244.2.9")
    shop.pod("shop/far", {"app": "far"}, node="n2", ip="10.9.9.9")
    shop.resolved("api.example.com", "10.244.2.9", "10.9.9.9", "192.168.9.2", "192.168.9.1", V4)
    assert shop.verdict(V4) is Reason.ALLOWED_POLICY
    engine = Engine(shop.state)
    for address in ("10.244.2.9", "192.168.9.1", "192.168.9.2", "10.9.9.9"):
        native = shop.flow(WEB, address, 443, mode=Mode.NATIVE)
        assert native.egress is Reason.DENIED_POLICY
        assert not engine.decide(WEB, address, Protocol.TCP, 443).allowed
    for address in ("10.244.2.9", "192.168.9.1", "192.168.9.2"):
        overlay = shop.flow(WEB, address, 443, mode=Mode.OVERLAY)
        assert overlay.egress is not None
        assert not overlay.egress.allowed


def test_lookups_go_through_the_proxy() -> None:
    shop = Shop()
    for place in ("10.244.2.53", "fd00::53"):
        assert shop.verdict(place, 53, Protocol.UDP) is Reason.ALLOWED_PROXY
    assert shop.verdict("10.244.2.53", 54, Protocol.UDP) is Reason.DENIED_POLICY
    assert shop.verdict(V4, 53, Protocol.UDP) is Reason.DENIED_POLICY
    # Also where another rule allows them as they are.
    shop.policy(network_policy("all", "shop", policyTypes=["Egress"], egress=[{}]))
    assert shop.verdict("10.244.2.53", 53, Protocol.UDP) is Reason.ALLOWED_PROXY
    assert shop.verdict("10.244.2.53", 54, Protocol.UDP) is Reason.ALLOWED_POLICY


def test_the_rule_and_the_name_in_it_are_told() -> None:
    shop = Shop("other.org", "*.example.com")
    shop.resolved("api.example.com", V4)
    half = Engine(shop.state).decide(WEB, V4, Protocol.TCP, 443).egress
    assert half is not None
    assert half.rule is not None
    assert half.rule.direction is Direction.EGRESS
    assert half.rule.peer_path == "spec.egress[1].toFQDNs[1]"


def test_an_address_that_is_said_once_more_changes_no_map() -> None:
    shop = Shop("a.io")
    shop.resolved("a.io", V4, until=5)
    before = shop.judge("n1")
    shop.resolved("a.io", V4, until=9)
    assert shop.judge("n1").maps == before.maps
    assert referents_of(shop.state).names == (("a.io", (V4,)),)


def test_maps_that_are_kept_in_step_are_those_made_anew() -> None:
    shop = Shop("*.example.com", "a.io")
    steps = (
        lambda: shop.resolved("x.example.com", V4),
        lambda: shop.resolved("a.io", V4, OTHER),
        lambda: shop.forgotten("x.example.com", V4),
        lambda: shop.policy(to_names("b.io", name="more")),
        lambda: shop.resolved("b.io", V6),
        lambda: shop.forgotten("a.io", V4, OTHER),
        lambda: shop.forget("shop", "more", "CiliumNetworkPolicy"),
    )
    for step in steps:
        step()
        kept = shop.judge("n1").maps
        shop.compilers.clear()
        shop._told.clear()
        assert shop.judge("n1").maps == kept


class TestAsked:
    def test_names_are_asked_for_while_a_policy_does(self) -> None:
        shop = Shop("a.io")
        asked = Asked(shop.state)
        shop.untold.clear()
        shop.policy(to_names("*.b.io", "c.io", name="more"))
        shop.policy(network_policy("np", "shop"))
        for record in shop.untold:
            asked.note(record.event)
        assert [name for name in ("a.io", "x.b.io", "b.io", "c.io") if name in asked] == [
            "a.io",
            "x.b.io",
            "c.io",
        ]
        assert asked.by("c.io") == [("CiliumNetworkPolicy", "shop", "more")]
        assert sorted(asked) == sorted(Asked(shop.state))
        asked.note(events.PolicyForgotten("CiliumNetworkPolicy", "shop", "more"))
        assert "c.io" not in asked
        assert asked.by("c.io") == []


@pytest.mark.parametrize(
    ("held", "ttl_s", "said"),
    [
        ({}, 0, True),
        ({V4: 1_800_000_000_000}, 0, False),
        ({V4: 1_799_999_999_999}, 0, True),
        ({V4: 2_000_000_000_000}, 2_000, False),
        ({V4: 2_000_000_000_000}, 2_001, True),
    ],
)
def test_an_answer_is_news_if_the_ledger_says_less(
    held: dict[str, int], ttl_s: int, said: bool
) -> None:
    world = World()
    world.emit(events.SettingsAdopted("c", 0, 8, (), (), (), 0))
    world.state.names["a.io"] = held
    assert is_news(world.state, "a.io", [V4], ttl_s, 0) == said
    assert not is_news(world.state, "a.io", [], ttl_s, 0)


def test_an_ipv4_address_mapped_into_ipv6_stands_for_no_name() -> None:
    assert acceptable(World().state, "a.io", ["::ffff:cb00:7107", "::ffff:10.244.1.5", V4]) == [V4]


def test_there_is_room_for_as_many_addresses_as_there_may_be() -> None:
    state = World().state
    state.names = {"full": {f"198.18.0.{n}": 0 for n in range(ADDRESSES_OF_NAME_MAX)}}
    state.names["many"] = {str(n): 0 for n in range(ADDRESSES_MAX - ADDRESSES_OF_NAME_MAX - 1)}
    assert has_room(state, "new", [V4])
    assert not has_room(state, "new", [V4, OTHER])
    state.names["new"] = {V4: 0}
    assert has_room(state, "new", [V4])
    assert not has_room(state, "new", [V4, OTHER])
    assert has_room(state, "full", [V4, OTHER]), "newer ones take the place of older ones"

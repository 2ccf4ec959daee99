import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entries import INGRESS_ISOLATED, ISOLATED, allowing
from tabard.dataplane.maps import (
    Direction,
    EndpointFlag,
    Mode,
    PolicyKey,
    Protocol,
    Reason,
    address,
)
from tabard.events.ledger import EndpointTombstoned, SettingsAdopted
from tabard.policy.compile import ALWAYS_KNOWN, Attachment, Compiler, Need, Provisional, incarnation
from tabard.policy.diff import diff
from world import World, attachment, cilium_policy, network_policy, tiered_policy


def test_a_small_cluster_compiles_to_these_maps() -> None:
    world = World(nodes=2)
    world.pod("x/web", {"app": "web"}, ip="10.244.1.1")
    world.pod("x/db", {"app": "db"}, ip="10.244.2.1", node="n2")
    world.policy(
        network_policy(
            "db",
            "x",
            podSelector={"matchLabels": {"app": "db"}},
            ingress=[
                {
                    "from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                    "ports": [{"port": 5432}],
                }
            ],
        )
    )
    web = world.state.endpoints["x/web"].identity
    db = world.state.endpoints["x/db"].identity

    one = world.judge("n1").maps
    assert one.identities == {web, db, *ALWAYS_KNOWN}
    assert one.policies == {}
    assert one.nodes == {address("192.168.9.1"), address("192.168.9.2")}
    assert one.hosts == {address("192.168.9.1"): 1, address("192.168.9.2"): 6}
    assert [entry.identity for entry in one.endpoints.values()] == [web]

    two = world.judge("n2").maps
    endpoint = two.endpoints[address("10.244.2.1")]
    assert endpoint.identity == db
    assert endpoint.incarnation == incarnation("x/db")
    assert endpoint.flags == INGRESS_ISOLATED
    assert (endpoint.ifindex, endpoint.mac[:1], endpoint.host_mac[:2]) == (101, b"\2", b"\2\1")
    assert two.policies == allowing(
        [PolicyKey(endpoint.policy, Direction.INGRESS, web, Protocol.TCP, 5432, 16)]
    )
    assert two.hosts == {address("192.168.9.1"): 6, address("192.168.9.2"): 1}


def test_only_policies_of_its_namespace_select_a_pod() -> None:
    world = World()
    world.pod("x/a", {"app": "a"}, ip="10.244.1.1")
    world.policy(network_policy("p", "y"))
    assert world.judge("n1").maps.endpoints[address("10.244.1.1")].policy == 0


DENIED_BOTH = (
    EndpointFlag.INGRESS_ENFORCED
    | EndpointFlag.INGRESS_ISOLATED
    | EndpointFlag.EGRESS_ENFORCED
    | EndpointFlag.EGRESS_ISOLATED
)
"""Of a pod whom no rule allows anything."""


def test_flags_are_those_of_all_policies_that_select_the_pod() -> None:
    world = World()
    world.pod("x/a", {"app": "a"}, ip="10.244.1.1")
    flags = []
    block = {"ipBlock": {"cidr": "10.0.0.0/8"}}
    for spec in (
        {"ingress": [{}]},
        {"policyTypes": ["Egress"]},
        {"ingress": [{"from": [block]}]},
        {"policyTypes": ["Egress"], "egress": [{"to": [block]}]},
    ):
        world.policy(network_policy(f"p{len(flags)}", "x", **spec))
        flags.append(world.judge("n1").maps.endpoints[address("10.244.1.1")].flags)
    by_cidr = EndpointFlag.CIDR_PODS_INGRESS, EndpointFlag.CIDR_PODS_EGRESS
    assert flags == [
        INGRESS_ISOLATED,
        DENIED_BOTH | EndpointFlag.INGRESS_NETWORK,
        DENIED_BOTH | EndpointFlag.INGRESS_NETWORK | by_cidr[0],
        ISOLATED | by_cidr[0] | by_cidr[1],
    ]


def test_host_network_pods_have_no_entries_anywhere() -> None:
    world = World()
    world.pod("x/a", {}, ip="192.168.9.1", host_network=True)
    for node in ("n1", "n2"):
        for mode in Mode:
            maps = world.judge(node, mode).maps
            assert maps.endpoints == {}
            assert maps.hosts[address("192.168.9.1")] == (1 if node == "n1" else 6)


def test_a_pod_that_claims_a_nodes_address_does_not_get_it() -> None:
    world = World()
    world.pod("x/a", {}, ip=("192.168.9.2", "10.244.1.1"))
    for node in ("n1", "n2"):
        maps = world.judge(node, Mode.NATIVE).maps
        assert maps.hosts[address("192.168.9.2")] == (6 if node == "n1" else 1)
        assert address("192.168.9.2") not in maps.endpoints


def test_only_attached_pods_have_entries_and_others_of_the_node_stay_unknown() -> None:
    world = World()
    world.pod("x/a", {}, ip="10.244.1.1")
    maps = Compiler().compile(world.state, "n1", Mode.NATIVE, {})
    assert maps.endpoints == {}
    assert address("10.244.1.1") not in maps.hosts


def test_an_attached_pod_that_the_ledger_has_elsewhere_stays_closed() -> None:
    world = World()
    world.pod("x/a", {}, ip="10.244.2.1", node="n2")
    maps = Compiler().compile(world.state, "n1", Mode.NATIVE, {"x/a": attachment("x/a")})
    assert maps.endpoints == {}


class TestProvisional:
    """A pod whose label set is known has its entry before the ledger binds it."""

    def world(self) -> World:
        world = World()
        world.pod("x/old", {"app": "a"}, ip="10.244.1.1")
        world.policy(network_policy("p", "x"))
        return world

    def endpoints(self, world: World, *attachments: Attachment) -> dict[str, str]:
        """Which UID has which address, of these attachments."""
        by_uid = {one.uid: one for one in attachments}
        maps = Compiler().compile(world.state, "n1", Mode.OVERLAY, by_uid)
        uids = {incarnation(uid): uid for uid in by_uid}
        return {
            text: uids[maps.endpoints[address(text)].incarnation]
            for text in ("10.244.1.1", "10.244.1.2", "10.244.1.3")
            if address(text) in maps.endpoints
        }

    def new(self, world: World, *addresses: str, uid: str = "new") -> Attachment:
        identity = world.state.endpoints["x/old"].identity
        return attachment(uid, 7, Provisional(identity, addresses))

    def test_it_is_enforced_as_its_identity_says(self) -> None:
        world = self.world()
        maps = Compiler().compile(
            world.state, "n1", Mode.OVERLAY, {"new": self.new(world, "10.244.1.2")}
        )
        endpoint = maps.endpoints[address("10.244.1.2")]
        assert endpoint.identity == world.state.endpoints["x/old"].identity
        assert endpoint.flags == EndpointFlag.INGRESS_ENFORCED | EndpointFlag.INGRESS_ISOLATED

    def test_the_ledger_takes_over_when_it_speaks(self) -> None:
        world = self.world()
        new = self.new(world, "10.244.1.2", "10.244.1.3")
        world.pod("x/new", {"app": "b"}, ip="10.244.1.2", uid="new")
        maps = Compiler().compile(world.state, "n1", Mode.OVERLAY, {"new": new})
        assert list(maps.endpoints) == [address("10.244.1.2")]
        (endpoint,) = maps.endpoints.values()
        assert endpoint.identity == world.state.endpoints["new"].identity

    def test_a_stopped_pod_is_not_revived(self) -> None:
        world = self.world()
        new = self.new(world, "10.244.1.2")
        world.emit(EndpointTombstoned("new"))
        assert self.endpoints(world, new) == {}

    def test_an_address_that_the_ledger_gives_to_another_waits(self) -> None:
        world = self.world()
        new = self.new(world, "10.244.1.1", "10.244.1.2")
        assert self.endpoints(world, new) == {"10.244.1.2": "new"}
        old = attachment("x/old")
        assert self.endpoints(world, old, new) == {"10.244.1.1": "x/old", "10.244.1.2": "new"}
        world.stop("x/old")
        assert self.endpoints(world, new) == {"10.244.1.1": "new", "10.244.1.2": "new"}

    def test_of_two_with_one_address_none_has_it(self) -> None:
        world = self.world()
        one = self.new(world, "10.244.1.2", uid="one")
        two = self.new(world, "10.244.1.2", "10.244.1.3", uid="two")
        assert self.endpoints(world, one, two) == {"10.244.1.3": "two"}

    @pytest.mark.parametrize("identity", [0, 1, 2, 5, 999, 1 << 24])
    def test_an_identity_that_is_no_live_pods_gives_no_entry(self, identity: int) -> None:
        world = self.world()
        new = attachment("new", 7, Provisional(identity, ("10.244.1.2",)))
        assert self.endpoints(world, new) == {}


def test_a_new_incarnation_takes_the_address_and_its_old_one_loses_it() -> None:
    world = World()
    world.pod("x/a", {"app": "a"}, ip="10.244.1.1", uid="first")
    world.pod("x/b", {"app": "b"}, ip="10.244.1.1", uid="second")
    maps = world.judge("n1").maps
    assert maps.endpoints[address("10.244.1.1")].incarnation == incarnation("second")
    world.stop("first")
    assert world.judge("n1").maps == maps


class TestSpan:
    """In overlay mode a node writes nothing for pods elsewhere that its egress does not name."""

    def world(self, **spec: object) -> World:
        world = World(nodes=3)
        world.pod("x/client", {"app": "client"}, ip="10.244.1.1")
        world.pod("x/server", {"app": "server"}, ip="10.244.2.1", node="n2")
        if spec:
            client = {"matchLabels": {"app": "client"}}
            world.policy(network_policy("p", "x", podSelector=client, **spec))
        return world

    def started(self, world: World, node: str, mode: Mode = Mode.OVERLAY) -> dict[str, int]:
        """Writes of `node` when one more server starts on another node."""
        before = world.judge(node, mode).maps
        world.pod("x/more", {"app": "server"}, ip="10.244.3.9", node="n3")
        return diff(before, world.judge(node, mode).maps).counts()

    def needs(self, world: World, remote: str = "10.244.3.9") -> list[Need]:
        return Compiler().explain_span(world.state, "n1", world.attachments("n1"), remote)

    def test_a_started_pod_costs_other_nodes_nothing(self) -> None:
        for spec in ({}, {"ingress": [{}]}, {"ingress": [{"from": [{"podSelector": {}}]}]}):
            world = self.world(**spec)
            assert self.started(world, "n1") == {}
            assert self.needs(world) == []

    def test_a_local_egress_rule_that_names_its_identity_needs_its_binding(self) -> None:
        servers = {"podSelector": {"matchLabels": {"app": "server"}}}
        world = self.world(policyTypes=["Egress"], egress=[{"to": [servers]}])
        assert self.started(world, "n1") == {"hosts": 1}
        assert self.needs(world) == [
            Need("x/client", ("NetworkPolicy", "x", "p"), "spec.egress[0]")
        ]
        assert world.flow("x/client", "x/more").allowed

    def test_nodes_whose_pods_the_rule_does_not_select_need_nothing(self) -> None:
        servers = {"podSelector": {"matchLabels": {"app": "server"}}}
        world = self.world(policyTypes=["Egress"], egress=[{"to": [servers]}])
        assert self.started(world, "n2") == {}

    def test_a_rule_for_others_does_not_need_it(self) -> None:
        others = {"podSelector": {"matchLabels": {"app": "other"}}}
        world = self.world(policyTypes=["Egress"], egress=[{"to": [others]}])
        assert self.started(world, "n1") == {}
        assert self.needs(world) == []

    def test_a_rule_for_anyone_needs_it(self) -> None:
        world = self.world(policyTypes=["Egress"], egress=[{"ports": [{"port": 80}]}])
        assert self.started(world, "n1") == {"hosts": 1}
        assert [need.rule for need in self.needs(world)] == ["spec.egress[0]"]

    def test_a_rule_for_a_cidr_that_holds_it_needs_it(self) -> None:
        block = {"cidr": "10.244.3.0/24", "except": ["10.244.3.128/25"]}
        world = self.world(policyTypes=["Egress"], egress=[{}, {"to": [{"ipBlock": block}]}][1:])
        assert self.started(world, "n1") == {"hosts": 1}
        world.pod("x/excepted", {"app": "server"}, ip="10.244.3.200", node="n3")
        assert [need.rule for need in self.needs(world)] == ["spec.egress[0]"]
        assert self.needs(world, "10.244.3.200") == []
        assert address("10.244.3.200") not in world.judge("n1").maps.hosts
        assert world.flow("x/client", "x/more").allowed
        assert not world.flow("x/client", "x/excepted").allowed

    def test_a_rule_that_denies_it_needs_it(self) -> None:
        client, server = ({"matchLabels": {"app": app}} for app in ("client", "server"))
        world = self.world()
        deny = {"endpointSelector": client, "egressDeny": [{"toEndpoints": [server]}]}
        world.policy(cilium_policy("p", "x", **deny))
        assert self.started(world, "n1") == {"hosts": 1}
        assert world.flow("x/client", "x/more").egress is Reason.DENIED_POLICY

    def test_where_all_may_pass_that_no_rule_denies_every_pod_is_needed(self) -> None:
        """Unknown drops in every enforced direction: to pass by default a peer must be known."""
        world = self.world()
        deny = {"action": "Deny", "to": [{"networks": ["192.0.2.0/24"]}]}
        world.policy(tiered_policy("p", egress=[deny]))
        assert self.started(world, "n1") == {"hosts": 1}
        assert world.flow("x/client", "x/more").egress is Reason.ALLOWED_NO_POLICY
        assert world.flow("x/client", "192.0.2.1").egress is Reason.DENIED_POLICY
        assert self.needs(world) == [
            Need("x/client", ("ClusterNetworkPolicy", "", "p"), "spec.egress[0]")
        ]

    def test_rules_for_the_world_need_nobody(self) -> None:
        for peers in {"toEntities": ["world"]}, {"toCIDR": ["10.0.0.0/8"]}:
            world = self.world()
            world.policy(cilium_policy("p", "x", egress=[peers]))
            assert self.started(world, "n1") == {}
            assert self.needs(world) == []
            assert not world.compilers["n1"].note(world.history[-1:])

    def test_a_direction_that_is_closed_to_all_needs_nobody(self) -> None:
        world = self.world()
        world.emit(SettingsAdopted("c", 0, 8, (), (), (), 1, enforcement="always"))
        assert self.started(world, "n1") == {}

    def test_in_native_mode_every_node_writes_it(self) -> None:
        assert self.started(self.world(), "n1", Mode.NATIVE) == {"hosts": 1}

    def test_local_pods_host_pods_and_unknown_addresses_need_no_explanation(self) -> None:
        world = self.world(policyTypes=["Egress"], egress=[{}])
        for remote in ("10.244.1.1", "10.9.9.9"):
            assert self.needs(world, remote) == []


def test_what_a_compiler_remembers_changes_nothing() -> None:
    world = World(nodes=2)
    compilers = {(node, mode): Compiler() for node in ("n1", "n2") for mode in Mode}

    def check() -> None:
        for (node, mode), compiler in compilers.items():
            attached = world.attachments(node)
            compiler.note(world.untold)
            is_anew = compiler.update(world.state, node, mode, attached) is None
            assert is_anew == (world.state.sequence == 2)
            assert compiler.maps == Compiler().compile(world.state, node, mode, attached)
        world.untold.clear()

    check()
    world.pod("x/a", {"app": "a"}, ip="10.244.1.1", ports=(("web", 80, "TCP"),))
    world.pod("x/b", {"app": "b"}, ip="10.244.2.1", node="n2")
    check()
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}
    world.policy(
        network_policy(
            "p", "x", ingress=[{"from": [{"podSelector": {}}, block], "ports": [{"port": "web"}]}]
        )
    )
    check()
    world.namespace("x", {"team": "one"})
    check()
    world.policy(
        network_policy("q", "y", ingress=[{"from": [{"ipBlock": {"cidr": "10.3.0.0/16"}}]}])
    )
    check()
    world.relabel("x/b", {"app": "a"})
    check()
    world.node("n3", ("192.168.9.3",), ("10.3.0.0/24",))
    check()
    world.forget("y", "q")
    world.stop("x/a")
    check()


def test_an_unknown_address_in_a_pods_range_is_not_world() -> None:
    world = World()
    world.pod("x/a", {}, ip="10.244.1.1")
    world.policy(
        network_policy("p", "x", policyTypes=["Ingress", "Egress"], ingress=[{}], egress=[{}])
    )
    for mode in Mode:
        assert world.flow("x/a", "10.244.2.77", mode=mode).egress is Reason.DENIED_UNKNOWN_PEER
        assert world.flow("10.244.2.77", "x/a", mode=mode).ingress is Reason.DENIED_UNKNOWN_PEER
        assert world.flow("x/a", "8.8.8.8", mode=mode).egress is Reason.ALLOWED_POLICY


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.permutations(range(6)))
def test_the_order_of_attachments_does_not_matter(order: list[int]) -> None:
    world = World(nodes=1)
    for number in range(6):
        world.pod(f"x/p{number}", {"app": str(number % 2)}, ip=f"10.244.1.{number}")
    world.policy(network_policy("p", "x", ingress=[{"from": [{"podSelector": {}}]}]))
    attached = world.attachments("n1")
    shuffled = {f"x/p{number}": attached[f"x/p{number}"] for number in order}
    first = Compiler().compile(world.state, "n1", Mode.OVERLAY, attached)
    assert Compiler().compile(world.state, "n1", Mode.OVERLAY, shuffled) == first

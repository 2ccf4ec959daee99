"""A change is written map by map; what both its ends deny is denied after each step."""

from collections.abc import Iterator
from typing import Any

import pytest

from tabard.dataplane.maps import Direction, Maps, Mode, Reason, address
from tabard.dataplane.port import Change, MapSizes, NodeConfig
from tabard.dataplane.verdict import Judge, flow_verdict
from tabard.policy.diff import diff
from tabard.simulator.kernel import SimulatedKernel
from world import World, cilium_policy, network_policy, tiered_policy

WEB, PEER, OUTSIDE = "10.244.1.5", "10.244.2.10", "203.0.113.7"


def shop(*documents: dict[str, Any]) -> World:
    world = World()
    world.pod("x/web", {"app": "web"}, ip=WEB)
    world.pod("x/peer", {"app": "peer"}, node="n2", ip=PEER)
    for document in documents:
        world.policy(document)
    return world


def steps(maps: Maps, change: Change) -> Iterator[Maps]:
    """`maps` after each entry that is written, in Change's order."""
    kernel = SimulatedKernel(NodeConfig("n1", Mode.NATIVE, ()), MapSizes(), set(), lambda: 0)
    kernel.write(diff(Maps(), maps))
    kernel.stage_entries_max = 1
    for stage in kernel.stages(change):
        stage()
        yield kernel.read()


def egress(world: World, maps: Maps, peer: str, mode: Mode) -> Reason | None:
    judges = {"n1": Judge(maps, mode), "n2": world.judge("n2", mode)}
    return flow_verdict(judges, address(WEB), address(peer), 6, 80).egress


ways = pytest.mark.parametrize("by_diff", [False, True], ids=["told", "by diff"])


def settled(world: World, mode: Mode, *, by_diff: bool) -> tuple[Maps, Change]:
    """The maps of before what the first node's compiler was not told of yet, and the change: as the
    compiler tells it, or as both ends alone do."""
    compiler = world.compilers["n1"]
    before = compiler.maps.copy()
    told = world.state.sequence - compiler._sequence
    compiler.note(world.history[-told:])
    world._told["n1"] = len(world.history)
    change = compiler.update(world.state, "n1", mode, world.attachments("n1"))
    assert change is not None
    return before, diff(before, compiler.maps) if by_diff else change


def replaced(
    world: World, document: dict[str, Any], mode: Mode, *, by_diff: bool
) -> tuple[Maps, Change]:
    """`settled`, of a policy that is replaced: endpoints are turned to another rule set."""
    world.judge("n1", mode)
    world.policy(document)
    before, change = settled(world, mode, by_diff=by_diff)
    assert change.endpoints_set
    return before, change


def denied_throughout(
    world: World, before: Maps, change: Change, mode: Mode, *peers: str, unknown: bool
) -> None:
    """After each step, by a rule; or if they may be `unknown` meanwhile, as such."""
    reasons = {Reason.DENIED_POLICY} | ({Reason.DENIED_UNKNOWN_PEER} if unknown else set())
    maps = before
    for maps in steps(before, change):
        for peer in peers:
            assert egress(world, maps, peer, mode) in reasons
    assert maps == world.compilers["n1"].maps


ADMIN = tiered_policy("admin", egress=[{"action": "Deny", "to": [{"networks": ["10.244.2.0/24"]}]}])
ALL = network_policy("all", "x", egress=[{}], policyTypes=["Egress"])
NARROW = cilium_policy("narrow", egressDeny=[{"toCIDR": [f"{PEER}/32", f"{OUTSIDE}/32"]}])
BROAD = cilium_policy("narrow", egressDeny=[{"toCIDR": ["203.0.113.0/24"]}])


@ways
@pytest.mark.parametrize("mode", Mode)
def test_a_cidr_that_comes_within_a_denied_one_opens_nothing_on_the_way(
    mode: Mode, by_diff: bool
) -> None:
    """Packets meet it before they meet the rule set that speaks of it."""
    world = shop(ADMIN, ALL, BROAD)
    before, change = replaced(world, NARROW, mode, by_diff=by_diff)
    assert change.prefixes_set
    denied_throughout(world, before, change, mode, PEER, OUTSIDE, unknown=by_diff)


@ways
@pytest.mark.parametrize("mode", Mode)
def test_a_cidr_that_goes_from_within_a_denied_one_opens_nothing_on_the_way(
    mode: Mode, by_diff: bool
) -> None:
    """Packets meet the new rule set before they meet the CIDRs that are left to it."""
    world = shop(ADMIN, ALL, NARROW)
    before, change = replaced(world, BROAD, mode, by_diff=by_diff)
    assert change.prefixes_removed
    denied_throughout(world, before, change, mode, PEER, OUTSIDE, unknown=by_diff)


@ways
@pytest.mark.parametrize("mode", Mode)
def test_a_cidr_that_goes_from_around_pods_opens_nothing_on_the_way(
    mode: Mode, by_diff: bool
) -> None:
    """Their range has an entry of its own, which is then what lies around that CIDR."""
    around = {"to": [{"networks": ["10.0.0.0/8"]}]}
    rules = [{"action": "Deny", "to": [{"networks": ["10.244.0.0/16"]}]}, {"action": "Accept"}]
    passing = [rules[0], {**rules[1], **around}]
    world = shop(tiered_policy("admin", egress=passing), BROAD)
    after = tiered_policy("admin", egress=[{"action": "Deny", **around}])
    before, change = replaced(world, after, mode, by_diff=by_diff)
    assert change.prefixes_widened
    denied_throughout(world, before, change, mode, PEER, unknown=by_diff)


@ways
@pytest.mark.parametrize("mode", Mode)
def test_a_pod_that_comes_while_a_policy_changes_is_denied_by_both_throughout(
    mode: Mode, by_diff: bool
) -> None:
    """Its identity is new: the rule set of before must not meet it without what it says of it."""
    deny = [{"toEndpoints": [{"matchLabels": {"app": "late"}}]}]
    world = shop(ALL, cilium_policy("late", egressDeny=deny))
    world.judge("n1", mode)
    world.policy(cilium_policy("late", egressDeny=[*deny, {"toCIDR": [f"{OUTSIDE}/32"]}]))
    world.pod("x/late", {"app": "late"}, node="n2", ip="10.244.2.20")
    before, change = settled(world, mode, by_diff=by_diff)
    assert change.endpoints_set
    assert change.identities_added
    denied_throughout(world, before, change, mode, "10.244.2.20", unknown=True)


ALLOW_A = network_policy(
    "web",
    "x",
    podSelector={"matchLabels": {"app": "web"}},
    egress=[{"to": [{"podSelector": {"matchLabels": {"app": "a"}}}]}],
)
ALLOW_B = network_policy(
    "web",
    "x",
    podSelector={"matchLabels": {"app": "web"}},
    egress=[{"to": [{"podSelector": {"matchLabels": {"app": "b"}}}]}],
)
HERE, THERE = "10.244.1.4", "10.244.2.6"


def turned_towards(world: World, mode: Mode, *, by_diff: bool) -> None:
    """No packet passes to HERE or THERE while all is written that was not yet."""
    before, change = settled(world, mode, by_diff=by_diff)
    assert change.endpoints_set
    denied_throughout(world, before, change, mode, HERE, THERE, unknown=True)


def labelled(*documents: dict[str, Any]) -> World:
    """`shop`, with pods elsewhere that have the labels of those which come."""
    world = shop(*documents)
    for label in "abc":
        world.pod(f"x/{label}", {"app": label}, node="n2", ip=f"10.244.2.{ord(label)}")
    return world


@ways
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(("node", "ip"), [("n1", HERE), ("n2", THERE)])
def test_a_pod_that_comes_is_not_met_by_rules_that_go(
    mode: Mode, node: str, ip: str, by_diff: bool
) -> None:
    world = labelled(ALLOW_A)
    world.judge("n1", mode)
    world.policy(ALLOW_B)
    world.pod("x/new", {"app": "a"}, node=node, ip=ip)
    turned_towards(world, mode, by_diff=by_diff)


@ways
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(("node", "ip"), [("n1", HERE), ("n2", THERE)])
def test_a_pod_that_goes_is_not_met_by_rules_that_come(
    mode: Mode, node: str, ip: str, by_diff: bool
) -> None:
    world = labelled(ALLOW_A)
    world.pod("x/old", {"app": "b"}, node=node, ip=ip)
    world.judge("n1", mode)
    world.stop("x/old")
    world.policy(ALLOW_B)
    turned_towards(world, mode, by_diff=by_diff)


@ways
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(("node", "ip"), [("n1", HERE), ("n2", THERE)])
@pytest.mark.parametrize(("was", "then"), [("b", "c"), ("c", "a"), ("b", "a")])
def test_a_pod_that_is_relabelled_is_met_neither_by_rules_that_go_nor_by_those_that_come(
    mode: Mode, node: str, ip: str, was: str, then: str, by_diff: bool
) -> None:
    world = labelled(ALLOW_A)
    world.pod("x/other", {"app": was}, node=node, ip=ip)
    world.judge("n1", mode)
    world.relabel("x/other", {"app": then})
    world.policy(ALLOW_B)
    turned_towards(world, mode, by_diff=by_diff)


@ways
@pytest.mark.parametrize("is_new", [True, False])
def test_who_speaks_from_elsewhere_is_known_only_to_rules_of_the_same_time(
    is_new: bool, by_diff: bool
) -> None:
    """Its node vouches for it, whether this one knows it yet, or still, or not."""
    anyone = network_policy("in", "x", ingress=[{}])
    but = [{"fromEndpoints": [{"matchLabels": {"app": "d"}}]}]
    world = shop(anyone)
    if is_new:
        world.judge("n1", Mode.OVERLAY)
        world.policy(cilium_policy("but", ingressDeny=but))
        world.pod("x/d", {"app": "d"}, node="n2", ip=THERE)
        number = world.state.endpoints["x/d"].identity
    else:
        world.policy(cilium_policy("but", ingressDeny=but))
        number = world.identity(world.labels_of("x", {"app": "d"}))
        world.judge("n1", Mode.OVERLAY)
        world.retire(number)
        world.forget("", "but", "CiliumClusterwideNetworkPolicy")
    before, change = settled(world, Mode.OVERLAY, by_diff=by_diff)
    assert change.endpoints_set
    assert number in change.identities_added | change.identities_removed
    for maps in steps(before, change):
        web = maps.endpoints[address(WEB)]
        judge = Judge(maps, Mode.OVERLAY)
        assert not judge.verdict(Direction.INGRESS, web, number, address(THERE), 6, 80).allowed


@ways
def test_open_flows_go_on_to_pods_that_a_new_rule_set_is_the_first_to_name(by_diff: bool) -> None:
    """In overlay mode their bindings come with it, though nobody is another than before."""
    world = labelled()
    world.pod("x/a-too", {"app": "a"}, node="n2", ip=THERE)
    before, change = replaced(world, ALLOW_A, Mode.OVERLAY, by_diff=False)
    assert address(THERE) in change.hosts_set
    assert not change.rebound
    for maps in steps(before, change):
        assert egress(world, maps, THERE, Mode.OVERLAY).allowed

"""A change is written map by map; what both its ends deny is denied after each step."""

from collections.abc import Iterator
from typing import Any

import pytest

from tabard.dataplane.maps import MAP_NAMES, Maps, Mode, Reason, address
from tabard.dataplane.port import Change
from tabard.dataplane.verdict import Judge, flow_verdict
from tabard.policy.diff import diff
from world import World, cilium_policy, network_policy, tiered_policy

SETS = ("identities", "nodes")
WEB, PEER, OUTSIDE = "10.244.1.5", "10.244.2.10", "203.0.113.7"


def shop(*documents: dict[str, Any]) -> World:
    world = World()
    world.pod("x/web", {"app": "web"}, ip=WEB)
    world.pod("x/peer", {"app": "peer"}, node="n2", ip=PEER)
    for document in documents:
        world.policy(document)
    return world


def steps(maps: Maps, change: Change) -> Iterator[Maps]:
    """`maps` after each map that is written, in Change's order."""
    tables: dict[str, dict[Any, Any]] = {name: _table(getattr(maps, name)) for name in MAP_NAMES}
    for name in MAP_NAMES:
        if name == "identities" and change.knows_late:
            continue
        if name == "endpoints" and change.knows_late:
            for number in change.identities_removed:
                del tables["identities"][number]
            yield _maps(tables)
        verb = "added" if name in SETS else "set"
        tables[name].update(_table(getattr(change, f"{name}_{verb}")))
        yield _maps(tables)
    if change.knows_late:
        tables["identities"].update(_table(change.identities_added))
        yield _maps(tables)
    for name in reversed(MAP_NAMES):
        if name == "identities" and change.knows_late:
            continue
        if name == "prefixes":
            tables[name].update(change.prefixes_widened)
            yield _maps(tables)
        for key in getattr(change, f"{name}_removed", ()):
            del tables[name][key]
        yield _maps(tables)


def _table(entries: Any) -> dict[Any, Any]:
    return dict.fromkeys(entries) if isinstance(entries, frozenset | set) else dict(entries)


def _maps(tables: dict[str, dict[Any, Any]]) -> Maps:
    return Maps(**{k: frozenset(v) if k in SETS else dict(v) for k, v in tables.items()})


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

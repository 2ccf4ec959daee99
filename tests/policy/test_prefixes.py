import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from strategies import CIDRS, ip_blocks
from tabard.dataplane.maps import AT_CIDR, Mode, PrefixEntry, PrefixFlag, address
from tabard.dataplane.verdict import Prefixes
from tabard.identity.labels import label_set
from tabard.ledger.state import Node
from tabard.policy.model import Cidr
from tabard.policy.prefixes import PrefixMap, Universe, members, prefix
from world import World, network_policy

NUMBERS = {cidr: (1 << 24) + index for index, cidr in enumerate(CIDRS)}
SIXES = ("::/0", "fd00::/8", "fd00:1::/32", "::/64")


@given(ip_blocks(), st.sets(st.sampled_from(CIDRS)), st.integers(0, 1 << 32 - 1))
def test_identities_inside_a_cidr_are_its_addresses_and_no_others(
    block: dict, others: set[str], number: int
) -> None:
    peer = Cidr(block["ipBlock"]["cidr"], tuple(block["ipBlock"]["except"]))
    named = {peer.prefix, *peer.excepts, *others}
    universe = Universe({cidr: NUMBERS[cidr] for cidr in named})
    lookup = Prefixes(PrefixMap(universe, {}, "n1", Mode.OVERLAY).entries)
    near = [ipaddress.ip_network(cidr) for cidr in CIDRS]
    edges = [
        edge for net in near for edge in (net[0], net[-1], net[-1] + 1 if net.prefixlen else net[0])
    ]
    for ip in (ipaddress.IPv4Address(number), *edges):
        expected = ip in ipaddress.ip_network(peer.prefix) and not any(
            ip in ipaddress.ip_network(hole) for hole in peer.excepts
        )
        entry = lookup.match(address(str(ip)))
        assert entry is not None
        is_inside = PrefixFlag.CIDR in entry.flags and entry.identity in universe.inside(peer)
        assert is_inside == expected


peers = st.builds(
    lambda block, holds_members: Cidr(
        block["ipBlock"]["cidr"], tuple(sorted(set(block["ipBlock"]["except"]))), holds_members
    ),
    ip_blocks(),
    st.booleans(),
) | st.sampled_from([Cidr(cidr) for cidr in SIXES])
changes = st.dictionaries(
    st.sampled_from((*CIDRS, *SIXES)), st.none() | st.integers(1 << 24, (1 << 24) + 30), max_size=4
)


@given(st.lists(changes, max_size=6), st.lists(peers, unique=True, max_size=4), st.data())
def test_what_is_moved_comes_to_what_is_made_anew(
    steps: list[dict[str, int | None]], tracked: list[Cidr], data: st.DataObject
) -> None:
    universe = Universe({})
    prefixes = PrefixMap(universe, NODES, "n1", Mode.OVERLAY)
    for peer in tracked:
        universe.track(peer)
    for step in steps:
        if tracked and data.draw(st.booleans()):
            universe.release(tracked.pop())
        after = {**universe.numbers, **step}
        held = [number for number in after.values() if number is not None]
        if len(set(held)) < len(held):
            continue  # a number is one CIDR's
        before = dict(prefixes.entries)
        found = prefixes.update(step)
        universe.update(step)
        anew = Universe(universe.numbers)
        made = PrefixMap(anew, NODES, "n1", Mode.OVERLAY).entries
        assert prefixes.entries == made
        assert {**dict.fromkeys(made), **before, **found} == {**dict.fromkeys(found), **made}
        for peer in tracked:
            assert universe.inside(peer) == anew.inside(peer)
            for number in universe.numbers.values():
                for one in (number, number | AT_CIDR):
                    assert (peer in universe.naming(one)) == (one in members(anew, peer))


def test_nothing_is_inside_a_cidr_whose_except_has_no_identity_yet() -> None:
    peer = Cidr("10.0.0.0/8", ("10.1.0.0/16",))
    assert Universe({"10.0.0.0/8": 1 << 24}).inside(peer) == frozenset()
    both = Universe({"10.0.0.0/8": 1 << 24, "10.1.0.0/16": (1 << 24) + 1})
    assert both.inside(peer) == {1 << 24}


def test_a_cidr_without_an_identity_is_left_out() -> None:
    world = World(nodes=1)
    world.pod("x/a", {}, ip="10.244.1.1")
    blocks = [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "11.0.0.0/8"}}]
    world.policy(network_policy("p", "x", ingress=[{"from": blocks}]))
    gone = label_set(["cidr:11.0.0.0/8"])
    world.retire(world.state.numbers[gone])
    maps = world.judge("n1").maps
    assert prefix("10.0.0.0/8") in maps.prefixes
    assert prefix("11.0.0.0/8") not in maps.prefixes
    assert world.flow("10.3.3.3", "x/a").allowed
    assert not world.flow("11.3.3.3", "x/a").allowed


def test_ipv6_cidrs_never_hold_ipv4_addresses() -> None:
    universe = Universe({cidr: (1 << 24) + index for index, cidr in enumerate(SIXES)})
    lookup = Prefixes(PrefixMap(universe, {}, "n1", Mode.OVERLAY).entries)
    assert lookup.match(address("1.2.3.4")) == PrefixEntry(9)
    assert lookup.match(address("fd00:1::5")) == PrefixEntry((1 << 24) + 2, PrefixFlag.CIDR)
    assert lookup.match(address("2001:db8::1")) == PrefixEntry(1 << 24, PrefixFlag.CIDR)
    inside = universe.inside(Cidr("::/0", ("fd00::/8",)))
    assert inside == {1 << 24, (1 << 24) + 3}


NODES = {
    "n1": Node("n1", ("192.168.9.1",), ("10.244.1.0/24", "fd00:1::/64")),
    "n2": Node("n2", ("fd99::2", "192.168.9.2"), ("10.244.2.0/24", "fd00:2::/64")),
    "n3": Node("n3", (), ("10.244.3.0/24",)),
}


def test_pods_ranges_are_marked_and_lead_to_their_node() -> None:
    universe = Universe({"10.244.0.0/16": 1 << 24, "10.244.2.128/25": (1 << 24) + 1})
    entries = PrefixMap(universe, NODES, "n1", Mode.OVERLAY).entries
    cidr_range = PrefixFlag.CIDR | PrefixFlag.POD_RANGE
    tunnel = address("192.168.9.2")
    assert entries == {
        prefix("0.0.0.0/0"): PrefixEntry(9),
        prefix("::/0"): PrefixEntry(10),
        prefix("10.244.0.0/16"): PrefixEntry(1 << 24, PrefixFlag.CIDR),
        prefix("10.244.1.0/24"): PrefixEntry(1 << 24, cidr_range),
        prefix("10.244.2.0/24"): PrefixEntry(1 << 24, cidr_range, tunnel),
        prefix("10.244.2.128/25"): PrefixEntry((1 << 24) + 1, cidr_range, tunnel),
        prefix("10.244.3.0/24"): PrefixEntry(1 << 24, cidr_range),
        prefix("fd00:1::/64"): PrefixEntry(10, PrefixFlag.POD_RANGE),
        prefix("fd00:2::/64"): PrefixEntry(10, PrefixFlag.POD_RANGE, tunnel),
    }


def test_in_native_mode_nothing_is_tunnelled() -> None:
    entries = PrefixMap(Universe({}), NODES, "n1", Mode.NATIVE).entries
    assert not any(entry.tunnel for entry in entries.values())


def test_the_whole_world_can_be_named() -> None:
    universe = Universe({"0.0.0.0/0": 1 << 24})
    entries = PrefixMap(universe, {}, "n1", Mode.OVERLAY).entries
    assert entries[prefix("0.0.0.0/0")] == PrefixEntry(1 << 24, PrefixFlag.CIDR)
    assert entries[prefix("::/0")] == PrefixEntry(10)

"""What may pass by some policy state of a window: ledgers told by hand, and golden ones."""

import itertools

import pytest

from golden.files import Golden, every
from tabard.dataplane.maps import Mode
from tabard.events.ledger import PodRefused
from tabard.identity.labels import label_set
from tabard.invariants.open import Flow, Openness
from tabard.invariants.past import Past, Window
from tabard.ledger.state import State
from tabard.policy.engine import Engine
from world import World, network_policy

WEB, DB = "shop/web", "shop/db"
FROM_WEB = network_policy(
    "db",
    "shop",
    podSelector={"matchLabels": {"app": "db"}},
    ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}],
)


def shop() -> World:
    """A web pod on n1, a database on n2; nobody is isolated yet."""
    world = World()
    world.pod(WEB, {"app": "web"}, node="n1", ip="10.244.1.1")
    world.pod(DB, {"app": "db"}, node="n2", ip="10.244.2.1")
    return world


def past_of(world: World) -> Past:
    past = Past()
    for record in world.history:
        past.take(record)
    return past


def flow(source: str = WEB, destination: str = DB) -> Flow:
    addresses = {WEB: "10.244.1.1", DB: "10.244.2.1"}
    return Flow(
        source if "/" in source else "",
        addresses.get(source, source),
        destination,
        addresses.get(destination, destination),
        6,
        80,
    )


def at(first: int, last: int = 0) -> Window:
    return Window(first, last or first)


def test_a_flow_passes_by_a_state_of_the_receivers_window_alone() -> None:
    world = shop()
    open_at = world.state.sequence
    world.policy(network_policy("closed", "shop", ingress=[]))
    closed_at = world.state.sequence
    openness = Openness(past_of(world))
    assert openness.may_pass(flow(), at(open_at), at(open_at))
    assert openness.may_pass(flow(), at(closed_at), at(open_at, closed_at))
    assert not openness.may_pass(flow(), at(open_at, closed_at), at(closed_at))


def test_a_flow_passes_by_a_state_of_the_senders_window_alone() -> None:
    world = shop()
    open_at = world.state.sequence
    world.policy(network_policy("closed", "shop", policyTypes=["Egress"], egress=[]))
    closed_at = world.state.sequence
    openness = Openness(past_of(world))
    assert openness.may_pass(flow(), at(open_at, closed_at), at(closed_at))
    assert not openness.may_pass(flow(), at(closed_at), at(open_at, closed_at))


def test_the_receiver_judges_what_the_sender_was_when_it_sent() -> None:
    world = shop()
    world.policy(FROM_WEB)
    before = world.state.sequence
    world.relabel(WEB, {"app": "other"})
    after = world.state.sequence
    openness = Openness(past_of(world))
    assert openness.may_pass(flow(), at(before), at(after))
    assert openness.may_pass(flow(), at(before, after), at(after))
    assert not openness.may_pass(flow(), at(after), at(after))
    native = Openness(openness.past, Mode.NATIVE)
    assert not native.may_pass(flow(), at(before), at(after))
    assert native.may_pass(flow(), at(after), at(before, after))


def test_a_label_set_that_the_receiver_does_not_know_is_nobody() -> None:
    world = shop()
    world.policy(FROM_WEB)
    world.pod("shop/web2", {"app": "web", "v": "2"}, node="n1", ip="10.244.1.2")
    known = world.state.sequence
    openness = Openness(past_of(world))
    asked = Flow("shop/web2", "10.244.1.2", DB, "10.244.2.1", 6, 80)
    assert openness.may_pass(asked, at(known), at(known))
    assert not openness.may_pass(asked, at(known), at(known - 2))


def test_a_number_that_became_anothers_is_judged_as_the_other() -> None:
    world = shop()
    world.policy(FROM_WEB)
    number = world.state.endpoints[WEB].identity
    before = world.state.sequence
    world.stop(WEB)
    world.retire(number)
    world.pod("shop/spy", {"app": "spy"}, node="n1", ip="10.244.1.1")
    assert world.state.endpoints["shop/spy"].identity == number
    asked = Flow("shop/spy", "10.244.1.1", DB, "10.244.2.1", 6, 80)
    openness = Openness(past_of(world))
    assert not openness.may_pass(asked, at(world.state.sequence), at(before))


def test_a_pod_that_stopped_gets_and_sends_nothing() -> None:
    world = shop()
    world.stop(WEB)
    openness, now = Openness(past_of(world)), at(world.state.sequence)
    assert not openness.may_pass(flow(), now, now)
    assert not openness.may_pass(flow(DB, WEB), now, now)


def test_a_pod_may_start_ahead_of_the_ledger() -> None:
    world = shop()
    world.policy(FROM_WEB)
    past, now = past_of(world), at(world.state.sequence)
    asked = Flow("shop/new", "10.244.1.9", DB, "10.244.2.1", 6, 80)
    assert not Openness(past).may_pass(asked, now, now)
    past.assume("shop/new", "shop/new", "n1", world.labels_of("shop", {"app": "web"}))
    assert Openness(past).may_pass(asked, now, now)
    past.assume("shop/no", "shop/no", "n1", label_set(("k8s:app=other",)))
    no = Flow("shop/no", "10.244.1.8", DB, "10.244.2.1", 6, 80)
    assert not Openness(past).may_pass(no, now, now)


def test_a_pod_may_not_start_against_the_ledger() -> None:
    world = shop()
    past, now = past_of(world), at(world.state.sequence)
    past.assume("shop/new", "shop/new", "n1", world.labels_of("shop", {"app": "web"}))
    at_webs = Flow("shop/new", "10.244.1.1", DB, "10.244.2.1", 6, 80)
    assert not Openness(past).may_pass(at_webs, now, now)
    to_it = Flow(DB, "10.244.2.1", "shop/new", "10.244.1.1", 6, 80)
    assert not Openness(past).may_pass(to_it, now, now)


def test_a_refusal_takes_away_what_was_only_assumed_and_nothing_that_is_bound() -> None:
    world = shop()
    past, labels = past_of(world), world.labels_of("shop", {"app": "web"})
    past.assume("shop/new", "shop/new", "n1", labels)
    for uid in ("shop/new", WEB):
        refused = (uid, "shop", "x", "", False, "n1", (), (), 0, "default", (), "", False)
        world.emit(PodRefused(*refused))
        past.take(world.history[-1])
    now = at(world.state.sequence)
    asked = Flow("shop/new", "10.244.1.9", DB, "10.244.2.1", 6, 80)
    assert not Openness(past).may_pass(asked, now, now)
    assert Openness(past).may_pass(flow(), now, now)


def test_a_pods_address_without_a_mark_is_nobodys_in_overlay_mode() -> None:
    world = shop()
    world.policy(FROM_WEB)
    now = at(world.state.sequence)
    forged = Flow("", "10.244.1.1", DB, "10.244.2.1", 6, 80)
    past = past_of(world)
    assert not Openness(past).may_pass(forged, now, now)
    assert Openness(past, Mode.NATIVE).may_pass(forged, now, now)


def test_the_world_and_the_own_node_are_judged_by_address() -> None:
    world = shop()
    world.policy(
        network_policy("db", "shop", ingress=[{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}])
    )
    openness, now = Openness(past_of(world)), at(world.state.sequence)
    assert openness.may_pass(flow("203.0.113.9"), now, now)
    assert not openness.may_pass(flow("198.51.100.9"), now, now)
    assert openness.may_pass(flow("192.168.9.2"), now, now), "its own node"
    assert not openness.may_pass(flow("192.168.9.1"), now, now), "another node"


@pytest.mark.parametrize("golden", every(), ids=lambda golden: golden.name)
def test_at_one_sequence_it_is_the_engines_opinion_of_that_state(golden: Golden) -> None:
    past = Past()
    openness = Openness(past)
    judged = 0
    end = len(golden.ledger)
    for state, record in golden.replay():
        if record is not None:
            past.take(record)
        if state.sequence % (end // 6 + 1) == 0 or state.sequence == end:
            judged += agree(openness, state)
    assert judged


def agree(openness: Openness, state: State) -> int:
    engine, now, judged = Engine(state), at(state.sequence), 0
    pods = [one for one in state.endpoints.values() if one.addresses and not one.host_network]
    ends = [(one.uid, one.addresses[0]) for one in pods[::3]]
    outside = [("", address) for address in ("203.0.113.9", "8.8.8.8", "2001:db8::9")]
    nodes = [("", node.addresses[0]) for node in state.nodes.values() if node.addresses]
    for source, destination in itertools.product(ends + outside + nodes, ends + outside):
        if source == destination or (":" in source[1]) != (":" in destination[1]):
            continue
        for protocol, port in ((6, 80), (6, 8080), (17, 53)):
            asked = Flow(*source, *destination, protocol, port)
            decision = engine.decide(source[1], destination[1], protocol, port)
            halves = [
                half
                for half, uid in ((decision.egress, source[0]), (decision.ingress, destination[0]))
                if uid
            ]
            expected = all(half is None or half.reason.allowed for half in halves)
            assert openness.may_pass(asked, now, now) == expected, (state.sequence, asked)
            judged += 1
    return judged

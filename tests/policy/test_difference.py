"""What differs between two sets of policies is what the engine lets pass on one side alone."""

from itertools import product
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from languages import cilium, tiered
from parties import NODES, STRANGERS, pods, told
from parties import policies as network_policies
from tabard.dataplane.maps import Protocol
from tabard.ledger.state import State
from tabard.policy.difference import Counterpart, Side, differences
from tabard.policy.parties import PartyError
from tabard.policy.traffic import NOTHING, Traffic, difference, joined
from world import World, network_policy

several = st.lists(tiered() | cilium(), max_size=2)


def parties(state: State) -> list[Counterpart]:
    names = [*state.endpoints, *NODES, *STRANGERS]
    return [Counterpart(name, (name,), (name,), same=True) for name in names]


def found(before: State, after: State) -> dict[tuple[str, str, bool], Traffic]:
    pieces: dict[tuple[str, str, bool], list[Traffic]] = {}
    for each in differences(Side(before), Side(after), parties(before)):
        pieces.setdefault((each.source, each.destination, each.allowed), []).append(each.traffic)
    return {key: joined(traffic) for key, traffic in pieces.items()}


def expected(before: State, after: State) -> dict[tuple[str, str, bool], Traffic]:
    one, other = Side(before).engine, Side(after).engine
    wanted = {}
    names = [party.name for party in parties(before)]
    for source, destination in product(names, repeat=2):
        was, now = NOTHING, NOTHING
        try:
            ends = one.parties.pairs(source, destination)
        except PartyError:
            continue
        if ends:
            was = joined(one.allowed(*pair) for pair in ends)
            now = joined(other.allowed(*pair) for pair in other.parties.pairs(source, destination))
        for allowed, changed in ((True, difference(now, was)), (False, difference(was, now))):
            if changed:
                wanted[source, destination, allowed] = changed
    return wanted


@given(pods, network_policies, network_policies, several, several)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_differences_are_the_engines(
    given: Any, said: Any, later: Any, others: Any, more: Any
) -> None:
    worlds = []
    for policies, documents in ((said, others), (later, more)):
        world = told(given, policies, leaves=False)
        for document in documents:
            world.policy(document)
        worlds.append(world.state)
    before, after = worlds
    wanted = expected(before, after)
    every = found(before, after)
    # Where pods have two addresses, what holds by one alone is told too.
    assert wanted.keys() <= every.keys()
    for key, traffic in wanted.items():
        assert not difference(traffic, every[key]), key


def small(*specs: dict[str, Any]) -> State:
    world = World()
    for app in ("web", "db"):
        world.pod(f"x/{app}", {"app": app}, ip=f"10.244.1.{3 + (app == 'db')}")
    for number, spec in enumerate(specs):
        world.policy(network_policy(f"p{number}", "x", **spec))
    return world.state


DB = {"podSelector": {"matchLabels": {"app": "db"}}}
FROM_WEB = {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}


def test_the_rules_that_decided_before_and_after_are_told() -> None:
    before = small({**DB, "ingress": [{**FROM_WEB, "ports": [{"port": 80}]}]})
    after = small({**DB, "ingress": [{**FROM_WEB, "ports": [{"port": 81}]}]})
    pieces = [
        each
        for each in differences(Side(before), Side(after), parties(before))
        if (each.source, each.destination) == ("x/web", "x/db")
    ]
    (lost,) = [each for each in pieces if not each.allowed]
    (won,) = [each for each in pieces if each.allowed]
    assert (lost.traffic, won.traffic) == (
        {Protocol.TCP: ((80, 80),)},
        {Protocol.TCP: ((81, 81),)},
    )
    assert lost.before.ingress is not None
    assert lost.before.ingress.rule is not None
    assert lost.before.ingress.rule.rule == "spec.ingress[0]"
    assert lost.after.ingress is not None
    assert lost.after.ingress.isolating == (("NetworkPolicy", "x", "p0"),)


def test_the_same_in_other_words_differs_in_nothing() -> None:
    before = small({**DB, "ingress": [{**FROM_WEB, "ports": [{"port": 80}, {"port": 81}]}]})
    after = small(
        {**DB, "ingress": [{**FROM_WEB, "ports": [{"port": 81}]}]},
        {**DB, "ingress": [{**FROM_WEB, "ports": [{"port": 80, "endPort": 80}]}]},
    )
    assert not found(before, after)


def test_ends_that_share_no_address_family_on_one_side_differ_by_no_policy() -> None:
    before, after = World(), World()
    for world, ip in ((before, "10.244.1.4"), (after, "fd00::4")):
        world.pod("x/web", {"app": "web"}, ip="10.244.1.3")
        world.pod("x/db", {"app": "db"}, ip=ip)
    names = [Counterpart(name, (name,), (name,)) for name in ("x/web", "x/db")]
    assert not list(differences(Side(before.state), Side(after.state), names))

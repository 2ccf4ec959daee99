"""Outcomes of whole sets of policies say what the engine says of each flow."""

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from languages import cilium, tiered
from parties import NODES, PODS, STRANGERS, pods, told
from parties import policies as said_policies
from tabard.dataplane.maps import Direction, Protocol
from tabard.identity.numbers import Reserved
from tabard.policy.atoms import Atoms, cut
from tabard.policy.engine import Engine
from tabard.policy.items import Place, atoms_of, items
from tabard.policy.landscape import Group, Landscape
from tabard.policy.model import Cidr, Policy
from tabard.policy.networks import network
from tabard.policy.outcome import outcome
from tabard.policy.parties import Party, Role
from tabard.policy.redundancy import redundant
from tabard.policy.referents import in_force
from tabard.policy.traffic import contains
from world import World

ASKED = ((Protocol.TCP, 80), (Protocol.TCP, 5353), (Protocol.UDP, 81), (Protocol.ICMP, 8))
PEERS = (*NODES, *STRANGERS, *(address for pod in PODS for address in pod))


def bit_of(land: Landscape, peer: Party, node: str, atoms: Atoms) -> int:
    assert peer.address is not None
    index = max(
        (index for index, atom in enumerate(atoms) if peer.address in network(atom.prefix)),
        key=lambda index: network(atoms[index].prefix).prefixlen,
    )
    return land.at(1 << land.numbers.index(peer.as_seen_on(node)), index)


def check(world: World) -> None:
    engine, land = Engine(world.state), Landscape(world.state)
    policies = [policy for _, policy in in_force(world.state)]
    groups = land.groups(policies)
    atoms = atoms_of(policies)
    for uid, pod in world.state.endpoints.items():
        for subject in engine.parties.find(uid):
            if subject.role is not Role.POD:
                continue
            bit = 1 << land.numbers.index(pod.identity)
            (group,) = [each for each in groups if each.subjects & bit]
            (node,) = subject.nodes
            for direction in Direction:
                found = outcome(land, direction, group.policies, group.ports, atoms)
                for text in PEERS:
                    (peer,) = engine.parties.find(text)
                    if peer.address.version != subject.address.version:  # type: ignore[union-attr]
                        continue
                    number = peer.as_seen_on(node)
                    said = engine.allowed_half(direction, subject, peer)
                    for protocol, port in ASKED:
                        if direction is Direction.INGRESS and number == Reserved.HOST:
                            allowed = True
                        elif peer.role is Role.UNKNOWN:
                            allowed = not found.enforced
                        else:
                            at = bit_of(land, peer, node, atoms)
                            allowed = bool(found.who(protocol, port) & at)
                        asked = (uid, str(direction), text, protocol, port)
                        assert allowed == contains(said, protocol, port), asked


@given(pods, said_policies, st.lists(tiered() | cilium(), max_size=3))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@example([("x", {"app": "a"}, ())], [("x", {"podSelector": {}, "egress": [{}]})], [])
def test_outcomes_are_the_engines_verdicts(found: Any, said: Any, others: Any) -> None:
    world = told(found, said, leaves=False)
    for document in others:
        world.policy(document)
    check(world)


def test_prefixes_cut_the_address_space_into_parts_that_they_hold_or_do_not() -> None:
    atoms = cut([Cidr("10.0.0.0/8", ("10.0.0.0/9",)), Cidr("10.0.0.0/9"), Cidr("10.128.0.0/9")])
    assert [atom.prefix for atom in atoms] == ["0.0.0.0/0", "10.0.0.0/9", "10.128.0.0/9", "::/0"]
    assert str(atoms[0].sample) == "0.0.0.0", "what its halves fill is no part of its own"
    (rest, *_) = cut([Cidr("0.0.0.0/1"), Cidr("128.0.0.0/2")])
    assert str(rest.sample) == "192.0.0.0"


@given(pods, said_policies, st.lists(tiered() | cilium(), max_size=3))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_part_is_redundant_if_and_only_if_outcomes_are_the_same_without_it(
    found: Any, said: Any, others: Any
) -> None:
    world = told(found, said, leaves=False)
    for document in others:
        world.policy(document)
    land = Landscape(world.state)
    policies = [policy for _, policy in in_force(world.state)]
    groups = land.groups(policies)
    parts = redundant(land, policies, groups)
    for index, policy in enumerate(policies):
        for at in range(len(policy.rules)):
            without = replace(policy, rules=(*policy.rules[:at], *policy.rules[at + 1 :]))
            changed, is_asked = changes(land, groups, policy, without)
            if is_asked:
                assert (Place(index, at) in parts) is not changed, policy.rules[at].path


def changes(
    land: Landscape, groups: list[Group], policy: Policy, without: Policy
) -> tuple[bool, bool]:
    """(whether some outcome is another without the rule, whether it means anybody at all)"""
    changed = is_asked = False
    for group in groups:
        if not any(each is policy for each in group.policies):
            continue
        less = tuple(without if each is policy else each for each in group.policies)
        atoms = atoms_of(group.policies)
        for direction in Direction:
            one, other = (
                outcome(land, direction, each, group.ports, atoms)
                for each in (group.policies, less)
            )
            changed |= one != other
            one_items, other_items = (
                items(land, direction, each, group.ports, atoms) for each in (group.policies, less)
            )
            is_asked |= len(one_items) != len(other_items)
    return changed, is_asked

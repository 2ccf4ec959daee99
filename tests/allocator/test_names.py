import dataclasses
from typing import Any

import pytest

from deciding import GRACE_MS, MS, SETTINGS, Desk, kinds, started
from domains import to_names
from tabard.allocator.numbering import FreeNumbers
from tabard.events.ledger import (
    EventQuarantined,
    IdentityAllocated,
    LedgerEvent,
    NameForgotten,
    NameResolved,
)
from tabard.events.observed import NameAnswered, NodeJoined, PolicyRemoved, PolicySet
from tabard.identity.numbers import CIDR_SCOPE
from tabard.policy.names import ADDRESSES_MAX, ADDRESSES_OF_NAME_MAX, ANSWER_KEPT_S_MAX

S = 1_000 * MS
KEPT = SETTINGS.names_kept_ms * MS
V4, V6 = "203.0.113.7", "2001:db8::7"


def asking(*patterns: str, **settings: Any) -> Desk:
    desk = Desk(dataclasses.replace(SETTINGS, **settings))
    desk.observe(PolicySet(to_names(*patterns)))
    return desk


def said(name: str, *addresses: str, ttl_s: int = 60) -> NameAnswered:
    return NameAnswered("n1", name, addresses, ttl_s)


def test_a_names_addresses_have_identities_before_they_stand_for_it() -> None:
    desk = asking("api.example.com")
    assert desk.observe(said("api.example.com", V4, V6)) == [
        IdentityAllocated(CIDR_SCOPE, (f"cidr:{V4}/32",)),
        IdentityAllocated(CIDR_SCOPE + 1, (f"cidr:{V6}/128",)),
        NameResolved("api.example.com", ((V4, KEPT), (V6, KEPT))),
    ]
    assert desk.state.names == {"api.example.com": {V4: KEPT, V6: KEPT}}
    assert desk.refolded() == desk.state


def test_a_name_that_no_policy_asks_for_costs_no_event() -> None:
    desk = asking("*.example.com")
    for name in ("example.com", "a.b.example.com", "other.org"):
        assert desk.observe(said(name, V4)) == []
    assert Desk().observe(said("a.example.com", V4)) == []
    assert desk.observe(said("a.example.com")) == []


def test_an_answer_that_says_nothing_new_costs_no_event_until_half_its_time_is_over() -> None:
    desk = asking("a.io")
    desk.observe(said("a.io", V4))
    assert desk.observe(said("a.io", V4)) == []
    desk.now = KEPT // 2
    assert desk.observe(said("a.io", V4)) == []
    desk.now += 1
    assert desk.observe(said("a.io", V4)) == [NameResolved("a.io", ((V4, desk.now + KEPT),))]


def test_an_address_stands_as_long_as_its_answer_may_be_kept() -> None:
    desk = asking("a.io", names_kept_ms=0)
    desk.observe(said("a.io", V4, ttl_s=7200))
    assert desk.state.names["a.io"] == {V4: 7200 * S}
    # A later answer of a shorter time takes nothing away.
    assert desk.observe(said("a.io", V4, ttl_s=1)) == []


def test_answers_of_a_long_time_are_renewed_as_seldom_as_others() -> None:
    desk = asking("a.io")
    desk.observe(said("a.io", V4, ttl_s=86_400))
    assert desk.state.names["a.io"] == {V4: 86_400 * S + KEPT // 2}
    desk.now = KEPT // 2
    assert desk.observe(said("a.io", V4, ttl_s=86_400)) == []
    desk.now += 1
    (renewed,) = desk.observe(said("a.io", V4, ttl_s=86_400))
    assert renewed == NameResolved("a.io", ((V4, desk.now + 86_400 * S + KEPT // 2),))


def test_no_answer_counts_for_longer_than_a_week_whatever_its_time_to_live() -> None:
    desk = asking("a.io")
    desk.observe(said("a.io", V4, ttl_s=(1 << 31) - 1))
    week = ANSWER_KEPT_S_MAX * S + KEPT // 2
    assert desk.state.names["a.io"] == {V4: week}
    assert desk.observe(said("a.io", V4, ttl_s=(1 << 31) - 1)) == [], "nor is it news each time"
    desk.now = week
    assert desk.tick() == [NameForgotten("a.io", (V4,))]


def test_an_address_whose_time_is_over_is_forgotten_and_its_identity_retires() -> None:
    desk = asking("a.io", names_kept_ms=10_000)
    desk.observe(said("a.io", V4, ttl_s=1))
    desk.now = 5_001 * MS
    desk.observe(said("a.io", V6, ttl_s=1))
    desk.now = 10_000 * MS
    assert desk.tick() == [NameForgotten("a.io", (V4,))]
    assert desk.state.names == {"a.io": {V6: 15_001 * MS}}
    assert kinds(desk.tick(after_ms=GRACE_MS)) == ["IdentityRetired", "IdentityReleased"]
    desk.now = 15_001 * MS
    assert desk.tick() == [NameForgotten("a.io", (V6,))]
    assert desk.state.names == {}
    assert desk.refolded() == desk.state


def test_a_name_goes_with_the_last_policy_that_asks_for_it() -> None:
    desk = asking("a.io")
    desk.observe(PolicySet(to_names("*.io", name="more")))
    desk.observe(said("a.io", V4))
    desk.observe(PolicyRemoved("CiliumNetworkPolicy", "shop", "names"))
    assert desk.tick() == []
    desk.observe(PolicyRemoved("CiliumNetworkPolicy", "shop", "more"))
    assert desk.tick() == [NameForgotten("a.io", (V4,))]


def test_an_identity_stays_while_another_name_or_a_policy_has_its_address() -> None:
    desk = asking("*.io")
    desk.observe(said("a.io", V4))
    desk.now = 1
    (resolved,) = desk.observe(said("b.io", V4))
    assert isinstance(resolved, NameResolved)
    number = desk.state.numbers[(f"cidr:{V4}/32",)]  # type: ignore[index]
    assert desk.state.identities[number].users == 2
    desk.now = KEPT
    assert desk.tick() == [NameForgotten("a.io", (V4,))]
    assert desk.state.identities[number].users == 1


@pytest.mark.parametrize(
    "address",
    [
        "10.244.1.5",  # a pod's
        "10.244.1.99",  # nobody's yet, but of a node's pods
        "192.168.9.1",  # a node's
        "10.9.9.9",  # a pod's outside of every node's range
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "fe80::1",
        "224.0.0.1",
        "0.0.0.0",
    ],
)
def test_no_name_stands_for_an_address_of_the_cluster_or_of_this_link(address: str) -> None:
    desk = asking("a.io")
    desk.observe(NodeJoined("n1", ("192.168.9.1",), ("10.244.1.0/24",)))
    desk.observe(started("p", {}, "10.244.1.5"))
    desk.observe(started("q", {}, "10.9.9.9"))
    assert desk.observe(said("a.io", address)) == []
    allocated, resolved = desk.observe(said("a.io", address, V4))
    assert isinstance(allocated, IdentityAllocated)
    assert resolved == NameResolved("a.io", ((V4, KEPT),))


def many(number: int, first: int = 0) -> list[str]:
    return [f"198.{18 + at // 65536}.{at // 256 % 256}.{at % 256}" for at in range(first, number)]


def test_at_the_bound_of_a_name_newer_addresses_take_the_place_of_those_that_end_first() -> None:
    desk = asking("a.io")
    addresses = many(ADDRESSES_OF_NAME_MAX)
    desk.observe(said("a.io", *addresses[:2]))
    desk.now = 1
    desk.observe(said("a.io", *addresses[2:]))
    assert len(desk.state.names["a.io"]) == ADDRESSES_OF_NAME_MAX
    desk.now = 2
    first, *_, last = desk.observe(said("a.io", V4))
    assert first == NameForgotten("a.io", (addresses[0],))
    assert last == NameResolved("a.io", ((V4, 2 + KEPT),))
    assert len(desk.state.names["a.io"]) == ADDRESSES_OF_NAME_MAX


def test_at_the_bound_of_all_addresses_known_ones_are_renewed_and_no_new_ones_taken() -> None:
    desk = asking("*")
    for number, address in enumerate(many(ADDRESSES_MAX)):
        name = f"n{number // ADDRESSES_OF_NAME_MAX}"
        desk.state.names.setdefault(name, {})[address] = KEPT
    assert desk.observe(said("new", V4)) == []
    desk.now = KEPT - 1
    name, held = desk.state.names.popitem()
    desk.state.names[name] = held
    known = next(iter(held))
    assert len(held) < ADDRESSES_OF_NAME_MAX
    assert desk.observe(said(name, known, V4)) == [NameResolved(name, ((known, 2 * KEPT - 1),))]


def test_without_a_number_for_an_address_it_does_not_stand() -> None:
    desk = asking("a.io")
    desk.indexes.numbering.cidr = FreeNumbers(CIDR_SCOPE, CIDR_SCOPE)
    allocated, resolved = desk.observe(said("a.io", V4, V6))
    assert isinstance(allocated, IdentityAllocated)
    assert resolved == NameResolved("a.io", ((V4, KEPT),))
    assert desk.observe(said("b.io", V6)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        said("A.io", V4),
        said("a.io.", V4),
        said("*.io", V4),
        said("a.io", "203.0.113.007"),
        said("a.io", f"::ffff:{V4}"),
        said("a.io", V4, V4),
        said("a.io", V4, ttl_s=-1),
        said("a.io", V4, ttl_s=1 << 31),
        said("a.io", *many(ADDRESSES_OF_NAME_MAX + 1)),
    ],
)
def test_a_malformed_answer_is_rejected(wrong: NameAnswered) -> None:
    desk = asking("*")
    events: list[LedgerEvent] = desk.observe(wrong)
    assert [type(event) for event in events] == [EventQuarantined]
    assert not desk.state.names

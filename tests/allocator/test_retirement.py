import dataclasses

from deciding import GRACE_MS, MS, SETTINGS, Desk, joined, kinds, started, stopped, tiny_space
from tabard.allocator.commands import Tick
from tabard.allocator.decide import TICK_EVENTS_MAX, decide
from tabard.events.ledger import (
    IdentityReleased,
    IdentityRetired,
    NumbersAvailable,
    NumbersExhausted,
)
from tabard.events.observed import NodeLeft

WEB = {"app": "web"}


def idle_desk(*nodes: str) -> Desk:
    desk = Desk()
    for node in nodes:
        desk.observe(joined(node))
    desk.observe(started("a", WEB))
    desk.observe(stopped("a"))
    return desk


def test_an_identity_is_retired_when_the_grace_is_over_and_not_before() -> None:
    desk = idle_desk("n1")
    assert desk.tick(after_ms=GRACE_MS - 1) == []
    assert desk.tick({}, after_ms=1) == [IdentityRetired(256)]
    assert 256 not in desk.state.identities


def test_a_new_user_cancels_the_retirement() -> None:
    desk = idle_desk("n1")
    desk.tick(after_ms=GRACE_MS - 1)
    desk.observe(started("b", WEB))
    assert desk.tick(after_ms=GRACE_MS) == []
    desk.observe(stopped("b"))
    assert desk.tick(after_ms=GRACE_MS - 1) == []
    assert kinds(desk.tick({}, after_ms=1)) == ["IdentityRetired"]


def test_a_retired_number_is_not_used_until_every_live_node_has_passed_the_retirement() -> None:
    desk = idle_desk("n1", "n2")
    desk.tick({}, after_ms=GRACE_MS)
    retired_at = desk.state.retired[256]
    desk.observe(started("b", {"app": "api"}))
    assert desk.state.endpoints["b"].identity == 257
    assert desk.tick({"n1": retired_at}) == []
    assert desk.tick({"n1": retired_at, "n2": retired_at - 1}) == []
    assert desk.tick({"n1": retired_at, "n2": retired_at}) == [IdentityReleased(256)]
    desk.observe(started("c", {"app": "db"}))
    assert desk.state.endpoints["c"].identity == 256


def test_a_node_that_left_holds_nothing_back() -> None:
    desk = idle_desk("n1", "n2")
    desk.tick({}, after_ms=GRACE_MS)
    desk.observe(NodeLeft("n2"))
    assert desk.tick({"n1": desk.state.sequence}) == [IdentityReleased(256)]


def test_a_watermark_past_the_ledgers_end_counts_for_nothing() -> None:
    desk = idle_desk("n1")
    desk.tick({}, after_ms=GRACE_MS)
    assert desk.tick({"n1": desk.state.sequence + 1}) == []


def test_without_nodes_nobody_can_err() -> None:
    desk = idle_desk()
    assert kinds(desk.tick(after_ms=GRACE_MS)) == ["IdentityRetired", "IdentityReleased"]


def test_fixed_identities_never_retire() -> None:
    probe = Desk()
    probe.observe(started("a", WEB))
    desk = Desk(dataclasses.replace(SETTINGS, fixed=((128, probe.state.identities[256].labels),)))
    desk.observe(started("a", WEB))
    desk.observe(stopped("a"))
    desk.observe(started("b", {"app": "api"}))
    desk.observe(stopped("b"))
    assert desk.tick({}, after_ms=10 * GRACE_MS)[0] == IdentityRetired(256)
    assert 128 in desk.state.identities


def test_one_tick_is_bounded_and_the_next_goes_on() -> None:
    desk = Desk()
    for number in range(TICK_EVENTS_MAX + 1):
        desk.observe(started(f"p{number}", {"job": str(number)}))
        desk.observe(stopped(f"p{number}"))
    tick = Tick(desk.now + GRACE_MS * MS)
    assert len(decide(desk.state, desk.indexes, tick)) == TICK_EVENTS_MAX
    said = desk.tick(after_ms=GRACE_MS)
    assert kinds(said).count("IdentityRetired") == TICK_EVENTS_MAX + 1
    assert kinds(said).count("IdentityReleased") == TICK_EVENTS_MAX + 1


def crowded() -> Desk:
    """Two numbers, and a third pod that wants one."""
    desk = tiny_space(2)
    for number in range(3):
        desk.observe(started(f"p{number}", {"job": str(number), "app": "x"}))
    return desk


def test_that_numbers_run_out_is_said_once_with_what_uses_most() -> None:
    desk = crowded()
    (said,) = desk.tick()
    assert isinstance(said, NumbersExhausted)
    assert said.identities == 2
    assert said.heaviest[0] == ("k8s:job", 2)
    desk.observe(started("p9", {"job": "9"}))
    assert desk.tick() == []


def test_a_full_space_that_nobody_wants_more_of_is_not_exhausted() -> None:
    desk = crowded()
    desk.observe(stopped("p2"))
    assert desk.tick() == []


def test_numbers_suffice_again_once_nobody_waits_and_some_are_free() -> None:
    desk = crowded()
    desk.tick()
    desk.observe(stopped("p0"))
    assert kinds(desk.tick(after_ms=GRACE_MS)) == [
        *("IdentityRetired", "IdentityReleased", "IdentityAllocated", "EndpointBound")
    ], "the number is taken at once"
    assert desk.state.exhausted is not None
    desk.observe(stopped("p1"))
    assert desk.tick(after_ms=GRACE_MS)[-1] == NumbersAvailable(1)
    assert desk.tick() == []
    assert desk.state.exhausted is None


def test_numbers_that_run_out_again_are_said_again() -> None:
    desk = crowded()
    desk.tick()
    desk.observe(stopped("p0"))
    desk.observe(stopped("p2"))
    desk.tick(after_ms=GRACE_MS)
    for number in (7, 8):
        desk.observe(started(f"p{number}", {"job": str(number)}))
    assert kinds(desk.tick()) == ["NumbersExhausted"]

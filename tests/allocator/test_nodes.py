import pytest

from deciding import GRACE_MS, LIMITS, Desk, joined, kinds, started, stopped
from tabard.allocator.plan import Indexes
from tabard.events.ledger import NodeAdded, NodeLost, NodeRefused, NodeRemoved, NodeReturned
from tabard.events.observed import NodeJoined, NodeLeft

LOST_MS = LIMITS.node_lost_ms
FIRST = NodeJoined("n1", ("192.0.2.1",), ("10.244.1.0/24",))
THIEF = NodeJoined("n2", ("192.0.2.2",), ("10.244.0.0/16",))


def desk_of(*nodes: str) -> Desk:
    desk = Desk()
    for node in nodes:
        desk.observe(joined(node))
    return desk


class TestLost:
    def test_a_node_that_says_nothing_is_lost_after_the_limit_and_not_before(self) -> None:
        desk = desk_of("n1", "n2")
        desk.tick()
        enforced = desk.state.sequence
        assert desk.tick(after_ms=LOST_MS, silent=["n2"]) == []
        assert desk.tick(after_ms=1, silent=["n2"]) == [NodeLost("n2", enforced)]
        assert desk.state.lost["n2"].watermark == enforced
        assert desk.tick(after_ms=10 * LOST_MS, silent=["n2"]) == []

    def test_a_node_that_speaks_and_gets_no_further_is_lost(self) -> None:
        desk = desk_of("n1", "n2")
        stuck = desk.state.sequence
        desk.observe(started("a"))
        for _ in range(2):
            said = desk.tick({"n1": desk.state.sequence, "n2": stuck}, after_ms=LOST_MS // 2)
            assert said == []
        words = {"n1": desk.state.sequence, "n2": stuck}
        assert desk.tick(words, after_ms=LOST_MS) == [NodeLost("n2", stuck)]

    def test_a_node_that_is_behind_is_lost_only_once_what_it_enforces_is_too_old(self) -> None:
        desk = desk_of("n1")
        for number in range(9):
            desk.observe(started(f"p{number}"))
            assert desk.tick({"n1": desk.state.sequence - 1}, after_ms=LOST_MS // 2) == []
        stuck = desk.state.sequence
        desk.observe(started("p9"))
        found = [desk.tick({"n1": stuck - 9 + n}, after_ms=LOST_MS // 4) for n in range(9)]
        assert kinds([event for events in found for event in events]) == ["NodeLost"]

    def test_a_quiet_ledger_loses_nobody_who_speaks(self) -> None:
        desk = desk_of("n1")
        for _ in range(5):
            assert desk.tick(after_ms=LOST_MS) == []

    def test_a_node_that_joins_and_never_speaks_is_lost(self) -> None:
        desk = desk_of("n1")
        assert desk.tick({}) == []
        assert desk.tick({}, after_ms=LOST_MS + 1) == [NodeLost("n1", 0)]

    def test_a_node_about_another_ledger_is_lost(self) -> None:
        desk = desk_of("n1")
        desk.tick({"n1": 10_000})
        assert desk.tick({"n1": 10_000}, after_ms=LOST_MS + 1) == [NodeLost("n1", 0)]

    def test_a_new_leader_gives_every_node_all_of_its_time(self) -> None:
        desk = desk_of("n1")
        desk.tick(after_ms=LOST_MS - 1, silent=["n1"])
        desk.indexes = Indexes(desk.state)
        desk.tick(silent=["n1"])
        assert desk.tick(after_ms=LOST_MS, silent=["n1"]) == []
        assert kinds(desk.tick(after_ms=1, silent=["n1"])) == ["NodeLost"]

    def test_a_lost_node_is_back_once_it_enforces_the_loss_and_not_before(self) -> None:
        desk = desk_of("n1")
        desk.tick({})
        desk.tick({}, after_ms=LOST_MS + 1)
        lost_at = desk.state.lost["n1"].lost_at
        assert desk.tick({"n1": lost_at - 1}) == []
        assert desk.observe(joined("n1")) == []
        assert desk.tick({"n1": lost_at}) == [NodeReturned("n1", lost_at)]
        assert not desk.state.lost

    def test_other_facts_of_a_lost_node_do_not_bring_it_back(self) -> None:
        desk = desk_of("n1")
        desk.tick({})
        desk.tick({}, after_ms=LOST_MS + 1)
        assert kinds(desk.observe(NodeJoined("n1", ("192.0.2.1",), ()))) == ["NodeAdded"]
        assert "n1" in desk.state.lost

    def test_a_lost_node_that_leaves_and_joins_again_is_live(self) -> None:
        desk = desk_of("n1")
        desk.tick({})
        desk.tick({}, after_ms=LOST_MS + 1)
        assert desk.observe(NodeLeft("n1")) == [NodeRemoved("n1")]
        assert kinds(desk.observe(joined("n1"))) == ["NodeAdded"]
        assert not desk.state.lost
        assert desk.tick({}) == []

    def test_a_tick_loses_so_many_nodes_and_the_next_the_rest(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tabard.allocator.decide.TICK_EVENTS_MAX", 2)
        desk = desk_of("n1", "n2", "n3")
        desk.tick({})
        assert kinds(desk.tick({}, after_ms=LOST_MS + 1)) == ["NodeLost"] * 3


class TestRefused:
    def test_a_node_that_claims_what_is_anothers_is_refused_once(self) -> None:
        desk = Desk()
        desk.observe(FIRST)
        (refused,) = desk.observe(THIEF)
        assert isinstance(refused, NodeRefused)
        assert refused.reason.startswith("10.244.0.0/16 overlaps with 10.244.1.0/24, node n1's")
        assert set(desk.state.nodes) == {"n1"}
        assert desk.observe(THIEF) == []

    def test_a_node_that_claims_what_no_node_may_have_is_refused(self) -> None:
        desk = Desk()
        desk.indexes = Indexes(desk.state, ["10.244.0.0/16", "192.0.2.0/24"])
        assert kinds(desk.observe(FIRST)) == ["NodeAdded"]
        for address, cidr in (("192.0.2.2", "8.8.8.0/24"), ("8.8.8.8", "10.244.2.0/24")):
            (refused,) = desk.observe(NodeJoined("n2", (address,), (cidr,)))
            assert isinstance(refused, NodeRefused)
            assert "8.8.8." in refused.reason
            assert "is outside of what nodes may have" in refused.reason
        (refused,) = desk.observe(NodeJoined("n2", (), ("8.0.0.0/8",)))
        assert "8.0.0.0/8 is outside" in refused.reason
        assert desk.tick() == []
        desk.indexes = Indexes(desk.state)
        assert kinds(desk.tick()) == ["NodeAdded"]

    def test_a_node_may_change_what_is_its_own(self) -> None:
        desk = Desk()
        desk.observe(FIRST)
        wider = NodeJoined("n1", ("192.0.2.1", "192.0.2.7"), ("10.244.0.0/16",))
        assert kinds(desk.observe(wider)) == ["NodeAdded"]
        assert kinds(desk.observe(FIRST)) == ["NodeAdded"]

    def test_a_known_node_that_wants_anothers_range_keeps_what_it_had(self) -> None:
        desk = Desk()
        desk.observe(FIRST)
        modest = NodeJoined("n2", ("192.0.2.2",), ("10.244.2.0/24",))
        desk.observe(modest)
        assert kinds(desk.observe(THIEF)) == ["NodeRefused"]
        assert desk.state.nodes["n2"].pod_cidrs == ("10.244.2.0/24",)
        assert kinds(desk.observe(modest)) == ["NodeAdded"], "it wants it no longer"
        assert not desk.state.refused_nodes

    def test_a_refused_node_joins_when_the_other_has_left(self) -> None:
        desk = Desk()
        desk.observe(FIRST)
        desk.observe(THIEF)
        assert desk.tick() == []
        desk.observe(NodeLeft("n1"))
        assert desk.tick() == [NodeAdded("n2", THIEF.addresses, THIEF.pod_cidrs)]
        assert not desk.state.refused_nodes

    def test_of_two_refused_nodes_that_clash_one_joins(self) -> None:
        desk = Desk()
        desk.observe(FIRST)
        desk.observe(THIEF)
        desk.observe(NodeJoined("n3", (), ("10.244.3.0/24", "10.244.1.0/25")))
        desk.observe(NodeLeft("n1"))
        assert kinds(desk.tick()) == ["NodeAdded"]
        assert list(desk.state.refused_nodes) == ["n3"]

    def test_a_refused_node_that_leaves_is_forgotten(self) -> None:
        desk = Desk()
        desk.observe(FIRST)
        desk.observe(THIEF)
        assert desk.observe(NodeLeft("n2")) == [NodeRemoved("n2")]
        assert not desk.state.refused_nodes
        assert desk.observe(NodeLeft("n2")) == []

    def test_a_lost_node_keeps_its_ranges(self) -> None:
        desk = Desk()
        desk.observe(FIRST)
        desk.tick({})
        assert kinds(desk.tick({}, after_ms=LOST_MS + 1)) == ["NodeLost"]
        assert kinds(desk.observe(THIEF)) == ["NodeRefused"]


class TestReuse:
    """Of numbers, while a node is lost."""

    def lost(self, numbers_used: int) -> Desk:
        """n2 is lost; the identities of some pods retire after that and are released."""
        desk = desk_of("n1", "n2")
        for number in range(numbers_used):
            desk.observe(started(f"p{number}", {"job": str(number)}))
        desk.tick()
        desk.tick(after_ms=LOST_MS + 1, silent=["n2"])
        for number in range(numbers_used):
            desk.observe(stopped(f"p{number}"))
        desk.tick(after_ms=GRACE_MS, silent=["n2"])
        assert not desk.state.retired
        return desk

    def test_a_lost_node_holds_no_release_back(self) -> None:
        assert set(self.lost(2).state.doubtful) == {256, 257}

    def test_numbers_that_a_lost_node_may_mistake_are_used_last(self) -> None:
        desk = self.lost(2)
        for number in (258, 259):
            desk.observe(started(f"q{number}", {"job": f"q{number}"}))
            assert desk.state.endpoints[f"q{number}"].identity == number
        assert list(desk.indexes.numbering.cluster)[-2:] == [256, 257]

    def test_when_nothing_else_is_free_they_are_used(self) -> None:
        desk = self.lost(2)
        free = desk.indexes.numbering.cluster
        free._next = free.last + 1
        desk.observe(started("q", {"job": "q"}))
        assert desk.state.endpoints["q"].identity == 256
        assert set(desk.state.doubtful) == {257}

    def test_they_are_like_any_other_once_the_node_is_back(self) -> None:
        desk = self.lost(2)
        assert kinds(desk.tick()) == ["NodeReturned"]
        assert not desk.state.doubtful
        desk.observe(started("q", {"job": "q"}))
        assert desk.state.endpoints["q"].identity == 256

    def test_a_node_is_not_back_before_it_knows_what_was_released_without_it(self) -> None:
        desk = self.lost(2)
        known = max(desk.state.doubtful.values())
        assert desk.tick({"n1": desk.state.sequence, "n2": known - 1}) == []
        assert kinds(desk.tick({"n1": desk.state.sequence, "n2": known})) == ["NodeReturned"]

    def test_they_are_like_any_other_once_the_node_has_left(self) -> None:
        desk = self.lost(2)
        desk.observe(NodeLeft("n2"))
        desk.observe(started("q", {"job": "q"}))
        assert desk.state.endpoints["q"].identity == 256

    def test_what_retired_before_the_loss_is_in_no_doubt(self) -> None:
        desk = desk_of("n1", "n2")
        desk.observe(started("a", {"job": "a"}))
        desk.observe(stopped("a"))
        desk.tick({"n1": 0}, after_ms=GRACE_MS)
        retired_at = desk.state.retired[256]
        desk.tick({"n1": retired_at - 1, "n2": desk.state.sequence})
        said = desk.tick({"n1": retired_at - 1}, after_ms=LOST_MS + 1)
        assert kinds(said) == ["NodeLost", "NodeLost", "IdentityReleased"]
        assert set(desk.state.doubtful) == {256}, "n1 had not passed it"
        desk.tick({"n1": desk.state.lost["n1"].lost_at})
        assert not desk.state.doubtful, "n2 had"

    def test_a_new_leader_uses_them_last_too(self) -> None:
        desk = self.lost(2)
        free = Indexes(desk.state).numbering.cluster
        assert next(iter(free)) == 258
        assert list(free)[-2:] == [256, 257]

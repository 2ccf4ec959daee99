"""exactly once, on ledgers that break it and on some that do not."""

import pytest

from checked import SETTINGS, Told, allocated, bound, claimed, cursor, records, what
from deciding import namespace, relabelled, started, stopped
from tabard.events import ledger as events
from tabard.events.observed import NodeJoined, ObservedEvent, PolicySet, QuarantineRequested
from tabard.invariants.once import UNHEEDED_MIN, ExactlyOnce

BEGUN = (claimed(), SETTINGS, cursor(0))
WEB, DB = started("w", {"app": "web"}, namespace="shop"), started("d", {"app": "db"})
PLAIN, RED = namespace("shop"), namespace("shop", team="red")
LABELLED = events.NamespaceLabelled("shop", (("team", "red"),))
ALLOCATED, BOUND = (allocated(256, "web"), 1), (bound("w", 256, "web"), 1)


def found(
    observed: list[ObservedEvent | None], *told: Told, speaker: str = "", is_sound: bool = True
) -> list[str]:
    checker = ExactlyOnce(lambda event: is_sound)
    for sequence, event in enumerate(observed, 1):
        checker.observe(sequence, event, speaker)
    return [one for record in records(*BEGUN, *told) for one in what(checker.take(record))]


def test_each_event_with_its_effect_in_one_batch_is_right() -> None:
    unbound = (events.EndpointUnbound("w"), 2)
    told = (ALLOCATED, BOUND, cursor(1), unbound, cursor(2))
    assert found([WEB, stopped("w")], *told) == []


def test_an_effect_that_comes_again_is_found() -> None:
    told = (ALLOCATED, BOUND, cursor(1), (events.EndpointUnbound("w"), 2), cursor(2))
    again = ((events.EndpointTombstoned("w"), 2), cursor(2))
    (one,) = found([WEB, stopped("w")], *told, *again)
    assert "an effect of OBSERVED/2, which had its effect before: the cursor is at 2" in one


def test_a_cursor_that_is_moved_before_the_effect_is_found() -> None:
    one, two, three = found([WEB], cursor(1), ALLOCATED, BOUND, cursor(1))
    assert "passes OBSERVED/1" in one
    assert "which had its effect before" in two
    assert "which had its effect before" in three


def test_a_cursor_that_goes_back_is_found() -> None:
    one = found([WEB], ALLOCATED, BOUND, cursor(1), cursor(0))
    assert one == ["LEDGER/7 moves the cursor back from 1 to 0"]


def test_an_effect_that_the_cursor_does_not_pass_is_found() -> None:
    (one,) = found([WEB], ALLOCATED, BOUND, cursor(0))
    assert "before OBSERVED/1, which had its effect" in one


def test_what_is_written_ahead_of_a_long_decision_is_right() -> None:
    assert found([WEB], ALLOCATED, cursor(0), BOUND, cursor(1)) == []


def test_effects_that_do_not_stand_together_are_found() -> None:
    tombs = [(events.EndpointTombstoned(uid), at) for uid, at in (("a", 1), ("b", 2), ("a", 1))]
    (one,) = found([stopped("a"), stopped("b")], *tombs, cursor(2))
    assert "an effect of OBSERVED/1 after those of OBSERVED/2" in one


def test_a_batch_that_its_writer_could_not_end_is_decided_again() -> None:
    assert found([WEB], ALLOCATED, claimed(2, "b"), cursor(0), BOUND, cursor(1)) == []


@pytest.mark.parametrize(
    ("observed", "told"),
    [
        ([WEB, WEB], (ALLOCATED, BOUND, cursor(2))),
        ([stopped("w"), WEB], ((events.EndpointTombstoned("w"), 1), cursor(2))),
        ([WEB, stopped("w")], ((events.EndpointTombstoned("w"), 2), cursor(2))),
        ([relabelled("nobody", app="x")], (cursor(1),)),
        ([PLAIN, RED], ((LABELLED, 2), cursor(2))),
        ([None], (events.EventQuarantined("OBSERVED", 1, "by hand"), cursor(1))),
        ([None], ((events.EventQuarantined("OBSERVED", 1, "unreadable"), 1), cursor(1))),
    ],
    ids=["again", "after the stop", "never ran", "unknown", "undone", "by hand", "refused"],
)
def test_an_event_may_have_no_effect_for_a_reason(
    observed: list[ObservedEvent | None], told: tuple[Told, ...]
) -> None:
    assert found(observed, *told) == []


def test_a_sound_policy_that_is_refused_is_found() -> None:
    document = {"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "shop"}}
    refused = (events.PolicyRefused("NetworkPolicy", "shop", "p", "spec: no", ""), 1)
    (one,) = found([PolicySet(document, "")], refused, cursor(1))
    assert "refuses OBSERVED/1" in one
    assert found([PolicySet(document, "")], refused, cursor(1), is_sound=False) == []


def test_what_can_be_read_is_put_aside_by_an_operators_word_alone() -> None:
    aside = events.EventQuarantined("OBSERVED", 1, "no")
    (one,) = found([WEB], (aside, 1), cursor(1))
    assert "refuses OBSERVED/1" in one
    assert found([WEB], aside, cursor(1)) == []
    assert found([WEB], (aside, 1), cursor(1), is_sound=False) == []
    assert found([NodeJoined("n1", (), ())], (aside, 1), cursor(1), speaker="n1") == []


@pytest.mark.parametrize(
    ("observed", "told"),
    [
        ([WEB], (cursor(1),)),
        ([WEB], (ALLOCATED, cursor(1))),
        ([DB, stopped("w")], ((events.EndpointTombstoned("w"), 2), cursor(2))),
        ([None], (cursor(1),)),
        ([PLAIN, stopped("w"), RED], ((events.EndpointTombstoned("w"), 2), (LABELLED, 3))),
        ([NodeJoined("n1", (), ())], (cursor(1),)),
        ([QuarantineRequested("LEDGER", 1, "")], (cursor(1),)),
    ],
    ids=["start", "half a start", "another start", "unreadable", "not the next", "node", "request"],
)
def test_an_event_without_effect_and_reason_is_found(
    observed: list[ObservedEvent | None], told: tuple[Told, ...]
) -> None:
    (one,) = found(observed, *told)
    assert "of which the ledger says nothing, and nothing says why" in one


def test_a_start_is_not_left_out_if_another_pods_address_hangs_on_it() -> None:
    old, new = started("old", {}, "10.0.0.1", namespace="shop"), started("new", {}, "10.0.0.1")
    one = (allocated(256, "web"), 1), (events.EndpointTombstoned("new"), 3)
    held = events.EndpointBound(
        "old", "shop", "old", "n1", 256, ("10.0.0.1",), (), 0, "default", (), "", False
    )
    (said,) = found([old, new, stopped("new")], one[0], (held, 1), one[1], cursor(3))
    assert "passes OBSERVED/2" in said


def test_what_a_node_says_too_much_of_may_be_passed_over_and_no_sooner() -> None:
    joined: list[ObservedEvent | None] = [NodeJoined("n1", ("10.0.0.1",), ())]
    assert len(found(joined, cursor(1), speaker="n1")) == 1
    flood = [NodeJoined("n1", (f"10.0.0.{n % 250}",), ()) for n in range(UNHEEDED_MIN)]
    told = [(events.NodeAdded(one.name, one.addresses, ()), at) for at, one in enumerate(flood, 1)]
    observed = [*flood, *joined]
    assert found(observed, *told, cursor(len(observed)), speaker="n1") == []


@pytest.mark.parametrize(
    "event",
    [bound("w", 256, "web"), events.EndpointUnbound("w"), events.PolicyForgotten("", "", "")],
)
def test_an_effect_that_names_no_cause_is_found(event: events.LedgerEvent) -> None:
    assert any("names no cause" in one for one in found([], event))


def test_what_waited_needs_no_cause() -> None:
    told = (
        (events.RelabelPlanned("w", 257, (("app", "db"),)), 2),
        cursor(2),
        events.EndpointRelabelled("w", 257, (("app", "db"),)),
        cursor(2),
    )
    observed = [WEB, relabelled("w", app="db")]
    assert found(observed, ALLOCATED, BOUND, *told) == []
    assert len(found(observed, ALLOCATED, BOUND, *told, told[2])) == 1


def test_a_late_start_that_revives_a_stopped_pod_is_found() -> None:
    tombstoned = (events.EndpointTombstoned("w"), 1)
    (one,) = found([stopped("w"), WEB], tombstoned, (BOUND[0], 2), cursor(2))
    assert "binds pod w, which had stopped" in one


def test_an_effect_of_another_kind_is_found() -> None:
    (one,) = found([WEB, DB], ALLOCATED, BOUND, (events.EndpointUnbound("w"), 2), cursor(1))[:1]
    assert "is no effect of OBSERVED/2" in one


def test_an_effect_of_what_was_never_observed_is_found() -> None:
    assert "which is not there" in found([], ALLOCATED)[0]


def test_what_is_not_decided_in_the_end_is_found() -> None:
    checker = ExactlyOnce()
    assert checker.undecided(0) == []
    assert "the cursor stands at OBSERVED/0" in what(checker.undecided(2))[0]

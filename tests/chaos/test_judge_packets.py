"""never-open, on runs that are written by hand."""

import pytest

from chaos.written import CLOSED, DB, DB_ADDRESS, WEB, WEB_ADDRESS, Written
from tabard.chaos.judge.outliving import outlives_control
from tabard.chaos.judge.packets import never_open
from tabard.invariants.verdict import Verdict
from world import network_policy


def judged(run: Written) -> Verdict:
    """With one that passed and one that had to be dropped beside what is judged."""
    run.packet(0.5)
    run.packet(0.5, passed=False, source_address="10.244.1.99")
    return never_open(run.record, run.evidence)


@pytest.fixture
def closed() -> Written:
    """The database is shut at 1 s; its node says so at 2 s."""
    run = Written()
    run.at(1).world.policy(CLOSED)
    run.at(2).said("n1", "n2")
    return run


def test_a_packet_that_passed_after_the_node_said_that_it_enforces_the_denial_is_a_leak(
    closed: Written,
) -> None:
    closed.packet(2.5)
    verdict = judged(closed)
    assert verdict.violations == 1
    assert not verdict.held
    assert "LEDGER/" in verdict.told[0].what


def test_a_late_packet_that_the_state_before_allowed_is_none(closed: Written) -> None:
    for began in (0.9, 1.5, 1.99):
        closed.packet(began)
    verdict = judged(closed)
    assert (verdict.violations, verdict.judged) == (0, 5)


def test_a_packet_that_was_dropped_is_none_whatever_was_allowed(closed: Written) -> None:
    closed.packet(0.5, passed=False)
    closed.packet(2.5, passed=False)
    assert judged(closed).held


def test_a_packet_may_pass_by_a_state_that_came_before_its_end() -> None:
    run = Written()
    run.world.policy(CLOSED)
    run.said("n1", "n2")
    run.at(2).world.forget("shop", "closed")
    run.packet(1.9, took=0.2)
    run.packet(1.9, took=0.05)
    verdict = judged(run)
    assert verdict.violations == 2, "the first one of `judged` passed the closed door too"
    assert {violation.at for violation in verdict.told} == {1_900_000_000, 500_000_000}


def test_what_the_other_node_said_does_not_close_a_window() -> None:
    run = Written()
    run.at(1).world.policy(CLOSED)
    run.at(2).said("n1")
    run.packet(2.5)
    assert judged(run).held


def test_an_exchange_on_an_open_flow_is_judged_as_if_it_opened_it(closed: Written) -> None:
    closed.packet(1.5, opened=0.1)
    closed.packet(2.5, opened=0.1)
    assert judged(closed).violations == 1


def test_an_answer_from_who_never_held_the_address_is_a_leak() -> None:
    run = Written()
    run.world.pod("shop/other", {"app": "db"}, node="n2", ip="10.244.2.2")
    run.said("n1", "n2")
    run.packet(1, answered="shop/other")
    verdict = judged(run)
    assert verdict.violations == 1
    assert f"shop/other did not hold {DB_ADDRESS}" in verdict.told[0].what


def test_who_held_the_address_before_may_answer_until_its_node_says_otherwise() -> None:
    run = Written()
    run.at(1).world.stop(DB)
    run.world.pod("shop/new", {"app": "db"}, node="n2", ip=DB_ADDRESS)
    run.at(2).said("n1", "n2")
    run.packet(1.5)
    run.packet(1.5, answered="shop/new")
    run.packet(2.5, answered="shop/new")
    run.packet(2.5)
    verdict = judged(run)
    assert verdict.violations == 1
    assert verdict.told[0].at == 2_500_000_000


def test_a_pod_that_another_took_the_address_from_sends_no_more() -> None:
    run = Written()
    run.at(1).world.stop(WEB)
    run.world.pod("shop/new", {"app": "web"}, node="n1", ip=WEB_ADDRESS)
    run.at(2).said("n1", "n2")
    run.packet(1.5)
    run.packet(2.5, source="shop/new")
    run.packet(2.5)
    verdict = judged(run)
    assert verdict.violations == 1
    assert f"did not hold {WEB_ADDRESS}" in verdict.told[0].what


def test_a_pod_may_speak_before_the_ledger_knows_it_with_the_labels_that_it_was_started_with() -> (
    None
):
    run = Written()
    run.world.policy(
        network_policy(
            "db",
            "shop",
            podSelector={"matchLabels": {"app": "db"}},
            ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}],
        )
    )
    run.said("n1", "n2")
    run.at(1).starts("shop/more", {"app": "web"}, "n1", "10.244.1.2")
    run.starts("shop/stranger", {"app": "stranger"}, "n1", "10.244.1.3")
    run.packet(1.5, source="shop/more", source_address="10.244.1.2")
    assert judged(run).held
    run.packet(1.5, source="shop/stranger", source_address="10.244.1.3")
    assert judged(run).violations == 1


@pytest.mark.parametrize("kind", ["stranger", "forger"])
def test_a_forged_packet_never_passes(kind: str) -> None:
    run = Written()
    run.packet(1, passed=False, kind=kind)
    assert judged(run).held
    run.packet(1, kind=kind)
    assert judged(run).violations == 1


def test_an_event_counts_from_when_it_was_seen_if_the_buss_clock_was_ahead() -> None:
    run = Written()
    run.world.policy(CLOSED)
    run.said("n1", "n2")
    run.at(100).world.forget("shop", "closed")  # by the bus's clock
    run.keep()
    run.now = 3  # by the run's
    run.saw()
    run.packet(2.9)
    verdict = never_open(run.record, run.evidence)
    assert verdict.violations == 0


def test_without_packets_that_passed_and_others_that_had_to_be_dropped_nothing_is_judged() -> None:
    run = Written()
    assert not never_open(run.record, run.evidence).held
    run.packet(1)
    assert not never_open(run.record, run.evidence).held
    run.packet(1, passed=False, source_address="10.244.1.99")
    assert never_open(run.record, run.evidence).held


def test_by_a_ledger_that_cannot_be_read_whole_nothing_is_judged(closed: Written) -> None:
    closed.packet(2.5)
    closed.broken = "a hole"
    verdict = judged(closed)
    assert (verdict.judged, verdict.violations, verdict.note) == (0, 0, "a hole")
    assert outlives_control(closed.record, closed.evidence, ("s",)).judged == 0

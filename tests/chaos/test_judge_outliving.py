"""enforcement-outlives-control, on runs that are written by hand."""

import pytest

from chaos.written import CLOSED, DB, WEB, Written
from tabard.chaos.judge.outliving import SILENCE_S_MAX, outlives_control
from tabard.events.observed import PodStopped
from tabard.invariants.verdict import Verdict


@pytest.fixture
def run() -> Written:
    """Control is down from 10 s to 20 s; before it a packet passed."""
    run = Written()
    run.fault(10, 20)
    run.packet(9)
    return run


def silent(run: Written, began: float = 11, seconds: float = SILENCE_S_MAX + 1) -> None:
    for step in range(int(seconds)):
        run.packet(began + step, passed=False, took=1.0)


def judged(run: Written, *spared: str) -> Verdict:
    return outlives_control(run.record, run.evidence, spared or ("s",))


def test_a_pair_that_stays_allowed_and_falls_silent_is_told(run: Written) -> None:
    run.packet(10.5)
    silent(run)
    verdict = judged(run)
    assert verdict.violations == 1
    assert WEB in verdict.told[0].what


def test_one_that_falls_silent_with_the_fault_is_told_if_another_pair_passes(run: Written) -> None:
    silent(run)
    run.packet(11, source=DB, source_address="10.244.2.1", destination="10.244.1.1", answered=WEB)
    assert judged(run).violations == 1


def test_if_nothing_passed_nothing_is_judged(run: Written) -> None:
    silent(run)
    assert judged(run).judged == 0
    assert not judged(run).held


def test_a_short_silence_is_a_busy_machine(run: Written) -> None:
    run.packet(10.5)
    silent(run, seconds=SILENCE_S_MAX - 1)
    run.packet(16)
    verdict = judged(run)
    assert verdict.held
    assert verdict.judged == 2 + int(SILENCE_S_MAX - 1)


def test_what_a_policy_denies_may_fall_silent(run: Written) -> None:
    run.packet(10.5)
    run.at(10.8).world.policy(CLOSED)
    silent(run)
    assert judged(run).held


def test_a_pod_whose_stop_was_observed_may_be_gone_before_the_ledger_says_so(run: Written) -> None:
    run.packet(10.5)
    run.at(10.8).observe(PodStopped(DB))
    silent(run)
    assert judged(run).held


def test_faults_that_harm_packets_themselves_prove_nothing(run: Written) -> None:
    run.packet(10.5)
    silent(run)
    assert judged(run, "another").judged == 0


def test_a_silence_is_not_told_beyond_the_fault(run: Written) -> None:
    run.packet(10.5)
    silent(run, began=17.5, seconds=8)
    assert judged(run).held


def test_an_open_flow_that_falls_silent_is_told_though_new_ones_open(run: Written) -> None:
    run.packet(10.2, opened=9)
    for step in range(6):
        run.packet(11 + step)
        run.packet(11 + step, passed=False, took=1.0, opened=9)
    verdict = judged(run)
    assert verdict.violations == 1
    assert "opened" in verdict.told[0].what

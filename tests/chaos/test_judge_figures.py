from chaos.written import CLOSED, Written, ns
from tabard.chaos.judge.dumps import fold
from tabard.chaos.judge.figures import POINTS_MAX, Traffic, lags, traffic
from tabard.chaos.record import Dump


def test_a_nodes_lag_grows_with_the_ledger_and_ends_with_its_word() -> None:
    run = Written()
    run.at(2).world.policy(CLOSED)
    run.at(4).world.forget("shop", "closed")
    run.at(5).said("n1")
    run.record.ended = ns(10)
    found = lags(run.record, run.evidence.ledger)
    by_time = {round(point.at / 1e9, 1): point for point in found["n1"]}
    assert max(point.events for point in found["n1"]) == 2
    assert [by_time[at].events for at in (1.0, 3.0, 4.5, 6.0)] == [0, 1, 2, 0]
    assert 2.5 <= by_time[4.5].seconds < 2.6
    assert found["n2"][-1].events == 2
    assert 0 < len(found["n1"]) <= POINTS_MAX


def test_probes_are_counted_in_the_second_in_which_they_ended() -> None:
    run = Written()
    run.packet(1.0)
    run.packet(1.9, took=0.2)
    run.packet(3.0, passed=False, took=1.4)
    found = [(each.at // ns(1), each.passed, each.denied) for each in traffic(run.record)]
    assert found == [(1, 1, 0), (2, 1, 0), (3, 0, 0), (4, 0, 1)]


def test_a_run_without_probes_has_no_traffic() -> None:
    assert traffic(Written().record) == list[Traffic]()


def test_a_kernel_that_differs_is_told_with_its_sequence() -> None:
    run = Written()
    assert not fold(run.record).held, "without a dump nothing was judged"
    run.record.dumps.append(Dump("n1", 7, 40, (), 0))
    assert fold(run.record).held
    run.record.dumps.append(Dump("n2", 8, 40, ("missing: hosts 10.0.0.1",), 0))
    verdict = fold(run.record)
    assert (verdict.judged, verdict.violations) == (80, 1)
    assert "n2 at LEDGER/8" in verdict.told[0].what

import pytest

from tabard.demo.churn import Churn
from tabard.demo.outage import Outage
from tabard.demo.report import Report, figures, summary, tables
from tabard.demo.scale import NodeCost, Scale, Start
from tabard.demo.truth import Disagreement, Truth


def good() -> Report:
    cells = {("a/one", "a/two"): {"80": {True}}, ("a/two", "a/one"): {"80": {False}}}
    costs = [
        NodeCost("n1", 2, 4, address_filter_writes=6, because=["ops/gateway spec.egress[0]"]),
        NodeCost("n2", 2, 0, address_filter_writes=6),
    ]
    starts = [
        Start("a/one-1", "n3", 0.1, 20.0, 30.0, True),
        Start("a/one-2", "n3", 0.3, 9, 9, True),
    ]
    return Report(
        "ebpf",
        truth=Truth(probes=2, agree=2, cells=cells),
        scales=[Scale("overlay", starts, costs, leaked=0, denied_probes=10)],
        churns=[Churn("relabel", passed=3, dropped=4)],
        outage=Outage(4, 2, 100, 0, 5, 50, 0, 900.0),
    )


def test_the_figures_are_what_was_counted() -> None:
    numbers = figures(good())
    assert numbers["ok"] is True
    assert (numbers["probes"], numbers["disagree"]) == (2, 0)
    assert numbers["resolve_ms"] == {"p50": 0.2, "max": 0.3, "count": 2}
    assert numbers["remote_map_writes_per_start"] == {
        "overlay": 2.0,
        "overlay_without_egress_policy": 0.0,
        "address_filter": 6.0,
    }
    assert (numbers["leaked"], numbers["lost"]) == (0, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda report: setattr(report, "truth", None),
        lambda report: setattr(report.truth, "probes", 0),
        lambda report: report.truth.disagreements.append(Disagreement("a", "b", "c", True)),
        lambda report: setattr(report.scales[0], "leaked", 1),
        lambda report: setattr(report.scales[0].costs[1], "map_writes", 1),
        lambda report: setattr(report.churns[0], "leaked", 1),
        lambda report: setattr(report.churns[0], "passed_after", 1),
        lambda report: setattr(report.outage, "lost", 1),
        lambda report: setattr(report.outage, "leaked", 1),
        lambda report: report.failures.append("a trial did not run"),
    ],
)
def test_anything_that_did_not_hold_spoils_the_whole(spoil) -> None:  # type: ignore[no-untyped-def]
    report = good()
    assert report.held
    spoil(report)
    assert not report.held
    assert figures(report)["ok"] is False
    assert summary(report)[-1].startswith("✗")


def test_a_good_report_has_a_table_for_each_trial_and_no_cross() -> None:
    assert len(tables(good())) == 4
    assert not any("✗" in line for line in summary(good()))

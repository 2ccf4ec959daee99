"""A run's page, JSON and tables, of made-up records."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rehearsals import FAULTS, at, outcome, record
from tabard.chaos.record import Injected
from tabard.chaos.report import files
from tabard.chaos.report.document import document
from tabard.chaos.report.outcome import Outcome
from tabard.chaos.report.page import page
from tabard.chaos.report.tables import COLUMNS, checkers, markdown, scenarios
from tabard.chaos.report.timeline import timeline
from tabard.invariants.verdict import Invariant, Verdict, Violation

VOID = {"meta", "br", "link", "img"}
NAMED = {"href", "src", "srcset", "data", "action", "poster", "xlink:href"}
HOSTILE = "\"><script src='https://x.example/x.js'></script><b onclick=x>&amp;\x1b[31m"


class Page(HTMLParser):
    """Its elements, texts and references; fails where tags do not close each other."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def violation(what: str, when: float = 0.0) -> Violation:
    return Violation(Invariant.NEVER_OPEN, what, at(when) if when else 0)


def test_a_run_in_which_all_held_says_so_with_its_figures() -> None:
    read = Page(page(outcome())).text
    assert "Everything held." in read
    assert "Not everything" not in read
    for name in (*FAULTS, *Invariant):
        assert name in read
    assert "tabard chaos run all --seed 7 --rate 6 --mode overlay" in read


def test_a_violation_stands_on_the_page_with_its_time_and_in_the_picture() -> None:
    broken = outcome(never_open=[violation("a packet passed", 17.25), violation("another")])
    assert not broken.held
    read = Page(page(broken)).text
    assert "Not everything held." in read
    assert "17.250 s a packet passed" in read
    assert "violation at 17.2 s" in timeline(broken) or "violation at 17.3 s" in timeline(broken)
    assert 'class="violated"' not in timeline(outcome())


@pytest.mark.parametrize("made", [outcome(), outcome(never_open=[violation("x", 3)])])
def test_the_page_refers_to_nothing_and_runs_nothing(made: Outcome) -> None:
    text = page(made)
    read = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(read.elements)
    assert [name for name, _ in read.attributes if name in NAMED or name.startswith("on")] == []
    for word in ("://", "url(", "@import"):
        assert word not in text


def test_hostile_names_stand_on_the_page_as_they_are_and_do_nothing() -> None:
    made = record()
    made.injected.append(
        Injected(HOSTILE, HOSTILE, HOSTILE, at(40), at(41), HOSTILE, converged=at(42))
    )
    made.failures.append(HOSTILE)
    made.versions = {HOSTILE: HOSTILE}
    made.mode = HOSTILE
    made.scenarios = (HOSTILE,)
    made.phases[0] = replace(made.phases[0], scenario=HOSTILE)
    hostile = replace(
        outcome(made, never_open=[violation(HOSTILE, 5)]),
        lines={HOSTILE: HOSTILE},
        lags={HOSTILE: outcome().lags["n1"]},
    )
    noted = replace(hostile.verdicts[0], note=HOSTILE, unit=HOSTILE)
    read = Page(page(replace(hostile, verdicts=(noted, *hostile.verdicts[1:]))))
    plain = Page(page(outcome(never_open=[violation("x", 5)])))
    assert set(read.elements) - {"li", "ol", "div", "dt", "dd", "time"} <= set(plain.elements)
    assert not [name for name, _ in read.attributes if name.startswith("on") or name in NAMED]
    assert any(HOSTILE.replace("\x1b", "") in text.replace("\x1b", "") for text in read.texts)


def test_the_document_is_json_with_sums_that_agree() -> None:
    made = outcome(fold=[Violation(Invariant.FOLD, "n2 differs")])
    said = json.loads(json.dumps(document(made)))
    assert said["schema"] == 1
    assert said["held"] is False
    assert said["totals"]["violations"] == 1
    for key in ("faults", "acknowledged", "packets"):
        assert sum(row[key] for row in said["scenarios"]) == said["totals"][key]
    assert said["totals"]["packets"] == said["totals"]["passed"] + said["totals"]["denied"]
    (fold,) = [each for each in said["verdicts"] if each["invariant"] == "fold"]
    assert fold["told"] == [{"what": "n2 differs", "at": None}]


def test_what_happens_between_two_scenarios_is_counted_to_the_one_before() -> None:
    before, first, *_ = outcome().rows()
    assert (before.scenario, before.packets) == ("", 50)
    assert (first.scenario, first.packets, first.acknowledged) == ("bus-leader-killed", 100, 20)
    assert first.converge_s == 2.0


def test_a_scenario_that_did_not_converge_has_no_time_to_converge() -> None:
    made = record()
    made.injected[0] = replace(made.injected[0], converged=0)
    rows = {row.scenario: row for row in outcome(made).rows()}
    assert rows["bus-leader-killed"].converge_s is None
    assert "NOT converged" in page(outcome(made))
    assert scenarios(outcome(made))[-1][-1] == "–"


@pytest.mark.parametrize("why", ["failure", "missing", "nothing judged", "no verdict", "no phase"])
def test_a_run_that_proves_nothing_did_not_hold(why: str) -> None:
    made = record()
    if why == "failure":
        made.failures.append("the disk could not be filled")
    if why == "missing":
        made.scenarios = (*made.scenarios, "never-begun")
    if why == "no phase":
        made.phases, made.scenarios = [], ()
    judged = outcome(made)
    if why == "nothing judged":
        blind = Verdict(Invariant.NEVER_OPEN, 0, "packets")
        judged = replace(judged, verdicts=(*judged.verdicts[:-1], blind))
    if why == "no verdict":
        judged = replace(judged, verdicts=())
    assert not judged.held
    assert "Not everything held." in Page(page(judged)).text
    assert document(judged)["held"] is False


def test_each_process_that_a_fault_hit_has_a_lane_of_its_own() -> None:
    made = record()
    made.injected = [
        replace(made.injected[0], target="nats.3, nats.1"),
        replace(made.injected[0], target="nats.2; nats.3 leads instead"),
        replace(made.injected[0], target="agent.n1: /data/nodes/n2/agent.db"),
        replace(made.injected[0], target="snapshot 3594, to agent.n1"),
        replace(made.injected[0], target="3000 events"),
    ]
    drawn = timeline(outcome(made))
    lanes = re.findall(r'class="name end">([^<]*)', drawn)
    assert lanes[1:6] == ["agent.n1", "nats.1", "nats.2", "nats.3", "the whole cluster"]


def test_an_empty_record_is_told_too() -> None:
    made = record()
    for kept in (made.phases, made.injected, made.acknowledged, made.packets):
        kept.clear()  # type: ignore[attr-defined]
    made.ended = made.began
    empty = Outcome(made, ())
    assert "Nothing was judged" in page(empty) or "Not carried out" in page(empty)
    assert scenarios(empty)[-1][0] == "all"


def test_the_markdown_table_has_a_line_for_each_scenario_and_their_sum() -> None:
    head, rule, *lines = markdown(outcome()).splitlines()
    assert head == f"| {' | '.join(COLUMNS)} |"
    assert rule.count("|") == head.count("|")
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [*FAULTS, "all"]
    assert lines[0] == "| bus-leader-killed | 1 | 20 | 100 | 0 | 2.0 s |"
    assert {row[0] for row in checkers(outcome())} == {"✓"}


def test_the_report_is_written_as_two_files(tmp_path: Path) -> None:
    place = tmp_path / "a" / "report"
    files.ready(place)
    shown = files.write(outcome(), place)
    assert sorted(path.name for path in place.iterdir()) == ["index.html", "report.json"]
    assert "Everything held." in shown.read_text()
    assert json.loads((place / "report.json").read_text())["seed"] == 7


def test_a_run_that_is_ended_early_leaves_no_empty_page_and_no_other_report_harmed(
    tmp_path: Path,
) -> None:
    files.ready(tmp_path)
    assert list(tmp_path.iterdir()) == []
    before = files.write(outcome(), tmp_path).read_text()
    files.ready(tmp_path)
    assert (tmp_path / "index.html").read_text() == before


def test_a_report_that_cannot_be_written_is_known_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        files.ready(tmp_path / "file" / "report")

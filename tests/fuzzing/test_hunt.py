import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import Phase

from fuzzing import __main__ as fuzzing
from fuzzing import cases
from fuzzing.__main__ import Hunt
from fuzzing.cases import Case
from tabard.dataplane.maps import Mode


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "ROUND", 10)


def test_a_case_on_which_opinions_part_ends_the_hunt_and_is_known() -> None:
    def part(case: Case) -> int:
        raise AssertionError("they part")

    hunt = Hunt(part, time.monotonic() + 60, [Phase.generate])
    with pytest.raises(AssertionError, match="they part"):
        hunt.round(Mode.OVERLAY, seed=1)
    assert hunt.parted is not None
    assert hunt.parted.mode == "OVERLAY"
    assert hunt.cases == 0


def test_one_seed_gives_the_same_cases_again() -> None:
    seen: list[list[str]] = []
    for _ in range(2):
        found: list[str] = []
        Hunt(lambda case, found=found: found.append(case.text()) or 1, time.monotonic() + 60).round(
            Mode.NATIVE, seed=3
        )
        seen.append(found)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 5


def test_time_ends_a_hunt() -> None:
    hunt = Hunt(lambda case: 1, time.monotonic() - 1)
    hunt.round(Mode.NATIVE, seed=3)
    assert hunt.cases == 0


def test_a_case_is_the_same_after_it_was_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "FINDINGS", tmp_path)
    case = Case("NATIVE", [], [["delete", 1]], [], [[0, 1, 0]], 7, 3)
    kept = cases.keep(case, "by hand")
    assert cases.read(kept) == replace(case, found="by hand")
    assert cases.findings() == [kept]

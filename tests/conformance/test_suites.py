"""Third-party truth: nearly all of the suites, on every dataplane.

np-guard's directories with long lists are left to `make conformance`, which runs everything. The
suites lie beside the project (`../shared/suites`), or where the environment's SUITES says.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.__main__ import PLANES
from conformance.planes.plane import Plane
from conformance.report import told
from conformance.runner import run
from conformance.suites import Case, SuitesError, find

SUITES = Path(os.environ.get("SUITES", Path(__file__).parents[2] / ".." / "shared" / "suites"))
IN_PART = "np-guard-netpol-analyzer"
LINES_MAX = 50
"""Of np-guard's lists, those with fewer lines; the time goes with the square of the workloads."""
WITHOUT_FLOWS = ("cilium-examples", "np-guard-nca")
"""What no dataplane has a say in runs once."""


def cases() -> Iterator[Any]:
    """(dataplane, case)"""
    try:
        found = [case for case in find(SUITES) if not case.left_out]
    except SuitesError as error:
        skip = pytest.mark.skip(reason=f"NOT CHECKED: {error}")
        yield pytest.param("pure", None, id="no suites", marks=skip)
        return
    for plane in PLANES:
        marks = [pytest.mark.ebpf] * (plane == "ebpf")
        for case in found:
            if case.suite == IN_PART and case.lines >= LINES_MAX:
                continue
            if case.suite not in WITHOUT_FLOWS or plane == "pure":
                name = f"{plane}-{case.suite}/{case.name}"
                yield pytest.param(plane, case, id=name, marks=marks)


@pytest.fixture(scope="module")
def planes() -> Iterator[Callable[[str], Plane]]:
    """Each is made once: what it loads is kept from case to case."""
    made: dict[str, Plane] = {}

    def plane(name: str) -> Plane:
        if name not in made:
            made[name] = PLANES[name]()
        return made[name]

    yield plane
    for each in made.values():
        each.close()


@pytest.mark.parametrize(("plane", "case"), list(cases()))
def test_every_statement_of_the_case_agrees(
    planes: Callable[[str], Plane], plane: str, case: Case
) -> None:
    (result,) = run([case], planes(plane))
    assert not result.failures, "\n".join(map(told, result.failures[:20]))
    assert result.passed or result.left_out

"""Third-party truth: a representative part of the suites, on every dataplane.

All of the neutral cases and real applications, and np-guard's directories with short lists; `make
conformance` runs everything. The suites lie beside the project (`../shared/suites`), or where the
environment's SUITES says.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.__main__ import PLANES
from conformance.planes.plane import Plane
from conformance.report import told
from conformance.runner import run
from conformance.suites import Case, SuitesError, find

SUITES = Path(os.environ.get("SUITES", Path(__file__).parents[2] / ".." / "shared" / "suites"))
WHOLE = (
    "k8s-e2e-netpol",
    "cyclonus-generated",
    "netpol-recipes",
    "cilium-k8s-netpol-unit",
    "realworld",
)
IN_PART = "np-guard-netpol-analyzer"
LINES_MAX = 50
"""Of np-guard's lists, those with fewer lines; the time goes with the square of the workloads."""


def cases() -> Iterator[Any]:
    for suite in (*WHOLE, IN_PART):
        try:
            found = [case for case in find(SUITES, [suite]) if not case.left_out]
        except SuitesError as error:
            skip = pytest.mark.skip(reason=f"NOT CHECKED: {error}")
            yield pytest.param(None, id=suite, marks=skip)
            continue
        for case in found:
            if suite != IN_PART or case.lines < LINES_MAX:
                yield pytest.param(case, id=f"{suite}/{case.name}")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.ebpf] * (name == "ebpf")) for name in PLANES],
)
def plane(request: pytest.FixtureRequest) -> Iterator[Plane]:
    made = PLANES[request.param]()
    yield made
    made.close()


@pytest.mark.parametrize("case", list(cases()))
def test_every_probe_of_the_case_agrees(plane: Plane, case: Case) -> None:
    (result,) = run([case], plane)
    assert not result.failures, "\n".join(map(told, result.failures[:20]))
    assert result.passed

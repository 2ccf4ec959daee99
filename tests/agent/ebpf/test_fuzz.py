"""The oracle, the policy engine, compiled maps, the memory dataplane and the kernel are of one
opinion: on random policies, labels and packets, and on each case that once parted them.

FUZZ_EXAMPLES in the environment says how many of each mode (default 20); `make fuzz` goes on.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzzing import cases
from fuzzing.opinions import check
from laboratory import Laboratory
from tabard.dataplane.maps import Mode

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(240 + 2 * EXAMPLES)]


@pytest.mark.parametrize("mode", Mode)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_cases(lab: Laboratory, mode: Mode, data: st.DataObject) -> None:
    case = data.draw(cases.cases(mode.name))
    lab.play(mode, lambda twins: check(case, twins))


@pytest.mark.parametrize("path", cases.findings(), ids=lambda path: path.stem)
def test_a_case_that_once_found_something(lab: Laboratory, path: Path) -> None:
    case = cases.read(path)
    lab.play(Mode[case.mode], lambda twins: check(case, twins))

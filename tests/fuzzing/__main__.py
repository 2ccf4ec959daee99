"""The differential fuzzer, for as long as it is let:

    make fuzz SECONDS=600 SEED=7

Random policies, labels and packets, judged by the oracle, the policy engine, compiled maps, the
memory dataplane and the kernel. A case on which they part is made as small as it gets, written into
`findings`, and replayed by the tests from then on. The exit code says whether there was one.
"""

import argparse
import contextlib
import os
import secrets
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from fuzzing.cases import Case, cases, keep
from fuzzing.opinions import check
from laboratory import laboratory
from tabard.dataplane.maps import Mode

ROUND = 100
"""Cases of one round, which has a seed of its own."""

Check = Callable[[Case], int]
"""The flows that a case asks about."""


class Hunt:
    """Rounds of random cases until a time (`time.monotonic`) or a finding."""

    def __init__(
        self,
        check: Check,
        until: float,
        phases: Sequence[Phase] = (Phase.generate, Phase.shrink),
    ) -> None:
        self.cases = self.flows = 0
        self.parted: Case | None = None
        """The smallest case on which opinions parted."""
        self._check = check
        self._until = until
        self._phases = phases

    def round(self, mode: Mode, seed: int) -> None:
        """Raises what the smallest case that fails raised."""

        @seeded(seed)
        @settings(
            max_examples=ROUND,
            database=None,
            deadline=None,
            phases=self._phases,
            suppress_health_check=list(HealthCheck),
        )
        @given(cases(mode.name))
        def judge(case: Case) -> None:
            if self.parted is None and time.monotonic() > self._until:
                return
            try:
                self.flows += self._check(case)
            except Exception:
                self.parted = case
                raise
            self.cases += 1

        judge()


@contextlib.contextmanager
def checking() -> Iterator[Check]:
    """With twins where there are eBPF and root; else, loudly, without."""
    if sys.platform != "linux" or os.geteuid() != 0:
        print("NOT in the kernel, and no packets: that needs root on Linux", file=sys.stderr)
        yield lambda case: check(case, None)
        return
    with tempfile.TemporaryDirectory() as directory, laboratory(Path(directory)) as lab:

        def judged(case: Case) -> int:
            asked: list[int] = []
            lab.play(Mode[case.mode], lambda twins: asked.append(check(case, twins)))
            return asked[0]

        yield judged


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description="the differential fuzzer")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    asked = parser.parse_args()
    if not asked.seconds > 0:
        parser.error(f"SECONDS is {asked.seconds:g}; it must be more than 0")
    print(f"seed {asked.seed}, for {asked.seconds:g} s", flush=True)
    began = time.monotonic()
    with checking() as check:
        hunt = Hunt(check, began + asked.seconds)
        seed = asked.seed
        while time.monotonic() < began + asked.seconds:
            try:
                for mode in Mode:
                    hunt.round(mode, seed)
            except Exception as error:
                if hunt.parted is None:
                    raise
                traceback.print_exc()
                said = next(iter(str(error).splitlines()), type(error).__name__)
                kept = keep(hunt.parted, f"make fuzz SEED={seed}: {said}")
                spent = time.monotonic() - began
                print(f"\nopinions parted (seed {seed}, after {spent:.0f} s): {kept}")
                print("replay: .venv/bin/pytest tests/agent/ebpf/test_fuzz.py -k once_found")
                return 1
            seed += 1
            print(f"{hunt.cases} cases, {hunt.flows} flows; next seed {seed}", flush=True)
    print(f"no finding in {hunt.cases} cases, {hunt.flows} flows")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

"""`python -m conformance DIR`: the cases under DIR on one dataplane.

Exit codes: 0 nothing failed, 1 a case failed, 2 there was nothing to run or no way to run it.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from conformance.planes.ebpf import Ebpf
from conformance.planes.memory import Memory
from conformance.planes.plane import Plane, PlaneError
from conformance.planes.pure import Pure
from conformance.report import Report
from conformance.runner import run
from conformance.suites import SuitesError, find

PLANES: dict[str, Callable[[], Plane]] = {"pure": Pure, "memory": Memory, "ebpf": Ebpf}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        cases = find(options.suites, options.only)
        plane = PLANES[options.dataplane]()
    except (SuitesError, PlaneError) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    report = Report(options.dataplane, None if options.output == "json" else sys.stdout)
    try:
        for result in run(cases, plane):
            report.take(result)
    finally:
        plane.close()
    report.close()
    if options.output == "json":
        print(report.as_json())
    return 1 if report.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("suites", type=Path, help="a folder of suites, or one suite")
    parser.add_argument("--dataplane", choices=PLANES, default="pure", help="who gives verdicts")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="SUITE[/CASE]",
        help="run these alone; * stands for anything; may be given again",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

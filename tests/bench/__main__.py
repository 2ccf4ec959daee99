"""`make bench`, or `PYTHONPATH=tests python -m bench`: measure, keep the report, print one table.

Exit codes: 0 measured (whether or not targets are met), 1 a benchmark failed, 2 usage, 130
interrupted.
"""

import argparse
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import report, table
from bench.catalogue import BENCHMARKS, needs_kernel, summary, why_not
from bench.child import FIGURES
from bench.sweep import sweep

BENCHMARK_S_MAX = 1_800
"""Longest that one benchmark may take."""
STOP_S = 60


def main(arguments: list[str]) -> int:
    asked = _parser().parse_args(arguments)
    if asked.list or asked.only == "?":
        for name in BENCHMARKS:
            print(f"{name:<10} {summary(name)}")
        return 0
    if asked.scale <= 0:
        print(f"SCALE is {asked.scale:g}; it must be more than 0", file=sys.stderr)
        return 2
    if asked.show and not asked.output.exists():
        print(f"nothing was measured yet: there is no {asked.output}; make bench", file=sys.stderr)
        return 1
    if asked.show:
        print(_shown(json.loads(asked.output.read_text()), asked.format))
        return 0
    names = [name.strip() for name in asked.only.split(",")] if asked.only else list(BENCHMARKS)
    if unknown := sorted(set(names) - BENCHMARKS.keys()):
        known = ", ".join(BENCHMARKS)
        print(f"there is no benchmark {unknown[0]!r}; there are {known}", file=sys.stderr)
        return 2
    found = _measure(names, asked.scale, asked.directory)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(_shown(found, asked.format))
    for name, why in found["skipped"].items():
        print(f"NOT MEASURED {name}: {why}", file=sys.stderr)
    for name, why in found["failed"].items():
        print(f"FAILED {name}: {why}", file=sys.stderr)
    return 1 if found["failed"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help="names, with commas between; ? lists them")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--show", action="store_true", help="print the last report again")
    parser.add_argument(
        "--format",
        choices=("plain", "markdown", "summary"),
        default="plain",
        help="summary: markdown of what has a target",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 for a quick look")
    parser.add_argument("--output", type=Path, default=report.LATEST)
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="on the disk that the bus is to be measured on",
    )
    return parser


def _measure(names: list[str], scale: float, directory: Path) -> dict[str, Any]:
    commit, dirty = report.commit()
    found: dict[str, Any] = {
        "schema": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "dirty": dirty,
        "machine": report.machine(directory),
        "versions": report.versions(),
        "scale": scale,
        "figures": [],
        "seconds": {},
        "skipped": {},
        "failed": {},
    }
    why_unreal = _why_no_kernel()
    for name in names:
        if why := (why_unreal if needs_kernel(name) else "") or why_not(name):
            found["skipped"][name] = why
            continue
        print(f"{name}: {summary(name)}", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            figures, left = _run(name, scale, directory, real=not why_unreal)
            found["figures"] += figures
            if left:
                found["failed"][name] = f"it left behind {', '.join(left)} (removed)"
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            found["failed"][name] = str(error)
        found["seconds"][name] = round(time.monotonic() - begun, 1)
    return found


def _run(
    name: str, scale: float, directory: Path, real: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """The figures of one benchmark, run in a process of its own, and what it had left behind."""
    run = f"bench{secrets.token_hex(4)}"
    place = Path(tempfile.mkdtemp(prefix=f"tabard-{run}-", dir=directory))
    command = [sys.executable, "-m", "bench.child", name, run, place, str(scale), "01"[real]]
    try:
        # In a group of its own: Ctrl-C is for this process, which tells the child, once.
        with subprocess.Popen(list(map(str, command)), stdout=sys.stderr, process_group=0) as child:
            try:
                code = child.wait(BENCHMARK_S_MAX)
            except BaseException:
                _end(child)
                raise
        if code:
            raise RuntimeError(f"it ended with code {code}; what it said stands above")
        figures: list[dict[str, Any]] = json.loads((place / FIGURES).read_text())
    finally:
        left = sweep(run, place)
    if scale != 1:
        for figure in figures:
            figure["met"] = None
    return figures, left


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.send_signal(signal.SIGINT)
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()


def _why_no_kernel() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "eBPF needs root on Linux"
    if importlib.util.find_spec("bcc") is None:
        return "eBPF needs the Debian package python3-bpfcc"
    return ""


def _shown(found: dict[str, Any], kind: str) -> str:
    figures = found["figures"]
    if kind == "summary":
        figures = [figure for figure in figures if figure["target"]]
    shown = table.plain if kind == "plain" else table.markdown
    return f"{report.heading(found)}\n\n{shown(figures)}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

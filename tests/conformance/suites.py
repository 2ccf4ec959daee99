"""Finding cases, and the declared tags by which some are left out.

A suite is a folder with `cases/index.json`, or whose cases have a `required_flows.json`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from conformance import connections, neutral, required
from conformance.story import CaseError, LeftOut, Story

EXCLUDED = (
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
    "CiliumCIDRGroup",
    "CiliumClusterwideNetworkPolicy",
    "CiliumNetworkPolicy",
    "ClusterNetworkPolicy",
    "cilium-raw-rule",
)
"""Features that are not Kubernetes NetworkPolicy: whoever declares one is left out, in the open."""


class SuitesError(Exception):
    """There is nothing to run, or its index cannot be read."""


@dataclass(frozen=True, slots=True)
class Case:
    suite: str
    name: str
    """Unique in its suite: the file's stem or the directory's name."""
    title: str
    features: tuple[str, ...]
    left_out: str
    """The tag by which the case is left out; "" if it is to run."""
    read: Callable[[], Story]
    """Raises LeftOut if the case itself declares what its index does not."""


def find(root: Path, only: Sequence[str] = ()) -> list[Case]:
    """All cases under `root`, or those that match one of the patterns `SUITE` or `SUITE/CASE`."""
    if not root.is_dir():
        raise SuitesError(f"there is no directory {root}; say where the suites are: SUITES=DIR")
    cases = list(_cases(root))
    if not cases:
        raise SuitesError(
            f"no suite lies in {root}: none of its folders has cases/index.json or a case with "
            "required_flows.json; say where the suites are: SUITES=DIR"
        )
    chosen = [case for case in cases if not only or any(_fits(case, one) for one in only)]
    if not chosen:
        names = ", ".join(sorted({case.suite for case in cases}))
        raise SuitesError(f"no case is called {' or '.join(only)}; the suites are {names}")
    return chosen


def _fits(case: Case, pattern: str) -> bool:
    suite, _, name = pattern.partition("/")
    return fnmatchcase(case.suite, suite) and fnmatchcase(case.name, name or "*")


def _cases(root: Path) -> Iterator[Case]:
    found = {path.parent: path for path in root.rglob("cases/index.json")}
    folders = set(found) | {path.parents[1] for path in root.rglob("cases/*/required_flows.json")}
    for folder in sorted(folders):
        if folder in found:
            yield from _indexed(folder, found[folder])
        else:
            for path in sorted(folder.glob("*/required_flows.json")):
                yield _case(folder, path.parent.name, {}, "", required.reader(path.parent))


def _indexed(folder: Path, index_file: Path) -> Iterator[Case]:
    try:
        index = json.loads(index_file.read_text(encoding="utf-8"))
        entries = index["cases"]
        form = str(index.get("format", "no format"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SuitesError(f"{index_file} is no index of cases: {error!r}") from error
    if not entries:
        raise SuitesError(f"{index_file} lists no cases")
    for entry in entries:
        if entry.get("case"):
            name = Path(entry["case"]).stem
            yield _case(folder, name, entry, "", neutral.reader(folder / entry["case"]))
        elif "expected" in entry and "scope" in entry and "dir" in entry:
            scope = entry["scope"]
            left_out = "" if scope == "k8s-np" else f"scope:{scope}"
            yield _case(folder, entry["dir"], entry, left_out, connections.reader(folder, entry))
        else:
            name = str(entry.get("dir") or entry.get("file") or entry.get("name"))
            yield _case(folder, name, entry, f"format: {form.partition(';')[0]}", _unread)


def _case(
    folder: Path, name: str, entry: dict[str, Any], left_out: str, read: Callable[[], Story]
) -> Case:
    features = tuple(entry.get("features") or ())
    declared = next((tag for tag in EXCLUDED if tag in features), "")
    title = str(entry.get("name") or name)
    return Case(folder.parent.name, name, title, features, left_out or declared, read)


def _unread() -> Story:
    raise CaseError("its format is not read")


__all__ = ["EXCLUDED", "Case", "LeftOut", "SuitesError", "find"]

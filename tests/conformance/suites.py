"""Finding cases, and the declared tags by which some are left out.

A suite is a folder with `cases/index.json`, or whose cases have a `required_flows.json`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from conformance import connections, examples, index, neutral, required, schemes, tables
from conformance.declared import left_out
from conformance.story import CaseError, Rows, Story


class SuitesError(Exception):
    """There is nothing to run."""


@dataclass(frozen=True, slots=True)
class Case:
    suite: str
    name: str
    """Unique in its suite: the file's stem or the directory's name."""
    features: tuple[str, ...]
    left_out: str
    """The tag by which the case is left out; "" if it is to run."""
    lines: int
    """Connection lines, for lists."""
    read: Callable[[], Story | Rows]
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
                yield _case(folder, path.parent.name, {}, required.reader(path.parent))


def _indexed(folder: Path, index_file: Path) -> Iterator[Case]:
    try:
        entries, form = index.read(index_file)
    except CaseError as error:
        yield _case(folder, "index.json", {}, partial(_unread, str(error)))
        return
    for entry in entries:
        yield _entry(folder, entry, form)


def _entry(folder: Path, entry: dict[str, Any], form: str) -> Case:
    """The case of an index's entry, its format known by what the entry names."""
    if entry.get("case"):
        path = folder / entry["case"]
        return _case(folder, path.stem, entry, neutral.reader(path))
    directory = entry.get("dir")
    if directory and (folder / directory / "required_flows.json").is_file():
        return _case(folder, directory, entry, required.reader(folder / directory))
    if directory and connections.are_in(entry):
        return _case(folder, directory, entry, connections.reader(folder, entry))
    if directory and entry.get("scheme"):
        return _case(folder, directory, entry, schemes.reader(folder, entry))
    file = str(entry.get("file") or "")
    if file.endswith(".json"):
        return _case(folder, Path(file).stem, entry, tables.reader(folder / file))
    if file:
        case = _case(folder, str(Path(file).with_suffix("")), entry, examples.reader(folder, entry))
        return replace(case, left_out="")  # what is only read needs no feature to be enforced
    read = partial(_unread, f"no known format: {form}")
    return _case(folder, str(directory or entry["name"]), entry, read)


def _case(folder: Path, name: str, entry: dict[str, Any], read: Callable[[], Story | Rows]) -> Case:
    features = tuple(entry.get("features") or ())
    lines = int(entry.get("connection_lines") or 0)
    return Case(folder.parent.name, name, features, left_out(features), lines, read)


def _unread(why: str) -> Story:
    raise CaseError(why)

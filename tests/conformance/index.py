"""A suite's `cases/index.json`, believed no further than it is read."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from conformance import connections
from conformance.story import CaseError, why
from tabard.manifests.errors import shown

NAMES = ("case", "dir", "file", "name")
"""What an entry is called by: one of these at least."""
_TYPES: Mapping[str, tuple[type, str]] = {
    **dict.fromkeys((*NAMES, "scope"), (str, "text")),
    **dict.fromkeys(("features", "expected"), (list, "a list")),
    "connection_lines": (int, "a number"),
}


def read(file: Path) -> tuple[list[dict[str, Any]], str]:
    """The entries and their format; CaseError names the file and what is wrong with it."""
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaseError(f"{file} cannot be read: {why(error)}") from error
    if not isinstance(index, dict) or not isinstance(index.get("cases"), list):
        raise CaseError(f'{file} is no object with a list of "cases"')
    if not index["cases"]:
        raise CaseError(f"{file} lists no cases")
    for number, entry in enumerate(index["cases"]):
        for fault in _faults(f"cases[{number}]", entry):
            raise CaseError(f"{file}: {fault}")
    return index["cases"], str(index.get("format", "none"))


def _faults(place: str, entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"{place} is {shown(entry)}, not an object"
        return
    for key, (wanted, word) in _TYPES.items():
        if entry.get(key) is not None and not isinstance(entry[key], wanted):
            yield f"{place}.{key} is {shown(entry[key])}, not {word}"
    if not any(entry.get(key) for key in NAMES):
        yield f"{place} has neither {', '.join(NAMES[:-1])} nor {NAMES[-1]}"
    for feature in entry.get("features") or ():
        if not isinstance(feature, str):
            yield f"{place}.features has {shown(feature)}, which is not text"
    if connections.are_in(entry):
        for at, each in enumerate(entry["expected"]):
            if not isinstance(each, dict) or not isinstance(each.get("file"), str):
                yield f"{place}.expected[{at}] is {shown(each)}, which names no file"

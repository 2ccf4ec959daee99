"""Findings as SARIF 2.1.0 (OASIS), which code hosts and editors show beside the lines. Pure."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tabard.policy.lint.catalogue import RULES, Rule, Severity

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}

Row = Mapping[str, Any]


def sarif(rows: Sequence[Row]) -> dict[str, Any]:
    """One run, of every rule that there is."""
    index = {id: at for at, id in enumerate(RULES)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "tabard",
                        "version": version("tabard"),
                        "rules": [_rule(rule) for rule in RULES.values()],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(row, index[row["rule"]]) for row in rows],
            }
        ],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(part.capitalize() for part in rule.name.split("-")),
        "shortDescription": {"text": f"{rule.says[0].upper()}{rule.says[1:]}."},
        "help": {"text": f"{rule.mend[0].upper()}{rule.mend[1:]}."},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def _result(row: Row, index: int) -> dict[str, Any]:
    named = "/".join(filter(None, (row["kind"], row["namespace"], row["object"])))
    whole = ": ".join(filter(None, (named, row["path"], row["message"])))
    found: dict[str, Any] = {
        "ruleId": row["rule"],
        "ruleIndex": index,
        "level": LEVELS[Severity[row["severity"].upper()]],
        "message": {"text": f"{whole}; {row['mend']}"},
    }
    location: dict[str, Any] = {}
    if row["file"]:
        physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(row["file"])}}
        if row["line"]:
            physical["region"] = {"startLine": row["line"]}
        location["physicalLocation"] = physical
    if named:
        inside = f"{named}#{row['path']}" if row["path"] else named
        location["logicalLocations"] = [{"fullyQualifiedName": inside, "kind": "resource"}]
    if location:
        found["locations"] = [location]
    return found


def _uri(file: str) -> str:
    """Of an absolute path a file URI, else relative to wherever the command ran."""
    path = Path(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())

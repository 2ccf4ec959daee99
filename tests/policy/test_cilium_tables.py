"""Cilium's own tables of its policy API: what it takes, and what selectors and entities mean.

They lie beside the project (`../shared/suites`), or where the environment's SUITES says.
"""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tabard.dataplane.maps import Direction
from tabard.identity.labels import label_set
from tabard.policy import cilium_selectors
from tabard.policy.cilium import read_rules
from tabard.policy.cilium_peers import ENTITIES, cidr
from tabard.policy.cilium_selectors import Scope
from tabard.policy.matching import labels_of, matches
from tabard.policy.model import ANY_SOURCE, NotEnforced, PolicyError, Selector
from tabard.policy.reading import read_object

SUITES = Path(os.environ.get("SUITES", Path(__file__).parents[2] / ".." / "shared" / "suites"))
EXAMPLES = SUITES / "cilium-examples" / "cases" / "parse"
DOUBTFUL = {
    "and-statement.yaml": "is 'in'; it must be In, NotIn",
    "or-statement.yaml": "is 'in'; it must be In, NotIn",
}
"""Examples that the published schema does not take, and why."""
NOT_CHECKED = pytest.mark.skip(reason=f"NOT CHECKED: there is no {SUITES}")


def rows(table: str) -> list[Any]:
    file = SUITES / "cilium-tables" / "cases" / f"{table}.json"
    if not file.exists():
        return [pytest.param(None, id=table, marks=NOT_CHECKED)]
    return [pytest.param(row, id=row["name"]) for row in json.loads(file.read_text())["rows"]]


def examples() -> list[Any]:
    if not EXAMPLES.exists():
        return [pytest.param(None, id="examples", marks=NOT_CHECKED)]
    found = sorted(EXAMPLES.rglob("*.yaml"))
    return [pytest.param(file, id=str(file.relative_to(EXAMPLES))) for file in found]


@pytest.mark.parametrize("row", rows("rule_validation"))
def test_a_rule_is_taken_as_cilium_takes_it_or_refused_as_not_enforced(row: Any) -> None:
    error = refused(lambda: read_rules([row["rule"]]))
    assert isinstance(error, NotEnforced) or (error is None) == row["valid"], error


def refused(read: Callable[[], object]) -> PolicyError | None:
    try:
        read()
    except PolicyError as error:
        return error
    return None


@pytest.mark.parametrize("row", rows("default_deny_derivation"))
def test_sections_switch_default_deny_on_as_cilium_has_it(row: Any) -> None:
    (policy,) = read_rules([row["rule"]])
    assert (Direction.INGRESS in policy.isolates) == row["default_deny_ingress"]
    assert (Direction.EGRESS in policy.isolates) == row["default_deny_egress"]


@pytest.mark.parametrize("row", rows("cidr_syntax"))
def test_cidrs_are_those_of_the_published_schema(row: Any) -> None:
    if row["valid_in_crd_schema"]:
        cidr(row["cidr"], "cidr")
    else:
        with pytest.raises(PolicyError):
            cidr(row["cidr"], "cidr")


@pytest.mark.parametrize("row", rows("entity_match"))
def test_entities_match_whom_cilium_says(row: Any) -> None:
    labels = label_set(label if ":" in label else f"unspec:{label}" for label in row["labels"])
    selectors = [ENTITIES[entity] for entity in row["entities"]]
    found = any(
        selector is None or any(matches(each, labels_of(labels)) for each in selector)
        for selector in selectors
    )
    assert found == row["match"]


@pytest.mark.parametrize("row", rows("namespace_injection"))
def test_selectors_get_the_namespace_that_cilium_gives_them(row: Any) -> None:
    scope = Scope(row["policy_namespace"])
    subject = cilium_selectors.subject(row["endpointSelector"], "", scope)
    assert meaning(subject) == meaning(raw(row["result_endpointSelector"]))
    scope = Scope(row["policy_namespace"], selects_init=cilium_selectors.selects_init(subject))
    found = [cilium_selectors.endpoints(one, "", scope) for one in row.get("fromEndpoints", ())]
    expected = [raw(one) for one in row.get("result_fromEndpoints", ())]
    assert list(map(meaning, found)) == list(map(meaning, expected))


def raw(selector: Any) -> Selector:
    return cilium_selectors.endpoints(selector, "", Scope(is_raw=True))


def meaning(selector: Selector) -> frozenset[Any]:
    assert all(need.source in (ANY_SOURCE, "k8s", "reserved") for need in selector.requirements)
    return frozenset(selector.requirements)


@pytest.mark.parametrize("file", examples())
def test_an_example_of_ciliums_is_read_or_refused_by_the_field_that_is_not(file: Path) -> None:
    for document in yaml.safe_load_all(file.read_text()):
        error = refused(partial(read_object, document))
        if isinstance(error, NotEnforced):
            assert any(f".{field}" in error.path for field in ("http", "kafka"))
        else:
            assert DOUBTFUL.get(file.name, "None") in str(error)

"""`tabard policy lint`: on manifests with real bugs, on broken ones, and on a ledger."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from command import Tabard
from ledgers import append, small
from linting import WEB_AND_DB, document, network_policy
from shops import SHOP
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.events import ledger as events
from tabard.policy.lint.catalogue import RULES

SUITES = Path(os.environ.get("SUITES", Path(__file__).parents[2] / ".." / "shared" / "suites"))
REALWORLD = SUITES / "realworld" / "cases"
needs_suites = pytest.mark.skipif(
    not REALWORLD.is_dir(), reason="the suites are not there; say where by SUITES=DIR"
)


def listed(tabard: Tabard, *words: str, exits: int = 1) -> list[dict[str, Any]]:
    result = tabard("policy", "lint", *words, "-o", "json")
    assert result.exit_code == exits, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)["findings"]
    return found


def places(rows: list[dict[str, Any]]) -> set[tuple[str, str, str, int]]:
    """(rule, object, file, line)"""
    return {(row["rule"], row["object"], Path(row["file"]).name, row["line"]) for row in rows}


def lint_text(tabard: Tabard, directory: Path, text: str, *words: str) -> Any:
    file = directory / "all.yaml"
    file.write_text(text)
    return tabard("policy", "lint", str(file), *words)


@needs_suites
def test_every_bug_of_the_sock_shop_is_found_at_its_line(tabard: Tabard) -> None:
    shop = REALWORLD / "sock-shop"
    rows = listed(tabard, str(shop / "manifests"), str(shop / "policies"))
    grave = [row for row in rows if row["severity"] != "info"]
    assert places(grave) == {
        # `cart-access` selects label `cart`, pods say `carts`
        ("TB101", "cart-access", "netpol-cart-access.yaml", 9),
        # … and the database of the carts admits only those
        ("TB102", "carts-db-access", "netpol-cart-db-access.yaml", 13),
        # nothing is `cortex`
        ("TB102", "cortex-access", "netpol-cortex-access.yaml", 12),
        # its `matchLabels:` is null: session-db and two more are isolated by it alone
        ("TB402", "cortex-access", "netpol-cortex-access.yaml", 9),
        ("TB304", "cortex-access", "netpol-cortex-access.yaml", 9),
        # the default denial is the namespace annotation of old, in a second declaration
        ("TB401", "sock-shop", "netpol-default-deny.yaml", 7),
        ("TB001", "sock-shop", "netpol-default-deny.yaml", 5),
    }
    messages = {row["rule"]: row["message"] for row in grave}
    assert "did you mean name=carts?" in messages["TB101"]
    assert "sock-shop/session-db" in messages["TB304"]


@needs_suites
def test_the_online_boutique_has_one_door_open_to_everyone_and_nothing_else(tabard: Tabard) -> None:
    shop = REALWORLD / "online-boutique"
    rows = listed(tabard, str(shop / "manifests"), str(shop / "policies"))
    assert [(row["rule"], row["object"]) for row in rows if row["severity"] != "info"] == [
        ("TB301", "frontend")
    ]
    assert {row["rule"] for row in rows if row["severity"] == "info"} == {"TB303"}


def test_the_example_shop_is_clean(tabard: Tabard) -> None:
    assert listed(tabard, str(SHOP), "--fail-on", "info", exits=0) == []


def test_what_apply_refuses_is_an_error_and_the_rest_is_looked_at(
    tabard: Tabard, tmp_path: Path
) -> None:
    layer_7 = (
        "{endpointSelector: {}, ingress: [{fromEndpoints: [{}], "
        "toPorts: [{ports: [{port: '80'}], rules: {http: [{method: GET}]}}]}]}"
    )
    text = (
        WEB_AND_DB
        + network_policy("{podSelector: {}, ingres: []}", "misspelt")
        + document("CiliumNetworkPolicy", "cilium.io/v2", "http", layer_7, "x")
        + network_policy("{podSelector: {matchLabels: {app: dbb}}, ingress: []}", "wrong")
    )
    result = lint_text(tabard, tmp_path, text, "-o", "json")
    assert result.exit_code == 1
    rows = json.loads(result.stdout)["findings"]
    told = [(row["rule"], row["object"], row["path"]) for row in rows]
    assert told == [
        ("TB001", "misspelt", "spec.ingres"),
        ("TB001", "http", "spec.ingress[0].toPorts[0].rules.http"),
        ("TB101", "wrong", "spec.podSelector"),
    ]
    refused = tabard("policy", "check", "-f", str(tmp_path), "--from", "x/web", "--to", "x/db")
    assert rows[0]["message"] in refused.stderr, "the same text as apply's"


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        (
            "{fromEndpoints: [{}], toPorts: [{ports: [{port: '80'}], rules: {kafka: [{}]}}]}",
            "toPorts[0].rules.kafka",
        ),
        (
            "{fromEndpoints: [{}], toPorts: [{ports: [{port: '443'}], serverNames: [a.example]}]}",
            "toPorts[0].serverNames",
        ),
        ("{fromEndpoints: [{}], authentication: {mode: required}}", "authentication"),
        ("{fromGroups: [{aws: {labels: {a: b}}}]}", "fromGroups"),
    ],
)
def test_what_is_not_enforced_is_refused_by_its_field(
    tabard: Tabard, tmp_path: Path, rule: str, field: str
) -> None:
    spec = f"{{endpointSelector: {{}}, ingress: [{rule}]}}"
    text = WEB_AND_DB + document("CiliumNetworkPolicy", "cilium.io/v2", "p", spec, "x")
    (row,) = json.loads(lint_text(tabard, tmp_path, text, "-o", "json").stdout)["findings"]
    assert (row["rule"], row["path"]) == ("TB001", f"spec.ingress[0].{field}")


def test_a_file_that_is_no_yaml_is_an_error_of_that_file_alone(
    tabard: Tabard, tmp_path: Path
) -> None:
    (tmp_path / "broken.yaml").write_text("kind: [")
    (tmp_path / "good.yaml").write_text(
        WEB_AND_DB + network_policy("{podSelector: {matchLabels: {app: none}}, ingress: []}")
    )
    rows = listed(tabard, str(tmp_path))
    assert [(row["rule"], Path(row["file"]).name) for row in rows] == [
        ("TB001", "broken.yaml"),
        ("TB101", "good.yaml"),
    ]


@pytest.mark.parametrize(
    ("fail_on", "exits"), [("error", 0), ("warning", 1), ("info", 1), ("never", 0)]
)
def test_the_exit_code_says_whether_something_is_as_bad_as_asked(
    tabard: Tabard, tmp_path: Path, fail_on: str, exits: int
) -> None:
    text = WEB_AND_DB + network_policy("{podSelector: {matchLabels: {app: none}}, ingress: []}")
    assert lint_text(tabard, tmp_path, text, "--fail-on", fail_on).exit_code == exits


def test_a_path_that_is_not_there_is_a_usage_error(tabard: Tabard) -> None:
    result = tabard("policy", "lint", "/nowhere/at/all")
    assert result.exit_code == 2
    assert "there is no file or directory /nowhere/at/all" in result.stderr


def test_a_finding_that_its_author_means_is_counted_and_not_told(
    tabard: Tabard, tmp_path: Path
) -> None:
    text = network_policy("{podSelector: {matchLabels: {app: none}}, ingress: []}")
    meant = text.replace(
        "name: p,", "name: p, annotations: {tabard.io/lint-ignore: 'TB101,TB303'},"
    )
    result = lint_text(tabard, tmp_path, WEB_AND_DB + meant)
    assert result.exit_code == 0
    assert result.stdout.strip() == ""
    assert "1 meant by annotation" in result.stderr


def test_lines_are_those_of_compilers_and_say_what_to_do(tabard: Tabard, tmp_path: Path) -> None:
    text = WEB_AND_DB + network_policy("{podSelector: {matchLabels: {app: wbe}}, ingress: []}")
    line, mend = lint_text(tabard, tmp_path, text).stdout.splitlines()
    assert line == (
        f"{tmp_path}/all.yaml:23: warning TB101 selects-nothing: NetworkPolicy x/p: "
        "spec.podSelector: no pod in namespace x has app=wbe; did you mean app=web?"
    )
    assert mend.strip() == RULES["TB101"].mend


def test_policies_without_workloads_are_told_to_be_held_against_nothing(
    tabard: Tabard, tmp_path: Path
) -> None:
    result = lint_text(tabard, tmp_path, network_policy("{podSelector: {}, ingress: []}"))
    assert result.exit_code == 0
    assert "no workload is known" in result.stderr


def test_sarif_has_what_code_hosts_ask_for(tabard: Tabard, tmp_path: Path) -> None:
    """SARIF 2.1.0, 3.13 to 3.31: the required properties, and those that point at a line."""
    text = (
        WEB_AND_DB
        + network_policy("{podSelector: {}, ingres: []}", "misspelt")
        + network_policy("{podSelector: {}, ingress: [{}]}", "open")
    )
    found = json.loads(lint_text(tabard, tmp_path, text, "-o", "sarif").stdout)
    assert found["version"] == "2.1.0"
    assert found["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = found["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "tabard"
    assert [rule["id"] for rule in driver["rules"]] == list(RULES)
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")
    assert [(each["ruleId"], each["level"]) for each in run["results"]] == [
        ("TB001", "error"),
        ("TB301", "warning"),
    ]
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        ((location,),) = [result["locations"]]
        place = location["physicalLocation"]
        assert place["artifactLocation"]["uri"] == (tmp_path / "all.yaml").as_uri()
        assert place["region"]["startLine"] > 20
        (inside,) = location["logicalLocations"]
        assert inside["fullyQualifiedName"].startswith("NetworkPolicy/x/")


def test_sarif_of_a_relative_path_is_relative(
    tabard: Tabard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a b.yaml").write_text(network_policy("{podSelector: {}, ingress: [{}]}"))
    found = json.loads(tabard("policy", "lint", "a b.yaml", "-o", "sarif").stdout)
    (result,) = found["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": "a%20b.yaml"}


def test_the_policies_of_a_ledger_are_looked_at_and_those_that_were_refused(
    tabard: Tabard, store: MemoryStore
) -> None:
    selecting = {"podSelector": {"matchLabels": {"app": "wbe"}}, "ingress": []}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "typo", "namespace": "shop"},
        "spec": selecting,
    }

    async def build() -> None:
        await append(
            MemoryBus(store),
            *small(),
            events.PolicyAccepted("NetworkPolicy", "shop", "typo", policy, "x.yaml:7"),
            events.PolicyRefused("NetworkPolicy", "shop", "bad", "spec.x: unknown", "x.yaml:9"),
        )

    asyncio.run(build())
    rows = listed(tabard)
    told = {(row["rule"], row["object"], row["file"], row["line"]) for row in rows}
    assert {("TB101", "typo", "x.yaml", 7), ("TB001", "bad", "x.yaml", 9)} <= told
    before = listed(tabard, "--at", "8", exits=0)
    assert "typo" not in {row["object"] for row in before}


def test_paths_and_a_moment_exclude_each_other(tabard: Tabard) -> None:
    assert tabard("policy", "lint", str(SHOP), "--at", "5").exit_code == 2


def test_every_rule_is_listed(tabard: Tabard) -> None:
    result = tabard("policy", "lint", "--rules")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == list(RULES)


@pytest.mark.parametrize("metadata", ["text", "[1]", "{name: x, annotations: 5}"])
def test_a_namespace_whose_metadata_is_something_else_ends_no_lint(
    tabard: Tabard, tmp_path: Path, metadata: str
) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(f"{{apiVersion: v1, kind: Namespace, metadata: {metadata}}}\n")
    is_refused = not metadata.startswith("{")
    rows = listed(tabard, str(file), exits=int(is_refused))
    assert [row["rule"] for row in rows] == ["TB001"] * is_refused

"""`tabard policy matrix`, offline on manifests and on a ledger."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import Tabard
from deciding import Desk, relabelled
from ledgers import append, dual
from shops import SHOP, decided, opened
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.cli.matrix import fitting
from tabard.manifests.objects import check
from tabard.manifests.source import load

OFFLINE = ("-f", str(SHOP))
TWO = """\
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
spec: {containers: [{name: c}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: x}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: z, labels: {app: b}}
spec: {containers: [{name: c}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: x}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
    - from: [{podSelector: {matchLabels: {app: a}}}]
      ports: [{port: http}, {port: 53, protocol: UDP}, {protocol: SCTP}]
    - from: [{podSelector: {matchLabels: {app: a}}}]
      ports: [{port: 9}]
"""


@pytest.fixture
def two(tmp_path: Path) -> str:
    file = tmp_path / "two.yaml"
    file.write_text(TWO)
    return str(file)


def test_columns_that_fit_no_terminal_go_into_further_tables() -> None:
    lines = [["TO x", "one", "two", "three"], ["x/a", "-", "8080", "-"]]

    def runs(room: int | None) -> list[list[str]]:
        return [lines[0][columns] for columns in fitting(lines, room)]

    assert runs(None) == runs(25) == [["one", "two", "three"]]
    assert runs(24) == runs(17) == [["one", "two"], ["three"]]
    assert runs(16) == runs(1) == [["one"], ["two"], ["three"]]


def listed(tabard: Tabard, *words: str) -> Any:
    result = tabard("policy", "matrix", *words, "-o", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def connections(found: Any) -> dict[tuple[str, str], Any]:
    return {(item["from"], item["to"]): item["connections"] for item in found["items"]}


def test_a_table_for_each_namespace_has_rows_that_speak_and_columns_that_listen(
    tabard: Tabard, two: str
) -> None:
    result = tabard("policy", "matrix", "-f", two, "--outside", "203.0.113.9")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["TO", "x", "a", "web"],
        ["x/a", "9,8080,53/UDP,all/SCTP"],  # a pod does not speak to itself through policies
        ["x/web", "all", "-"],
        ["z/b", "all", "-"],
        ["203.0.113.9", "all", "-"],
        [],
        ["TO", "z", "b"],
        ["x/a", "all"],
        ["x/web", "all"],
        ["203.0.113.9", "all"],
        [],
        ["TO", "outside", "203.0.113.9"],
        ["x/a", "all"],
        ["x/web", "all"],
        ["z/b", "all"],
    ]


def test_the_list_has_the_pairs_that_may_speak_with_the_rules_that_allow_them(
    tabard: Tabard, two: str
) -> None:
    found = listed(tabard, "-f", two, "--port", "http")
    assert (found["sequence"], found["by"]) == (None, "workload")
    assert [(party["name"], party["kind"]) for party in found["parties"]] == [
        ("x/a", "Pod"),
        ("x/web", "Deployment"),
        ("z/b", "Pod"),
    ]
    # Nobody else has a port of that name.
    (item,) = found["items"]
    assert (item["from"], item["to"]) == ("x/a", "x/web")
    assert item["connections"] == [{"protocol": "TCP", "first": 8080, "last": 8080}]
    assert item["some"] == item["connections"]
    (rule,) = item["rules"]
    assert (rule["name"], rule["rule"], rule["port"], rule["origin"]) == (
        "web",
        "spec.ingress[0]",
        "spec.ingress[0].ports[0]",
        f"{two}:27",
    )


def test_wide_lists_pairs_and_name_names_them(tabard: Tabard, two: str) -> None:
    words = ("policy", "matrix", "-f", two, "--port", "9")
    head, *lines = [line.split() for line in tabard(*words, "-o", "wide").stdout.splitlines()]
    assert head == ["FROM", "TO", "CONNECTIONS", "RULES"]
    assert ["x/a", "x/web", "9/TCP", "x/web", "spec.ingress[1]"] in lines
    names = tabard(*words, "-o", "name").stdout.splitlines()
    assert names == [f"{line[0]} {line[1]}" for line in lines]
    assert yaml.safe_load(tabard(*words, "-o", "yaml").stdout) == listed(tabard, *words[2:])


def test_a_namespace_or_labels_choose_pairs_by_either_end(tabard: Tabard, two: str) -> None:
    chosen = listed(tabard, "-f", two, "-n", "z")
    assert set(connections(chosen)) == {("x/web", "z/b"), ("x/a", "z/b"), ("z/b", "x/a")}
    outside = ("--outside", "203.0.113.9", "--outside", "203.0.113.9")
    chosen = listed(tabard, "-f", two, "-l", "app=web", *outside)
    assert [party["name"] for party in chosen["parties"]] == ["x/a", "x/web", "z/b", "203.0.113.9"]
    assert all("x/web" in pair for pair in connections(chosen))
    lines = tabard("policy", "matrix", "-f", two, "-n", "z").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["TO", "x", "a", "web"],
        ["z/b", "all", "-"],
        [],
        ["TO", "z", "b"],
        ["x/a", "all"],
        ["x/web", "all"],
    ]


def test_no_pods_is_said_on_stderr_and_no_error(tabard: Tabard, two: str) -> None:
    result = tabard("policy", "matrix", "-f", two, "-n", "void")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no pods\n")


@pytest.mark.parametrize("words", [("matrix",), ("check", "--from", "x/a", "--to", "z/b")])
def test_what_was_passed_over_in_manifests_is_noted(
    tabard: Tabard, tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(f"{TWO}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n")
    result = tabard("policy", *words, "-f", str(file))
    assert result.exit_code == 0
    line = result.stderr.splitlines()[0]
    assert line.startswith(f"note: {file}:")
    assert "Secret" in line


def on_bus(store: MemoryStore, desk: Desk) -> None:
    asyncio.run(MemoryBus(store).append(desk.messages, 0))


def test_what_only_some_pods_of_a_workload_may_is_marked(
    tabard: Tabard, store: MemoryStore
) -> None:
    desk = decided(check(load(TWO, "two.yaml")).objects)
    web = next(pod for pod in desk.state.endpoints.values() if pod.owner.endswith("x/web"))
    desk.observe(relabelled(web.uid, app="debug"))
    desk.tick()
    on_bus(store, desk)
    result = tabard("policy", "matrix", "-n", "z")
    assert [line.split() for line in result.stdout.splitlines()[:2]] == [
        ["TO", "x", "a", "web"],
        ["z/b", "all", "~all"],
    ]
    assert result.stderr.startswith("~ marks what only some")
    (item,) = (
        item
        for item in listed(tabard, "-n", "z")["items"]
        if (item["from"], item["to"]) == ("z/b", "x/web")
    )
    assert item["connections"] == []
    assert item["some"] == [{"protocol": "ANY", "first": 0, "last": 65_535}]
    by_pod = listed(tabard, "--by", "pod", "-n", "z")
    assert ("z/b", f"x/{web.name}") in connections(by_pod)
    assert len([pair for pair in connections(by_pod) if pair[0] == "z/b"]) == 2


@pytest.mark.parametrize("cidr", ["10.244.0.0/16", "fd00:244::/32"], ids=["IPv4", "IPv6"])
def test_what_one_of_two_families_may_is_marked(
    tabard: Tabard, store: MemoryStore, cidr: str
) -> None:
    asyncio.run(append(MemoryBus(store), *dual(cidr)))
    result = tabard("policy", "matrix")
    assert ["shop/client", "all", "~7099"] in [line.split() for line in result.stdout.splitlines()]
    assert "or on some of their addresses only" in result.stderr
    (item,) = (each for each in listed(tabard)["items"] if each["to"] == "shop/web-0")
    assert item["connections"] == []
    assert item["some"] == [{"protocol": "TCP", "first": 7099, "last": 7099}]
    assert [rule["peer"] for rule in item["rules"]] == ["spec.ingress[0].from[0]"]


def test_what_both_families_may_is_not_marked(tabard: Tabard, store: MemoryStore) -> None:
    asyncio.run(append(MemoryBus(store), *dual("10.244.0.0/16", "fd00:244::/32")))
    result = tabard("policy", "matrix")
    assert ["shop/client", "all", "7099"] in [line.split() for line in result.stdout.splitlines()]
    (item,) = (each for each in listed(tabard)["items"] if each["to"] == "shop/web-0")
    assert [rule["peer"][-7:] for rule in item["rules"]] == ["from[0]", "from[1]"]


def test_pods_identities_and_workloads_are_three_views_of_one_thing(
    tabard: Tabard, store: MemoryStore
) -> None:
    desk = decided(check(load(TWO, "two.yaml")).objects)
    on_bus(store, desk)
    pods, identities = listed(tabard, "--by", "pod"), listed(tabard, "--by", "identity")
    assert len(pods["parties"]) == 5
    assert {party["kind"] for party in identities["parties"]} == {"Identity"}
    groups = {
        view: {
            f"{pod.namespace}/{name}": f"{pod.namespace}/{pod.name}"
            for pod in desk.state.endpoints.values()
            for name in ([pod.identity] if view == "identity" else [pod.owner.split("/")[2]])
        }
        for view in ("identity", "workload")
    }
    by_pod = connections(pods)
    for view, found in (("identity", identities), ("workload", listed(tabard))):
        a_pod = groups[view]
        for (source, destination), passing in connections(found).items():
            if source != destination:
                assert by_pod[a_pod[source], a_pod[destination]] == passing


def test_the_shop_is_the_same_from_its_ledger_as_from_its_manifests(
    tabard: Tabard, store: MemoryStore
) -> None:
    asyncio.run(opened(store))
    online, offline = listed(tabard), listed(tabard, *OFFLINE)
    # It asks for no pods before its time has come.
    without = {
        pair: passing for pair, passing in connections(offline).items() if "data/backup" not in pair
    }
    assert connections(online) == without
    assert online["sequence"] > 0
    assert all(rule["event"] for item in online["items"] for rule in item["rules"])


def test_the_shop_fits_its_namespaces(tabard: Tabard) -> None:
    result = tabard("policy", "matrix", *OFFLINE)
    lines = result.stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("TO ")] == ["data", "ops", "shop"]
    assert max(len(line) for line in lines if not line.startswith("nothing")) <= 110
    cart = next(line.split() for line in lines if line.startswith("shop/cart "))
    assert cart == ["shop/cart", "-", "-", "6379", "-"]

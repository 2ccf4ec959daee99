"""Each form in which the suites state truth: it is read, and what is wrong is told."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance.__main__ import main
from conformance.test_runner import DENY, failures, listed, neutral, pod, ran, suite

FOO: dict[str, Any] = {"matchLabels": {"any:foo": ""}}
RULE: dict[str, Any] = {
    "endpointSelector": FOO,
    "ingress": [
        {
            "fromEndpoints": [{"matchLabels": {"any:bar": ""}}],
            "toPorts": [
                {
                    "ports": [{"port": "80", "protocol": "TCP"}],
                    "rules": {"http": [{"method": "GET"}]},
                }
            ],
        }
    ],
}


def probe(expect: str, source: str, **more: Any) -> dict[str, Any]:
    return {"from": source, "to": "foo", "port": 80, "protocol": "TCP", "expect": expect, **more}


def raw(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    labels = {"foo": ["any:foo"], "bar": ["any:bar"], "other": ["k8s:app=other"]}
    endpoints = {name: {"labels": given, "identity": 100} for name, given in labels.items()}
    return neutral(*steps, endpoints=endpoints, pods={}, **more)


def table(root: Path, name: str, *rows: dict[str, Any]) -> Path:
    return files(root, "tables", f"{name}.json", json.dumps({"table": name, "rows": list(rows)}))


def files(root: Path, name: str, file: str, text: str, **entry: Any) -> Path:
    """A suite of one file."""
    folder = root / name / "cases"
    folder.mkdir(parents=True)
    (folder / file).write_text(text)
    cases = [{"name": file, "file": file, **entry}]
    (folder / "index.json").write_text(json.dumps({"format": "files", "cases": cases}))
    return root


def scheme(root: Path, expected: int, kind: str, *policies: dict[str, Any], **more: Any) -> Path:
    """A scheme with a query of one configuration for each policy, `np1` and on."""
    folder = root / "schemes" / "cases"
    (folder / "one").mkdir(parents=True)
    manifests = ["pods.yaml"]
    pods = (pod("db", app="db"), pod("web", app="web"))
    (folder / "one" / "pods.yaml").write_text(yaml.safe_dump_all(pods))
    listed = []
    for number, policy in enumerate(policies, 1):
        manifests.append(f"np{number}.yaml")
        (folder / "one" / f"np{number}.yaml").write_text(yaml.safe_dump(policy))
        listed.append({"name": f"np{number}", "networkPolicyList": [f"np{number}.yaml"]})
    document = {"podList": "./pods.yaml", "networkConfigList": listed}
    (folder / "one" / "scheme.yaml").write_text(yaml.safe_dump(document))
    args = [each["name"] for each in listed]
    query = {"name": "q", "type": kind, "args": args, "expected": expected, **more}
    entry = {"name": "one", "dir": "one", "scheme": "scheme.yaml", "manifests": manifests}
    cases = [{**entry, "queries": [query]}]
    (folder / "index.json").write_text(json.dumps({"format": "NCA", "cases": cases}))
    return root


@pytest.mark.parametrize("plane", ["pure", "memory"])
def test_raw_rules_hold_for_raw_labels_until_they_are_cleared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], plane: str
) -> None:
    ruled = {
        "actions": [{"rules": [RULE]}],
        "probes": [
            probe("redirect", "bar"),
            probe("l7-deny", "bar"),
            probe("deny", "bar", port=81),
            probe("deny", "other"),
        ],
    }
    cleared = {"actions": [{"clear_rules": True}], "probes": [probe("allow", "other")]}
    root = suite(tmp_path, "s", raw(ruled, cleared))
    assert main([str(root), "--dataplane", plane, "-o", "json"]) == 0
    total = json.loads(capsys.readouterr().out)["total"]
    assert total["checks"] == {"passed": 4, "failed": 0, "skipped": 1}
    assert total["checks_skipped_by_tag"] == {"L7-verdict": 1}
    assert total["l7_parts_folded"] == 1


def test_a_wrong_expectation_of_raw_rules_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = {"actions": [{"rules": [RULE]}], "probes": [probe("allow", "other")]}
    (failure,) = failures(capsys, suite(tmp_path, "s", raw(step)))
    assert (failure["expected"], failure["got"]) == ("allow", "deny")


@pytest.mark.parametrize("plane", ["pure", "memory"])
def test_enforcement_is_the_clusters_own_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], plane: str
) -> None:
    always, never = ({"enforcement": value} for value in ("always", "never"))
    suite(tmp_path, "a", raw({"probes": [probe("deny", "bar")]}, settings=always))
    ruled = {"actions": [{"rules": [RULE]}], "probes": [probe("allow", "other")]}
    suite(tmp_path, "b", raw(ruled, settings=never))
    assert ran(capsys, tmp_path, "--dataplane", plane)[0] == 0


def test_a_policy_that_is_unsupported_by_declaration_leaves_its_case_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    required = {"endpointSelector": FOO, "ingress": [{"authentication": {"mode": "required"}}]}
    step = {"actions": [{"rules": [required]}], "probes": [probe("allow", "other")]}
    assert main([str(suite(tmp_path, "s", raw(step))), "-o", "json"]) == 0
    total = json.loads(capsys.readouterr().out)["total"]
    assert total["cases_skipped_by_tag"] == {"authentication": 1}


@pytest.mark.parametrize("plane", ["pure", "memory"])
def test_nodes_have_the_labels_that_a_case_gives_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], plane: str
) -> None:
    nodes = {"matchLabels": {"role": "edge"}}
    rule = {"endpointSelector": FOO, "egress": [{"toNodes": [nodes]}]}
    edge = {"entities": ["remote-node"], "ip": "172.18.0.3", "labels": ["k8s:role=edge"]}
    step = {
        "actions": [{"rules": [rule]}],
        "probes": [
            {**probe("allow", "foo"), "to": "edge", "direction": "egress"},
            {**probe("deny", "foo"), "to": "host", "direction": "egress"},
        ],
    }
    case = raw(step, externals={"edge": edge, "host": {"entities": ["host"]}})
    assert ran(capsys, suite(tmp_path, "s", case), "--dataplane", plane)[0] == 0


@pytest.mark.parametrize(
    ("name", "row", "column", "wrong"),
    [
        ("cidr_syntax", {"cidr": "10.0.0.0/33"}, "valid_in_crd_schema", (False, True)),
        (
            "port_range_to_masks",
            {"name": "5-6", "start": 5, "end": 6},
            "masks",
            (
                [{"port": 5, "mask": "0xffff"}, {"port": 6, "mask": "0xffff"}],
                [{"port": 4, "mask": "0xfffc"}],
            ),
        ),
        (
            "entity_match",
            {"name": "e", "entities": ["world"], "labels": ["reserved:world"]},
            "match",
            (True, False),
        ),
        (
            "rule_validation",
            {"name": "r", "rule": {"endpointSelector": {}, "nodeSelector": {}}},
            "valid",
            (False, True),
        ),
    ],
)
def test_a_row_passes_if_it_is_right_alone(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    row: dict[str, Any],
    column: str,
    wrong: tuple[Any, Any],
) -> None:
    right, other = wrong
    assert ran(capsys, table(tmp_path / "right", name, {**row, column: right}))[0] == 0
    assert failures(capsys, table(tmp_path / "wrong", name, {**row, column: other}))


def test_an_entry_of_a_policy_map_is_judged_by_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"identity": "world", "deny": True, "port": 0, "protocol": "any"}
    verdict = {"identity": "ip", "port": 80, "protocol": "TCP", "verdict": "deny"}
    other = {"identity": "ip", "deny": False, "port": 80, "protocol": "TCP"}
    row = {"name": "r", "with_allow_all": True, "a": entry, "b": other, "verdicts": [verdict]}
    assert ran(capsys, table(tmp_path / "right", "mapstate_precedence", row))[0] == 0
    wrong = {**row, "verdicts": [{**verdict, "verdict": "allow"}]}
    assert failures(capsys, table(tmp_path / "wrong", "mapstate_precedence", wrong))


@pytest.mark.parametrize(
    ("change", "tag"),
    [
        ({}, "accepted"),
        ({"egress": [{"toGroups": [{}]}]}, "refused: toGroups"),
    ],
)
def test_an_example_is_accepted_or_unsupported_by_declaration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], tag: str
) -> None:
    document = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p"},
        "spec": {"endpointSelector": {}, **change},
    }
    root = files(tmp_path, "examples", "a.yaml", yaml.safe_dump(document))
    assert main([str(root), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["checks_passed_by_tag"] == {tag: 1}


def test_an_example_that_is_called_wrong_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "spec": {"no": 1}}
    text = yaml.safe_dump({**document, "metadata": {"name": "p"}})
    assert failures(capsys, files(tmp_path / "a", "examples", "a.yaml", text))
    doubtful = files(tmp_path / "b", "examples", "a.yaml", text, doubtful="why")
    assert ran(capsys, doubtful)[0] == 0


EXPOSED = """\
Exposure Analysis Result:
Egress Exposure:
x/db[Pod] => 0.0.0.0-255.255.255.255[External] : All Connections
x/db[Pod] => entire-cluster : All Connections
x/web[Pod] => entire-cluster : All Connections

Ingress Exposure:
x/db[Pod] <= entire-cluster : All Connections
x/web[Pod] <= x/[pod with {app=db}] : TCP 80-90

Workloads not protected by network policies:
x/db[Pod] is not protected on Egress
"""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("", ""),
        ("TCP 80-90", "TCP 80-91"),
        ("x/db[Pod] <= entire-cluster : All Connections\n", ""),
        ("x/[pod with {app=db}]", "x/[pod with {{Key:app,Operator:Exists,Values:[],}}]"),
    ],
)
def test_exposure_is_what_pods_that_do_not_exist_yet_may_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], right: str, wrong: str
) -> None:
    lines = """\
0.0.0.0-255.255.255.255[External] => x/db[Pod] : All Connections
x/db[Pod] => 0.0.0.0-255.255.255.255[External] : All Connections
x/web[Pod] => 0.0.0.0-255.255.255.255[External] : All Connections
x/db[Pod] => x/web[Pod] : TCP 80-90
x/web[Pod] => x/db[Pod] : All Connections
"""
    assert right in EXPOSED
    objects = (pod("db", app="db"), pod("web", app="web"), DENY)
    text = lines + EXPOSED.replace(right, wrong, 1) if right else lines + EXPOSED
    root = listed(tmp_path, text, *objects, kind="exposure")
    assert (ran(capsys, root)[0] == 0) is (not right)


def test_an_ingress_controller_reaches_the_ports_of_its_services(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = {"service": {"name": "front", "port": {"number": 8000}}}
    ingress = {
        "kind": "Ingress",
        "metadata": {"name": "i", "namespace": "x"},
        "spec": {"rules": [{"http": {"paths": [{"backend": backend}]}}]},
    }
    ports = [{"port": 8000, "targetPort": 80}, {"port": 1}]
    service = {
        "kind": "Service",
        "metadata": {"name": "front", "namespace": "x"},
        "spec": {"selector": {"app": "db"}, "ports": ports},
    }
    lines = """\
0.0.0.0-255.255.255.255[External] => x/db[Pod] : All Connections
x/db[Pod] => 0.0.0.0-255.255.255.255[External] : All Connections
{ingress-controller} => x/db[Pod] : TCP 80
"""
    objects = (pod("db", app="db"), ingress, service)
    assert ran(capsys, listed(tmp_path / "right", lines, *objects))[0] == 0
    wrong = lines.replace("TCP 80", "TCP 8000")
    assert failures(capsys, listed(tmp_path / "wrong", wrong, *objects))


SAME: dict[str, Any] = {**DENY, "metadata": {"name": "again", "namespace": "x"}}
OPEN: dict[str, Any] = {**DENY, "spec": {"podSelector": {}, "ingress": [{}]}}
NOBODY: dict[str, Any] = {**DENY, "spec": {"podSelector": {"matchLabels": {"app": "no"}}}}


@pytest.mark.parametrize(
    ("kind", "policies", "expected"),
    [
        ("equivalence", (DENY, SAME), 0),
        ("equivalence", (DENY, OPEN), 1),
        ("strongEquivalence", (DENY, SAME), 1),
        ("containment", (OPEN, DENY), 1),
        ("containment", (DENY, OPEN), 0),
        ("twoWayContainment", (DENY, OPEN), 2),
        ("permits", (DENY, OPEN), 1),
        ("permits", (OPEN, DENY), 0),
        ("forbids", (DENY, OPEN), 1),
        ("pairwiseInterferes", (OPEN, DENY), 1),
        ("semanticDiff", (DENY, OPEN), 2),
        ("emptiness", (NOBODY,), 1),
        ("vacuity", (NOBODY, DENY), 1),
        ("redundancy", (DENY,), 0),
        ("sanity", (NOBODY,), 2),
        ("allCaptured", (DENY,), 3),
    ],
)
def test_a_query_counts_what_its_definition_says(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    policies: tuple[dict[str, Any], ...],
    expected: int,
) -> None:
    assert ran(capsys, scheme(tmp_path / "right", expected, kind, *policies))[0] == 0
    assert failures(capsys, scheme(tmp_path / "wrong", expected + 1, kind, *policies))

"""The runner itself: what it must tell, and what it must not let pass."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance.__main__ import main
from conformance.planes import packets

WEB: dict[str, Any] = {
    "labels": {"app": "web"},
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
}
DENY: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "closed", "namespace": "x"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [
            {
                "from": [{"podSelector": {"matchLabels": {"app": "db"}}}],
                "ports": [{"port": 80, "endPort": 90}],
            }
        ],
    },
}


def probe(expect: str, source: str = "x/db", target: str = "x/web", **more: Any) -> dict[str, Any]:
    return {"from": source, "to": target, "port": 80, "protocol": "TCP", "expect": expect, **more}


def neutral(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "format": "netpol-neutral/v1",
        "suite": "s",
        "name": "a case",
        "namespaces": {"x": {"labels": {}}},
        "pods": {"x/web": WEB, "x/db": {"labels": {"app": "db"}}, "x/other": {"labels": {}}},
        "steps": [{"name": f"step {number}", **step} for number, step in enumerate(steps, 1)],
        **more,
    }


def suite(root: Path, name: str, *cases: dict[str, Any], **entry: Any) -> Path:
    """A suite of neutral cases, `case-1.yaml` and on."""
    folder = root / name / "cases"
    folder.mkdir(parents=True)
    entries = []
    for number, case in enumerate(cases, 1):
        file = f"case-{number}.yaml"
        (folder / file).write_text(yaml.safe_dump(case))
        entries.append({"name": case["name"], "case": file, "features": [], **entry})
    index = {"suite": name, "format": "netpol-neutral/v1", "cases": entries}
    (folder / "index.json").write_text(json.dumps(index))
    return root


def listed(root: Path, lines: str, *objects: dict[str, Any], kind: str = "connlist") -> Path:
    """A suite with one np-guard directory."""
    folder = root / "lists" / "cases"
    (folder / "one" / "manifests").mkdir(parents=True)
    (folder / "one" / "expected").mkdir()
    (folder / "one" / "manifests" / "all.yaml").write_text(yaml.safe_dump_all(objects))
    (folder / "one" / "expected" / "connlist.txt").write_text(lines)
    expected = [{"kind": kind, "format": "txt", "file": "expected/connlist.txt"}]
    entry = {"name": "one", "dir": "one", "scope": "k8s-np", "expected": expected, "features": []}
    (folder / "index.json").write_text(json.dumps({"format": "np-guard", "cases": [entry]}))
    return root


def pod(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "x", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}}


def ran(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[str]]:
    """(exit code, lines of standard output)"""
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().out.splitlines()


def failures(capsys: pytest.CaptureFixture[str], root: Path, *more: str) -> list[dict[str, Any]]:
    assert main([str(root), "-o", "json", *more]) == 1
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["failures"]
    return found


def test_a_right_case_passes_and_the_last_line_counts_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = neutral({"actions": [{"apply": [DENY]}], "probes": [probe("allow")]})
    code, lines = ran(capsys, suite(tmp_path, "s", case))
    assert (code, lines[-1]) == (0, "1 passed, 0 failed, 0 skipped")


PLANES = ["pure", "memory", pytest.param("ebpf", marks=pytest.mark.ebpf)]


@pytest.mark.parametrize("dataplane", PLANES)
def test_a_wrong_expectation_is_told_with_all_that_led_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataplane: str
) -> None:
    case = neutral(
        {"probes": [probe("allow")]},
        {"actions": [{"apply": [DENY]}], "probes": [probe("allow"), probe("deny")]},
    )
    code, lines = ran(capsys, suite(tmp_path, "s", case), "--dataplane", dataplane)
    assert code == 1
    at = lines.index("FAILED s/case-1, step 'step 2': x/db -> x/web 80/TCP")
    assert lines[at + 1 : at + 3] == ["  expected deny", "  got      allow"]
    assert "ingress allowed by NetworkPolicy x/closed spec.ingress[0].from[0]" in lines[at + 3]
    assert lines[-1] == "0 passed, 1 failed, 0 skipped"


def test_a_refusing_half_is_told_with_the_policies_that_isolate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = neutral({"actions": [{"apply": [DENY]}], "probes": [probe("allow", "x/other")]})
    (failure,) = failures(capsys, suite(tmp_path, "s", case))
    assert failure["kind"] == "wrong verdict"
    assert (failure["expected"], failure["got"]) == ("allow", "deny")
    assert "ingress denied, being isolated by NetworkPolicy x/closed" in failure["rule"]
    assert "spec.ingress[0].from[0]: needs app=db, has no app" in failure["rule"]


def test_a_wrong_cell_of_a_matrix_points_at_its_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = ["x/web", "x/db", "x/other"]
    tables = {"TCP/80": {"ingress": ["...", "...", "X.."], "egress": "all-allowed"}}
    right = {"order": order, "tables": tables}
    wrong = {
        "order": order,
        "tables": {"TCP/80": {**tables["TCP/80"], "egress": ["...", "X..", "..."]}},
    }
    for number, matrix in enumerate((right, wrong)):
        case = neutral({"actions": [{"apply": [DENY]}], "matrix": matrix})
        root = suite(tmp_path / str(number), "s", case)
        if number == 0:
            assert ran(capsys, root)[0] == 0
        else:
            (failure,) = failures(capsys, root)
            assert failure["probe"] == "x/db -> x/web 80/TCP, egress alone"


@pytest.mark.parametrize("dataplane", PLANES)
def test_steps_change_what_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataplane: str
) -> None:
    case = neutral(
        {"actions": [{"apply": [DENY]}], "probes": [probe("deny", "x/other")]},
        {
            "actions": [{"set_pod_labels": {"pod": "x/other", "labels": {"app": "db"}}}],
            "probes": [probe("allow", "x/other")],
        },
        {
            "actions": [
                {"delete_pod": "x/other"},
                {"create_pod": {"pod": "x/other", "labels": {}}},
            ],
            "probes": [probe("deny", "x/other")],
        },
        {
            "actions": [
                {"delete": {"kind": "NetworkPolicy", "namespace": "x", "name": "closed"}},
                {"note": "open again"},
            ],
            "probes": [probe("allow", "x/other")],
        },
        {
            "actions": [
                {"apply": [DENY]},
                {"delete_namespace": "x"},
                {"create_namespace": {"name": "x", "labels": {}}},
                {"create_pod": {"pod": "x/web", **WEB}},
                {"create_pod": {"pod": "x/other", "labels": {}}},
            ],
            "probes": [probe("allow", "x/other")],
        },
    )
    code, lines = ran(capsys, suite(tmp_path, "s", case), "--dataplane", dataplane)
    assert (code, lines[-1]) == (0, "1 passed, 0 failed, 0 skipped"), lines


@pytest.mark.parametrize("dataplane", PLANES[1:])
def test_an_answer_that_rests_on_an_earlier_packet_is_an_error(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    dataplane: str,
) -> None:
    monkeypatch.setattr(packets, "SOURCES", 1)
    step = {"actions": [{"apply": [DENY]}], "probes": [probe("allow"), probe("allow")]}
    (failure,) = failures(capsys, suite(tmp_path, "s", neutral(step)), "--dataplane", dataplane)
    assert failure["kind"] == "error"
    assert "ALLOWED_ESTABLISHED" in failure["detail"]


@pytest.mark.parametrize(
    ("case", "told"),
    [
        (neutral({"actions": [{"teleport_pod": "x/web"}], "probes": [probe("allow")]}), "teleport"),
        (neutral({"probes": [probe("allow", hops=3)]}), "hops"),
        (neutral({"probes": [probe("perhaps")]}), "perhaps"),
        (neutral({"probes": [probe("allow", protocol="TPC")]}), "protocol"),
        (neutral({"probes": [probe("allow", direction="sideways")]}), "direction"),
        (neutral({"probes": [probe("allow", "x/nobody")]}), "x/nobody"),
        (neutral({"probes": [probe("allow")]}, settings={"enforcement": "often"}), "often"),
        (neutral({"probes": [probe("allow")]}, format="netpol-neutral/v9"), "netpol-neutral/v1"),
        (
            neutral({"actions": [{"delete_pod": "x/nobody"}], "probes": [probe("allow")]}),
            "x/nobody",
        ),
        (neutral({"probes": []}), "states nothing"),
    ],
)
def test_what_is_not_understood_is_an_error_and_no_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: dict[str, Any], told: str
) -> None:
    (failure,) = failures(capsys, suite(tmp_path, "s", case))
    assert failure["kind"] == "error"
    assert told in failure["detail"]


def test_a_refused_policy_is_told_apart_from_a_wrong_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer7 = {**DENY, "spec": {**DENY["spec"], "ingress": [{"toPorts": []}]}}
    case = neutral({"actions": [{"apply": [layer7]}], "probes": [probe("deny")]})
    (failure,) = failures(capsys, suite(tmp_path, "s", case))
    assert failure["kind"] == "refused"
    assert "toPorts" in failure["detail"]


def test_what_breaks_in_one_case_is_told_and_the_others_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = neutral({"probes": [probe("allow")]})
    suite(tmp_path, "s", neutral({"probes": [probe("allow", port=[80])]}), right)
    code, lines = ran(capsys, tmp_path)
    assert (code, lines[-1]) == (1, "1 passed, 1 failed, 0 skipped")
    assert any("error: TypeError" in line for line in lines)


def test_a_declared_feature_leaves_a_case_out_in_the_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = neutral({"probes": [probe("deny")]})
    suite(tmp_path, "a", wrong, features=["deprecated:requires"])
    suite(tmp_path, "b", {**wrong, "endpoints": {"a": {"labels": ["reserved:init"]}}})
    by_cilium = deepcopy(DENY)
    by_cilium["spec"]["podSelector"]["matchLabels"] = {"io.cilium.k8s.policy.cluster": "default"}
    applied = neutral({"actions": [{"apply": [by_cilium]}], "probes": [probe("deny")]})
    suite(tmp_path, "c", {**applied, "settings": {"np_cilium": True}})
    assert main([str(tmp_path), "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["passed"], told["failed"], told["skipped"]) == (0, 0, 3)
    tags = told["total"]["cases_skipped_by_tag"]
    assert tags == {"deprecated:requires": 1, "np_cilium": 1, "reserved:init": 1}
    assert told["reasons"].keys() == tags.keys()


def test_a_name_leaves_no_case_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = {**neutral({"probes": [probe("deny")]}), "name": "CiliumNetworkPolicy"}
    assert failures(capsys, suite(tmp_path, "cilium-policy-unit", case))


def test_json_counts_suites_cases_checks_and_features(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = neutral({"probes": [probe("allow"), probe("l7-deny"), probe("allow", "x/web", "x/web")]})
    root = suite(tmp_path, "s", {**case, "settings": {"loopback": "ignore"}}, features=["TCP"])
    assert main([str(root), "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["passed"], told["failed"], told["skipped"], told["dataplane"]) == (1, 0, 0, "pure")
    assert told["suites"]["s"]["cases"] == {"passed": 1, "failed": 0, "skipped": 0}
    assert told["suites"]["s"]["checks"] == {"passed": 1, "failed": 0, "skipped": 2}
    assert told["total"]["checks_skipped_by_tag"] == {"L7-verdict": 1, "loopback": 1}
    assert told["features"] == {"TCP": {"passed": 1, "failed": 0, "skipped": 0}}
    assert told["failures"] == []


def test_two_pods_of_one_identity_stand_for_a_probe_to_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = {"actions": [{"apply": [DENY]}], "probes": [probe("deny", "x/web", "x/web")]}
    assert ran(capsys, suite(tmp_path, "s", neutral(step)))[0] == 0


def test_a_probe_without_port_asks_for_every_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some_ports = {"from": "x/db", "to": "x/web", "protocol": "TCP", "expect": "deny"}
    all_ports = {"from": "x/web", "to": "x/db", "expect": "allow"}
    by_name = probe("deny", port_name="http")
    del by_name["port"]
    step = {"actions": [{"apply": [DENY]}], "probes": [some_ports, all_ports, by_name]}
    assert ran(capsys, suite(tmp_path, "s", neutral(step)))[0] == 0


def test_outsiders_hosts_and_icmp_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = {"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}
    policy = {**DENY, "spec": {"podSelector": {}, "ingress": [block]}}
    externals = {
        "inside": {"entities": ["world"], "ip": "203.0.113.9"},
        "plain": {"ip": "198.51.100.1"},
        "nowhere": {"entities": ["world"]},
        "host": {"entities": ["host"], "ip": "172.18.0.2"},
        "other-node": {"entities": ["remote-node"]},
        "apiserver": {"entities": ["kube-apiserver"]},
    }
    probes = [
        probe("allow", "inside"),
        probe("deny", "plain"),
        probe("deny", "nowhere"),
        probe("allow", "x/db", "nowhere"),
        probe("allow", "host"),
        probe("deny", "other-node"),
        probe("allow", "apiserver"),
        {**probe("deny"), "protocol": "ICMP", "port": 8},
        {**probe("deny"), "protocol": "ICMPv6", "port": 128},
        {**probe("allow", direction="egress"), "protocol": "ICMP", "port": 8},
    ]
    case = neutral({"actions": [{"apply": [policy]}], "probes": probes}, externals=externals)
    assert main([str(suite(tmp_path, "s", case)), "--dataplane", "memory", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["total"]["checks_skipped_by_tag"] == {"entity:kube-apiserver": 1}
    assert told["total"]["checks"]["passed"] == 9


@pytest.mark.parametrize("dataplane", ["pure", "memory"])
def test_an_address_goes_on_to_another_pod_and_its_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataplane: str
) -> None:
    given = {"labels": {"app": "db"}, "ip": "10.9.9.9"}
    again = {"pod": "x/again", **given}
    case = neutral(
        {"actions": [{"create_pod": {"pod": "x/first", **given}}, {"apply": [DENY]}]},
        {
            "actions": [{"delete_pod": "x/first"}, {"create_pod": again}],
            "probes": [probe("allow", "x/again"), probe("allow", "x/web", "x/again")],
        },
        {
            "actions": [{"delete_pod": "x/again"}, {"create_pod": {**again, "labels": {}}}],
            "probes": [probe("deny", "x/again"), probe("allow", "x/web", "x/again")],
        },
    )
    code, lines = ran(capsys, suite(tmp_path, "s", case), "--dataplane", dataplane)
    assert code == 0, lines


def test_a_pod_in_its_nodes_network_is_no_policys_subject(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = {"labels": {"app": "db"}, "ip": "172.20.0.9", "hostNetwork": True}
    closed = {**DENY, "spec": {"podSelector": {}, "ingress": []}}
    probes = [probe("allow", "x/web", "x/host"), probe("deny", "x/host")]
    case = neutral(
        {
            "actions": [{"create_pod": {"pod": "x/host", **host}}, {"apply": [closed]}],
            "probes": probes,
        }
    )
    code, lines = ran(capsys, suite(tmp_path, "s", case), "--dataplane", "memory")
    assert code == 0, lines


def test_where_the_source_denies_what_no_policy_selects_so_does_the_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    always = {"enforcement": "always"}
    case = neutral({"probes": [probe("deny")]}, settings=always)
    assert ran(capsys, suite(tmp_path, "s", case))[0] == 0


LINES = """\
0.0.0.0-255.255.255.255[External] => x/db[Pod] : All Connections
x/db[Pod] => 0.0.0.0-9.255.255.255,11.0.0.0-255.255.255.255[External] : All Connections
x/db[Pod] => 10.0.0.0-10.255.255.255[External] : All Connections
x/db[Pod] => x/web[Pod] : TCP 80-90
x/web[Pod] => 0.0.0.0-255.255.255.255[External] : All Connections
x/web[Pod] => x/db[Pod] : All Connections
"""


def test_connection_lists_are_compared_by_meaning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = listed(tmp_path, LINES, pod("db", app="db"), pod("web", app="web"), DENY)
    assert main([str(root), "--dataplane", "memory", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    # Two pairs of workloads, and two workloads with each of three parts of the outside, both ways.
    assert told["total"]["checks"] == {"passed": 14, "failed": 0, "skipped": 0}


@pytest.mark.parametrize(
    ("right", "wrong", "probe", "expected", "got"),
    [
        ("TCP 80-90", "TCP 80-91", "x/db[Pod] => x/web[Pod]", "TCP 80-91", "TCP 80-90"),
        ("TCP 80-90", "TCP 81-90", "x/db[Pod] => x/web[Pod]", "TCP 81-90", "TCP 80-90"),
        ("TCP 80-90", "UDP 80-90", "x/db[Pod] => x/web[Pod]", "UDP 80-90", "TCP 80-90"),
        (
            "x/web[Pod] => x/db[Pod] : All Connections\n",
            "",
            "x/web[Pod] => x/db[Pod]",
            "No Connections",
            "All Connections",
        ),
        (
            "0.0.0.0-255.255.255.255[External] => x/db",
            "0.0.0.1-255.255.255.255[External] => x/db",
            "0.0.0.0-0.0.0.0[External] => x/db[Pod]",
            "No Connections",
            "All Connections",
        ),
    ],
)
def test_a_wrong_line_of_a_connection_list_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    right: str,
    wrong: str,
    probe: str,
    expected: str,
    got: str,
) -> None:
    assert right in LINES
    objects = (pod("db", app="db"), pod("web", app="web"), DENY)
    (failure,) = failures(capsys, listed(tmp_path, LINES.replace(right, wrong, 1), *objects))
    assert (failure["probe"], failure["expected"], failure["got"]) == (probe, expected, got)


def test_an_owner_is_one_workload_whose_pods_must_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def owned(name: str, **labels: str) -> dict[str, Any]:
        made = pod(name, **labels)
        made["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "set"}]
        return made

    lines = (
        "x/set[ReplicaSet] => x/web[Pod] : TCP 80-90\n"
        "x/web[Pod] => x/set[ReplicaSet] : All Connections\n"
        "x/set[ReplicaSet] => 0.0.0.0-255.255.255.255[External] : All Connections\n"
        "0.0.0.0-255.255.255.255[External] => x/set[ReplicaSet] : All Connections\n"
        "x/web[Pod] => 0.0.0.0-255.255.255.255[External] : All Connections\n"
    )
    agree = (owned("a", app="db"), owned("b", app="db", tier="1"), pod("web", app="web"), DENY)
    assert ran(capsys, listed(tmp_path / "agree", lines, *agree))[0] == 0
    differ = (owned("a", app="db"), owned("b", app="no"), pod("web", app="web"), DENY)
    (failure,) = failures(capsys, listed(tmp_path / "differ", lines, *differ))
    assert failure["got"] == "TCP 80-90 or No Connections"


def test_a_required_flow_that_its_policies_refuse_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    application = tmp_path / "apps" / "cases" / "shop"
    for folder in ("manifests", "policies"):
        (application / folder).mkdir(parents=True)
    pods = [pod("db", app="db"), pod("web", app="web")]
    (application / "manifests" / "pods.yaml").write_text(yaml.safe_dump_all(pods))
    (application / "policies" / "closed.yaml").write_text(yaml.safe_dump(DENY))
    flow = {"from": "x/db[Pod]", "to": "x/web[Pod]", "protocol": "TCP"}
    flows = [{**flow, "port": 80}, {**flow, "port": 91}]
    (application / "required_flows.json").write_text(json.dumps({"required_flows": flows}))
    (failure,) = failures(capsys, tmp_path)
    assert failure["probe"] == "x/db[Pod] -> x/web[Pod] 91/TCP"


def test_a_directory_without_suites_is_told_loudly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "absent")]) == 2
    assert "there is no directory" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "no suite lies in" in capsys.readouterr().err


def test_an_index_that_lists_nothing_or_cannot_be_read_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite(tmp_path, "empty")
    suite(tmp_path, "torn")
    (tmp_path / "torn" / "cases" / "index.json").write_text('{"cases": [')
    suite(tmp_path, "dangling", neutral({"probes": [probe("allow")]}))
    (tmp_path / "dangling" / "cases" / "case-1.yaml").unlink()
    found = failures(capsys, tmp_path)
    assert [(each["suite"], each["kind"]) for each in found] == [
        ("dangling", "error"),
        ("empty", "error"),
        ("torn", "error"),
    ]


@pytest.mark.parametrize(
    ("index", "fault"),
    [
        ([], 'is no object with a list of "cases"'),
        ({"cases": {}}, 'is no object with a list of "cases"'),
        ({"cases": []}, "lists no cases"),
        ({"cases": [7]}, ": cases[0] is 7, not an object"),
        (
            {"cases": [{"name": "a"}, {"features": []}]},
            ": cases[1] has neither case, dir, file nor name",
        ),
        ({"cases": [{"case": ["a.yaml"]}]}, ": cases[0].case is ['a.yaml'], not text"),
        ({"cases": [{"name": "a", "features": 1}]}, ": cases[0].features is 1, not a list"),
        ({"cases": [{"name": "a", "features": [{}]}]}, ": cases[0].features has {}, which is not"),
        (
            {"cases": [{"dir": "a", "expected": [{"kind": "connlist"}]}]},
            ": cases[0].expected[0] is {'kind': 'connlist'}, which names no file",
        ),
    ],
)
def test_what_is_wrong_with_an_index_is_told_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], index: Any, fault: str
) -> None:
    suite(tmp_path, "s")
    file = tmp_path / "s" / "cases" / "index.json"
    file.write_text(json.dumps(index))
    (found,) = failures(capsys, tmp_path)
    assert found["detail"].startswith(f"{file}{fault}" if fault[0] == ":" else f"{file} {fault}")


def test_what_a_file_of_flows_lacks_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "s" / "cases" / "app"
    directory.mkdir(parents=True)
    file = directory / "required_flows.json"
    for text, fault in (("{}", "it lacks 'required_flows'"), ("[]", "it is of another form")):
        file.write_text(text)
        (found,) = failures(capsys, tmp_path)
        assert found["detail"].startswith(f"{file} cannot be read: {fault}")


def test_cases_can_be_chosen_and_a_choice_of_none_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right, wrong = neutral({"probes": [probe("allow")]}), neutral({"probes": [probe("deny")]})
    suite(tmp_path, "a", right, wrong)
    suite(tmp_path, "b", wrong)
    assert ran(capsys, tmp_path, "--only", "a/case-1")[0] == 0
    code, lines = ran(capsys, tmp_path, "--only", "a", "--only", "b/*")
    assert (code, lines[-1]) == (1, "1 passed, 2 failed, 0 skipped")
    assert main([str(tmp_path), "--only", "c"]) == 2
    assert "the suites are a, b" in capsys.readouterr().err


def test_a_format_that_is_not_known_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tables" / "cases"
    folder.mkdir(parents=True)
    index = {"format": "stone tablets", "cases": [{"name": "t"}]}
    (folder / "index.json").write_text(json.dumps(index))
    code, lines = ran(capsys, tmp_path)
    assert (code, lines[-1]) == (1, "0 passed, 1 failed, 0 skipped")
    assert any("no known format: stone tablets" in line for line in lines)

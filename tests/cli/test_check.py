"""`tabard policy check`, offline on manifests and on a ledger at any point of its history."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import Tabard
from ledgers import append, bound, dual
from shops import SHOP, opened
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Stream
from tabard.events import ledger as events

OFFLINE = ("policy", "check", "-f", str(SHOP))
MANIFESTS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {containers: [{name: c}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: ops}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {hostNetwork: true, containers: [{name: c}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
    - from:
        - podSelector: {matchLabels: {app: other}}
        - podSelector: {matchLabels: {app: client}}
      ports:
        - port: 1
        - port: http
    - from: [{ipBlock: {cidr: 203.0.113.0/24}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client, namespace: shop}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress:
    - ports: [{port: 53, protocol: UDP}, {port: 8080}]
"""


@pytest.fixture
def manifests(tmp_path: Path) -> str:
    file = tmp_path / "all.yaml"
    file.write_text(MANIFESTS)
    return str(file)


def asked(tabard: Tabard, *words: str) -> tuple[int, Any]:
    """(exit code, the answer in JSON)"""
    result = tabard("policy", "check", *words, "-o", "json")
    assert result.exit_code in (0, 4), result.stderr
    return result.exit_code, json.loads(result.stdout)


def test_an_allowed_flow_is_told_with_the_deciding_rules_line(
    tabard: Tabard, manifests: str
) -> None:
    result = tabard(
        *("policy", "check", "-f", manifests, "--from", "shop/client", "--to", "shop/web"),
        *("--port", "http"),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["allowed", "shop/client", "→", "shop/web,", "http", "(8080/TCP)"],
        ["egress", "from", "shop/client:", "allowed", "by", "shop/client"],
        ["POLICY", "RULE", "ALLOWS", "ORIGIN"],
        f"shop/client spec.egress[0] ports[1] 8080/TCP {manifests}:45".split(),
        ["ingress", "to", "shop/web:", "allowed", "by", "shop/web"],
        ["POLICY", "RULE", "ALLOWS", "ORIGIN"],
        f"shop/web spec.ingress[0] from[1] ports[1] 8080/TCP {manifests}:30".split(),
    ]


def test_a_denied_flow_exits_with_4_and_tells_why_no_rule_matched(
    tabard: Tabard, manifests: str
) -> None:
    result = tabard(
        *("policy", "check", "-f", manifests, "--from", "shop/client", "--to", "shop/web"),
        *("--port", "53/UDP"),
    )
    assert result.exit_code == 4
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["DENIED", "shop/client", "→", "shop/web,", "53/UDP"]
    why = "the peer matches; the ports are 1/TCP, http/TCP, which is 1,8080/TCP at the destination"
    assert f"shop/web spec.ingress[0] {why} {manifests}:30".split() in lines
    assert result.stderr.startswith("note: manifests tell no pod's address")


def test_without_a_port_all_that_may_pass_is_told(tabard: Tabard, manifests: str) -> None:
    code, said = asked(tabard, "-f", manifests, "--from", "shop/client", "--to", "shop/web")
    assert code == 0
    assert said["connections"] == [{"protocol": "TCP", "first": 8080, "last": 8080}]
    (check,) = said["checks"]
    assert (check["asked"], check["protocol"], check["port"]) == (None, None, None)
    assert [rule["port"] for rule in check["egress"]["rules"]] == [
        "spec.egress[0].ports[0]",
        "spec.egress[0].ports[1]",
    ]


def test_halves_that_allow_different_ports_deny_any_port(tabard: Tabard, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(MANIFESTS.replace("{port: 8080}", "{port: 8081}"))
    words = ("policy", "check", "-f", str(file), "--from", "shop/client", "--to", "shop/web")
    result = tabard(*words)
    assert result.exit_code == 4
    assert "any port: none" in result.stdout
    assert "what egress allows, ingress does not" in result.stdout


def test_of_several_ports_one_that_is_denied_is_enough(tabard: Tabard, manifests: str) -> None:
    words = ("-f", manifests, "--from", "shop/client", "--to", "shop/web", "--port", "8080")
    assert asked(tabard, *words)[0] == 0
    code, said = asked(tabard, *words, "--port", "ICMP")
    assert (code, said["allowed"]) == (4, False)
    assert [(one["protocol"], one["port"], one["allowed"]) for one in said["checks"]] == [
        ("TCP", 8080, True),
        ("ICMP", 8, False),
    ]


def test_addresses_outside_are_ends_too(tabard: Tabard, manifests: str) -> None:
    code, said = asked(tabard, "-f", manifests, "--from", "203.0.113.9", "--to", "shop/web")
    assert (code, said["from"]["role"], said["checks"][0]["egress"]) == (0, "world", None)
    assert said["checks"][0]["ingress"]["rules"][0]["peer"] == "spec.ingress[1].from[0]"
    assert asked(tabard, "-f", manifests, "--from", "198.51.100.9", "--to", "shop/web")[0] == 4


def test_a_pod_in_its_nodes_network_is_a_node_elsewhere(tabard: Tabard, manifests: str) -> None:
    code, said = asked(tabard, "-f", manifests, "--from", "ops/agent", "--to", "shop/web")
    assert (code, said["from"]["role"], said["from"]["nodes"]) == (4, "node", [])
    assert said["checks"][0]["egress"] is None
    assert said["checks"][0]["ingress"]["reason"] == "denied_policy"


def test_yaml_says_what_json_says_and_name_names_the_policies(
    tabard: Tabard, manifests: str
) -> None:
    words = ("-f", manifests, "--from", "shop/client", "--to", "shop/web", "--port", "8080")
    assert (
        yaml.safe_load(tabard("policy", "check", *words, "-o", "yaml").stdout)
        == (asked(tabard, *words)[1])
    )
    assert tabard("policy", "check", *words, "-o", "name").stdout.splitlines() == [
        "networkpolicy/shop/client",
        "networkpolicy/shop/web",
    ]


TIERED = """\
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: lockdown}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {}}
  ingress:
    - action: Pass
      from: [{pods: {podSelector: {matchLabels: {app: client}}}}]
      protocols: [{tcp: {destinationPort: {number: 8080}}}]
    - action: Deny
      from: [{namespaces: {}}]
"""


@pytest.fixture
def tiered(tmp_path: Path) -> str:
    file = tmp_path / "tiered.yaml"
    file.write_text(MANIFESTS + TIERED)
    return str(file)


def test_a_denial_in_a_tier_names_its_rule_and_what_it_overrules(
    tabard: Tabard, tiered: str
) -> None:
    words = ("-f", tiered, "--from", "shop/client", "--to", "shop/web", "--port", "1")
    result = tabard("policy", "check", *words)
    assert result.exit_code == 4
    assert [line.split() for line in result.stdout.splitlines()][-5:] == [
        ["ingress", "to", "shop/web:", "denied", "by", "lockdown", "(tier", "admin)"],
        ["POLICY", "RULE", "DENIES", "ORIGIN"],
        f"lockdown spec.ingress[1] from[0] all {tiered}:58".split(),
        ["POLICY", "RULE", "WOULD", "ALLOW", "ORIGIN"],
        f"shop/web spec.ingress[0] from[1] ports[0] 1/TCP {tiered}:30".split(),
    ]
    code, said = asked(tabard, *words)
    half = said["checks"][0]["ingress"]
    assert (code, half["reason"], half["tier"]) == (4, "denied_policy", "admin")
    (rule,) = half["rules"]
    assert (rule["kind"], rule["namespace"], rule["name"]) == (
        "ClusterNetworkPolicy",
        "",
        "lockdown",
    )
    assert (rule["tier"], rule["priority"], rule["action"]) == ("admin", 10, "deny")
    assert [each["name"] for each in half["overruled"]] == ["web"]
    names = tabard("policy", "check", *words, "-o", "name").stdout.splitlines()
    assert names == ["clusternetworkpolicy/lockdown", "networkpolicy/shop/client"]


def test_what_a_tier_passes_on_is_told_before_what_decides(tabard: Tabard, tiered: str) -> None:
    words = ("-f", tiered, "--from", "shop/client", "--to", "shop/web", "--port", "8080")
    result = tabard("policy", "check", *words)
    assert result.exit_code == 0
    told = "ingress  to shop/web: allowed by shop/web; passed on by lockdown (tier admin)"
    assert f"  {told}" in result.stdout.splitlines()
    half = asked(tabard, *words)[1]["checks"][0]["ingress"]
    assert [(each["rule"], each["action"]) for each in half["passes"]] == [
        ("spec.ingress[0]", "pass")
    ]
    assert half["tier"] == "network"


def test_what_is_denied_in_part_is_told_by_what_is_left_out(tabard: Tabard, tiered: str) -> None:
    denial = "      from: [{namespaces: {}}]\n"
    Path(tiered).write_text(
        Path(tiered)
        .read_text()
        .replace(denial, denial + "      protocols: [{tcp: {destinationPort: {number: 25}}}]\n")
    )
    words = ("-f", tiered, "--from", "shop/web", "--to", "shop/client")
    result = tabard("policy", "check", *words)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].endswith("any port: all but 25/TCP")
    assert "no policy isolates it, and denied in part by lockdown (tier admin)" in result.stdout
    _, said = asked(tabard, *words)
    assert {"protocol": "OTHER", "first": 0, "last": 65_535} in said["connections"]
    matrix = tabard("policy", "matrix", "-f", tiered).stdout
    assert "all but 25" in matrix
    wide = tabard("policy", "matrix", "-f", tiered, "-o", "wide").stdout
    assert "lockdown spec.ingress[1] denies" in wide


def test_explain_lists_all_rules_in_the_order_of_judging_and_what_each_met(
    tabard: Tabard, tiered: str
) -> None:
    words = ("-f", tiered, "--from", "shop/client", "--to", "shop/web", "--port", "8080")
    result = tabard("policy", "explain", *words)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    start = next(n for n, line in enumerate(lines) if line.startswith("ingress"))
    assert lines[start + 1 :] == [
        "TIER POLICY RULE ACTION PART WHY ORIGIN",
        f"admin lockdown spec.ingress[0].from[0] pass passes matches, on 8080/TCP {tiered}:56",
        f"admin lockdown spec.ingress[1].from[0] deny late matches, on all {tiered}:59",
        "network shop/web spec.ingress[0].from[0] allow misses needs app=other, is app=client "
        f"{tiered}:31",
        "network shop/web spec.ingress[0].from[1] allow decides matches, on 1,8080/TCP "
        f"{tiered}:32",
        "network shop/web spec.ingress[1].from[0] allow misses 203.0.113.0/24: the peer has no "
        f"address here {tiered}:36",
    ]
    denied = tabard("policy", "explain", *words[:-1], "1")
    assert denied.exit_code == 4
    assert tabard("policy", "explain", *words[:-2]).exit_code == 2


def test_offline_it_needs_no_cluster_and_knows_no_events(tabard: Tabard) -> None:
    code, said = asked(tabard, *OFFLINE[2:], "--from", "shop/cart", "--to", "data/redis")
    assert (code, said["sequence"], said["events"]) == (0, None, [])
    assert said["checks"][0]["ingress"]["rules"][0]["event"] is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--from", "shop/crat", "--to", "data/redis"), "did you mean shop/cart?"),
        (
            ("--from", "shop/cart", "--to", "data/redis", "--port", "http"),
            "the destination has no port named http; it has metrics (9121/TCP), redis (6379/TCP)",
        ),
    ],
    ids=["pod", "port"],
)
def test_what_is_not_there_fails_and_is_no_denial(
    tabard: Tabard, words: tuple[str, ...], told: str
) -> None:
    result = tabard(*OFFLINE, *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "tabard: cannot check the flow" in result.stderr.splitlines()
    assert told in result.stderr


def test_a_mistake_in_a_manifest_fails_with_its_line(tabard: Tabard, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(MANIFESTS.replace("policyTypes: [Egress]", "policyTypes: [Egres]"))
    result = tabard(
        *("policy", "check", "-f", str(file), "--from", "shop/client", "--to", "shop/web")
    )
    assert result.exit_code == 1
    assert f"{file}:43: spec.policyTypes[0]" in result.stderr


@pytest.fixture
def shop(store: MemoryStore) -> None:
    """The shop's ledger is on the bus."""
    asyncio.run(opened(store))


@pytest.mark.usefixtures("shop")
def test_of_a_ledger_the_events_that_led_there_are_told_in_order(tabard: Tabard) -> None:
    code, said = asked(tabard, "--from", "shop/cart", "--to", "data/redis", "--port", "redis")
    assert code == 0
    assert said["from"]["name"].startswith("cart-")
    assert said["from"]["address"].startswith("10.244.")
    (rule,) = said["checks"][0]["ingress"]["rules"]
    assert (rule["kind"], rule["namespace"], rule["name"]) == ("NetworkPolicy", "data", "redis")
    # The ledger knows where the policy was written, not where each of its rules is.
    assert rule["origin"].startswith(str(SHOP / "policies-data.yaml"))
    led = said["events"]
    assert [event["sequence"] for event in led] == sorted(event["sequence"] for event in led)
    assert {(event["type"], event["of"]) for event in led} == {
        ("namespace.labelled", "namespace shop"),
        ("namespace.labelled", "namespace data"),
        ("identity.allocated", f"identity {said['from']['identity']}"),
        ("identity.allocated", f"identity {said['to']['identity']}"),
        ("endpoint.bound", f"pod shop/{said['from']['name']}"),
        ("endpoint.bound", "pod data/redis-0"),
        ("policy.accepted", "policy data/redis"),
    }
    assert all(event["cause"].startswith("OBSERVED/") for event in led)
    (accepted,) = (event for event in led if event["type"] == "policy.accepted")
    assert rule["event"] == accepted["place"] == f"LEDGER/{accepted['sequence']}"


@pytest.mark.usefixtures("shop")
def test_a_pod_that_is_to_be_another_is_judged_as_what_it_is_and_that_is_noted(
    tabard: Tabard, store: MemoryStore
) -> None:
    words = ("--from", "shop/cart", "--to", "data/redis", "--port", "redis")
    _, before = asked(tabard, *words)
    plan = events.RelabelPlanned(before["from"]["uid"], 999, (("app", "other"),))
    at = asyncio.run(append(MemoryBus(store), plan))
    code, said = asked(tabard, *words)
    assert (code, said["from"]["identity"]) == (0, before["from"]["identity"])
    assert (
        f"note: shop/cart is to have identity 999 as soon as every live node enforces LEDGER/{at}; "
        "this is of what it has now"
    ) in tabard("policy", "check", *words).stderr


@pytest.mark.usefixtures("shop")
def test_a_denial_names_the_acceptance_of_every_policy_that_isolates(tabard: Tabard) -> None:
    code, said = asked(tabard, "--from", "shop/cart", "--to", "data/postgres", "--port", "5432")
    assert code == 4
    isolating = said["checks"][0]["ingress"]["isolated_by"]
    assert [policy["name"] for policy in isolating] == ["default-deny", "metrics", "postgres"]
    accepted = {event["place"] for event in said["events"] if event["type"] == "policy.accepted"}
    assert {policy["event"] for policy in isolating} == accepted


@pytest.mark.usefixtures("shop")
def test_the_past_is_judged_by_the_policies_of_then(tabard: Tabard, store: MemoryStore) -> None:
    bus = MemoryBus(store)
    before = asyncio.run(bus.last_sequence("LEDGER"))  # type: ignore[arg-type]
    asyncio.run(append(bus, events.PolicyForgotten("NetworkPolicy", "data", "redis")))
    words = ("--from", "shop/cart", "--to", "data/redis", "--port", "redis")
    assert asked(tabard, *words)[0] == 4
    code, said = asked(tabard, *words, "--at", str(before))
    assert (code, said["sequence"]) == (0, before)
    words = ("policy", "check", "--from", "shop/void", "--to", "data/redis", "--at", str(before))
    told = tabard(*words).stderr.splitlines()
    assert told[1:] == [
        f"  at LEDGER/{before} there is no pod or workload shop/void",
        f"  next: tabard get pods --at {before}",
    ]


@pytest.mark.usefixtures("shop")
def test_a_table_of_a_ledger_ends_with_the_events(tabard: Tabard) -> None:
    result = tabard("policy", "check", "--from", "shop/cart", "--to", "data/redis")
    assert result.exit_code == 0
    _, table = result.stdout.split("\n\n")
    head, *lines = [line.split() for line in table.splitlines()]
    assert head == ["EVENT", "TIME", "TYPE", "OF", "CAUSE"]
    assert all(line[0].startswith("LEDGER/") for line in lines)
    assert (
        "LABELS"
        in tabard(
            *("policy", "check", "--from", "shop/cart", "--to", "data/redis", "-o", "wide")
        ).stdout
    )


@pytest.mark.usefixtures("shop")
def test_an_address_of_the_pods_ranges_that_nobody_holds_is_unknown(tabard: Tabard) -> None:
    code, said = asked(tabard, "--from", "10.244.1.250", "--to", "data/redis")
    assert (code, said["from"]["role"]) == (4, "unknown")
    assert said["checks"][0]["ingress"]["reason"] == "denied_unknown_peer"
    result = tabard("policy", "check", "--from", "10.244.1.250", "--to", "data/redis")
    assert "unknown is not world" in result.stdout


@pytest.mark.usefixtures("shop")
def test_a_node_speaks_to_its_own_pods_whatever_isolates_them(tabard: Tabard) -> None:
    _, said = asked(tabard, "--from", "192.0.2.1", "--to", "data/redis")
    (node,) = said["to"]["nodes"]
    own = {"n1": "192.0.2.1", "n2": "192.0.2.2"}[node]
    other = {"n1": "192.0.2.2", "n2": "192.0.2.1"}[node]
    code, said = asked(tabard, "--from", own, "--to", "data/redis")
    assert (code, said["checks"][0]["ingress"]["reason"]) == (0, "allowed_host")
    assert f"node {node}" in [event["of"] for event in said["events"]]
    assert asked(tabard, "--from", other, "--to", "data/redis")[0] == 4


V4, V6 = "10.244.0.0/16", "fd00:244::/32"
DUAL = ("--from", "shop/client", "--to", "shop/web-0")


@pytest.mark.parametrize(
    ("cidr", "verdicts", "ports"),
    [
        (V4, "IPv4 allowed, IPv6 DENIED", "IPv4 7099/TCP; IPv6 none"),
        (V6, "IPv4 DENIED, IPv6 allowed", "IPv4 none; IPv6 7099/TCP"),
    ],
    ids=["IPv4", "IPv6"],
)
def test_families_that_differ_are_told_apart_and_one_that_is_denied_is_enough(
    tabard: Tabard, store: MemoryStore, cidr: str, verdicts: str, ports: str
) -> None:
    asyncio.run(append(MemoryBus(store), *dual(cidr)))
    result = tabard("policy", "check", *DUAL, "--port", "7099")
    assert (result.exit_code, result.stderr) == (4, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{verdicts}  shop/client → shop/web-0, 7099/TCP"
    assert [line.split(":  ")[0] for line in lines if line.startswith("  IPv")] == [
        f"  IPv4, 10.244.1.9 → 10.244.1.2: {verdicts.split()[1][:-1]}",
        f"  IPv6, fd00:244:1::9 → fd00:244:1::2: {verdicts.split()[3]}",
    ]
    assert "    ingress  to shop/web-0: allowed by shop/web" in lines
    assert (
        sum("denied, since no rule of the policy that isolates it" in line for line in lines) == 1
    )
    any_port = tabard("policy", "check", *DUAL)
    assert any_port.exit_code == 4
    assert any_port.stdout.splitlines()[0].endswith(f"shop/web-0, any port: {ports}")


def test_in_json_each_family_that_differs_is_a_check(tabard: Tabard, store: MemoryStore) -> None:
    asyncio.run(append(MemoryBus(store), *dual(V6)))
    code, said = asked(tabard, *DUAL, "--port", "7099", "--port", "80")
    assert (code, said["allowed"], said["connections"]) == (4, False, [])
    assert [
        (each["port"], each["family"], each["from"], each["to"], each["allowed"])
        for each in said["checks"]
    ] == [
        (7099, "IPv4", "10.244.1.9", "10.244.1.2", False),
        (7099, "IPv6", "fd00:244:1::9", "fd00:244:1::2", True),
        (80, None, "10.244.1.9", "10.244.1.2", False),  # by either family
    ]
    # Who names an address asks of its family alone.
    code, said = asked(tabard, "--from", "fd00:244:1::9", *DUAL[2:], "--port", "7099")
    assert (code, [each["family"] for each in said["checks"]]) == (0, [None])


def test_families_that_agree_have_one_verdict(tabard: Tabard, store: MemoryStore) -> None:
    asyncio.run(append(MemoryBus(store), *dual(V4, V6)))
    result = tabard("policy", "check", *DUAL, "--port", "7099")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("allowed  shop/client → shop/web-0, 7099/TCP\n  egress")
    _, said = asked(tabard, *DUAL)
    assert said["connections"] == [{"protocol": "TCP", "first": 7099, "last": 7099}]
    assert [(each["family"], each["allowed"]) for each in said["checks"]] == [(None, True)]


def test_a_node_s_addresses_of_one_family_are_told_apart_too(
    tabard: Tabard, store: MemoryStore
) -> None:
    node = events.NodeAdded("n2", ("198.18.0.12", "203.0.113.12"), ())
    host = bound("host", node="n2", identity=0, address="198.18.0.12")
    told = (*dual("203.0.113.0/24"), node, replace(host, host_network=True))
    asyncio.run(append(MemoryBus(store), *told))
    words = ("--from", "shop/host", "--to", "shop/web-0", "--port", "7099")
    result = tabard("policy", "check", *words)
    assert result.exit_code == 4
    assert result.stdout.startswith(
        "198.18.0.12 → 10.244.1.2 DENIED, 203.0.113.12 → 10.244.1.2 allowed  shop/host → "
    )


def test_pods_of_a_workload_that_differ_by_ipv6_alone_are_told_apart(
    tabard: Tabard, store: MemoryStore
) -> None:
    other = bound(
        "client-2",
        identity=257,
        address=("10.244.1.10", "fd77::10"),
        labels=(("app", "other"),),
        owner="Deployment/shop/client",
    )
    workload = ("policy", "check", "--from", "shop/deployment/client", "--to", "shop/web-0")
    asyncio.run(append(MemoryBus(store), *dual(V4, V6)))
    assert tabard(*workload).stderr == ""
    asyncio.run(append(MemoryBus(store), other))
    assert "policies tell the 2 pods of shop/deployment/client apart" in tabard(*workload).stderr


def test_events_have_the_time_at_which_they_were_stored(tabard: Tabard, store: MemoryStore) -> None:
    asyncio.run(append(MemoryBus(store), *dual(V4)))
    _, said = asked(tabard, *DUAL)
    stored = {each.sequence: each.stored_at for each in store.logs[Stream.LEDGER].messages}
    assert said["events"]
    assert all(each["at"] == stored[each["sequence"]] for each in said["events"])


def test_the_events_that_made_a_name_and_a_group_stand_for_an_address_are_told(
    tabard: Tabard, store: MemoryStore
) -> None:
    def cilium(kind: str, namespace: str, name: str, spec: object) -> events.PolicyAccepted:
        metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        document = {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}
        return events.PolicyAccepted(kind, namespace, name, document, "")

    egress = [
        {"toCIDRSet": [{"cidrGroupRef": "offices"}]},
        {"toFQDNs": [{"matchName": "a.example"}]},
    ]
    group = ("cidr:203.0.113.0/24",)
    host = ("cidr:192.0.2.7/32",)
    batch = [
        *dual(),
        events.IdentityAllocated(16_777_217, group),
        cilium("CiliumCIDRGroup", "", "offices", {"externalCIDRs": ["203.0.113.0/24"]}),
        cilium("CiliumNetworkPolicy", "shop", "out", {"endpointSelector": {}, "egress": egress}),
        events.IdentityAllocated(16_777_218, host),
        events.NameResolved("a.example", (("192.0.2.7", 1 << 62),)),
    ]
    asyncio.run(append(MemoryBus(store), *batch))
    for address, of in (
        ("203.0.113.9", "CiliumCIDRGroup offices"),
        ("192.0.2.7", "name a.example"),
    ):
        code, said = asked(tabard, "--from", "shop/web-0", "--to", address, "--port", "443")
        assert code == 0
        assert of in [event["of"] for event in said["events"]]

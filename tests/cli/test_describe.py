import asyncio
import json
from dataclasses import replace

import pytest

from command import Tabard
from ledgers import POLICY, append, bound, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.events import ledger as events
from tabard.events.ledger import Enforcement


def policy(name: str, spec: object, namespace: str = "shop") -> events.PolicyAccepted:
    document = {**POLICY, "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    return events.PolicyAccepted("NetworkPolicy", namespace, name, document, f"{name}.yaml:1")


OPEN = policy(
    "open",
    {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [
            {
                "to": [
                    {"podSelector": {"matchLabels": {"app": "web"}}},
                    {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                ],
                "ports": [{"port": 80}, {"port": 9000, "endPort": 9100, "protocol": "UDP"}],
            },
            {},
        ],
    },
)


@pytest.fixture(autouse=True)
def ledger(store: MemoryStore) -> MemoryBus:
    """The small ledger (8 events) and a policy (9) that isolates the other way."""
    bus = MemoryBus(store)

    async def build() -> None:
        await append(bus, *small(), OPEN)
        await say(bus, "n1", 8, endpoints=1)

    asyncio.run(build())
    return bus


def described(tabard: Tabard, *words: str) -> dict[str, object]:
    result = tabard("describe", *words, "-o", "json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, object] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize(
    "words",
    [
        ("deployment/web", "-n", "shop"),
        ("deploy/web", "-n", "shop"),
        ("Deployment/shop/web",),
        ("deploy/shop/web", "-n", "shop"),
    ],
    ids=" ".join,
)
def test_a_workload_is_named_as_scale_names_it(tabard: Tabard, words: tuple[str, ...]) -> None:
    found = described(tabard, "workload", *words)["workload"]
    assert isinstance(found, dict)
    assert (found["kind"], found["name"]) == ("Deployment", "web")
    missing = tabard("describe", "workload", "statefulset/web", "-n", "shop")
    assert "there is no workload StatefulSet/shop/web at LEDGER/9" in missing.stderr


def names(rows: object) -> list[str]:
    assert isinstance(rows, list)
    return [row["name"] for row in rows]


def history(found: dict[str, object]) -> list[tuple[int, str]]:
    rows = found["history"]
    assert isinstance(rows, list)
    return [(row["sequence"], row["type"]) for row in rows]


def test_a_pod_is_shown_with_what_it_is_and_who_isolates_it(tabard: Tabard) -> None:
    found = described(tabard, "pod", "shop/web-0")
    assert found["identity"]["identity"] == 256  # type: ignore[index]
    assert found["isolation"] == {"ingress": True, "egress": True}
    assert names(found["policies"]) == ["open", "web"]
    assert found["node"]["watermark"] == 8  # type: ignore[index]
    assert history(found) == [(7, "endpoint.bound")]


def test_isolation_is_that_of_the_time_that_was_asked_for(tabard: Tabard) -> None:
    found = described(tabard, "pod", "shop/web-0", "--at", "8")
    assert found["isolation"] == {"ingress": True, "egress": False}
    assert names(found["policies"]) == ["web"]
    assert found["node"]["status"] == "Unknown"  # type: ignore[index]


def test_a_pod_that_has_no_identity_is_shown_with_the_reason(
    tabard: Tabard, ledger: MemoryBus
) -> None:
    refused = events.PodRefused(
        "uid-w", "shop", "w", "no number", False, "n1", (), (), 1, "default", (), "", False
    )
    asyncio.run(append(ledger, refused))
    found = described(tabard, "pod", "w", "-n", "shop")
    assert (found["identity"], found["isolation"], found["policies"]) == (None, None, [])
    assert found["pod"]["reason"] == "no number"  # type: ignore[index]
    assert history(found) == [(10, "pod.refused")]


def test_the_history_of_a_pod_is_all_that_was_ever_done_to_its_name(
    tabard: Tabard, ledger: MemoryBus
) -> None:
    other = replace(bound("web-0", namespace="data", address="10.244.1.9"), uid="uid-2")
    more = (
        events.IdentityAllocated(257, ("k8s:app=x", "k8s:io.kubernetes.pod.namespace=shop")),
        events.RelabelPlanned("uid-web-0", 257, (("app", "x"),)),
        events.EndpointRelabelled("uid-web-0", 257, (("app", "x"),)),
        events.RebindPlanned("shop", (("uid-web-0", 256),)),
        events.EndpointsRebound("shop", (("uid-web-0", 256),)),
        other,
        events.EndpointUnbound("uid-2"),
    )
    asyncio.run(append(ledger, *more))
    expected = [
        (7, "endpoint.bound"),
        (11, "endpoint.relabel_planned"),
        (12, "endpoint.relabelled"),
        (13, "endpoint.rebind_planned"),
        (14, "endpoint.rebound"),
    ]
    assert history(described(tabard, "pod", "shop/web-0")) == expected
    # By its bare name it is the same one: the other, in another namespace, is gone.
    assert history(described(tabard, "pod", "web-0")) == expected
    assert history(described(tabard, "pod", "data/web-0", "--at", "15")) == [(15, "endpoint.bound")]


def test_the_history_of_a_node_tells_when_it_was_lost_and_refused(
    tabard: Tabard, ledger: MemoryBus
) -> None:
    more = (
        events.NodeLost("n2", 3),
        events.NodeReturned("n2", 10),
        events.NodeRefused("n2", (), ("10.244.0.0/16",), (), "overlaps"),
        events.NodeLost("n1", 3),
    )
    asyncio.run(append(ledger, *more))
    assert [kind for _, kind in history(described(tabard, "node", "n2"))] == [
        *("node.added", "node.lost", "node.returned", "node.refused")
    ]


def test_what_is_gone_is_found_where_it_was(tabard: Tabard, ledger: MemoryBus) -> None:
    asyncio.run(append(ledger, events.EndpointUnbound("uid-web-0")))
    result = tabard("describe", "pod", "shop/web-0")
    assert result.exit_code == 1
    assert "its last event is LEDGER/10 (endpoint.unbound)" in result.stderr
    *words, at = result.stderr.splitlines()[-1].removeprefix("  next: tabard ").split()
    assert words == ["describe", "pod", "shop/web-0", "--at"]
    assert tabard(*words, at).exit_code == 0


def test_what_was_never_there_says_where_to_look(tabard: Tabard) -> None:
    result = tabard("describe", "policy", "shop/none")
    assert result.exit_code == 1
    assert "there is no policy shop/none at LEDGER/9" in result.stderr
    assert "  next: tabard get policies" in result.stderr


def test_a_nodes_digest_is_of_a_sequence_and_not_of_a_time(
    tabard: Tabard, store: MemoryStore
) -> None:
    asyncio.run(say(MemoryBus(store), "n1", 8, digest=b"\x01" * 16, digest_at=8))
    lines = tabard("describe", "node", "n1").stdout.splitlines()
    assert [line.split() for line in lines if "digest_at" in line] == [["digest_at", "8"]]


def test_an_identity_is_shown_with_who_has_selects_and_names_it(
    tabard: Tabard, ledger: MemoryBus
) -> None:
    found = described(tabard, "identity", "256")
    assert names(found["pods"]) == ["web-0"]
    assert names(found["selected_by"]) == ["open", "web"]
    rules = [(row["name"], row["rule"], row["by"]) for row in found["named_by"]]  # type: ignore[attr-defined]
    assert rules == [("open", "spec.egress[0]", "selector"), ("open", "spec.egress[1]", "anyone")]
    assert history(found) == [(4, "identity.allocated")]
    asyncio.run(append(ledger, events.IdentityAllocated((1 << 24) + 1, ("cidr:10.0.0.0/8",))))
    found = described(tabard, "identity", str((1 << 24) + 1))
    assert [row["by"] for row in found["named_by"]] == ["cidr", "anyone"]  # type: ignore[attr-defined]


def test_a_policy_is_shown_with_its_rules_and_whom_it_selects(tabard: Tabard) -> None:
    found = described(tabard, "policy", "shop/open")
    namespace = "namespace=shop, app=web"
    assert found["rules"] == [
        {
            "direction": "egress",
            "rule": "spec.egress[0]",
            "action": "allow",
            "peers": [namespace, "10.0.0.0/8 but 10.1.0.0/16"],
            "ports": ["80/TCP", "9000-9100/UDP"],
        },
        {
            "direction": "egress",
            "rule": "spec.egress[1]",
            "action": "allow",
            "peers": None,
            "ports": ["any"],
        },
    ]
    assert names(found["pods"]) == ["web-0"]
    assert found["document"] == OPEN.document
    assert history(found) == [(9, "policy.accepted")]


def test_a_cluster_wide_policy_is_named_by_itself_or_with_its_kind(
    tabard: Tabard, ledger: MemoryBus
) -> None:
    kind = "CiliumClusterwideNetworkPolicy"
    written = {
        "apiVersion": "cilium.io/v2",
        "kind": kind,
        "metadata": {"name": "out"},
        "spec": {"endpointSelector": {}, "egress": [{"toCIDRSet": [{"cidrGroupRef": "x"}]}]},
    }
    asyncio.run(append(ledger, events.PolicyAccepted(kind, "", "out", written, "out.yaml:1")))
    found = described(tabard, "policy", "out")
    assert described(tabard, "policy", f"{kind.lower()}/out") == found
    assert tabard("describe", "policy", "out", "-o", "name").stdout == "policy/out\n"
    assert "policy/out" in tabard("get", "policies", "-o", "name").stdout.splitlines()


def test_a_service_is_no_policy_unless_it_is_refused(tabard: Tabard, ledger: MemoryBus) -> None:
    service = {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "db"}}
    asyncio.run(append(ledger, events.PolicyAccepted("Service", "shop", "db", service, "")))
    names = tabard("get", "policies", "-o", "name").stdout.splitlines()
    assert "policy/shop/web" in names
    assert "policy/shop/db" not in names
    asyncio.run(append(ledger, events.PolicyRefused("Service", "shop", "db", "no", "")))
    assert "policy/shop/db" in tabard("get", "policies", "-o", "name").stdout.splitlines()


def test_an_identity_that_a_group_of_cidrs_holds_is_named_by_who_refers_to_it(
    tabard: Tabard, ledger: MemoryBus
) -> None:
    def of(kind: str, namespace: str, name: str, spec: object) -> events.PolicyAccepted:
        metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        written = {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}
        return events.PolicyAccepted(kind, namespace, name, written, "")

    held = events.IdentityAllocated((1 << 24) + 9, ("cidr:192.0.2.0/24",))
    group = of("CiliumCIDRGroup", "", "offices", {"externalCIDRs": ["192.0.2.0/24"]})
    ingress = [{"fromCIDRSet": [{"cidrGroupRef": "offices"}]}]
    spec = {"endpointSelector": {}, "ingress": ingress}
    policy = of("CiliumNetworkPolicy", "shop", "in", spec)
    asyncio.run(append(ledger, held, group, policy))
    found = described(tabard, "identity", str((1 << 24) + 9))
    named_by = {row["name"]: row["by"] for row in found["named_by"]}  # type: ignore[attr-defined]
    assert named_by == {"in": "cidr", "open": "anyone"}


def test_a_binding_shows_everyone_who_held_the_address(tabard: Tabard, ledger: MemoryBus) -> None:
    asyncio.run(append(ledger, bound("web-1", address="10.244.1.2")))
    asyncio.run(append(ledger, events.EndpointUnbound("uid-web-0")))
    found = described(tabard, "binding", "10.244.1.2")
    assert found["pod"]["name"] == "web-1"  # type: ignore[index]
    assert history(found) == [(7, "endpoint.bound"), (10, "endpoint.bound")]


def test_nodes_workloads_and_streams_are_shown_with_what_is_theirs(tabard: Tabard) -> None:
    assert names(described(tabard, "node", "n1")["pods"]) == ["web-0"]
    assert names(described(tabard, "node", "n2")["pods"]) == []
    found = described(tabard, "workload", "shop/web")
    assert names(found["pods"]) == ["web-0"]
    assert found["document"]["kind"] == "Deployment"  # type: ignore[index]
    found = described(tabard, "stream", "ledger")
    assert found["stream"]["last"] == 9  # type: ignore[index]
    assert [row["sequence"] for row in found["last"]] == [5, 6, 7, 8, 9]  # type: ignore[attr-defined]


def test_of_two_workloads_of_one_name_the_kind_tells(tabard: Tabard, ledger: MemoryBus) -> None:
    service = {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web"}}
    asyncio.run(append(ledger, events.WorkloadAccepted("Service", "shop", "web", service, "")))
    result = tabard("describe", "workload", "shop/web")
    assert result.exit_code == 1
    assert "workload shop/web may be Deployment/shop/web, Service/shop/web" in result.stderr
    found = described(tabard, "workload", "service/shop/web")
    assert found["workload"]["kind"] == "Service"  # type: ignore[index]
    assert history(found) == [(10, "workload.accepted")]


def test_what_get_names_can_be_described(tabard: Tabard) -> None:
    for kind in ("pods", "identities", "nodes", "policies", "bindings", "workloads", "streams"):
        for name in tabard("get", kind, "-o", "name").stdout.split():
            result = tabard("describe", name)
            assert result.exit_code == 0, result.stderr
            head = result.stdout.splitlines()[0]
            singular, _, rest = name.partition("/")
            assert head.startswith(f"{singular.capitalize()} {rest} at LEDGER/9, stored ")


def test_what_was_not_there_then_is_looked_for_then(tabard: Tabard) -> None:
    told = tabard("describe", "pod", "shop/void", "--at", "8").stderr
    assert "there is no pod shop/void at LEDGER/8" in told
    assert told.endswith("  next: tabard get pods --at 8\n")


def test_sections_are_readable(tabard: Tabard) -> None:
    lines = tabard("describe", "pod", "shop/web-0").stdout.splitlines()
    assert "  ports             name=http,port=80,protocol=TCP" in lines
    assert "  host_network      no" in lines
    at = lines.index("Isolation: where only what a policy allows passes")
    assert lines[at + 1 : at + 3] == ["  ingress   yes", "  egress    yes"]
    assert lines[-1].split()[:3] == ["7", "00:00:00.000", "endpoint.bound"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("pod",), "describe needs the name of a pod"),
        (("pod", "a/b/c"), "'a/b/c' is not NS/NAME"),
        (("pod", "shop/"), "'shop/' is not NS/NAME"),
        (("policy", "shop/web", "-n", "data"), "'shop/web' is not in namespace data"),
        (("identity", "web"), "'web' is no number"),
        (("binding", "web"), "'web' is no address"),
        (("stream", "x"), "there is no stream X"),
        (("node", "n1", "-n", "shop"), "leave -n out"),
        (("service", "x"), "there is no kind 'service'"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_a_name_that_is_none_is_a_usage_error(
    tabard: Tabard, words: tuple[str, ...], told: str
) -> None:
    result = tabard("describe", *words)
    assert result.exit_code == 2
    assert told in result.stderr


def test_rules_are_told_in_words(tabard: Tabard, ledger: MemoryBus) -> None:
    ports = [{"port": "53", "protocol": "UDP"}]
    lookups = {"dns": [{"matchPattern": "*.example.org"}]}
    spec = {
        "endpointSelector": {},
        "ingressDeny": [{"fromEntities": ["world"]}],
        "egress": [
            {"toEndpoints": [{}], "toPorts": [{"ports": ports, "rules": lookups}]},
            {"toFQDNs": [{"matchName": "api.example.org"}]},
            {"toServices": [{"k8sService": {"serviceName": "db", "namespace": "data"}}]},
            {"toNodes": [{"matchLabels": {"role": "edge"}}]},
            {"toCIDRSet": [{"cidrGroupRef": "offices", "except": ["10.1.0.0/16"]}]},
        ],
    }
    written = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "words", "namespace": "shop"},
        "spec": spec,
    }
    accepted = events.PolicyAccepted("CiliumNetworkPolicy", "shop", "words", written, "")
    asyncio.run(append(ledger, accepted))
    found = described(tabard, "policy", "shop/words")
    row = found["policy"]
    assert isinstance(row, dict)
    assert (row["tier"], row["priority"], row["rules"], row["denials"]) == ("network", 0, 6, 1)
    assert row["isolates"] == ["ingress", "egress"]
    rules = found["rules"]
    assert isinstance(rules, list)
    told = [(rule["action"], rule["peers"], rule["ports"]) for rule in rules]
    assert told == [
        ("deny", ["world", "world-ipv4", "world-ipv6"], ["any"]),
        ("allow", ["namespace=shop"], ["53/UDP for *.example.org"]),
        ("allow", ["name api.example.org"], ["any"]),
        ("allow", ["service data/db"], ["any"]),
        ("allow", ["nodes role=edge"], ["any"]),
        ("allow", ["CIDR group offices but 10.1.0.0/16"], ["any"]),
    ]


@pytest.mark.parametrize(("enforcement", "isolated"), [("always", True), ("never", False)])
def test_a_pod_is_isolated_as_the_install_enforces(
    tabard: Tabard, ledger: MemoryBus, enforcement: Enforcement, isolated: bool
) -> None:
    settings = events.SettingsAdopted("default", 0, 8, (), (), (), 300_000, enforcement)
    asyncio.run(append(ledger, settings))
    found = described(tabard, "pod", "shop/web-0")
    assert found["isolation"] == {"ingress": isolated, "egress": isolated}


def test_what_policies_refer_to_is_said_to_be_no_policy(tabard: Tabard, ledger: MemoryBus) -> None:
    group = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumCIDRGroup",
        "metadata": {"name": "offices"},
        "spec": {"externalCIDRs": ["192.0.2.0/24"]},
    }
    accepted = events.PolicyAccepted("CiliumCIDRGroup", "", "offices", group, "")
    asyncio.run(
        append(ledger, events.IdentityAllocated(16_777_217, ("cidr:192.0.2.0/24",)), accepted)
    )
    result = tabard("describe", "policy", "offices")
    assert result.exit_code == 1
    assert "CiliumCIDRGroup offices is no policy, but what policies refer to" in result.stderr
    assert "tabard events show 11" in result.stderr

import asyncio
from pathlib import Path

import pytest
import yaml

from command import Tabard
from ledgers import DEPLOYMENT, POLICY, Answering, append, bound, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.events import observed as events
from tabard.events.ledger import (
    NamespaceLabelled,
    NodeLost,
    PolicyAccepted,
    PolicyRefused,
    RelabelPlanned,
    WorkloadForgotten,
)


@pytest.fixture(autouse=True)
def ledger(store: MemoryStore) -> None:
    asyncio.run(append(MemoryBus(store), *small()))


@pytest.fixture
def manifests(tmp_path: Path) -> str:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}}
    file = tmp_path / "shop.yaml"
    file.write_text(yaml.dump_all([DEPLOYMENT, POLICY, namespace, settings]))
    return str(file)


def observed(store: MemoryStore) -> list[object]:
    return Answering(store).observed()


def test_apply_publishes_in_order_and_says_so(
    tabard: Tabard, store: MemoryStore, manifests: str
) -> None:
    result = tabard("apply", "-f", manifests)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert [type(event) for event in observed(store)] == [
        events.NamespaceLabelsSet,
        events.PolicySet,
        events.WorkloadSet,
    ]
    assert "OBSERVED/2  policy.set  NetworkPolicy shop/web" in result.stderr
    assert "note: " in result.stderr
    assert "taken through LEDGER/9" in result.stderr


def test_what_is_refused_is_told_with_its_reason_and_exits_with_one(
    tabard: Tabard, store: MemoryStore, manifests: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = PolicyRefused("NetworkPolicy", "shop", "web", "spec.ingress: no such key", "")
    created = Answering.__init__

    def refusing(self: Answering, store: MemoryStore | None = None) -> None:
        created(self, store)
        self.answers = [refused]

    monkeypatch.setattr(Answering, "__init__", refusing)
    result = tabard("apply", "-f", manifests)
    assert result.exit_code == 1
    assert "NetworkPolicy shop/web refused: spec.ingress: no such key" in result.stderr


def test_a_broken_manifest_publishes_nothing(
    tabard: Tabard, store: MemoryStore, tmp_path: Path
) -> None:
    broken = {**POLICY, "spec": {**POLICY["spec"], "podSelektor": {}}}
    (tmp_path / "broken.yaml").write_text(yaml.dump_all([DEPLOYMENT, broken]))
    result = tabard("apply", "-f", str(tmp_path / "broken.yaml"))
    assert result.exit_code == 1
    assert "podSelektor" in result.stderr
    assert observed(store) == []


def test_delete_takes_away_what_manifests_declare(
    tabard: Tabard, store: MemoryStore, manifests: str
) -> None:
    asyncio.run(append(MemoryBus(store), NamespaceLabelled("shop", ())))
    assert tabard("delete", "-f", manifests).exit_code == 0
    assert observed(store) == [
        events.WorkloadRemoved("Deployment", "shop", "web"),
        events.PolicyRemoved("NetworkPolicy", "shop", "web"),
        events.NamespaceRemoved("shop"),
    ]


def test_what_is_not_there_is_told_and_the_rest_is_deleted(
    tabard: Tabard, store: MemoryStore, manifests: str
) -> None:
    asyncio.run(append(MemoryBus(store), WorkloadForgotten("Deployment", "shop", "web")))
    result = tabard("delete", "-f", manifests)
    assert result.exit_code == 0
    assert "Deployment shop/web was not there\n" in result.stderr
    assert "Namespace shop was not there\n" in result.stderr
    assert observed(store) == [events.PolicyRemoved("NetworkPolicy", "shop", "web")]


def test_deleting_nothing_that_is_there_is_an_error(
    tabard: Tabard, store: MemoryStore, tmp_path: Path
) -> None:
    (tmp_path / "absent.yaml").write_text(yaml.dump({**POLICY, "metadata": {"name": "absent"}}))
    result = tabard("delete", "-f", str(tmp_path / "absent.yaml"))
    assert result.exit_code == 1
    assert "NetworkPolicy default/absent was not there" in result.stderr
    assert observed(store) == []


def test_a_cluster_wide_policy_is_applied_and_deleted_by_its_name_alone(
    tabard: Tabard, store: MemoryStore, tmp_path: Path
) -> None:
    group = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumCIDRGroup",
        "metadata": {"name": "offices"},
        "spec": {"externalCIDRs": ["192.0.2.0/24"]},
    }
    policy = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": "edge"},
        "spec": {"nodeSelector": {}, "ingress": [{"fromEntities": ["cluster"]}]},
    }
    file = tmp_path / "edge.yaml"
    file.write_text(yaml.dump_all([policy, group]))
    result = tabard("apply", "-f", str(file))
    assert result.exit_code == 0
    assert "policy.set  CiliumCIDRGroup offices\n" in result.stderr
    assert "policy.set  CiliumClusterwideNetworkPolicy edge\n" in result.stderr
    assert "selects no pod" not in result.stderr
    accepted = [
        PolicyAccepted("CiliumCIDRGroup", "", "offices", group, ""),
        PolicyAccepted("CiliumClusterwideNetworkPolicy", "", "edge", policy, ""),
    ]
    asyncio.run(append(MemoryBus(store), *accepted))
    result = tabard("delete", "-f", str(file))
    assert result.exit_code == 0
    assert observed(store)[-2:] == [
        events.PolicyRemoved("CiliumClusterwideNetworkPolicy", "", "edge"),
        events.PolicyRemoved("CiliumCIDRGroup", "", "offices"),
    ]


def test_a_namespace_that_was_not_there_is_told(
    tabard: Tabard, store: MemoryStore, tmp_path: Path
) -> None:
    lost = {**POLICY, "metadata": {"name": "web", "namespace": "nosuchns"}}
    (tmp_path / "lost.yaml").write_text(yaml.dump(lost))
    result = tabard("apply", "-f", str(tmp_path / "lost.yaml"))
    assert result.exit_code == 0
    assert "note: namespace nosuchns was not there; made\n" in result.stderr
    asyncio.run(append(MemoryBus(store), NamespaceLabelled("nosuchns", ())))
    assert "was not there" not in tabard("apply", "-f", str(tmp_path / "lost.yaml")).stderr


@pytest.mark.parametrize(
    ("label", "namespace", "beside", "idle"),
    [
        ("web", "shop", [], False),
        ("wbe", "shop", [], True),
        ("web", "default", [], True),
        ("web", "default", [{**DEPLOYMENT, "metadata": {"name": "web"}}], False),
    ],
)
def test_a_policy_that_selects_no_pod_is_told(
    tabard: Tabard,
    tmp_path: Path,
    label: str,
    namespace: str,
    beside: list[object],
    idle: bool,
) -> None:
    policy = {
        **POLICY,
        "metadata": {"name": "p", "namespace": namespace},
        "spec": {**POLICY["spec"], "podSelector": {"matchLabels": {"app": label}}},
    }
    (tmp_path / "p.yaml").write_text(yaml.dump_all([policy, *beside]))
    result = tabard("apply", "-f", str(tmp_path / "p.yaml"))
    assert result.exit_code == 0
    note = f"note: policy {namespace}/p selects no pod now\n"
    assert (note in result.stderr) is idle


def test_standard_input_without_an_object_is_named(tabard: Tabard) -> None:
    assert "stdin holds no object" in tabard("apply", "-f", "-").stderr


def test_a_pod_is_deleted_by_its_name(tabard: Tabard, store: MemoryStore) -> None:
    result = tabard("delete", "pod", "shop/web-0")
    assert result.exit_code == 0
    assert "OBSERVED/1  pod.stopped  shop/web-0\n" in result.stderr
    assert observed(store) == [events.PodStopped("uid-web-0")]


def test_a_bare_pod_is_deleted_with_its_workload_so_that_it_is_not_started_again(
    tabard: Tabard, store: MemoryStore
) -> None:
    asyncio.run(append(MemoryBus(store), bound("bare", owner="Pod/shop/bare")))
    assert tabard("delete", "pod", "shop/bare").exit_code == 0
    assert observed(store) == [
        events.WorkloadRemoved("Pod", "shop", "bare"),
        events.PodStopped("uid-bare"),
    ]


def test_a_pod_that_is_not_there_is_told_with_the_next_command(
    tabard: Tabard, store: MemoryStore
) -> None:
    result = tabard("delete", "pod", "shop/web-9")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "tabard: cannot delete pod",
        "  the ledger has no pod shop/web-9",
        "  next: tabard get pods -n shop",
    ]
    assert observed(store) == []


def test_a_further_label_change_goes_on_from_what_is_planned(
    tabard: Tabard, store: MemoryStore
) -> None:
    planned = (("app", "web"), ("role", "admin"))
    asyncio.run(append(MemoryBus(store), RelabelPlanned("uid-web-0", 256, planned)))
    assert "nothing to change" in tabard("label", "pod", "shop/web-0", "role=admin").stderr
    assert tabard("label", "pod", "shop/web-0", "app=x").exit_code == 0
    assert observed(store) == [
        events.PodLabelsChanged("uid-web-0", (("app", "x"), ("role", "admin")))
    ]


def test_a_node_that_is_gone_is_deleted_by_its_name(tabard: Tabard, store: MemoryStore) -> None:
    asyncio.run(append(MemoryBus(store), NodeLost("n1", 3)))
    result = tabard("delete", "node", "n1", "n2")  # n2 never spoke
    assert result.exit_code == 0
    assert observed(store) == [events.NodeLeft("n1"), events.NodeLeft("n2")]


def test_a_node_whose_agent_speaks_is_not_deleted(tabard: Tabard, store: MemoryStore) -> None:
    asyncio.run(say(MemoryBus(store), "n1", 8))
    result = tabard("delete", "node", "n1")
    assert result.exit_code == 1
    assert "node n1 is Current: its agent runs" in result.stderr
    assert "the ledger has no node n9" in tabard("delete", "node", "n9").stderr
    assert observed(store) == []


@pytest.mark.parametrize("kind", ["Deployment", "deployment", "deployments", "deploy"])
def test_a_workload_is_scaled(tabard: Tabard, store: MemoryStore, kind: str) -> None:
    result = tabard("scale", f"{kind}/web", "-n", "shop", "--replicas", "5")
    assert result.exit_code == 0
    (event,) = observed(store)
    assert isinstance(event, events.WorkloadSet)
    assert event.document == {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "replicas": 5}}
    assert event.origin == "shop.yaml:1"


def test_a_workload_that_is_not_there_is_not_scaled(tabard: Tabard) -> None:
    result = tabard("scale", "deployment/void", "-n", "shop", "--replicas", "5")
    assert result.exit_code == 1
    assert "no Deployment shop/void" in result.stderr


def test_more_replicas_than_there_may_be_are_refused_with_what_may(
    tabard: Tabard, store: MemoryStore
) -> None:
    words = ("scale", "deployment/web", "-n", "shop", "--replicas")
    result = tabard(*words, "10001")
    assert (result.exit_code, observed(store)) == (2, [])
    assert result.stderr.splitlines()[1:] == [
        "  10001 replicas are too many: a workload has up to 10000",
        "  next: tabard scale deployment/web -n shop --replicas 10000",
    ]
    assert tabard(*words, "10000").exit_code == 0


def test_labels_are_set_and_removed_as_one_full_set(tabard: Tabard, store: MemoryStore) -> None:
    assert tabard("label", "pod", "shop/web-0", "role=admin", "zone=", "app-").exit_code == 0
    assert observed(store) == [
        events.PodLabelsChanged("uid-web-0", (("role", "admin"), ("zone", "")))
    ]


def test_a_label_is_told_of_a_pod_by_its_name(tabard: Tabard) -> None:
    result = tabard("label", "pod", "shop/web-0", "role=admin")
    assert "OBSERVED/1  pod.labels_changed  shop/web-0\n" in result.stderr


def test_a_label_that_is_there_already_publishes_nothing(
    tabard: Tabard, store: MemoryStore
) -> None:
    result = tabard("label", "pod", "shop/web-0", "app=web")
    assert (result.exit_code, result.stderr) == (0, "nothing to change\n")
    assert observed(store) == []


def test_wait_is_until_every_node_enforces(tabard: Tabard, store: MemoryStore) -> None:
    asyncio.run(_both_say(store, 9))
    result = tabard("delete", "pod", "shop/web-0", "--wait")
    assert result.exit_code == 0
    assert "2 nodes enforce LEDGER/9" in result.stderr
    result = tabard("delete", "pod", "shop/web-0", "--wait", "--timeout", "0.05")
    assert result.exit_code == 3
    assert "not enforced through LEDGER/10" in result.stderr
    assert "tabard: decided, but not enforced in time\n" in result.stderr


async def _both_say(store: MemoryStore, sequence: int) -> None:
    for node in ("n1", "n2"):
        await say(MemoryBus(store), node, sequence)

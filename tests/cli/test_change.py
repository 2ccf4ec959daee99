import asyncio
from pathlib import Path

import pytest
import yaml

from command import Tabard
from ledgers import DEPLOYMENT, POLICY, Answering, append, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.events import observed as events
from tabard.events.ledger import PolicyRefused


@pytest.fixture(autouse=True)
def ledger(store: MemoryStore) -> None:
    asyncio.run(append(MemoryBus(store), *small()))


@pytest.fixture
def manifests(tmp_path: Path) -> str:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    file = tmp_path / "shop.yaml"
    file.write_text(yaml.dump_all([DEPLOYMENT, POLICY, namespace, service]))
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
    assert tabard("delete", "-f", manifests).exit_code == 0
    assert observed(store) == [
        events.WorkloadRemoved("Deployment", "shop", "web"),
        events.PolicyRemoved("NetworkPolicy", "shop", "web"),
        events.NamespaceRemoved("shop"),
    ]


def test_a_pod_is_deleted_by_its_name(tabard: Tabard, store: MemoryStore) -> None:
    assert tabard("delete", "pod", "shop/web-0").exit_code == 0
    assert observed(store) == [events.PodStopped("uid-web-0")]


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


@pytest.mark.parametrize("kind", ["Deployment", "deployment", "deployments"])
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
    assert "no deployment shop/void" in result.stderr


def test_labels_are_set_and_removed_as_one_full_set(tabard: Tabard, store: MemoryStore) -> None:
    assert tabard("label", "pod", "shop/web-0", "role=admin", "zone=", "app-").exit_code == 0
    assert observed(store) == [
        events.PodLabelsChanged("uid-web-0", (("role", "admin"), ("zone", "")))
    ]


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


async def _both_say(store: MemoryStore, sequence: int) -> None:
    for node in ("n1", "n2"):
        await say(MemoryBus(store), node, sequence)

"""Given what the ledger says, which pods are started and stopped."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workloads as building
from tabard.events.observed import (
    NodeJoined,
    NodeLeft,
    ObservedEvent,
    PodLabelsChanged,
    PodStarted,
    PodStopped,
    WorkloadRemoved,
    WorkloadSet,
)
from tabard.ledger.state import EndpointState, State
from tabard.manifests.workloads import read_workload
from tabard.source import planning
from tabard.source.planning import Plan

SECOND = 1_000_000_000


class Cluster:
    """A state, and plans for it as the service makes them: one after the other."""

    def __init__(self, nodes: int = 3, *cidrs: str) -> None:
        self.state = State()
        self.now = SECOND
        self.draw = random.Random(1).randbytes
        self.unready: set[str] = set()
        for number in range(1, nodes + 1):
            pod_cidrs = cidrs or (f"10.244.{number}.0/24", f"fd00:{number}::/64")
            self.observe(NodeJoined(f"n{number}", (f"192.0.2.{number}",), pod_cidrs))

    def observe(self, *events: ObservedEvent) -> None:
        building.apply(self.state, *events)

    def set(self, **workload: Any) -> None:
        self.observe(WorkloadSet(building.document(**workload)))

    def plan(self) -> Plan:
        """The plan for now; time passes, nothing else changes."""
        self.now += SECOND
        return planning.plan(
            self.state,
            [read_workload(accepted.document) for accepted in self.state.workloads.values()],
            now=self.now,
            draw=self.draw,
            ready=lambda uid: uid not in self.unready,
        )

    def step(self) -> Plan:
        """Plan, and let the ledger show it."""
        made = self.plan()
        self.observe(*made.stopped, *made.started)
        return made

    def settle(self) -> None:
        for _ in range(20):
            made = self.step()
            if not made.started and not made.stopped:
                return
        raise AssertionError("the plans do not come to rest")

    def pods(self, owner: str = "") -> list[EndpointState]:
        found = [pod for pod in self.state.endpoints.values() if pod.owner.endswith(owner)]
        return sorted(found, key=lambda pod: pod.name)


def names(events: tuple[PodStarted, ...]) -> list[str]:
    return [event.name for event in events]


# Which pods


def test_a_deployment_gets_pods_named_labelled_and_owned_as_in_kubernetes() -> None:
    cluster = Cluster(1)
    port = {"containerPort": 8080, "name": "http"}
    cluster.set(replicas=1, ports=[port, {"containerPort": 9}], serviceAccountName="seller")

    (pod,) = cluster.plan().started

    revision = read_workload(cluster.state.workloads["Deployment", "shop", "web"].document).revision
    assert pod.name.startswith(f"web-{revision}-")
    assert dict(pod.labels) == {"app": "web", "pod-template-hash": revision}
    assert (pod.owner, pod.namespace) == ("Deployment/shop/web", "shop")
    assert pod.ports == (("http", 8080, "TCP"),)
    assert pod.service_account == "seller"
    assert pod.started_at == cluster.now
    assert pod.addresses == ("10.244.1.2", "fd00:1::2")


def test_a_settled_cluster_needs_nothing() -> None:
    cluster = Cluster()
    for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Pod"):
        cluster.set(kind=kind, name=kind.lower(), replicas=2)
    cluster.settle()
    assert Counter(pod.owner.split("/")[0] for pod in cluster.pods()) == {
        "Deployment": 2,
        "StatefulSet": 2,
        "DaemonSet": 3,
        "ReplicaSet": 2,
        "Job": 2,
        "Pod": 1,
    }
    assert cluster.plan() == Plan()


def test_a_stateful_set_numbers_its_pods_and_a_replaced_one_keeps_its_name() -> None:
    cluster = Cluster()
    cluster.set(kind="StatefulSet", name="db", replicas=2)
    cluster.settle()
    first, second = cluster.pods()
    assert (first.name, second.name) == ("db-0", "db-1")
    assert dict(first.labels)["statefulset.kubernetes.io/pod-name"] == "db-0"
    assert dict(second.labels)["apps.kubernetes.io/pod-index"] == "1"

    cluster.observe(PodStopped(first.uid))
    (again,) = cluster.step().started

    assert again.name == "db-0"
    assert again.uid != first.uid


def test_a_bare_pod_that_is_deleted_with_its_workload_stays_stopped() -> None:
    cluster = Cluster(1)
    cluster.set(kind="Pod", name="bare")
    cluster.settle()
    (pod,) = cluster.pods()
    cluster.observe(WorkloadRemoved("Pod", "shop", "bare"), PodStopped(pod.uid))
    assert cluster.plan() == Plan()


def test_a_daemon_set_has_one_pod_on_every_node() -> None:
    cluster = Cluster(2)
    cluster.set(kind="DaemonSet", name="dns")
    cluster.settle()
    cluster.observe(NodeJoined("n9", (), ("10.244.9.0/24",)))

    assert [pod.node for pod in cluster.step().started] == ["n9"]
    assert sorted(pod.node for pod in cluster.pods()) == ["n1", "n2", "n9"]


def test_scaling_up_starts_what_is_missing() -> None:
    cluster = Cluster()
    cluster.set(replicas=2)
    cluster.settle()
    cluster.set(replicas=5)
    made = cluster.plan()
    assert (len(made.started), made.stopped) == (3, ())


def test_scaling_down_stops_the_newest_first() -> None:
    cluster = Cluster()
    cluster.set(replicas=1)
    cluster.settle()
    cluster.set(replicas=2)
    cluster.settle()
    oldest = min(cluster.pods(), key=lambda pod: pod.started_at)
    cluster.set(replicas=1)
    cluster.settle()
    assert [pod.uid for pod in cluster.pods()] == [oldest.uid]


def test_scaling_down_stops_what_is_not_ready_before_what_is() -> None:
    cluster = Cluster()
    cluster.set(replicas=1)
    cluster.settle()
    cluster.set(replicas=2)
    cluster.settle()
    oldest = min(cluster.pods(), key=lambda pod: pod.started_at)
    cluster.unready = {oldest.uid}
    cluster.set(replicas=1)
    assert cluster.plan().stopped == (PodStopped(oldest.uid),)


def test_a_stateful_set_is_scaled_down_from_its_highest_ordinal() -> None:
    cluster = Cluster()
    cluster.set(kind="StatefulSet", name="db", replicas=12)
    cluster.settle()
    cluster.set(kind="StatefulSet", name="db", replicas=9)
    stopped = [cluster.state.endpoints[event.uid].name for event in cluster.plan().stopped]
    assert stopped == ["db-11", "db-10", "db-9"]


def test_the_pods_of_a_removed_workload_stop_and_no_others() -> None:
    cluster = Cluster()
    cluster.set(replicas=2)
    cluster.set(name="api", replicas=1)
    cluster.settle()
    foreign = PodStarted("f" * 8, "shop", "foreign", "n1", ("10.9.9.9",), (), 1)
    cluster.observe(foreign, WorkloadRemoved("Deployment", "shop", "web"))
    cluster.settle()
    assert sorted(pod.owner for pod in cluster.pods()) == ["", "Deployment/shop/api"]


def test_the_pods_of_a_workload_that_cannot_be_read_are_left_alone() -> None:
    cluster = Cluster()
    cluster.set(replicas=2)
    cluster.settle()
    made = planning.plan(
        cluster.state, [], now=0, draw=cluster.draw, untouched=["Deployment/shop/web"]
    )
    assert made == Plan()


# A new template


def test_new_pods_of_a_deployment_start_before_the_old_ones_stop() -> None:
    cluster = Cluster()
    cluster.set(replicas=2)
    cluster.settle()
    old = {pod.uid for pod in cluster.pods()}
    cluster.set(replicas=2, priority=1)

    first = cluster.step()
    assert (len(first.started), first.stopped) == (2, ())
    new = {pod.uid for pod in first.started}
    cluster.unready = set(new)
    assert cluster.plan() == Plan()
    cluster.unready = {min(new)}
    assert len(cluster.step().stopped) == 1
    cluster.unready = set()
    cluster.settle()
    assert {pod.uid for pod in cluster.pods()} == new
    assert not new & old


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "Pod"])
def test_an_old_pod_with_a_place_of_its_own_leaves_before_it_is_replaced(kind: str) -> None:
    cluster = Cluster(2)
    cluster.set(kind=kind, replicas=2)
    cluster.settle()
    old = {pod.uid for pod in cluster.pods()}
    cluster.set(kind=kind, replicas=2, priority=1)

    first = cluster.step()
    assert ({event.uid for event in first.stopped}, first.started) == (old, ())
    assert len(cluster.step().started) == len(old)
    assert cluster.plan() == Plan()


@pytest.mark.parametrize("kind", ["ReplicaSet", "Job"])
def test_a_new_template_changes_no_pod_that_runs(kind: str) -> None:
    cluster = Cluster()
    cluster.set(kind=kind, replicas=2)
    cluster.settle()
    cluster.set(kind=kind, replicas=2, priority=1)
    assert cluster.plan() == Plan()


def test_a_label_put_on_a_running_pod_is_not_taken_back() -> None:
    cluster = Cluster()
    cluster.set(replicas=1)
    cluster.settle()
    (pod,) = cluster.pods()
    cluster.observe(PodLabelsChanged(pod.uid, (("app", "intruder"),)))
    assert cluster.plan() == Plan()


# Where


def test_replicas_are_spread_then_the_emptiest_node_then_the_first_name() -> None:
    cluster = Cluster(3)
    cluster.set(name="a", replicas=4)
    cluster.settle()
    assert Counter(pod.node for pod in cluster.pods()) == {"n1": 2, "n2": 1, "n3": 1}
    cluster.set(name="b", replicas=1)
    assert [pod.node for pod in cluster.plan().started] == ["n2"]


@pytest.mark.parametrize(
    "where", [{"nodeName": "n2"}, {"nodeSelector": {"kubernetes.io/hostname": "n2"}}]
)
def test_a_pod_goes_where_its_template_says(where: dict[str, Any]) -> None:
    cluster = Cluster()
    cluster.set(replicas=3, **where)
    cluster.set(kind="DaemonSet", name="d", **where)
    assert [pod.node for pod in cluster.plan().started] == ["n2"] * 4


def test_a_pod_for_a_node_that_is_not_there_waits_for_it() -> None:
    cluster = Cluster(1)
    cluster.set(replicas=2, nodeName="n7")
    made = cluster.plan()
    assert made.started == ()
    (pending,) = made.pending
    assert (pending.pods, pending.reason) == (2, "there is no node 'n7'; there are n1")
    cluster.observe(NodeJoined("n7", (), ("10.0.7.0/24",)))
    assert [pod.node for pod in cluster.plan().started] == ["n7", "n7"]


def test_without_nodes_everything_is_pending() -> None:
    cluster = Cluster(0)
    cluster.set(replicas=2)
    assert [pending.reason for pending in cluster.plan().pending] == ["no node has joined"]


def test_the_pods_of_a_node_that_left_start_elsewhere() -> None:
    cluster = Cluster(2)
    cluster.set(replicas=4)
    cluster.set(kind="Pod", name="bare", nodeName="n2")
    cluster.settle()
    cluster.observe(NodeLeft("n2"))

    made = cluster.step()

    assert len(made.stopped) == 3
    assert [pod.node for pod in made.started] == ["n1", "n1"]
    assert [pending.owner for pending in made.pending] == ["Pod/shop/bare"]
    cluster.settle()
    assert {pod.node for pod in cluster.pods()} == {"n1"}


def test_a_pod_in_its_nodes_own_network_has_no_address() -> None:
    cluster = Cluster(1)
    cluster.set(replicas=1, hostNetwork=True)
    (pod,) = cluster.step().started
    assert (pod.addresses, pod.host_network) == ((), True)
    assert cluster.plan() == Plan()


# Addresses


def test_the_lowest_free_address_is_taken_and_a_freed_one_again() -> None:
    cluster = Cluster(1)
    cluster.set(replicas=3)
    cluster.settle()
    by_address = {pod.addresses[0]: pod for pod in cluster.pods()}
    assert sorted(by_address) == ["10.244.1.2", "10.244.1.3", "10.244.1.4"]
    cluster.observe(PodStopped(by_address["10.244.1.3"].uid))
    (pod,) = cluster.plan().started
    assert pod.addresses == ("10.244.1.3", "fd00:1::3")


def test_an_address_is_kept_until_its_pod_is_gone() -> None:
    cluster = Cluster(1)
    cluster.set(kind="Pod", name="old")
    cluster.settle()
    cluster.observe(WorkloadRemoved("Pod", "shop", "old"))
    cluster.set(kind="Pod", name="new")
    made = cluster.plan()
    assert len(made.stopped) == 1
    assert [pod.addresses[0] for pod in made.started] == ["10.244.1.3"]


def test_a_node_without_a_free_address_is_passed_over() -> None:
    cluster = Cluster(0)
    cluster.observe(NodeJoined("n1", (), ("10.0.1.0/29", "10.0.1.16/30")))  # .2 to .6, and .18
    cluster.observe(NodeJoined("n2", (), ("10.0.2.0/30",)))
    cluster.set(replicas=8)
    made = cluster.step()
    assert sorted(pod.addresses[0] for pod in made.started) == [
        "10.0.1.18",
        *(f"10.0.1.{host}" for host in range(2, 7)),
        "10.0.2.2",
    ]
    (pending,) = made.pending
    assert (pending.pods, pending.reason) == (1, "no address is free in the pod CIDRs of n1, n2")


def test_a_pod_that_lost_its_addresses_is_replaced() -> None:
    cluster = Cluster(1)
    cluster.set(replicas=1)
    cluster.settle()
    (pod,) = cluster.pods()
    thief = PodStarted("t" * 8, "shop", "thief", "n1", pod.addresses, (), cluster.now)
    cluster.observe(thief)
    made = cluster.plan()
    assert made.stopped == (PodStopped(pod.uid),)
    assert [event.addresses[0] for event in made.started] == ["10.244.1.3"]


# Refusals


def refusing(cluster: Cluster, how: str = "for-good") -> None:
    made = building.document(replicas=3)
    labels = made["spec"]["template"]["metadata"]["labels"]
    labels["refuse"] = how
    cluster.observe(WorkloadSet(made))


def test_refused_pods_are_tried_again_one_at_a_time_ever_later() -> None:
    cluster = Cluster()
    refusing(cluster)
    assert len(cluster.step().started) == 3
    waits = []
    for _ in range(12):
        made = cluster.plan()
        while not made.started:
            assert made.again_in_ms is not None
            assert [pending.pods for pending in made.pending] == [3]
            cluster.now += made.again_in_ms * 1_000_000 - SECOND
            made = cluster.plan()
        waits.append(
            (
                made.started[0].started_at
                - max(pod.started_at for pod in cluster.state.refused_pods.values())
            )
            // 1_000_000
        )
        assert len(made.started) == 1
        cluster.observe(*made.started)
    assert waits[:4] == [1_000, 2_000, 4_000, 8_000]
    assert waits[-1] == planning.BACKOFF_MS_MAX


def test_a_mended_template_is_tried_at_once() -> None:
    cluster = Cluster()
    refusing(cluster)
    cluster.step()
    cluster.set(replicas=3)
    assert len(cluster.plan().started) == 3


def test_a_pod_that_waits_for_a_number_counts_and_keeps_its_address() -> None:
    cluster = Cluster(1)
    refusing(cluster, "for-now")
    cluster.settle()
    assert len(cluster.state.waiting) == 3
    cluster.set(name="other", replicas=1)
    (pod,) = cluster.step().started
    assert pod.addresses[0] == "10.244.1.5"
    cluster.observe(WorkloadRemoved("Deployment", "shop", "web"))
    assert len(cluster.plan().stopped) == 3


def test_a_plan_is_bounded_and_the_rest_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "EVENTS_MAX", 4)
    cluster = Cluster()
    cluster.set(replicas=5)
    assert len(cluster.step().started) == 4
    assert len(cluster.step().started) == 1
    cluster.observe(WorkloadRemoved("Deployment", "shop", "web"))
    assert len(cluster.step().stopped) == 4
    cluster.settle()
    assert cluster.pods() == []


# Always

OPERATIONS = st.one_of(
    st.tuples(
        st.just("set"),
        st.sampled_from(["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Pod"]),
        st.integers(0, 4),
        st.integers(0, 1),
    ),
    st.tuples(st.just("remove"), st.sampled_from(["Deployment", "StatefulSet", "Pod"])),
    st.tuples(st.just("join"), st.integers(1, 3)),
    st.tuples(st.just("leave"), st.integers(1, 3)),
    st.tuples(st.just("stop"), st.integers(0, 9)),
    st.tuples(st.just("step")),
)


@given(st.lists(OPERATIONS, max_size=15))
def test_whatever_happens_the_plans_come_to_rest_with_the_wanted_pods(
    operations: list[Any],
) -> None:
    cluster = Cluster(1)
    for operation in operations:
        match operation:
            case ("set", kind, replicas, priority):
                cluster.set(kind=kind, name="x", replicas=replicas, priority=priority)
            case ("remove", kind):
                cluster.observe(WorkloadRemoved(kind, "shop", "x"))
            case ("join", number):
                cluster.observe(NodeJoined(f"n{number}", (), (f"10.244.{number}.0/24",)))
            case ("leave", number):
                cluster.observe(NodeLeft(f"n{number}"))
            case ("stop", index):
                for pod in cluster.pods()[index : index + 1]:
                    cluster.observe(PodStopped(pod.uid))
            case _:
                cluster.step()
        held = [address for pod in cluster.pods() for address in pod.addresses]
        assert len(held) == len(set(held))
    cluster.settle()
    nodes = cluster.state.nodes
    for accepted in cluster.state.workloads.values():
        workload = read_workload(accepted.document)
        wanted = len(nodes) if workload.replicas is None else workload.replicas
        pods = cluster.pods(workload.owner)
        assert len(pods) == (wanted if nodes else 0)
        assert {pod.node for pod in pods} <= nodes.keys()
        if workload.kind in ("StatefulSet", "Pod"):
            assert len({pod.name for pod in pods}) == len(pods)
    owners = {read_workload(w.document).owner for w in cluster.state.workloads.values()}
    assert {pod.owner for pod in cluster.pods()} <= owners

import asyncio
import itertools
import json
from dataclasses import replace

import pytest

from command import Tabard
from domains import to_names
from ledgers import DEPLOYMENT, append, bound, replica, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Stream
from tabard.cli.get import read
from tabard.cli.selector import parse
from tabard.cli.tables import VIEWS, chosen, sized
from tabard.cli.views import Reading, allocators, nodes, status
from tabard.cluster.allocators import AllocatorWord
from tabard.cluster.watermarks import Watermark
from tabard.events import ledger as events
from tabard.events.status import AllocatorStatus, NodeStatus
from tabard.ledger.state import State


def reading(*more: events.LedgerEvent, **watermarks: int) -> Reading:
    """The small ledger and `more`, with what nodes said."""

    async def build() -> Reading:
        bus = MemoryBus()
        await append(bus, *small(), *more)
        for node, sequence in watermarks.items():
            await say(bus, node, sequence, endpoints=1, map_writes=(("hosts", 2),))
        return await read(bus, State())

    return asyncio.run(build())


def refused_pod(uid: str, *, retry: bool) -> events.PodRefused:
    return events.PodRefused(
        uid, "shop", uid, "no number is free", retry, "n1", (), (), 1, "default", (), "", False
    )


def test_a_pod_is_enforced_once_its_node_has_passed_its_binding() -> None:
    (pod,) = VIEWS["pods"].rows(reading(n1=6))
    assert (pod["name"], pod["identity"], pod["status"]) == ("web-0", 256, "Bound")
    (pod,) = VIEWS["pods"].rows(reading(n1=7))
    assert pod["status"] == "Enforced"
    assert pod["sequence"] == 7


def test_refused_pods_are_shown_with_their_reason() -> None:
    found = reading(refused_pod("a", retry=True), refused_pod("b", retry=False))
    rows = {row["name"]: row for row in VIEWS["pods"].rows(found)}
    assert rows["a"]["status"] == "Waiting"
    assert rows["b"]["status"] == "Refused"
    assert rows["b"]["reason"] == "no number is free"
    assert rows["b"]["identity"] is None


def test_identities_are_used_idle_or_quarantined() -> None:
    found = reading(
        events.IdentityAllocated(257, ("k8s:app=x",)),
        events.IdentityAllocated(258, ("k8s:app=y",)),
        events.IdentityRetired(258),
        events.IdentityAllocated((1 << 24) + 1, ("cidr:10.0.0.0/8",)),
    )
    rows = VIEWS["identities"].rows(found)
    assert [(row["identity"], row["status"], row["scope"]) for row in rows] == [
        (256, "Used", "cluster"),
        (257, "Idle", "cluster"),
        (258, "Quarantined", "cluster"),
        ((1 << 24) + 1, "Idle", "cidr"),
    ]


def test_identities_are_readable_in_a_table_and_whole_in_wide_and_json(
    tabard: Tabard, store: MemoryStore
) -> None:
    own = ("k8s:app=web", "port:http=80/TCP")
    derived = ("k8s:io.cilium.k8s.policy.cluster=a", "k8s:io.kubernetes.pod.namespace=data")
    more = (
        events.IdentityAllocated(257, (*own, *derived)),
        events.IdentityAllocated((1 << 24) + 1, ("cidr:10.0.0.0/8",)),
    )
    asyncio.run(append(MemoryBus(store), *small(), *more))
    head, *lines = [line.split() for line in tabard("get", "identities").stdout.splitlines()]
    assert head == ["IDENTITY", "NAMESPACE", "STATUS", "USERS", "LABELS"]
    assert lines[1:] == [
        ["257", "data", "Idle", "0", "app=web,port:http=80/TCP"],
        [str((1 << 24) + 1), "-", "Idle", "0", "10.0.0.0/8"],
    ]
    assert ",".join((*own, *derived)) in tabard("get", "id", "-o", "wide").stdout
    items = json.loads(tabard("get", "id", "-n", "data", "-o", "json").stdout)["items"]
    assert [(row["identity"], row["labels"]) for row in items] == [(257, [*own, *derived])]


def test_a_node_that_said_nothing_has_no_lag_and_one_that_did_has() -> None:
    n1, n2 = VIEWS["nodes"].rows(reading(n1=5))
    assert (n1["watermark"], n1["lag"], n1["endpoints"]) == (5, 3, 1)
    assert n1["map_writes"] == {"hosts": 2}
    assert (n2["watermark"], n2["lag"], n2["error"]) == (None, None, None)


def test_nodes_are_shown_and_chosen_by_their_labels() -> None:
    labels = (("kubernetes.io/hostname", "n3"), ("role", "edge"))
    found = reading(events.NodeAdded("n3", ("198.18.0.13",), (), labels))
    view = VIEWS["nodes"]
    rows = view.rows(found)
    assert [row["labels"] for row in rows[1:]] == [{"kubernetes.io/hostname": "n2"}, dict(labels)]

    def named(selector: str) -> list[str]:
        return [row["name"] for row in chosen(rows, view, found.state, "", parse(selector))]

    assert named("role=edge") == ["n3"]
    assert named("kubernetes.io/hostname!=n2") == ["n1", "n3"]


def test_a_nodes_lag_is_told_in_events_and_in_time() -> None:
    second = 1_000_000_000
    store = MemoryStore(clock=itertools.count(0, second).__next__)  # event N at second N - 1

    async def build() -> Reading:
        bus = MemoryBus(store)
        await append(bus, *small())
        store.clock = lambda: 7 * second
        await say(bus, "n1", 8)
        await say(bus, "n2", 5)
        store.clock = lambda: 20 * second
        await say(bus, "n1", 8)
        return await read(bus, State())

    n1, n2 = VIEWS["nodes"].rows(asyncio.run(build()))
    assert (n1["status"], n1["lag"], n1["lag_ms"]) == ("Current", 0, 0)
    # Event 6 came at second 5, and it is second 20.
    assert (n2["status"], n2["lag"], n2["lag_ms"]) == ("Lagging", 3, 15_000)


def test_a_nodes_status_is_what_an_operator_must_know_first() -> None:
    def status_of(word: NodeStatus | None, age_s: float) -> str:
        now = 100_000_000_000
        words = {} if word is None else {"n1": Watermark(word, now - int(age_s * 1e9))}
        found = replace(reading(), words=words, now=now)
        return str(VIEWS["nodes"].rows(found)[0]["status"])

    good = NodeStatus("n1", 8, "memory", 0, ())
    assert status_of(None, 0) == "Unknown"
    assert status_of(good, 15) == "Current"
    assert status_of(good, 15.1) == "Silent"
    assert status_of(replace(good, sequence=7), 1) == "Lagging"
    assert status_of(replace(good, error="a map is full"), 1) == "Failing"
    assert status_of(replace(good, error="a map is full"), 16) == "Silent"
    assert status_of(replace(good, stopped=True), 16) == "Stopped"


def test_what_a_node_knows_grows_old_also_when_its_agent_is_gone() -> None:
    second = 1_000_000_000
    good = NodeStatus(
        "n1", 8, "memory", 0, (), fresh_at=100 * second, stale_after_ms=30_000, deny_after_ms=60_000
    )

    def shown(word: NodeStatus, said_at_s: int, now_s: int) -> tuple[int | None, bool]:
        found = replace(
            reading(), words={"n1": Watermark(word, said_at_s * second)}, now=now_s * second
        )
        row = VIEWS["nodes"].rows(found)[0]
        return row["stale_since"], row["denies_new"]

    assert shown(good, 101, 102) == (None, False)
    assert shown(good, 130, 131) == (None, False), "it speaks, and would say so"
    assert shown(good, 101, 131) == (130 * second, False)
    assert shown(good, 101, 161) == (130 * second, True)
    assert shown(replace(good, stopped=True), 120, 131) == (130 * second, False)
    assert shown(replace(good, stale_since=130 * second), 140, 141) == (130 * second, False)
    assert shown(replace(good, fresh_at=0), 101, 900) == (None, False)


def test_a_lost_node_is_told_from_a_silent_one_and_holds_back_no_watermark() -> None:
    found = reading(events.NodeLost("n2", 5), n1=9, n2=5)
    n1, n2 = rows = nodes(found)
    assert (n1["status"], n1["reason"]) == ("Current", "")
    assert (n2["status"], n2["reason"]) == ("Lost", "lost at LEDGER/9, where it was at 5")
    assert status(found, rows)["enforced"] == 9


def test_a_refused_node_is_shown_with_what_it_claims_and_why_not() -> None:
    claims = ("10.244.1.128/25",)
    found = reading(events.NodeRefused("n3", ("198.18.0.13",), claims, (), "it is node n1's"))
    *_, n3 = rows = nodes(found)
    assert (n3["status"], n3["pod_cidrs"]) == ("Refused", list(claims))
    assert n3["reason"] == "it is node n1's"
    assert status(reading(n1=8, n2=8), rows)["enforced"] is None, "those that joined count"
    known = nodes(reading(events.NodeRefused("n2", (), claims, (), "it is node n1's")))[1]
    assert known["status"] == "Unknown"
    assert known["reason"] == "what it wants to be now is refused: it is node n1's"


def test_a_pod_that_is_to_be_another_shows_both_identities() -> None:
    found = reading(events.RelabelPlanned("uid-web-0", 300, (("app", "x"),)))
    view = VIEWS["pods"]
    (pod,) = view.rows(found)
    assert pod["labels"] == {"app": "web"}
    assert pod["planned"]["labels"] == {"app": "x"}
    assert (pod["planned"]["identity"], pod["planned"]["sequence"]) == (300, 9)
    (shown,) = (column.shown(pod, False) for column in view.columns if column.key == "identity")
    assert shown == "256→300"


def test_numbers_that_a_lost_node_may_mistake_are_shown() -> None:
    retired = (events.IdentityAllocated(300, ("k8s:x=y",)), events.IdentityRetired(300))
    found = reading(*retired, events.NodeLost("n2", 5), events.IdentityReleased(300))
    assert VIEWS["identities"].rows(found)[-1] | {"namespace": None} == {
        "identity": 300,
        "namespace": None,
        "status": "Doubtful",
        "scope": "cluster",
        "labels": [],
        "users": 0,
        "sequence": 10,
    }


def test_streams_are_shown_with_what_they_keep(tabard: Tabard, store: MemoryStore) -> None:
    async def build() -> None:
        await append(MemoryBus(store), *small())
        for n in (5, 7, 8):
            await say(MemoryBus(store), "n1", n)

    asyncio.run(build())
    head, *lines = [line.split() for line in tabard("get", "streams").stdout.splitlines()]
    assert head[:4] == ["NAME", "FIRST", "LAST", "MESSAGES"]
    rows = {line[0]: line for line in lines}
    assert list(rows) == ["OBSERVED", "LEDGER", "STATUS", "FLOWS"]
    assert rows["LEDGER"][1:4] == ["1", "8", "8"]
    assert rows["STATUS"][1:4] == ["3", "3", "1"]
    assert " ".join(rows["STATUS"][-3:]) == "last per subject"
    found = json.loads(tabard("get", "streams", "-o", "json").stdout)
    assert (found["sequence"], [row["holes"] for row in found["items"]]) == (8, [0, 0, 0, 0])
    store.forget(Stream.LEDGER, 4)
    found = json.loads(tabard("get", "streams", "-o", "json").stdout)
    assert [row["holes"] for row in found["items"]] == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (16 << 30, "16 GiB"), (3 << 50, "3072 TiB")],
)
def test_sizes_are_readable(count: int, text: str) -> None:
    assert sized(count) == text


def test_a_policy_counts_the_pods_that_it_selects() -> None:
    (policy,) = VIEWS["policies"].rows(reading())
    assert policy["status"] == "Accepted"
    assert (policy["isolates"], policy["rules"], policy["pods"]) == (["ingress"], 0, 1)


def test_a_refused_policy_is_told_apart_from_one_that_stays_in_force() -> None:
    found = reading(
        events.PolicyRefused("NetworkPolicy", "shop", "web", "spec.x: unknown", "b.yaml:1"),
        events.PolicyRefused("NetworkPolicy", "shop", "new", "spec.y: unknown", "b.yaml:9"),
    )
    rows = {row["name"]: row for row in VIEWS["policies"].rows(found)}
    assert rows["web"]["status"] == "Outdated"
    assert rows["web"]["pods"] == 1
    assert rows["new"]["status"] == "Refused"
    assert rows["new"]["pods"] is None


def test_a_workload_shows_what_it_wants_and_what_it_has() -> None:
    (workload,) = VIEWS["workloads"].rows(reading())
    assert (workload["desired"], workload["bound"]) == (2, 1)


def test_a_daemon_set_wants_a_pod_on_every_node() -> None:
    document = {
        **DEPLOYMENT,
        "kind": "DaemonSet",
        "spec": {key: value for key, value in DEPLOYMENT["spec"].items() if key != "replicas"},
    }
    accepted = events.WorkloadAccepted("DaemonSet", "shop", "web", document, "")
    rows = {row["kind"]: row for row in VIEWS["workloads"].rows(reading(accepted))}
    assert rows["DaemonSet"]["desired"] == 2


def test_bindings_name_the_holder_of_an_address() -> None:
    newer = bound("web-1", address="10.244.1.2")
    (binding,) = VIEWS["bindings"].rows(reading(newer))
    assert (binding["address"], binding["name"]) == ("10.244.1.2", "web-1")


def test_names_show_what_stands_for_them_and_who_asks() -> None:
    accepted = [
        events.PolicyAccepted("CiliumNetworkPolicy", "shop", name, to_names(pattern, name=name), "")
        for name, pattern in (("a", "*.example.com"), ("b", "other.org"))
    ]
    found = reading(
        *accepted,
        events.IdentityAllocated(1 << 24, ("cidr:203.0.113.7/32",)),
        events.NameResolved("api.example.com", (("203.0.113.7", 9), ("2001:db8::7", 5))),
    )
    assert VIEWS["names"].rows(found) == [
        {
            "name": "api.example.com",
            "addresses": [
                {"address": "2001:db8::7", "identity": None, "expires_at": 5},
                {"address": "203.0.113.7", "identity": 1 << 24, "expires_at": 9},
            ],
            "expires_at": 9,
            "policies": ["CiliumNetworkPolicy/shop/a"],
        }
    ]


def test_rows_are_chosen_by_namespace_and_labels() -> None:
    found = reading(bound("db-0", namespace="data", address="10.244.2.2", labels=(("app", "db"),)))

    def names(kind: str, namespace: str = "", selector: str = "") -> list[object]:
        view = VIEWS[kind]
        rows = chosen(view.rows(found), view, found.state, namespace, parse(selector))
        return [row[view.name[-1]] for row in rows]

    assert names("pods") == ["db-0", "web-0"]
    assert names("pods", "data") == ["db-0"]
    assert names("pods", selector="app=web") == ["web-0"]
    assert names("bindings", selector="app=db") == ["10.244.2.2"]
    assert names("identities", selector="io.kubernetes.pod.namespace=shop") == [256]
    assert names("workloads", selector="tier=front") == ["web"]
    assert names("identities", "shop") == [256]
    assert names("identities", "data") == []


def test_every_kind_is_json_with_the_keys_that_its_table_shows() -> None:
    resolved = events.NameResolved("a.io", (("192.0.2.7", 5),))
    streams = (asyncio.run(MemoryBus().info(Stream.LEDGER)),)
    found = replace(reading(resolved, n1=7), streams=streams)
    for view in VIEWS.values():
        (row, *_) = view.rows(found)
        json.dumps(row)
        assert {column.key for column in view.columns} <= row.keys()
        assert set(view.name) <= row.keys()


def test_an_allocators_status_says_what_it_does_and_whether_it_still_speaks() -> None:
    second = 1_000_000_000
    now = 1_000 * second

    def told(age_s: float, word: AllocatorStatus) -> list[str]:
        words = {word.name: AllocatorWord(word, now - round(age_s * second))}
        found = replace(reading(), now=now, allocators=words)
        return [row["status"] for row in allocators(found)]

    leader = replica("h-1", "leading")
    assert told(1, leader) == ["Leading"]
    assert told(6, leader) == ["Silent"]
    assert told(1, replace(leader, error="OBSERVED/9 (not msgpack)")) == ["Failing"]
    assert told(1, replace(leader, holder="h-0")) == ["Fenced"]
    assert told(1, replica("h-2")) == ["Following"]
    # One that was asked to stop is not silent, and in the end not spoken of.
    assert told(60, replica("h-2", "stopped")) == ["Stopped"]
    assert told(601, replica("h-2", "stopped")) == []


def test_an_allocators_lag_is_behind_both_heads() -> None:
    words = {"h-2": AllocatorWord(replica("h-2", sequence=5, cursor=40), 7)}
    found = replace(reading(), observed_head=100, now=7, allocators=words)
    (row,) = allocators(found)
    assert (row["lag"], row["observed_lag"], row["age_ms"]) == (3, 60, 0)


def test_status_counts_lag_and_takes_the_lowest_watermark() -> None:
    behind, both = reading(n1=8), reading(n1=8, n2=6)
    assert status(behind, nodes(behind))["enforced"] is None
    found = status(both, nodes(both))
    assert found["enforced"] == 6
    assert found["ledger"] == {"sequence": 8, "stored_at": 8, "head": 8, "digest": ""}
    assert found["allocator"] == {"epoch": 1, "holder": "h-1"}
    assert found["enforcement"] == "default"
    assert found["pods"] == {"bound": 1, "waiting": 0, "refused": 0}

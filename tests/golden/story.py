"""Ledgers of made-up stories: the allocator's own decisions, on a clock of the story's."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, get_args

import yaml
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from deciding import GRACE_MS, TICK, Teller, namespace, relabelled, started, stopped
from domains import to_names
from scenarios import stories
from strategies import NAMESPACES, labels, named_ports, specs
from tabard.events.ledger import Enforcement, SettingsAdopted
from tabard.events.observed import (
    NameAnswered,
    NamespaceRemoved,
    NodeJoined,
    NodeLeft,
    PodStarted,
    PolicyRemoved,
    PolicySet,
    QuarantineRequested,
    TrimRequested,
    WorkloadRemoved,
    WorkloadSet,
)
from tabard.policy.names import ADDRESSES_OF_NAME_MAX
from world import network_policy

FIXED = SettingsAdopted(
    cluster="golden",
    cluster_id=3,
    cluster_bits=8,
    include=(),
    exclude=("noise",),
    fixed=((200, ("k8s:app=fixed",)),),
    retire_grace_ms=GRACE_MS,
)


def every_event() -> Teller:
    """Each thing that can happen, at least once, told by hand."""
    teller = Teller(FIXED, numbers=12)
    web, db = {"app": "web", "noise": "1"}, {"app": "db"}
    ports = (("http", 8080, "TCP"), ("dns", 53, "UDP"))
    teller.tell(
        *(
            NodeJoined(f"n{n}", (f"192.168.9.{n}", f"fd99::{n}"), (f"10.244.{n}.0/24",))
            for n in (1, 2, 3)
        ),
        NodeLeft("n3"),
        namespace("shop", team="red"),
        namespace("bank"),
        _workload("web", 2),
        _workload("old", 1),
        started("w1", web, "10.244.1.1", "fd00::1", namespace="shop", at=1, ports=ports),
        started("w2", web, "10.244.2.1", namespace="shop", node="n2", at=2, ports=ports),
        started("d1", db, "10.244.2.2", namespace="bank", node="n2", at=3, owner="Pod/bank/d1"),
        started("host", {}, "192.168.9.1", namespace="bank", at=3, host_network=True),
        started("fixed", {"app": "fixed"}, "10.244.1.9", namespace="bank", at=3),
        _policy(
            "in", "shop", ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": "http"}]}]
        ),
        _policy(
            "out",
            "shop",
            policyTypes=["Egress"],
            egress=[
                {
                    "to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.244.2.0/24"]}}],
                    "ports": [{"protocol": "TCP", "port": 1000, "endPort": 9000}],
                },
                {"to": [{"ipBlock": {"cidr": "2001:db8::/32"}}]},
                {"to": [{"namespaceSelector": {}}], "ports": [{"protocol": "UDP", "port": "dns"}]},
            ],
        ),
        _policy("in", "bank", ingress=[{"from": [_everywhere(team="red")]}]),
        _policy("wrong", "bank", ingress=[{"from": [{"oops": {}}]}]),
        _policy("brief", "bank", ingress=[{"from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}]),
        relabelled("w2", app="api", tier="b"),
        namespace("shop", team="blue"),
        stopped("never-started"),
        started("never-started", web, namespace="shop"),
        # An address goes to a younger pod, and the late stop of the older one takes nothing away.
        started("d2", {"app": "cache"}, "10.244.2.2", namespace="bank", node="n2", at=9),
        stopped("d1"),
        started("old", db, "10.244.2.2", namespace="bank", at=0),
        started("no name", {"app": "bad uid"}),
        QuarantineRequested("LEDGER", 3, "vouched for by hand"),
        PolicyRemoved("NetworkPolicy", "bank", "brief"),
        WorkloadRemoved("Deployment", "shop", "old"),
        TICK,
        TICK,
        # Numbers run out, one waits, and comes in when one is free.
        *(started(f"x{n}", {"app": f"x{n}"}, f"10.244.1.{20 + n}", at=10) for n in range(9)),
        stopped("x0"),
        TICK,
        TICK,
    )
    teller.claim(2)
    teller.tell(
        namespace("shop", team="red"),
        NamespaceRemoved("bank"),
        _policy("out", "shop", policyTypes=["Egress"]),
        TICK,
        TICK,
        started("late", {"app": "late"}, "10.244.1.30", namespace="shop", at=20),
    )
    return teller


def domain_names() -> Teller:
    """Names that policies ask for: resolved, renewed, crowded out, over, and gone with a policy."""
    teller = Teller(replace(FIXED, names_kept_ms=3 * GRACE_MS), numbers=100)
    many = tuple(f"198.18.0.{n}" for n in range(ADDRESSES_OF_NAME_MAX))

    def said(name: str, *addresses: str, ttl_s: int = 1) -> NameAnswered:
        return NameAnswered("n1", name, addresses, ttl_s)

    teller.tell(
        *(NodeJoined(f"n{n}", (f"192.168.9.{n}",), (f"10.244.{n}.0/24",)) for n in (1, 2)),
        started("dns", {"k8s-app": "kube-dns"}, "10.244.2.53", namespace="kube-system", node="n2"),
        started("web", {"app": "web"}, "10.244.1.1", "fd00::1", namespace="shop"),
        started("db", {"app": "db"}, "10.244.2.2", namespace="shop", node="n2"),
        _policy("closed", "kube-system", ingress=[{"from": [_everywhere(team="red")]}]),
        said("early.example.com", "203.0.113.1"),
        PolicySet(
            to_names("*.example.com", "api.io", labels={"app": "web"}, port=80), "names.yaml:1"
        ),
        PolicySet(to_names("api.*", name="more", lookups=None, port=80), "names.yaml:9"),
        said("shop.example.com", "203.0.113.9", "2001:db8::9"),
        said("api.io", "203.0.113.9", "203.0.113.200", ttl_s=600),
        said("Wrong.io", "203.0.113.77"),
        said("inside.example.com", "10.244.1.1", "192.168.9.1", "127.0.0.1"),
        said("many.example.com", *many),
        said("many.example.com", *many[:3], "203.0.113.99"),
        TICK,
        said("shop.example.com", "203.0.113.9"),
        TICK,
        said("shop.example.com", "203.0.113.9"),
        TICK,
        TICK,
        PolicyRemoved("CiliumNetworkPolicy", "shop", "names"),
        TICK,
        PolicyRemoved("CiliumNetworkPolicy", "shop", "more"),
        TICK,
        TICK,
        PolicySet(to_names("*.example.com", labels={"app": "web"}, port=80), "names.yaml:1"),
        said("other.example.com", "203.0.113.200", "2001:db8::9"),
    )
    return teller


def a_trim() -> Teller:
    """All that can happen, and that the ledger is to begin later, twice; once where it is not."""
    teller = every_event()
    teller.tell(
        TrimRequested(40, bytes(range(16)), "LEDGER-1-39.jsonl.gz", bytes(range(32))),
        started("z", {"app": "db"}, "10.244.1.2", namespace="shop"),
        TrimRequested(60, bytes(16), "LEDGER-40-59.jsonl.gz", bytes(32)),
        TrimRequested(1 << 40, bytes(16), "of-what-is-not-there.gz", bytes(32)),
        relabelled("z", app="other"),
        TICK,
    )
    return teller


def closed_loops() -> Teller:
    """Relabels that wait for nodes, nodes that are lost, return and are refused, numbers that run
    out, suffice again, and may still be taken for what they were."""
    teller = Teller(FIXED, numbers=6)

    places = count(1)

    def web(uid: str, node: int, **labels: str) -> PodStarted:
        at = next(places)
        address = f"10.244.{node}.{at}"
        return started(uid, labels, address, namespace="shop", node=f"n{node}", at=at)

    def node(number: int, cidr: str) -> NodeJoined:
        return NodeJoined(f"n{number}", (f"192.168.9.{number}",), (cidr,))

    inside = [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]
    teller.tell(
        *(node(number, f"10.244.{number}.0/24") for number in (1, 2, 3)),
        node(4, "10.244.3.128/25"),
        namespace("shop", team="red"),
        web("a", 1, app="web"),
        web("b", 2, app="db"),
        web("c", 3, app="web"),
        _policy("in", "shop", ingress=inside),
        _policy("out", "shop", egress=[{"to": [{"ipBlock": {"cidr": "8.8.8.0/24"}}]}]),
        relabelled("a", app="api"),
        relabelled("b", app="mid"),
        relabelled("b", app="api"),
        TICK,
        relabelled("c", app="late"),
    )
    teller.tick(after_ms=4_000, silent=["n3"])  # it is not waited for any longer
    teller.tick(after_ms=90_000, silent=["n3"])  # it is lost
    teller.tell(stopped("c"), web("d", 1, app="web"))
    for _ in range(3):  # what c was is released, and doubtful
        teller.tick(after_ms=GRACE_MS, silent=["n3"])
    teller.claim(2)
    teller.tell(namespace("shop", team="blue"))
    teller.tick(silent=["n2", "n3"])
    teller.tell(*(web(f"x{number}", 1, app=f"x{number}") for number in range(6)))
    for _ in range(4):
        teller.tick(after_ms=GRACE_MS, silent=["n3"])  # numbers run out
    teller.tell(*(stopped(f"x{number}") for number in range(6)))
    for _ in range(4):
        teller.tick(after_ms=GRACE_MS)  # n3 is back, and numbers suffice
    teller.tell(NodeLeft("n3"), TICK, node(5, "10.244.0.0/16"), TICK)
    teller.tick(after_ms=90_000, silent=["n4"])
    teller.tell(PolicyRemoved("NetworkPolicy", "shop", "out"))
    for _ in range(3):  # the number of its CIDR is doubtful
        teller.tick(after_ms=GRACE_MS, silent=["n4"])
    teller.tell(relabelled("a", app="last"))
    teller.tell(*(web(f"y{number}", 1, app=f"y{number}") for number in range(6)))
    teller.tick(silent=["n2", "n4"])
    return teller


def every_language() -> Teller:
    """Policies of every kind and what they refer to, nodes by label, each enforcement in turn."""
    teller = Teller(FIXED, numbers=5)
    http = (("http", 8080, "TCP"),)

    def node(number: int, role: str = "") -> NodeJoined:
        labels = (("role", role),) if role else ()
        addresses = (f"192.168.9.{number}", f"fd99::{number}")
        return NodeJoined(f"n{number}", addresses, (f"10.244.{number}.0/24",), labels)

    teller.tell(
        *(node(1, "edge"), node(2, "core"), node(3)),
        started("dns", {"k8s-app": "kube-dns"}, "10.244.2.53", namespace="kube-system", node="n2"),
        started("web", {"app": "web"}, "10.244.1.1", "fd00::1", namespace="shop", ports=http),
        started("db", {"app": "db"}, "10.244.2.2", namespace="shop", node="n2"),
        started("spy", {"app": "spy"}, "10.244.3.1", namespace="bank", node="n3", ports=http),
        *_written(),
        node(3, "edge"),
        *_written("203.0.113.0/24, ", "203.0.113.0/28, "),
        *_written("8.8.8.8", "8.8.8.9"),
        stopped("spy"),
        TICK,
        TICK,
        started("job", {"app": "job"}, "10.244.3.1", namespace="bank", node="n3", at=9),
    )
    for epoch, enforcement in enumerate(get_args(Enforcement)[::-1], 2):
        teller.claim(epoch, replace(FIXED, enforcement=enforcement))
        teller.tell(namespace("shop", turn=enforcement))
    teller.tell(
        node(1, "core"),
        PolicyRemoved("Service", "shop", "outer"),
        PolicyRemoved("ClusterNetworkPolicy", "", "last"),
        PolicyRemoved("CiliumCIDRGroup", "", "office"),
        TICK,
        TICK,
        started("late", {"app": "late"}, "10.244.3.2", namespace="bank", node="n3", at=20),
    )
    return teller


def _written(before: str = "", after: str = "") -> Iterator[PolicySet]:
    """The documents of languages.yaml: all of them, or those in which a text is another now."""
    parts = (Path(__file__).parent / "languages.yaml").read_text().split("---\n")
    for number, part in enumerate(parts, 1):
        if before in part:
            document = yaml.safe_load(part.replace(before, after) if before else part)
            yield PolicySet(document, f"languages.yaml:{number}")


def told_by_chance(number: int) -> Teller:
    """Random stories one after the other, with random policies over them."""
    teller = Teller()
    teller.tell(*(NodeJoined(f"n{n}", (f"192.168.9.{n}",), (f"10.{n}.0.0/16",)) for n in (1, 2)))
    chapters: list[list[Any]] = []

    @seed(number)
    @settings(max_examples=12, database=None, deadline=None, phases=[Phase.generate])
    @given(story=stories, more=st.lists(_happenings, min_size=8, max_size=12))
    def collect(story: list[Any], more: list[Any]) -> None:
        chapters.append([*story, *more])

    collect()
    for chapter, story in enumerate(chapters):
        teller.tell(*_in(chapter, story))
    return teller


def _in(chapter: int, story: list[Any]) -> Iterator[Any]:
    """Pods have a life of their own in each chapter."""
    for event in story:
        is_pods = hasattr(event, "uid")
        yield replace(event, uid=f"{event.uid}-{chapter}") if is_pods else event


def _policy(name: str, namespace: str, **spec: Any) -> PolicySet:
    return PolicySet(network_policy(name, namespace, **spec), f"story.yaml:{len(name)}")


def _everywhere(**labels: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": labels}}


def _workload(name: str, replicas: int) -> WorkloadSet:
    metadata = {"name": name, "namespace": "shop"}
    return WorkloadSet({"kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}})


_spaces = st.sampled_from(NAMESPACES)
_happenings = st.one_of(
    st.builds(
        lambda name, space, spec: _policy(name, space, **spec),
        st.sampled_from("pqr"),
        _spaces,
        specs,
    ),
    st.builds(
        lambda number, labels, ports, space: started(
            f"c{number}",
            labels,
            f"10.{number % 2 + 1}.1.{number}",
            namespace=space,
            node=f"n{number % 2 + 1}",
            at=number,
            ports=ports,
        ),
        st.integers(1, 9),
        labels,
        named_ports,
        _spaces,
    ),
    st.builds(lambda name, labels: namespace(name, **labels), _spaces, labels),
    st.builds(lambda number, labels: relabelled(f"c{number}", **labels), st.integers(1, 9), labels),
)

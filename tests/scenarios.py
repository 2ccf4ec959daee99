"""Random stories of observed events, from alphabets so small that events meet each other."""

from typing import Any

from hypothesis import strategies as st

from deciding import joined, namespace, relabelled, started, stopped
from domains import to_names
from tabard.events.observed import (
    NameAnswered,
    NamespaceRemoved,
    NodeJoined,
    NodeLeft,
    PolicyRemoved,
    PolicySet,
    QuarantineRequested,
    TrimRequested,
    WorkloadRemoved,
    WorkloadSet,
)
from world import network_policy

_uids = st.sampled_from([f"pod-{number}" for number in range(8)])
_namespaces = st.sampled_from(["shop", "bank"])
_labels = st.dictionaries(
    st.sampled_from(["app", "tier", "pod-template-hash"]), st.sampled_from("ab"), max_size=3
)
_addresses = st.lists(
    st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2"]),
    unique=True,
    max_size=2,
)
_nodes = st.sampled_from(["n1", "n2"])
_names = st.sampled_from(["p", "q"])
_outside = st.lists(
    st.sampled_from(["10.0.0.1", "10.0.0.9", "203.0.113.7", "2001:db8::7"]), unique=True
)
_cidrs = st.lists(st.sampled_from(["10.0.0.0/8", "10.0.0.1/32", "fd00::/8"]), max_size=2)


@st.composite
def _starts(draw: st.DrawFn) -> Any:
    return started(
        draw(_uids),
        draw(_labels),
        *draw(_addresses),
        namespace=draw(_namespaces),
        node=draw(_nodes),
        at=draw(st.integers(0, 3)),
        host_network=draw(st.sampled_from([False, False, False, True])),
    )


def _policy(name: str, cidrs: list[str], wrong: bool) -> PolicySet:
    peers = [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]
    document = network_policy(name, "shop", ingress=[{"from": peers}] if peers else [])
    if wrong:
        document["spec"]["oops"] = 1
    return PolicySet(document, "story")


def _answer(name: str, addresses: list[str], ttl_s: int) -> NameAnswered:
    return NameAnswered("n1", name, tuple(addresses), ttl_s)


def _labelled_node(name: str, addresses: list[str], role: str) -> NodeJoined:
    return NodeJoined(name, tuple(addresses), (), (("role", role),))


def _workload(name: str, replicas: int) -> WorkloadSet:
    metadata = {"name": name, "namespace": "shop"}
    return WorkloadSet({"kind": "Deployment", "metadata": metadata, "spec": {"n": replicas}})


well_formed = st.one_of(
    _starts(),
    _starts(),
    st.builds(lambda uid, labels: relabelled(uid, **labels), _uids, _labels),
    st.builds(stopped, _uids),
    st.builds(lambda name, labels: namespace(name, **labels), _namespaces, _labels),
    st.builds(NamespaceRemoved, _namespaces),
    st.builds(_policy, _names, _cidrs, st.booleans()),
    st.builds(PolicyRemoved, st.just("NetworkPolicy"), st.just("shop"), _names),
    st.builds(
        lambda name, asked: PolicySet(to_names(asked, name=name), "story"),
        _names,
        st.sampled_from(["a.io", "*.io"]),
    ),
    st.builds(PolicyRemoved, st.just("CiliumNetworkPolicy"), st.just("shop"), _names),
    st.builds(_answer, st.sampled_from(["a.io", "b.io"]), _outside, st.integers(0, 1)),
    st.builds(joined, _nodes),
    st.builds(_labelled_node, _nodes, _addresses, st.sampled_from("ab")),
    st.builds(NodeLeft, _nodes),
    st.builds(_workload, _names, st.integers(0, 1)),
    st.builds(WorkloadRemoved, st.just("Deployment"), st.just("shop"), _names),
)
"""Any observed event that is not rejected for its form."""

malformed = st.sampled_from(
    [
        started("no uid"),
        relabelled("pod-1", app="no value!"),
        namespace("Shop"),
        NodeLeft(""),
        WorkloadSet({}),
        QuarantineRequested("STATUS", 1, "no"),
        QuarantineRequested("OBSERVED", 1, "maybe"),
        QuarantineRequested("LEDGER", 1, "maybe"),
        TrimRequested(0, bytes(16), "a.gz", bytes(32)),
        TrimRequested(1, bytes(15), "a.gz", bytes(32)),
        TrimRequested(1 << 40, bytes(16), "a.gz", bytes(32)),
    ]
)

_told = st.one_of(well_formed, well_formed, well_formed, malformed, st.just("tick"))
# Left alone, most lists are too short for their events to meet.
stories = st.one_of(st.lists(_told, max_size=10), st.lists(_told, min_size=30, max_size=60))

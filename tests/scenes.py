"""Random histories of scenes, from alphabets so small that things meet and come back.

SEQUENCES_EXAMPLES in the environment says how many of each kind a test takes (default 15).
"""

import os
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from languages import cilium, tiered
from sequences import Key, Scene
from strategies import CIDRS, NAMESPACES, labels, named_ports, specs
from tabard.events.observed import (
    NamespaceLabelsSet,
    NodeJoined,
    PodStarted,
    PolicySet,
    WorkloadSet,
)
from world import cidr_group, cilium_policy, network_policy, tiered_policy

EXAMPLES = int(os.environ.get("SEQUENCES_EXAMPLES", "15"))
examples = settings(max_examples=EXAMPLES, deadline=None, print_blob=True)
SLOTS = 5
NODES = ("n1", "n2")


@st.composite
def _scenes(draw: st.DrawFn) -> Scene:
    scene: dict[Key, Any] = {}
    for n, node in enumerate(NODES, 1):
        if draw(st.sampled_from([True, True, True, False])):
            cidrs = (f"10.244.{n}.0/24", f"fd10:f4:{n}::/48")
            role = draw(st.sampled_from([(), (("role", "edge"),), (("role", "core"),)]))
            scene["node", node] = NodeJoined(node, (f"192.168.9.{n}",), cidrs, role)
    for name in draw(st.sets(st.sampled_from(NAMESPACES))):
        scene["namespace", name] = NamespaceLabelsSet(name, _pairs(draw(labels)))
    # Addresses go from pod to pod between scenes, but no two pods of one scene share any.
    moved = draw(st.sampled_from([0, 0, 0, 1, 2]))
    for slot in draw(st.sets(st.integers(0, SLOTS - 1))):
        place = (slot + moved) % SLOTS
        scene["pod", f"p{slot}"] = PodStarted(
            uid="",
            namespace=draw(st.sampled_from(NAMESPACES)),
            name=f"p{slot}",
            node=NODES[slot % 2],
            addresses=(f"10.244.1.{place}", f"fd10:f4:1::{place}"),
            labels=_pairs(draw(labels)),
            started_at=0,
            ports=draw(named_ports),
            host_network=draw(st.sampled_from([False] * 9 + [True])),
        )
    for namespace in draw(st.sets(st.sampled_from(NAMESPACES))):
        for name in draw(st.sets(st.sampled_from("pq"), min_size=1)):
            document = network_policy(name, namespace, **draw(specs))
            scene["policy", "NetworkPolicy", namespace, name] = PolicySet(document, "")
    for document in draw(st.lists(_others, max_size=3)):
        metadata = document["metadata"]
        key = document["kind"], metadata.get("namespace", ""), metadata["name"]
        scene["policy", *key] = PolicySet(document, "")
    if draw(st.booleans()):
        document = {"kind": "Pod", "metadata": {"name": "w", "namespace": "x"}, "n": draw(_few)}
        scene["workload", "Pod", "x", "w"] = WorkloadSet(document)
    return scene


_few = st.integers(0, 1)
_groups = st.sampled_from([(), CIDRS[:1], CIDRS[1:3]]).map(lambda cidrs: cidr_group("g", *cidrs))
_by_group = st.sampled_from("pq").map(
    lambda name: cilium_policy(name, ingress=[{"fromCIDRSet": [{"cidrGroupRef": "g"}]}])
)
_of_nodes = st.just(
    tiered_policy(
        "nodes",
        egress=[
            {
                "action": "Deny",
                "to": [{"nodes": {"matchLabels": {"role": "edge"}}}, {"networks": ["10.0.0.0/8"]}],
            }
        ],
    )
)
_others = st.one_of(cilium(), tiered(), _groups, _by_group, _of_nodes)
"""Policies beside NetworkPolicy, and what they refer to."""


def _pairs(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


histories = st.lists(_scenes(), min_size=2, max_size=4)

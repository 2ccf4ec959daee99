"""Stories of a cluster: any events, in any order, that an allocator might write."""

from typing import Any

from hypothesis import strategies as st

from languages import cilium, of_hosts, tiered
from strategies import CIDRS, NAMESPACES, labels, named_ports, specs
from tabard.events import ledger as events
from tabard.policy.compile import Attachment, Provisional
from world import World, attachment, cidr_group, cilium_policy, network_policy, tiered_policy

NODES = ("n1", "n2", "n3")
IPS = ("10.244.1.1", "10.244.2.2", "10.1.1.7", "10.1.9.9", "fd00::1", "192.168.9.2")
UIDS = tuple(f"u{number}" for number in range(8))

uids, ips = st.sampled_from(UIDS), st.sampled_from(IPS)
namespaces, names = st.sampled_from(NAMESPACES[:2]), st.sampled_from(["p", "q", "r"])
nodes = st.sampled_from(NODES)
wide = st.one_of(specs, specs.map(lambda spec: {**spec, "podSelector": {}}))
"""Specifications, many of them for all pods of their namespace."""


def referring(name: str, group: str, way: str, excepts: list[str]) -> dict[str, Any]:
    side = {"ingress": "from", "egress": "to"}[way]
    peer = {"cidrGroupRef": group, **({"except": excepts} if excepts else {})}
    return cilium_policy(name, **{way: [{f"{side}CIDRSet": [peer]}]})


groups = st.builds(
    lambda name, cidrs: cidr_group(name, *sorted(cidrs)),
    st.sampled_from("gh"),
    st.frozensets(st.sampled_from(CIDRS), max_size=3),
)
references = st.builds(
    referring,
    names,
    st.sampled_from("gh"),
    st.sampled_from(["ingress", "egress"]),
    st.sampled_from([[], [CIDRS[2]]]),
)
of_nodes = st.sampled_from(["Accept", "Deny"]).map(
    lambda action: tiered_policy(
        "nodes",
        egress=[{"action": action, "to": [{"nodes": {"matchLabels": {"role": "edge"}}}]}],
    )
)
objects = st.one_of(tiered(), cilium(), cilium(), of_hosts(), groups, references, of_nodes)
"""Of the languages beside NetworkPolicy."""


def step(kind: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(kind), *parts)


starts = step(
    "start",
    uids,
    namespaces,
    labels,
    nodes,
    st.lists(ips, unique=True, max_size=2).map(tuple),
    named_ports,
    st.sampled_from([False, False, False, True]),
)
steps = st.one_of(
    starts,
    step("relabel", uids, labels),
    step("stop", uids),
    step("tombstone", uids),
    step("refuse", uids),
    step("namespace", namespaces, labels),
    step("allocate", namespaces, labels, named_ports),
    step("retire", st.integers(0, 5)),
    step("fix", namespaces, labels),
    step("policy", namespaces, names, wide),
    step("apply", objects),
    step("apply", objects),
    step("delete", st.integers(0, 5)),
    step("enforce", st.sampled_from(["default", "default", "always", "never"])),
    step("annotate", namespaces, names),
    step("forget", namespaces, names),
    step(
        "node",
        nodes,
        st.lists(ips, unique=True, max_size=2).map(tuple),
        st.sampled_from(CIDRS),
        st.sampled_from([{}, {"role": "edge"}, {"role": "core"}]),
    ),
    step("leave", nodes),
    step("attach", uids),
    step("attach", uids),
    step("assume", uids, st.integers(0, 5), st.lists(ips, unique=True, max_size=2).map(tuple)),
    step("detach", uids),
    step("inert"),
)


class Story(World):
    """A cluster, and the pods attached to n1.

    It begins with a pod for each UID, half of them here, so that what comes next meets someone.
    """

    def __init__(self, begins: list[tuple[str, dict[str, str], Any]]) -> None:
        self.attached: dict[str, Attachment] = {}
        super().__init__(nodes=2)
        for number, (namespace, label, ports) in enumerate(begins):
            uid, node = UIDS[number], NODES[number % 2]
            self.pod(f"{namespace}/{uid}", label, node=node, ip=IPS[number], ports=ports, uid=uid)
            self.take("attach", uid)

    def take(self, kind: str, *rest: Any) -> None:
        state = self.state
        match kind, *rest:
            case "start", uid, namespace, label, node, ip, ports, host if (
                uid not in state.endpoints
            ):
                key = f"{namespace}/{uid}"
                self.pod(key, label, node=node, ip=ip, ports=ports, uid=uid, host_network=host)
            case "relabel", uid, label if uid in state.endpoints:
                self.relabel(uid, label)
            case "stop", uid if uid in state.endpoints:
                self.stop(uid)
            case "tombstone", uid if uid not in state.endpoints:
                self.emit(events.EndpointTombstoned(uid))
            case "refuse", uid if uid not in state.endpoints:
                rest = (uid, "x", uid, "no", False, "n1", (), (), 0, "", (), "", False)
                self.emit(events.PodRefused(*rest))
            case "namespace", name, label:
                self.namespace(name, label)
            case "allocate", namespace, label, ports:
                self.identity(self.labels_of(namespace, label, ports))
            case "retire", number if state.idle:
                self.retire(list(state.idle)[number % len(state.idle)])
            case "fix", namespace, label:
                fixed = self.labels_of(namespace, label)
                if fixed not in state.numbers and 128 not in state.identities:
                    self.emit(events.SettingsAdopted("c", 0, 8, (), (), ((128, fixed),), 1))
            case "policy", namespace, name, spec:
                self.policy(network_policy(name, namespace, **spec))
            case "apply", document:
                self.policy(document)
            case "delete", number if others := [
                key for key in state.policies if key[0] != "NetworkPolicy"
            ]:
                self.emit(events.PolicyForgotten(*others[number % len(others)]))
            case "enforce", enforcement:
                self.emit(events.SettingsAdopted("c", 0, 8, (), (), (), 1, enforcement))
            case "annotate", namespace, name:
                if accepted := state.policies.get(("NetworkPolicy", namespace, name)):
                    metadata = {**accepted.document["metadata"], "annotations": {"a": "b"}}
                    self.policy({**accepted.document, "metadata": metadata})
            case "forget", namespace, name:
                self.forget(namespace, name)
            case "node", name, addresses, cidr, label:
                self.node(name, addresses, (cidr,), **label)
            case "leave", name:
                self.emit(events.NodeRemoved(name))
            case "attach", uid:
                self.attached[uid] = attachment(uid, 100 + len(self.attached))
            case "assume", uid, number, addresses:
                numbers = list(state.identities) or [999]
                assumed = Provisional(numbers[number % len(numbers)], addresses)
                self.attached[uid] = attachment(uid, 100 + len(self.attached), assumed)
            case "detach", uid:
                self.attached.pop(uid, None)
            case "inert", *_:
                self.emit(events.CursorAdvanced("OBSERVED", 1))

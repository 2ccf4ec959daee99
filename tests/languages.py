"""Random policies of the languages beside NetworkPolicy: in tiers, and Cilium's."""

from typing import Any

from hypothesis import strategies as st

from strategies import CIDRS, NAMESPACES, PORT_NAMES, PORTS, PROTOCOLS, ip_blocks, selectors

Document = dict[str, Any]

TIERED = {
    "Admin": ("ClusterNetworkPolicy", "v1alpha2", ("Accept", "Deny", "Pass")),
    "Baseline": ("ClusterNetworkPolicy", "v1alpha2", ("Accept", "Deny", "Pass")),
    "": ("AdminNetworkPolicy", "v1alpha1", ("Allow", "Deny", "Pass")),
    "default": ("BaselineAdminNetworkPolicy", "v1alpha1", ("Allow", "Deny")),
}
PRIORITIES = st.integers(0, 3)
"""Few, so that ties are met."""

_pods = st.one_of(
    st.fixed_dictionaries({"namespaces": selectors}),
    st.fixed_dictionaries(
        {
            "pods": st.fixed_dictionaries(
                {"podSelector": selectors}, optional={"namespaceSelector": selectors}
            )
        }
    ),
)
_networks = st.lists(st.sampled_from(CIDRS), min_size=1, max_size=2, unique=True).map(
    lambda found: {"networks": found}
)


@st.composite
def _spans(draw: st.DrawFn) -> tuple[str, int, int]:
    first, last = sorted(draw(st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS))))
    return draw(st.sampled_from(PROTOCOLS)), first, last


def _protocol(span: tuple[str, int, int]) -> Document:
    """An item of v1alpha2's `protocols`."""
    protocol, first, last = span
    port: Document = {"number": first} if first == last else {"range": _ends(first, last)}
    return {protocol.lower(): {"destinationPort": port}}


def _port(span: tuple[str, int, int]) -> Document:
    """An item of v1alpha1's `ports`."""
    protocol, first, last = span
    if first == last:
        return {"portNumber": {"protocol": protocol, "port": first}}
    return {"portRange": {"protocol": protocol, **_ends(first, last)}}


def _ends(first: int, last: int) -> Document:
    return {"start": first, "end": last}


@st.composite
def _tiered_rule(draw: st.DrawFn, side: str, version: str, actions: tuple[str, ...]) -> Document:
    peer = _pods if side == "from" else _pods | _networks
    peers = draw(st.lists(peer, min_size=1, max_size=2))
    rule = {"action": draw(st.sampled_from(actions)), side: peers}
    if draw(st.booleans()):
        field, span, name = (
            ("protocols", _protocol, "destinationNamedPort")
            if version == "v1alpha2"
            else ("ports", _port, "namedPort")
        )
        port = _spans().map(span)
        if not any("networks" in one for one in peers):  # where a name would mean nothing
            port |= st.sampled_from(PORT_NAMES).map(lambda found: {name: found})
        rule[field] = draw(st.lists(port, min_size=1, max_size=2))
    return rule


@st.composite
def tiered(draw: st.DrawFn, name: str = "") -> Document:
    """A policy of tier admin or baseline."""
    tier = draw(st.sampled_from(sorted(TIERED)))
    kind, version, actions = TIERED[tier]
    spec: Document = {"subject": draw(_pods)}
    if tier in ("Admin", "Baseline"):
        spec["tier"] = tier
    if kind != "BaselineAdminNetworkPolicy":
        spec["priority"] = draw(PRIORITIES)
    for field, side in (("ingress", "from"), ("egress", "to")):
        rules = draw(st.lists(_tiered_rule(side, version, actions), max_size=3))
        if rules:
            spec[field] = rules
    name = "default" if tier == "default" else name or draw(st.sampled_from(["p", "q", "r"]))
    return {
        "apiVersion": f"policy.networking.k8s.io/{version}",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


PLACE = "k8s:io.kubernetes.pod.namespace"
"""How a Cilium selector asks for a pod's namespace."""


@st.composite
def _endpoints(draw: st.DrawFn) -> Document:
    selector = draw(selectors)
    labels = {
        draw(st.sampled_from(["", "k8s:", "any:"])) + key: value
        for key, value in (selector.get("matchLabels") or {}).items()
    }
    if draw(st.booleans()):
        labels[PLACE] = draw(st.sampled_from(NAMESPACES))
    return {**selector, "matchLabels": labels}


def _cidr_set(block: Document) -> Document:
    found = block["ipBlock"]
    return {"cidr": found["cidr"], **({"except": found["except"]} if found["except"] else {})}


ENTITIES = ("all", "world", "cluster", "host", "remote-node")


@st.composite
def _cilium_port(draw: st.DrawFn) -> Document:
    protocol = draw(st.sampled_from(["", "ANY", *PROTOCOLS]))
    port: Document = {"protocol": protocol} if protocol else {}
    match draw(st.sampled_from(["all", "number", "range", "name"])):
        case "all":
            port["port"] = "0"
        case "number":
            port["port"] = str(draw(st.sampled_from(PORTS)))
        case "range":
            first, last = sorted(draw(st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS))))
            port |= {"port": str(first), "endPort": last}
        case "name":
            port["port"] = draw(st.sampled_from(PORT_NAMES))
    return port


@st.composite
def _cilium_rule(draw: st.DrawFn, side: str) -> Document:
    rule: Document = {}
    match draw(st.sampled_from(["", "Endpoints", "Entities", "CIDR", "CIDRSet"])):
        case "Endpoints":
            rule[f"{side}Endpoints"] = draw(st.lists(_endpoints(), max_size=2))
        case "Entities":
            rule[f"{side}Entities"] = [draw(st.sampled_from(ENTITIES))]
        case "CIDR":
            rule[f"{side}CIDR"] = [draw(st.sampled_from(CIDRS))]
        case "CIDRSet":
            rule[f"{side}CIDRSet"] = [_cidr_set(draw(ip_blocks()))]
    if draw(st.booleans()):
        rule["toPorts"] = [{"ports": draw(st.lists(_cilium_port(), min_size=1, max_size=2))}]
    return rule


@st.composite
def _cilium_spec(draw: st.DrawFn) -> Document:
    spec: Document = {"endpointSelector": draw(selectors)}
    for field, side in (("ingress", "from"), ("egress", "to")):
        for name in (field, f"{field}Deny"):
            rules = draw(st.lists(_cilium_rule(side), max_size=2))
            if rules or draw(st.booleans()):
                spec[name] = rules
    if draw(st.booleans()):
        flags = st.fixed_dictionaries(
            {}, optional={"ingress": st.booleans(), "egress": st.booleans()}
        )
        spec["enableDefaultDeny"] = draw(flags)
    return spec


@st.composite
def of_hosts(draw: st.DrawFn, name: str = "") -> Document:
    """A cluster-wide policy whose specs are for nodes, or some of them for pods."""
    specs = draw(st.lists(_cilium_spec(), min_size=1, max_size=2))
    for number, spec in enumerate(specs):
        if not number or draw(st.booleans()):
            del spec["endpointSelector"]
            spec["nodeSelector"] = draw(
                st.sampled_from([{}, {"matchLabels": {"role": "edge"}}, _NOT_EDGE])
            )
    metadata = {"name": name or draw(st.sampled_from(["p", "q", "r"]))}
    kind = "CiliumClusterwideNetworkPolicy"
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "specs": specs}


_NOT_EDGE = {"matchExpressions": [{"key": "role", "operator": "NotIn", "values": ["edge"]}]}


@st.composite
def cilium(draw: st.DrawFn, name: str = "") -> Document:
    """A CiliumNetworkPolicy or a cluster-wide one, of one spec or several."""
    metadata = {"name": name or draw(st.sampled_from(["p", "q", "r"]))}
    kind = "CiliumClusterwideNetworkPolicy"
    if draw(st.booleans()):
        kind = "CiliumNetworkPolicy"
        metadata["namespace"] = draw(st.sampled_from(NAMESPACES))
    document = {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata}
    if draw(st.integers(0, 3)):
        return document | {"spec": draw(_cilium_spec())}
    return document | {"specs": draw(st.lists(_cilium_spec(), min_size=1, max_size=2))}

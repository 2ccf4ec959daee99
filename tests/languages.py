"""Random policies of the languages beside NetworkPolicy: in tiers, and Cilium's; and what they
refer to."""

from typing import Any

from hypothesis import strategies as st

from strategies import (
    CIDRS,
    KEYS,
    NAMESPACES,
    PORT_NAMES,
    PORTS,
    PROTOCOLS,
    VALUES,
    ip_blocks,
    labels,
    selectors,
    subjects,
)

Document = dict[str, Any]

TIERED = {
    "Admin": ("ClusterNetworkPolicy", "v1alpha2", ("Accept", "Deny", "Pass")),
    "Baseline": ("ClusterNetworkPolicy", "v1alpha2", ("Accept", "Deny", "Pass")),
    "": ("AdminNetworkPolicy", "v1alpha1", ("Allow", "Deny", "Pass")),
    "default": ("BaselineAdminNetworkPolicy", "v1alpha1", ("Allow", "Deny")),
}
PRIORITIES = st.integers(0, 3)
"""Few, so that ties are met."""

_everyone = st.just({"namespaces": {}})
_pods = st.one_of(
    _everyone,
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
DOMAINS = ("example.org", "a.example.org", "b.a.example.org", "example.net")
_domain_names = st.lists(
    st.sampled_from([*DOMAINS, "*.example.org", "*.a.example.org"]),
    min_size=1,
    max_size=2,
    unique=True,
).map(lambda found: {"domainNames": found})
_fqdns = st.sampled_from(DOMAINS).map(lambda name: {"matchName": name}) | st.sampled_from(
    ["*.example.org", "**.example.org", "a*.example.*", "example.*"]
).map(lambda pattern: {"matchPattern": pattern})
_of_nodes = selectors.map(lambda found: {"nodes": found})


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
    action = draw(st.sampled_from(actions))
    peer = _pods
    if side == "to":
        peer = _pods | _networks | _of_nodes
        if action == "Accept":  # of v1alpha2, and the one action whose rules may name them
            peer |= _domain_names
    peers = draw(st.lists(peer, min_size=1, max_size=2))
    rule = {"action": action, side: peers}
    if draw(st.booleans()):
        field, span, name = (
            ("protocols", _protocol, "destinationNamedPort")
            if version == "v1alpha2"
            else ("ports", _port, "namedPort")
        )
        port = _spans().map(span)
        if all({"namespaces", "pods"} & one.keys() for one in peers):  # who have named ports
            port |= st.sampled_from(PORT_NAMES).map(lambda found: {name: found})
        rule[field] = draw(st.lists(port, min_size=1, max_size=2))
    return rule


@st.composite
def tiered(draw: st.DrawFn, name: str = "") -> Document:
    """A policy of tier admin or baseline."""
    tier = draw(st.sampled_from(sorted(TIERED)))
    kind, version, actions = TIERED[tier]
    spec: Document = {"subject": draw(_everyone | _pods)}
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
OF_NAMESPACE = "k8s:io.cilium.k8s.namespace.labels."
"""How it asks for a label of that."""


@st.composite
def _endpoints(draw: st.DrawFn) -> Document:
    if not draw(st.integers(0, 9)):
        name = draw(st.sampled_from(["host", "remote-node", "world", "world-ipv4", "init"]))
        return {"matchLabels": {f"reserved:{name}": ""}}
    selector = draw(subjects)
    labels = {
        draw(st.sampled_from(["", "k8s:", "any:"])) + key: value
        for key, value in (selector.get("matchLabels") or {}).items()
    }
    match draw(st.sampled_from(["", "", "", PLACE, PLACE, OF_NAMESPACE])):
        case "":
            pass
        case place if place == PLACE:
            labels[PLACE] = draw(st.sampled_from(NAMESPACES))
        case _:
            labels[OF_NAMESPACE + draw(st.sampled_from(KEYS))] = draw(st.sampled_from(VALUES))
    return {**selector, "matchLabels": labels}


ENTITIES = (
    *("all", "world", "cluster", "host", "remote-node") * 2,
    *("world-ipv4", "world-ipv6", "none", "init", "health", "kube-apiserver"),
)
GROUPS = ("g", "h")
SERVICES = ("s", "t")
ICMP_TYPES = {"IPv4": (8, 13, "Timestamp"), "IPv6": (128, 138, "EchoRequest")}
"""Types whose packets open a flow (no answers, no errors)."""


def _cidr_set(block: Document) -> Document:
    found = block["ipBlock"]
    return {"cidr": found["cidr"], **({"except": found["except"]} if found["except"] else {})}


_group_selectors = st.dictionaries(
    st.sampled_from(KEYS[:2]), st.sampled_from(VALUES[:2]), max_size=1
).map(lambda found: {"matchLabels": found})


@st.composite
def _group(draw: st.DrawFn) -> Document:
    """An item of fromCIDRSet that refers to groups."""
    item: Document = {}
    if draw(st.booleans()):
        item["cidrGroupRef"] = draw(st.sampled_from(GROUPS))
    else:
        item["cidrGroupSelector"] = draw(_group_selectors)
    if draw(st.booleans()):
        item["except"] = draw(st.lists(st.sampled_from(CIDRS[1:]), max_size=2, unique=True))
    return item


@st.composite
def _service(draw: st.DrawFn) -> Document:
    place = {"namespace": draw(st.sampled_from(NAMESPACES))} if draw(st.integers(0, 3)) else {}
    if draw(st.booleans()):
        return {"k8sService": {"serviceName": draw(st.sampled_from(SERVICES)), **place}}
    return {"k8sServiceSelector": {"selector": draw(_group_selectors), **place}}


_numbers = st.sampled_from(PORTS)


@st.composite
def _cilium_port(draw: st.DrawFn) -> Document:
    protocol = draw(st.sampled_from(["", "ANY", *PROTOCOLS, *PROTOCOLS, "ICMP", "ICMPV6"]))
    port: Document = {"protocol": protocol} if protocol else {}
    if protocol.startswith("ICMP"):
        family = "IPv6" if protocol == "ICMPV6" else "IPv4"
        return port | {"port": draw(st.sampled_from(["0", *map(str, ICMP_TYPES[family][:2])]))}
    match draw(st.sampled_from(["all", "number", "range", "name"])):
        case "all":
            port["port"] = "0"
        case "number":
            port["port"] = str(draw(_numbers))
        case "range":
            first, last = sorted(draw(st.tuples(_numbers, _numbers)))
            port |= {"port": str(first), "endPort": last}
        case "name":
            port["port"] = draw(st.sampled_from(PORT_NAMES))
    return port


@st.composite
def _icmps(draw: st.DrawFn) -> Document:
    fields = []
    for _ in range(draw(st.integers(1, 2))):
        family = draw(st.sampled_from(sorted(ICMP_TYPES)))
        fields.append({"family": family, "type": draw(st.sampled_from(ICMP_TYPES[family]))})
    return {"fields": fields}


@st.composite
def _cilium_rule(draw: st.DrawFn, side: str, *, allows: bool) -> Document:
    rule: Document = {}
    kinds = ["", "Endpoints", "Endpoints", "Entities", "CIDR", "CIDRSet", "Groups", "Nodes"]
    if side == "to":
        kinds += ["Services", *(["FQDNs"] * allows)]
    kind = draw(st.sampled_from(kinds))
    match kind:
        case "Endpoints":
            rule[f"{side}Endpoints"] = draw(st.lists(_endpoints(), max_size=2))
        case "Entities":
            entities = st.lists(st.sampled_from(ENTITIES), min_size=1, max_size=2)
            rule[f"{side}Entities"] = draw(entities)
        case "CIDR":
            rule[f"{side}CIDR"] = draw(st.lists(st.sampled_from(CIDRS), min_size=1, max_size=2))
        case "CIDRSet":
            rule[f"{side}CIDRSet"] = [_cidr_set(draw(ip_blocks()))]
        case "Groups":
            rule[f"{side}CIDRSet"] = draw(st.lists(_group(), min_size=1, max_size=2))
        case "Nodes":
            rule[f"{side}Nodes"] = draw(st.lists(selectors, min_size=1, max_size=2))
        case "FQDNs":
            rule["toFQDNs"] = draw(st.lists(_fqdns, min_size=1, max_size=2))
        case "Services":
            rule["toServices"] = draw(st.lists(_service(), min_size=1, max_size=2))
            return rule  # to which Cilium lets no ports be added
    asked = ["", "", "", "toPorts", "toPorts", "toPorts", "icmps"]
    if side == "to" and allows:
        asked.append("dns")
    match draw(st.sampled_from(asked)):
        case "toPorts":
            ports = st.lists(_cilium_port(), min_size=1, max_size=2)
            rule["toPorts"] = [{"ports": found} for found in draw(st.lists(ports, max_size=2))]
        case "dns":
            port = {"port": str(draw(_numbers)), "protocol": draw(st.sampled_from(["ANY", "UDP"]))}
            names = draw(st.lists(_fqdns, min_size=1, max_size=2))
            rule["toPorts"] = [{"ports": [port], "rules": {"dns": names}}]
        case "icmps":
            rule["icmps"] = [draw(_icmps())]
    return rule


@st.composite
def _cilium_spec(draw: st.DrawFn) -> Document:
    spec: Document = {"endpointSelector": draw(subjects)}
    for field, side in (("ingress", "from"), ("egress", "to")):
        for name in (field, f"{field}Deny"):
            rules = draw(st.lists(_cilium_rule(side, allows=name == field), max_size=2))
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
            for rule in spec.get("egress", ()):
                for ports in rule.get("toPorts", ()):
                    ports.pop("rules", None)  # lookups of pods alone are judged
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


def _object(kind: str, name: str, namespace: str = "", **fields: Any) -> Document:
    version = {"CiliumCIDRGroup": "cilium.io/v2", "EndpointSlice": "discovery.k8s.io/v1"}
    metadata = {"name": name, "labels": fields.pop("labels", {})}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version.get(kind, "v1"), "kind": kind, "metadata": metadata, **fields}


groups = st.builds(
    lambda name, own, cidrs: _object(
        "CiliumCIDRGroup", name, labels=own, spec={"externalCIDRs": cidrs}
    ),
    st.sampled_from(GROUPS),
    labels,
    st.lists(st.sampled_from(CIDRS), max_size=3, unique=True),
)


@st.composite
def services(draw: st.DrawFn, addresses: tuple[str, ...]) -> Document:
    """A Service, or who is behind one: some of `addresses`, all of one family."""
    namespace, name = draw(st.sampled_from(NAMESPACES)), draw(st.sampled_from(SERVICES))
    kind = draw(st.sampled_from(["Service", "Service", "EndpointSlice", "Endpoints"]))
    if kind == "Service":
        spec = {"selector": draw(labels)} if draw(st.integers(0, 2)) else {}
        return _object(kind, name, namespace, labels=draw(labels), spec=spec)
    behind = draw(st.lists(st.sampled_from(addresses), max_size=3, unique=True))
    if kind == "Endpoints":
        subset = {"addresses": [{"ip": at} for at in behind]}
        return _object(kind, name, namespace, subsets=[subset])
    family = "IPv6" if ":" in addresses[0] else "IPv4"
    own = {"kubernetes.io/service-name": name}
    found = [{"addresses": [at], "conditions": {"ready": draw(st.booleans())}} for at in behind]
    slice_name = f"{name}-{draw(st.sampled_from('ab'))}"
    return _object(kind, slice_name, namespace, labels=own, addressType=family, endpoints=found)

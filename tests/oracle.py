"""Policies said naively: documents and labels in, verdict out. No identities, no maps.

Written from the languages' documentation (networking/v1 types.go, network-policy-api v1alpha1 and
v1alpha2, Cilium's policy guide), as the tests' second opinion. Of Cilium's policies and of what
they refer to it knows what `languages` draws.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: dict[str, str]
    ip: str
    ports: tuple[tuple[str, int, str], ...] = ()
    node: str = ""


@dataclass(frozen=True)
class Outside:
    ip: str


@dataclass(frozen=True)
class Node:
    ip: str
    name: str
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Unknown:
    """Who has an address in the pods' ranges that no pod has."""

    ip: str


Party = Pod | Outside | Node | Unknown
Namespaces = dict[str, dict[str, str]]
Names = Mapping[str, Iterable[str]]
"""Domain names → the addresses that they were resolved to."""
Document = dict[str, Any]

ADMIN = ("AdminNetworkPolicy", "Admin")
BASELINE = ("BaselineAdminNetworkPolicy", "Baseline")
ACTIONS = {"Accept": True, "Allow": True, "Deny": False, "Pass": None}
LAST = 2_000
NAMESPACE = "io.kubernetes.pod.namespace"
OF_NAMESPACE = "io.cilium.k8s.namespace.labels."
ICMP_TYPES = {"Timestamp": 13, "EchoRequest": 128}


@dataclass(frozen=True)
class Flow:
    """One half of a flow: what the subject's policies are asked about."""

    direction: str
    """Ingress or Egress."""
    subject: Pod
    peer: Party
    port: int
    protocol: str
    namespaces: Namespaces
    objects: list[Document]
    """The policies, and what they refer to."""
    names: Names

    @property
    def target(self) -> Party:
        return self.subject if self.direction == "Ingress" else self.peer


def allows(
    objects: Iterable[Document],
    namespaces: Namespaces,
    source: Party,
    target: Party,
    port: int,
    protocol: str,
    enforcement: str = "default",
    names: Names | None = None,
) -> tuple[bool, bool]:
    """(egress, ingress) of a flow; who is no pod allows all. `objects` are policies and what they
    refer to; for ICMP the port is the type."""
    objects = list(objects)

    def side(direction: str, subject: Party, peer: Party) -> bool:
        if not isinstance(subject, Pod) or enforcement == "never":
            return True
        flow = Flow(direction, subject, peer, port, protocol, namespaces, objects, names or {})
        return _side(objects, flow, is_isolated=enforcement == "always")

    return side("Egress", source, target), side("Ingress", target, source)


def _side(policies: list[Document], flow: Flow, *, is_isolated: bool) -> bool:
    is_own_node = isinstance(flow.peer, Node) and flow.peer.name == flow.subject.node
    if flow.direction == "Ingress" and is_own_node:
        return True
    if isinstance(flow.peer, Unknown):
        return not (is_isolated or any(_speaks(policy, flow) for policy in policies))
    verdict = _first_match(policies, ADMIN, flow)
    if verdict is not None:
        return verdict
    allowed = False
    for policy in policies:
        for isolates, said, _ in _said(policy, flow):
            if said is False:
                return False
            allowed |= said is True
            is_isolated |= isolates
    if allowed or is_isolated:
        return allowed
    verdict = _first_match(policies, BASELINE, flow)
    return verdict is not False


def _speaks(policy: Document, flow: Flow) -> bool:
    """Whether a policy has a say on the subject in this direction, whatever it is."""
    side = flow.direction.lower()
    match policy["kind"]:
        case "NetworkPolicy" | "CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy":
            return any(isolates or is_rule for isolates, _, is_rule in _said(policy, flow))
        case "ClusterNetworkPolicy" | "AdminNetworkPolicy" | "BaselineAdminNetworkPolicy":
            spec = policy["spec"]
            return bool(spec.get(side)) and _in_tier_selects(spec["subject"], flow.subject, flow)
    return False


def _first_match(policies: list[Document], tier: tuple[str, str], flow: Flow) -> bool | None:
    of_tier = [
        p for p in policies if p["kind"] == tier[0] or p.get("spec", {}).get("tier") == tier[1]
    ]
    of_tier.sort(key=lambda p: (p["spec"].get("priority", LAST), p["kind"], p["metadata"]["name"]))
    for policy in of_tier:
        if not _in_tier_selects(policy["spec"]["subject"], flow.subject, flow):
            continue
        for rule in policy["spec"].get(flow.direction.lower(), ()):
            side = "from" if flow.direction == "Ingress" else "to"
            for peer in rule[side]:
                if _is_peer_in_tier(peer, flow) and _is_port_in_tier(rule, peer, flow):
                    return ACTIONS[rule["action"]]
    return None


def _in_tier_selects(wanted: Document, party: Party, flow: Flow) -> bool:
    if not isinstance(party, Pod):
        return False
    own = flow.namespaces[party.namespace]
    if "namespaces" in wanted:
        return _selects(wanted["namespaces"], own)
    pods = wanted["pods"]
    return _selects(pods.get("namespaceSelector", {}), own) and _selects(
        pods.get("podSelector", {}), party.labels
    )


def _is_peer_in_tier(peer: Document, flow: Flow) -> bool:
    if "networks" in peer:
        return any(_is_in(flow.peer.ip, network) for network in peer["networks"])
    if "nodes" in peer:
        return _is_node(peer["nodes"], flow.peer)
    if "domainNames" in peer:
        # There a star stands for one label or more.
        patterns = [name.replace("*.", "**.") for name in peer["domainNames"]]
        return any(_is_named(pattern, flow) for pattern in patterns)
    return _in_tier_selects(peer, flow.peer, flow)


def _is_node(wanted: Document, party: Party) -> bool:
    """By its labels; one without any is of before nodes had labels, and not selected."""
    if not isinstance(party, Node) or not party.labels:
        return False
    return _selects(wanted, {"kubernetes.io/hostname": party.name, **party.labels})


def _is_named(pattern: str, flow: Flow) -> bool:
    """Whether the peer is outside, at an address that a name of the pattern was resolved to."""
    return isinstance(flow.peer, Outside) and any(
        flow.peer.ip in held for name, held in flow.names.items() if _is_name(pattern, name)
    )


def _is_name(pattern: str, name: str) -> bool:
    if pattern.startswith("**."):
        return name.endswith(pattern[2:])
    wanted, labels = pattern.split("."), name.split(".")
    return len(wanted) == len(labels) and all(map(fnmatchcase, labels, wanted))


def _is_port_in_tier(rule: Document, peer: Document, flow: Flow) -> bool:
    wanted = rule.get("protocols", rule.get("ports"))
    if wanted is None:
        return True
    for item in wanted:
        name = item.get("destinationNamedPort", item.get("namedPort"))
        if name is not None:
            outside = {"networks", "nodes", "domainNames"}
            by_address = flow.direction == "Egress" and outside & peer.keys()
            if not by_address and _has_port(flow.target, name, flow.port, flow.protocol):
                return True
            continue
        protocol, first, last = _span_in_tier(item)
        if protocol == flow.protocol and first <= flow.port <= last:
            return True
    return False


def _span_in_tier(item: Document) -> tuple[str, int, int]:
    if "portNumber" in item:
        one = item["portNumber"]
        return one.get("protocol", "TCP"), one["port"], one["port"]
    if "portRange" in item:
        one = item["portRange"]
        return one.get("protocol", "TCP"), one["start"], one["end"]
    ((protocol, said),) = item.items()
    port = said["destinationPort"]
    if "number" in port:
        return protocol.upper(), port["number"], port["number"]
    return protocol.upper(), port["range"]["start"], port["range"]["end"]


def _said(policy: Document, flow: Flow) -> Iterator[tuple[bool, bool | None, bool]]:
    """(whether it isolates, what it says, whether it has rules) for each thing that a policy of
    tier network says."""
    match policy["kind"]:
        case "NetworkPolicy":
            yield from _of_kubernetes(policy, flow)
        case "CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy":
            specs = [policy["spec"]] if "spec" in policy else []
            for spec in [*specs, *policy.get("specs", ())]:
                yield from _of_cilium(spec, policy["metadata"].get("namespace", ""), flow)


def _of_kubernetes(policy: Document, flow: Flow) -> Iterator[tuple[bool, bool | None, bool]]:
    spec, namespace, subject = policy["spec"], policy["metadata"]["namespace"], flow.subject
    if namespace != subject.namespace or not _selects(spec["podSelector"], subject.labels):
        return
    types = spec.get("policyTypes") or (
        ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    )
    if flow.direction not in types:
        return
    yield True, None, True
    for rule in spec.get(flow.direction.lower()) or []:
        peers = rule.get("from" if flow.direction == "Ingress" else "to")
        ports = rule.get("ports")
        for one in peers or [None]:
            by_address = one is not None and "ipBlock" in one
            # A port's name is that of a pod's port, and a CIDR knows no pods.
            named = None if by_address and flow.direction == "Egress" else flow.target
            if (one is None or _is_peer(one, namespace, flow.peer, flow.namespaces)) and (
                not ports or any(_is_port(p, named, flow.port, flow.protocol) for p in ports)
            ):
                yield True, True, True


def _is_peer(peer: Document, namespace: str, party: Party, namespaces: Namespaces) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return _is_in(party.ip, block["cidr"], block.get("except", ()))
    if not isinstance(party, Pod):
        return False
    if "namespaceSelector" in peer:
        if not _selects(peer["namespaceSelector"], namespaces[party.namespace]):
            return False
    elif party.namespace != namespace:
        return False
    return _selects(peer.get("podSelector", {}), party.labels)


def _is_in(ip: str, cidr: str, excepts: Iterable[str] = ()) -> bool:
    at = ipaddress.ip_address(ip)
    return at in ipaddress.ip_network(cidr) and not any(
        at in ipaddress.ip_network(hole) for hole in excepts
    )


def _selects(selector: Document, labels: dict[str, str]) -> bool:
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for need in selector.get("matchExpressions") or []:
        has = need["key"] in labels
        is_in = has and labels[need["key"]] in need.get("values", [])
        holds = {"In": is_in, "NotIn": not is_in, "Exists": has, "DoesNotExist": not has}
        if not holds[need["operator"]]:
            return False
    return True


def _is_port(wanted: Document, target: Party | None, port: int, protocol: str) -> bool:
    if wanted.get("protocol", "TCP") != protocol:
        return False
    number = wanted.get("port")
    if number is None:
        return True
    if isinstance(number, str):
        return _has_port(target, number, port, protocol)
    return bool(number <= port <= wanted.get("endPort", number))


def _has_port(target: Party | None, name: str, port: int, protocol: str) -> bool:
    return isinstance(target, Pod) and (name, port, protocol) in target.ports


def _of_cilium(
    spec: Document, namespace: str, flow: Flow
) -> Iterator[tuple[bool, bool | None, bool]]:
    subject = flow.subject
    if namespace not in ("", subject.namespace):
        return
    if not _selects(_plain(spec["endpointSelector"]), _cilium_labels(subject, flow)):
        return
    side = flow.direction.lower()
    spoken = bool(spec.get(side) or spec.get(f"{side}Deny"))
    yield spec.get("enableDefaultDeny", {}).get(side, spoken), None, spoken
    for section, says in ((f"{side}Deny", False), (side, True)):
        for rule in spec.get(section) or ():
            if _is_cilium_match(rule, namespace, flow):
                yield False, says, True


def _is_cilium_match(rule: Document, namespace: str, flow: Flow) -> bool:
    side = "from" if flow.direction == "Ingress" else "to"
    naming = [key for key in rule if key.startswith(side) and key != "toPorts"]
    asks_ports = rule.get("toPorts") or rule.get("icmps")
    if not naming and not asks_ports:
        return False
    for key in naming:
        kind = key.removeprefix(side)
        if not any(_is_cilium_peer(kind, item, namespace, flow) for item in rule[key]):
            return False
    by_address = any(kind in key for key in naming for kind in ("CIDR", "Nodes", "FQDNs"))
    return (
        not asks_ports
        or any(_is_icmp(one, flow) for item in rule.get("icmps", ()) for one in item["fields"])
        or any(
            _is_cilium_port(port, by_address, flow)
            for item in rule.get("toPorts", ())
            for port in item["ports"]
            if "rules" not in item or flow.protocol == "UDP"  # lookups are judged over UDP alone
        )
    )


def _is_cilium_peer(kind: str, item: Any, namespace: str, flow: Flow) -> bool:
    peer = flow.peer
    match kind:
        case "CIDR":
            return isinstance(peer, Outside) and _is_in(peer.ip, item)
        case "CIDRSet":
            excepts = item.get("except", ())
            within = any(_is_in(peer.ip, cidr, excepts) for cidr in _cidrs_of(item, flow))
            return isinstance(peer, Outside) and within
        case "Entities":
            return _is_entity(item, flow)
        case "Nodes":
            return _is_node(_plain(item), peer)
        case "FQDNs":
            return _is_named(item.get("matchName") or item["matchPattern"], flow)
        case "Services":
            return any(_is_behind(front, flow) for front in _fronts(item, flow))
    assert kind == "Endpoints"
    selector = _plain(item)
    keys = _keys(selector)
    if not any(key.startswith("reserved:") for key in keys):
        if not isinstance(peer, Pod):
            return False
        # Who names no namespace means the policy's; a cluster-wide policy means pods of any.
        is_placed = NAMESPACE in keys or any(key.startswith(OF_NAMESPACE) for key in keys)
        if not is_placed and namespace not in ("", peer.namespace):
            return False
    return _selects(selector, _cilium_labels(peer, flow))


def _is_entity(name: str, flow: Flow) -> bool:
    peer = flow.peer
    is_host = isinstance(peer, Node) and peer.name == flow.subject.node
    is_outside, is_ipv6 = isinstance(peer, Outside), ":" in peer.ip
    return {
        "all": True,
        "world": is_outside,
        "world-ipv4": is_outside and not is_ipv6,
        "world-ipv6": is_outside and is_ipv6,
        "cluster": not is_outside,
        "host": is_host,
        "remote-node": isinstance(peer, Node) and not is_host,
    }.get(name, False)  # of the others there is nobody here


def _cidrs_of(item: Document, flow: Flow) -> list[str]:
    """Of an item of a CIDR set, or of the groups that it refers to."""
    if "cidr" in item:
        return [item["cidr"]]
    groups = [one for one in flow.objects if one["kind"] == "CiliumCIDRGroup"]
    return [
        cidr
        for group in groups
        if group["metadata"]["name"] == item.get("cidrGroupRef")
        or (
            "cidrGroupSelector" in item
            and _selects(item["cidrGroupSelector"], group["metadata"].get("labels", {}))
        )
        for cidr in group["spec"]["externalCIDRs"]
    ]


def _fronts(item: Document, flow: Flow) -> Iterator[Document]:
    """The Services that an item of toServices means."""
    named, chosen = item.get("k8sService"), item.get("k8sServiceSelector")
    place = (named or chosen or {}).get("namespace", "")
    for one in flow.objects:
        if one["kind"] != "Service" or place not in ("", one["metadata"]["namespace"]):
            continue
        if named is not None and named["serviceName"] != one["metadata"]["name"]:
            continue
        if chosen is None or _selects(chosen["selector"], one["metadata"].get("labels", {})):
            yield one


def _is_behind(service: Document, flow: Flow) -> bool:
    """A Service's pods, by its selector; without one whoever outside has a backend's address."""
    peer, place = flow.peer, service["metadata"]
    if wanted := service["spec"].get("selector"):
        is_there = isinstance(peer, Pod) and peer.namespace == place["namespace"]
        return is_there and _selects({"matchLabels": wanted}, peer.labels)
    behind: set[str] = set()
    for one in flow.objects:
        own = one["metadata"]
        if own.get("namespace") != place["namespace"]:
            continue
        if one["kind"] == "Endpoints" and own["name"] == place["name"]:
            behind |= {at["ip"] for part in one["subsets"] for at in part["addresses"]}
        elif (
            one["kind"] == "EndpointSlice"
            and own["labels"]["kubernetes.io/service-name"] == place["name"]
        ):
            ready = [each for each in one["endpoints"] if each["conditions"]["ready"]]
            behind |= {at for each in ready for at in each["addresses"]}
    return isinstance(peer, Outside) and peer.ip in behind


def _cilium_labels(party: Party, flow: Flow) -> dict[str, str]:
    match party:
        case Pod():
            of_namespace = flow.namespaces[party.namespace].items()
            placed = {f"{OF_NAMESPACE}{key}": value for key, value in of_namespace}
            return {**party.labels, NAMESPACE: party.namespace, **placed}
        case Node():
            is_host = party.name == flow.subject.node
            return {"reserved:host" if is_host else "reserved:remote-node": ""}
        case Outside():
            family = "ipv6" if ":" in party.ip else "ipv4"
            return {"reserved:world": "", f"reserved:world-{family}": ""}
    return {}


def _plain(selector: Document) -> Document:
    """The selector without the sources of its keys: a pod's labels are all of source k8s."""

    def bare(key: str) -> str:
        return key if key.startswith("reserved:") else key.rpartition(":")[2]

    return {
        "matchLabels": {bare(k): v for k, v in (selector.get("matchLabels") or {}).items()},
        "matchExpressions": [
            {**need, "key": bare(need["key"])} for need in selector.get("matchExpressions") or ()
        ],
    }


def _keys(selector: Document) -> set[str]:
    return {*selector["matchLabels"], *(need["key"] for need in selector["matchExpressions"])}


def _is_icmp(wanted: Document, flow: Flow) -> bool:
    protocol = {"IPv4": "ICMP", "IPv6": "ICMPV6"}[wanted["family"]]
    number = ICMP_TYPES.get(wanted["type"], wanted["type"])
    return protocol == flow.protocol and number == flow.port


def _is_cilium_port(wanted: Document, by_address: bool, flow: Flow) -> bool:
    protocol = wanted.get("protocol", "ANY")
    of_any = protocol == "ANY" and flow.protocol in ("TCP", "UDP", "SCTP")
    if not of_any and protocol != flow.protocol:
        return False
    if not wanted["port"].isdecimal():
        if by_address and flow.direction == "Egress":
            return False
        return _has_port(flow.target, wanted["port"], flow.port, flow.protocol)
    first = int(wanted["port"])
    if not first:
        return True
    return first <= flow.port <= (wanted.get("endPort") or first)

"""What rules ask for, and why a peer does not meet it, in words."""

from tabard.dataplane.maps import Direction
from tabard.identity.labels import (
    CLUSTER_KEY,
    NAMED_PORT_SOURCE,
    NAMESPACE_KEY,
    NAMESPACE_LABELS_PREFIX,
)
from tabard.policy.matching import Labels, matches
from tabard.policy.model import (
    ANY_SOURCE,
    Cidr,
    DomainName,
    Nodes,
    Peer,
    Port,
    Requirement,
    Rule,
    Selector,
)
from tabard.policy.networks import Networks
from tabard.policy.parties import Party, Role
from tabard.policy.traffic import shown, union

_ROLES = {Role.NODE: "a node", Role.WORLD: "outside the cluster", Role.UNKNOWN: "unknown"}


def of_standing(written: list[Peer], peer: Party) -> str:
    """Why a name or nodes, which stand for addresses, do not stand for the peer's; empty if what
    was written is neither, or the peer has none."""
    match written, peer.address:
        case _, None:
            return ""
        case [DomainName(pattern=pattern)], at:
            return f"{pattern} does not stand for {at}"
        case [Nodes()], at:
            return f"no node of these labels has {at}"
    return ""


def of_reference(reference: Peer) -> str:
    """Why a reference stands for nobody."""
    if isinstance(reference, DomainName):
        return f"no address of {reference.pattern} is known: nobody looked it up"
    return "what it refers to is not there"


def of_ports(rule: Rule, covers: str, *, by_cidr: bool) -> str:
    names = sorted({port.name for port in rule.ports if port.name})
    if rule.direction is Direction.EGRESS and by_cidr and names:
        return f"the peer matches; ports by name ({', '.join(names)}) hold through no CIDR"
    asks = ", ".join(_port(port) for port in rule.ports)
    if not names:
        return f"the peer matches; the ports are {asks}"
    return f"the peer matches; the ports are {asks}, which is {covers} at the destination"


def _port(port: Port) -> str:
    if port.name:
        return f"{port.name}/{port.protocol.name}"
    return shown(union([(port.protocol, port.first, port.last)]))


def of_peer(named: Peer, peer: Party, labels: Labels, networks: Networks) -> tuple[str, int]:
    """(what is missing, how many conditions)"""
    match named:
        case Cidr():
            return _of_block(named, peer, networks), 1
        case Selector():
            wanting = [
                requirement
                for requirement in named.requirements
                if not matches(Selector((requirement,)), labels)
            ]
            if met := means(named):
                return f"means {met}, and the peer is {entity(labels)}", len(wanting)
            if peer.role is not Role.POD:
                return f"selects pods, and the peer is {_ROLES[peer.role]}", len(wanting)
            return "; ".join(_of_label(each, labels) for each in wanting), len(wanting)
        case _:
            raise AssertionError(f"{named} was not resolved")


def means(selector: Selector) -> str:
    """The entities that it means: nodes or the world by their reserved labels, or all pods; empty
    if it means others."""
    if selector.requirements == (Requirement(CLUSTER_KEY, "Exists"),):
        return "pods"
    if all(
        need.source == "reserved" and need.operator in ("In", "Exists")
        for need in selector.requirements
    ):
        return ", ".join(need.key for need in selector.requirements)
    return ""


def entity(labels: Labels) -> str:
    """`remote-node`, `world`, `a pod`"""
    return next((key for source, key in sorted(labels) if source == "reserved"), "a pod")


def _of_block(block: Cidr, peer: Party, networks: Networks) -> str:
    at = peer.address
    if at is None:
        return f"{block.prefix}: the peer has no address here"
    held = networks.holding(at)
    if block.prefix not in held:
        return f"{block.prefix} does not hold {at}"
    hole = next((hole for hole in block.excepts if hole in held), None)
    if hole is not None:
        return f"{block.prefix} excepts {hole}, which holds {at}"
    who = _ROLES.get(peer.role, "a pod")
    return f"{block.prefix} means what is outside the cluster, and {at} is {who}"


def _of_label(requirement: Requirement, labels: Labels) -> str:
    """`needs app=web, is app=db`"""
    key = requirement.key
    has = labels.get((requirement.source, key))
    if requirement.source == ANY_SOURCE:
        found = (labels[at] for at in sorted(labels) if at[1] == key and at[0] != NAMED_PORT_SOURCE)
        has = next(found, None)
    if requirement.key == NAMESPACE_KEY and requirement.operator == "In":
        return f"needs namespace {' or '.join(sorted(requirement.values))}, is in {has}"
    if has is None:
        met = "has none" if requirement.operator == "Exists" else f"has no {shown_key(key)}"
    else:
        met = f"is {key.removeprefix(NAMESPACE_LABELS_PREFIX)}={has}"
    return f"needs {asked(requirement)}, {met}"


def asked(one: Requirement) -> str:
    """`app=web`, `tier in (a, b)`, `namespace label team=a`"""
    key = shown_key(one.key)
    values = sorted(one.values)
    match one.operator:
        case "In" if len(values) == 1:
            return f"{key}={values[0]}"
        case "In":
            return f"{key} in ({', '.join(values)})"
        case "NotIn":
            return f"{key} not in ({', '.join(values)})"
        case "Exists":
            return key
        case _:
            return f"no {key}"


def shown_key(key: str) -> str:
    if key == NAMESPACE_KEY:
        return "namespace"
    own = key.removeprefix(NAMESPACE_LABELS_PREFIX)
    return key if own == key else f"namespace label {own}"

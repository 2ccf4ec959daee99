"""The ends and the ports that a question about a flow names, as people name them. Pure."""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from tabard.cli import kinds
from tabard.dataplane.maps import Protocol
from tabard.identity.labels import named_ports
from tabard.identity.syntax import PORT_NAME
from tabard.ledger.state import EndpointState, State
from tabard.manifests.workloads import API_VERSIONS
from tabard.policy.parties import Party, Role, ip
from tabard.policy.traffic import PORT_MAX

_ICMP = {Protocol.ICMP: 8, Protocol.ICMPV6: 128}
"""Echo requests: the type that is meant if none is given (RFC 792, RFC 4443)."""
_PROTOCOLS = {each.name.lower(): each for each in Protocol if each is not Protocol.ANY}
_NUMBER = re.compile(r"[0-9]{1,5}")
_ICMP_TYPE_MAX = 255


class NamingError(ValueError):
    """The text can name nothing; says what would."""


class NotThere(Exception):
    """What is named is not in the state; `next` is what to type to find it."""

    def __init__(self, message: str, next: str = "") -> None:
        super().__init__(message)
        self.next = next


def place_of(namespace: str, name: str) -> str:
    """`NS/NAME` of an object, `NAME` of one whose kind has no namespace."""
    return f"{namespace}/{name}" if namespace else name


@dataclass(frozen=True, slots=True)
class Place:
    """`NS/NAME` of a pod or a workload, `NS/KIND/NAME` of a workload, or an address."""

    text: str
    namespace: str = ""
    kind: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class PortAsked:
    """A port by number (for ICMP a type) or by the destination's name for it."""

    text: str
    protocol: Protocol | None
    """None: whatever protocols the destination has the name for."""
    number: int | None
    name: str = ""


def place(text: str) -> Place:
    """NamingError if `text` is no end of a flow."""
    parts = text.split("/")
    if len(parts) == 1:
        with contextlib.suppress(NamingError):
            return Place(outside(text))
    elif len(parts) == 2 and all(parts):
        return Place(text, parts[0], "", parts[1])
    elif len(parts) == 3 and all(parts):
        kind = kinds.workload(parts[1], API_VERSIONS)
        if kind is not None:
            return Place(text, parts[0], kind, parts[2])
    raise NamingError(
        f"{text!r} is neither a pod or workload (shop/web-0, shop/web, shop/deployment/web) nor an "
        "IP address"
    )


def outside(text: str) -> str:
    """An address; NamingError if `text` is none."""
    try:
        return str(ip(text))
    except ValueError:
        raise NamingError(f"{text!r} is no IP address, such as 203.0.113.9") from None


def port(text: str) -> PortAsked:
    """`80` (TCP), `53/UDP`, `http`, `http/TCP`, `ICMP`, `13/ICMP`; NamingError on anything else."""
    what, slash, after = text.partition("/")
    named = _PROTOCOLS.get(what.lower())
    if not slash and named in _ICMP:
        return PortAsked(text, named, _ICMP[named])
    protocol = _PROTOCOLS.get(after.lower())
    if not slash or protocol is not None:
        highest = _ICMP_TYPE_MAX if protocol in _ICMP else PORT_MAX
        if _NUMBER.fullmatch(what) and (protocol in _ICMP or int(what)) and int(what) <= highest:
            return PortAsked(text, protocol or Protocol.TCP, int(what))
        if PORT_NAME.fullmatch(what) and protocol not in _ICMP:
            return PortAsked(text, protocol, None, what)
    raise NamingError(
        f"{text!r} is no port; write 80, 53/UDP, a container port's name, or ICMP (protocols: "
        f"{', '.join(each.name for each in _PROTOCOLS.values())})"
    )


def pods(state: State, named: Place) -> list[EndpointState]:
    """The pods that `named` stands for, by name; none if it is an address.

    NotThere if there is none, or if two workloads have the name.
    """
    if not named.namespace:
        return []
    inside = [state.endpoints[uid] for uid in state.by_namespace.get(named.namespace, {})]
    if not named.kind:
        exact = [pod for pod in inside if pod.name == named.name]
        if exact:
            return [max(exact, key=lambda pod: pod.started_at)]
    owned: dict[str, list[EndpointState]] = {}
    for pod in sorted(inside, key=lambda pod: pod.name):
        kind, _, name = owner(pod)
        if name == named.name and named.kind in ("", kind):
            owned.setdefault(kind, []).append(pod)
    if len(owned) > 1:
        one, other, *_ = (
            f"{named.namespace}/{kind.lower()}/{named.name}" for kind in sorted(owned)
        )
        raise NotThere(f"{named.text} is two workloads; write {one} or {other}")
    if not owned:
        raise NotThere(*_absent(state, named, inside))
    ((_, found),) = owned.items()
    return found


def owner(pod: EndpointState) -> tuple[str, str, str]:
    """(kind, namespace, name) of its workload; empty if it has none."""
    kind, _, rest = pod.owner.partition("/")
    namespace, _, name = rest.partition("/")
    return kind, namespace, name


def _absent(state: State, named: Place, inside: Iterable[EndpointState]) -> tuple[str, str]:
    """(why there is no such pod, what to type)"""
    for refused in state.refused_pods.values():
        if (refused.namespace, refused.name) == (named.namespace, named.name):
            return f"{named.text} has no identity: {refused.reason}", "tabard get pods -o wide"
    known = {pod.name for pod in inside} | {owner(pod)[2] for pod in inside}
    near = get_close_matches(named.name, sorted(known - {""}), n=1)
    hint = f"; did you mean {named.namespace}/{near[0]}?" if near else ""
    return f"there is no pod or workload {named.text}{hint}", "tabard get pods"


def ports(state: State, asked: PortAsked, destination: Party) -> list[tuple[Protocol, int]]:
    """What the port means at `destination`; NotThere if that has no such name."""
    if asked.number is not None:
        assert asked.protocol is not None, "a number is one of some protocol"
        return [(asked.protocol, asked.number)]
    if destination.role is not Role.POD:
        raise NotThere(f"{asked.text} names a port, and the destination is no pod; give a number")
    known = sorted(named_ports(state.identities[destination.identity].labels))
    found = [
        (Protocol[protocol], number)
        for name, number, protocol in known
        if name == asked.name and asked.protocol in (None, Protocol[protocol])
    ]
    if not found:
        there = ", ".join(f"{name} ({number}/{protocol})" for name, number, protocol in known)
        raise NotThere(f"the destination has no port named {asked.text}; it has {there or 'none'}")
    return found

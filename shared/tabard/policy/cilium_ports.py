"""Cilium's toPorts and icmps (pkg/policy/api l4.go, icmp.go, fqdn.go).

Of what it says about the content of connections, DNS lookups by name are enforced and nothing else.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tabard.dataplane.maps import Action, Direction, Protocol
from tabard.identity.syntax import PORT_NAME
from tabard.policy import schema
from tabard.policy.cilium_selectors import Scope
from tabard.policy.model import Port

PORTS_MAX = 40
"""Most ports of one `ports`, and types of one `fields` (maxPorts, maxICMPFields)."""
ICMP_TYPE_MAX = 255
NAME_MAX = 255
"""Longest domain name or pattern."""

_PROTOCOLS = {
    "TCP": (Protocol.TCP,),
    "UDP": (Protocol.UDP,),
    "SCTP": (Protocol.SCTP,),
    "ICMP": (Protocol.ICMP,),
    "ICMPV6": (Protocol.ICMPV6,),
    "ANY": (Protocol.TCP, Protocol.UDP, Protocol.SCTP),
}
_WITH_DNS = (Protocol.TCP, Protocol.UDP)
_OF_ICMP = (Protocol.ICMP, Protocol.ICMPV6)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,4}")
# What Cilium's expressions match, each in one way alone: Go's engine takes no longer for many.
_NAME = re.compile(r"[-a-zA-Z0-9_]+(\.[-a-zA-Z0-9_]+)*\.?")
_PATTERN = re.compile(r"(\*\*\.)?[-a-zA-Z0-9_*]+(\.[-a-zA-Z0-9_*]+)*\.?")
_L7 = {
    "http": "allow the port without it, and let the workload judge its requests",
    "kafka": "allow the port without it, and let the broker judge its requests",
    "l7": "allow the port without it",
    "l7proto": "allow the port without it",
}
_PROXIED = {
    "terminatingTLS": "leave it out",
    "originatingTLS": "leave it out",
    "serverNames": "name the servers in toFQDNs",
    "listener": "leave it out",
}

# fmt: off
_ICMP_TYPES = {
    "EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "Echo": 8, "EchoRequest": 8,
    "RouterAdvertisement": 9, "RouterSelection": 10, "TimeExceeded": 11, "ParameterProblem": 12,
    "Timestamp": 13, "TimestampReply": 14, "Photuris": 40, "ExtendedEchoRequest": 42,
    "ExtendedEchoReply": 43,
}
_ICMPV6_TYPES = {
    "DestinationUnreachable": 1, "PacketTooBig": 2, "TimeExceeded": 3, "ParameterProblem": 4,
    "EchoRequest": 128, "EchoReply": 129, "MulticastListenerQuery": 130,
    "MulticastListenerReport": 131, "MulticastListenerDone": 132, "RouterSolicitation": 133,
    "RouterAdvertisement": 134, "NeighborSolicitation": 135, "NeighborAdvertisement": 136,
    "RedirectMessage": 137, "RouterRenumbering": 138, "ICMPNodeInformationQuery": 139,
    "ICMPNodeInformationResponse": 140, "InverseNeighborDiscoverySolicitation": 141,
    "InverseNeighborDiscoveryAdvertisement": 142, "HomeAgentAddressDiscoveryRequest": 144,
    "HomeAgentAddressDiscoveryReply": 145, "MobilePrefixSolicitation": 146,
    "MobilePrefixAdvertisement": 147, "DuplicateAddressRequestCodeSuffix": 157,
    "DuplicateAddressConfirmationCodeSuffix": 158, "ExtendedEchoRequest": 160,
    "ExtendedEchoReply": 161,
}
# fmt: on
_FAMILIES = {"IPv4": (Protocol.ICMP, _ICMP_TYPES), "IPv6": (Protocol.ICMPV6, _ICMPV6_TYPES)}


def ports(
    given: Mapping[str, Any], path: str, direction: Direction, action: Action, scope: Scope
) -> list[tuple[str, Port]]:
    """(path beneath the rule's, port) of a rule's toPorts or icmps; none: every port."""
    to_ports, icmps = schema.items(given, "toPorts", path), schema.items(given, "icmps", path)
    if to_ports and icmps:
        schema.fail(
            f"{path}.icmps",
            given["icmps"],
            "the icmps block may only be present without toPorts; give it a rule of its own",
        )
    found = [
        pair for at, item in to_ports for pair in _to_ports(item, at, direction, action, scope)
    ]
    found += (pair for at, item in icmps for pair in _icmps(item, at))
    return [(at.removeprefix(f"{path}."), port) for at, port in found]


def _to_ports(
    value: object, path: str, direction: Direction, action: Action, scope: Scope
) -> Iterator[tuple[str, Port]]:
    known = ("ports",) if action is Action.DENY else ("ports", "rules", *_PROXIED)
    given = schema.fields(value, path, *known)
    for name, instead in _PROXIED.items():
        if name in given:
            schema.not_enforced(f"{path}.{name}", instead)
    listed = schema.items(given, "ports", path)
    lookups = _lookups(given["rules"], f"{path}.rules", direction) if "rules" in given else None
    if not listed:
        schema.fail(
            f"{path}.ports",
            given.get("ports"),
            "it must name a port (DNS rules port 53); for every port leave toPorts out",
        )
    _check_number(listed, f"{path}.ports")
    found = [(at, port) for at, item in listed for port in _port(item, at, lookups, scope)]
    if lookups is not None:
        # The proxy judges lookups over UDP; over TCP they are what other rules allow of it.
        found = [(at, port) for at, port in found if port.protocol is Protocol.UDP]
        if not found:
            schema.not_enforced(
                f"{path}.rules.dns",
                "lookups are judged over UDP; name its port, or allow TCP in a rule without dns",
            )
    yield from found


def _port(value: object, path: str, lookups: frozenset[str] | None, scope: Scope) -> Iterator[Port]:
    given = schema.fields(value, path, "port", "endPort", "protocol")
    protocols = _protocols(given.get("protocol", "ANY"), f"{path}.protocol", scope)
    if lookups is not None:
        protocols = tuple(protocol for protocol in protocols if protocol in _WITH_DNS)
        if not protocols:
            schema.fail(
                f"{path}.protocol", given.get("protocol"), "DNS is asked over UDP and TCP alone"
            )
    first, last, name = _span(given, path)
    is_every = (first, last, name) == (0, 65_535, "")
    if protocols[0] in _OF_ICMP and (name or last > ICMP_TYPE_MAX) and not is_every:
        schema.fail(f"{path}.port", given["port"], "for ICMP it is a type in 0-255; write icmps")
    if lookups is not None and is_every:
        schema.fail(f"{path}.port", given["port"], "DNS rules need a port, such as 53")
    if lookups is not None and first != last and not name:
        schema.fail(f"{path}.endPort", given["endPort"], "DNS rules do not support port ranges")
    for protocol in protocols:
        yield Port(protocol, first, last, name, lookups)


def _protocols(value: object, path: str, scope: Scope) -> tuple[Protocol, ...]:
    """Documents write them in capitals (their schema); the API beneath takes any case."""
    known = "ICMPV6" if value == "ICMPv6" else value
    if scope.is_raw and isinstance(known, str):
        known = known.upper()
    if not isinstance(known, str) or known not in _PROTOCOLS:
        schema.fail(path, value, f"it must be {', '.join(_PROTOCOLS)}")
    return _PROTOCOLS[known]


def _span(given: Mapping[str, Any], path: str) -> tuple[int, int, str]:
    """(first, last, name): number 0 is every port, unless endPort makes it a range."""
    port, end = given.get("port"), given.get("endPort", 0)
    at, end_at = f"{path}.port", f"{path}.endPort"
    if not isinstance(port, str):
        schema.fail(at, port, "it must be a number in quotes, or the name of a containerPort")
    if type(end) is not int or not 0 <= end <= 65_535:
        schema.fail(end_at, end, "it must be a number in 0-65535")
    if not port.isdecimal():
        name = schema.text(
            port.lower(),
            at,
            PORT_NAME,
            "it must be a number in 0-65535, or a port's name: at most 15 letters, digits and '-', "
            "with one letter at least",
        )
        if end:
            schema.fail(end_at, end, "endPort needs a port that is a number")
        return 0, 65_535, name
    if not _NUMBER.fullmatch(port) or int(port) > 65_535:
        schema.fail(at, port, "it must be a number in 0-65535 without leading zeros")
    number = int(port)
    if end and end < number:
        schema.fail(end_at, end, f"it must not be below port ({number})")
    if not number and not end:
        return 0, 65_535, ""
    return number, end or number, ""


def _lookups(value: object, path: str, direction: Direction) -> frozenset[str] | None:
    """The patterns of the names that DNS may ask for; None if `rules` says nothing."""
    given = schema.fields(value, path, "dns", *_L7)
    for name, instead in _L7.items():
        if name in given:
            schema.not_enforced(f"{path}.{name}", instead)
    if "dns" not in given:
        return None
    if direction is Direction.INGRESS:
        schema.fail(f"{path}.dns", given["dns"], "DNS rules are not allowed on ingress")
    listed = schema.items(given, "dns", path)
    if not listed:
        schema.fail(f"{path}.dns", [], "it must have a name, or be left out to allow all lookups")
    return frozenset(name for at, item in listed for name in domain_names(item, at))


def domain_names(value: object, path: str) -> list[str]:
    """The pattern of a matchName or matchPattern, as model.DomainName has it."""
    given = schema.fields(value, path, "matchName", "matchPattern")
    found = []
    for field, syntax in (("matchName", _NAME), ("matchPattern", _PATTERN)):
        if field in given:
            text = schema.text(
                given[field],
                f"{path}.{field}",
                syntax,
                "it must be a domain name (letters, digits, '-' and '_' between dots"
                + (", '*' for any of them)" if syntax is _PATTERN else ")"),
                NAME_MAX,
            )
            found.append(text.lower().removesuffix("."))
    if not found:
        schema.fail(path, value, "it must have a matchName or a matchPattern")
    return found


def _icmps(value: object, path: str) -> Iterator[tuple[str, Port]]:
    given = schema.fields(value, path, "fields")
    listed = schema.items(given, "fields", path)
    if not listed:
        schema.fail(
            f"{path}.fields",
            given.get("fields"),
            "it must name a type; for every type leave icmps out",
        )
    _check_number(listed, f"{path}.fields")
    for at, item in listed:
        field = schema.fields(item, at, "family", "type")
        family = field.get("family", "IPv4")
        if not isinstance(family, str) or family not in _FAMILIES:
            schema.fail(f"{at}.family", family, "it must be IPv4 or IPv6")
        protocol, names = _FAMILIES[family]
        number = _icmp_type(field.get("type"), f"{at}.type", names)
        yield at, Port(protocol, number, number)


def _icmp_type(value: object, path: str, names: Mapping[str, int]) -> int:
    if isinstance(value, str) and value in names:
        return names[value]
    number = int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
    if type(number) is not int or not 0 <= number <= ICMP_TYPE_MAX:
        schema.fail(path, value, f"it must be a number in 0-255, or one of {', '.join(names)}")
    return number


def _check_number(listed: list[tuple[str, Any]], path: str) -> None:
    if len(listed) > PORTS_MAX:
        schema.fail(path, len(listed), f"at most {PORTS_MAX} are allowed; make it several")

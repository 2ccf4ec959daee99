"""The ports of policy.networking.k8s.io, as its two versions write them."""

from collections.abc import Mapping
from typing import Any

from tabard.dataplane.maps import Protocol
from tabard.identity.syntax import PORT_NAME
from tabard.policy import schema
from tabard.policy.kubernetes import PROTOCOLS
from tabard.policy.model import Port


def of_protocol(value: object, path: str) -> tuple[Port, ...]:
    """An item of `protocols` in v1alpha2."""
    kind, wanted = schema.one_of(value, path, "tcp", "udp", "sctp", "destinationNamedPort")
    at = f"{path}.{kind}"
    if kind == "destinationNamedPort":
        return _by_name(wanted, at)
    _, port = schema.one_of(wanted, at, "destinationPort")
    at = f"{at}.destinationPort"
    form, number = schema.one_of(port, at, "number", "range")
    protocol = PROTOCOLS[kind.upper()]
    if form == "range":
        ends = schema.fields(number, f"{at}.range", "start", "end")
        return (_range(protocol, ends, f"{at}.range"),)
    single = schema.port_number(number, f"{at}.number")
    return (Port(protocol, single, single),)


def of_port(value: object, path: str) -> tuple[Port, ...]:
    """An item of `ports` in v1alpha1."""
    kind, wanted = schema.one_of(value, path, "portNumber", "portRange", "namedPort")
    at = f"{path}.{kind}"
    match kind:
        case "namedPort":
            return _by_name(wanted, at)
        case "portNumber":
            given = schema.fields(wanted, at, "protocol", "port")
            single = schema.port_number(given.get("port"), f"{at}.port")
            return (Port(_named_protocol(given, at), single, single),)
        case _:
            given = schema.fields(wanted, at, "protocol", "start", "end")
            return (_range(_named_protocol(given, at), given, at),)


def _named_protocol(given: Mapping[str, Any], path: str) -> Protocol:
    name = schema.choice(given.get("protocol", "TCP"), f"{path}.protocol", PROTOCOLS)
    return PROTOCOLS[name]


def _range(protocol: Protocol, given: Mapping[str, Any], path: str) -> Port:
    first = schema.port_number(given.get("start"), f"{path}.start")
    last = schema.port_number(given.get("end"), f"{path}.end")
    if last <= first:
        schema.fail(f"{path}.end", last, f"it must be above start ({first})")
    return Port(protocol, first, last)


def _by_name(value: object, path: str) -> tuple[Port, ...]:
    """A containerPort's name, of whatever protocol."""
    rule = "it must be a containerPort's name: at most 15 lower-case letters, digits and '-'"
    name = schema.text(value, path, PORT_NAME, rule)
    return tuple(Port(protocol, name=name) for protocol in PROTOCOLS.values())

"""Verdicts on flows as lines of a table. Pure."""

import ipaddress
from collections.abc import Iterable, Iterator

from tabard.cli.records import moment
from tabard.dataplane.maps import Protocol
from tabard.events.status import FlowSeen

TITLES = ["TIME", "NODE", "DIRECTION", "VERDICT", "IDENTITIES", "FLOW"]
WIDTHS = (13, 8, 10, 23, 20)
_WITHOUT_PORTS = (Protocol.ICMP, Protocol.ICMPV6)


def lines(seen: Iterable[FlowSeen], *, everything: bool) -> Iterator[list[str]]:
    """The cells under TITLES, a flow a line; without the machines' own talk unless `everything`."""
    return (_cells(flow) for flow in seen if everything or not _own_talk(flow))


def _own_talk(flow: FlowSeen) -> bool:
    """Whether kernels speak among themselves: neighbour and router discovery, multicast groups."""
    source, destination = map(ipaddress.ip_address, (flow.source, flow.destination))
    return (
        source.is_link_local
        or source.is_unspecified
        or destination.is_link_local
        or destination.is_multicast
    )


def _cells(flow: FlowSeen) -> list[str]:
    try:
        protocol = Protocol(flow.protocol).name
    except ValueError:
        protocol = str(flow.protocol)
    ports = flow.protocol not in _WITHOUT_PORTS
    source = _place(flow.source, flow.source_port if ports else 0)
    destination = _place(flow.destination, flow.destination_port if ports else 0)
    return [
        moment(flow.at),
        flow.node,
        flow.direction,
        flow.reason,
        f"{flow.source_identity} → {flow.destination_identity}",
        f"{source} → {destination}/{protocol}",
    ]


def _place(address: str, port: int) -> str:
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

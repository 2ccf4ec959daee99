"""Flows as packets, each the first of a flow that was never seen before."""

from conformance.story import Flow
from tabard.dataplane.maps import Protocol
from tabard.dataplane.packet import PORTS, Packet, TcpFlag

SOURCES = 64_000
"""Source ports (or echo ids) that are used in turn."""
FIRST = 1_024


def packet(flow: Flow, number: int) -> Packet:
    """The packet that opens `flow`, the `number`th that is sent."""
    own = FIRST + number % SOURCES
    if flow.protocol in PORTS:
        flags = TcpFlag.SYN if flow.protocol == Protocol.TCP else TcpFlag(0)
        return Packet(flow.source, flow.destination, flow.protocol, own, flow.port, tcp_flags=flags)
    return Packet(flow.source, flow.destination, flow.protocol, icmp_type=flow.port, icmp_id=own)

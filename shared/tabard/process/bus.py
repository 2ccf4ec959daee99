"""What every service's page says of its bus."""

import asyncio

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from tabard.bus.port import Bus, BusError, Stream

ANSWER_S_MAX = 1.0
"""Longest that a scrape waits for anything outside its process's own memory."""
UNHEARD_S_MAX = 9.0
"""Longest that a service counts as ready without a stream's leader: one is elected within 9 s."""


def lack(bus: Bus | None, why: str = "") -> str:
    """Why there is no bus to work with; empty if there is. `why` is for none yet."""
    if bus is None:
        return f"not connected to the bus: {why or 'not tried yet'}"
    link = bus.link
    if not link.connected:
        return f"not connected to the bus: {link.failure}"
    if link.unheard_s > UNHEARD_S_MAX:
        return (
            f"connected, but for {link.unheard_s:.0f} s no stream has had a leader: most of the "
            "bus's servers must be up"
        )
    return ""


def families(service: str, bus: Bus | None) -> list[Metric]:
    """The connection of `service`."""
    link = None if bus is None else bus.link
    return [
        GaugeMetricFamily(
            f"tabard_{service}_bus_connected",
            "1 while the bus answers.",
            link is not None and link.connected,
        ),
        CounterMetricFamily(
            f"tabard_{service}_bus_connects_total",
            "Connections made to the bus; all but the first are reconnections.",
            0 if link is None else link.connects,
        ),
    ]


async def last_sequence(bus: Bus | None, stream: Stream) -> int | None:
    """The stream's end, if the bus says it in time."""
    if bus is None or not bus.link.connected:
        return None
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            return await bus.last_sequence(stream)
    except (TimeoutError, BusError):
        return None

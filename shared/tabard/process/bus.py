"""What every service's page says of its bus."""

import asyncio

from tabard.bus.port import Bus, BusError, Stream
from tabard.process.metrics import Family, counter, gauge

ANSWER_S_MAX = 1.0
"""Longest that a scrape waits for anything outside its process's own memory."""


def lack(bus: Bus | None, why: str = "") -> str:
    """Why there is no connection to the bus; empty if there is one. `why` is for no bus yet."""
    if bus is None:
        return f"not connected to the bus: {why or 'not tried yet'}"
    link = bus.link
    return "" if link.connected else f"not connected to the bus: {link.failure}"


def families(service: str, bus: Bus | None) -> list[Family]:
    """The connection of `service`."""
    link = None if bus is None else bus.link
    return [
        gauge(
            f"tabard_{service}_bus_connected",
            "1 while the bus answers.",
            link is not None and link.connected,
        ),
        counter(
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

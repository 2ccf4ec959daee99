"""Doing something at a rate that what it does to others cannot slow down (an open loop)."""

import asyncio
import time
from collections.abc import AsyncIterator


async def paced(count: int, rate: float) -> AsyncIterator[int]:
    """0, 1, … `count` - 1, `rate` of them a second; one that comes late hurries the next."""
    begun = time.perf_counter()
    for number in range(count):
        wait = begun + number / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        yield number

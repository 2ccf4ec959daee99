import asyncio

import pytest

from tabard.chaos.faults.ongoing import Ongoing


async def test_what_goes_on_ends_when_it_is_ended_and_only_then() -> None:
    done = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            done.append("ended")

    ongoing = Ongoing()
    await ongoing.end()
    ongoing.begin(work(), "work")
    await asyncio.sleep(0)
    assert done == []
    await ongoing.end()
    await ongoing.end()
    assert done == ["ended"]


async def test_what_failed_meanwhile_is_raised_once_at_its_end() -> None:
    async def work() -> None:
        raise OSError("no more")

    ongoing = Ongoing()
    ongoing.begin(work(), "work")
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="no more"):
        await ongoing.end()
    await ongoing.end()

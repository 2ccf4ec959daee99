import asyncio
import threading

import pytest

from tabard.agent.worker import Worker


async def test_calls_are_made_on_one_other_thread_in_their_order() -> None:
    worker, order = Worker(), list[int]()
    threads = await asyncio.gather(
        *(worker.call(lambda n=n: (order.append(n), threading.get_ident())[1]) for n in range(50))
    )
    worker.close()
    assert order == list(range(50))
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


async def test_at_once_a_call_is_made_where_it_is_awaited() -> None:
    worker = Worker(at_once=True)
    await worker.open()
    assert await worker.call(threading.get_ident) == threading.get_ident()
    with pytest.raises(KeyError):
        await worker.call({}.__getitem__, 1)
    worker.close()

"""The loop in which time stands still, and processes whose tasks vanish or wait."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from tabard.simulator import loop as simulated
from tabard.simulator.loop import Host, Livelock, VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    with made.running():
        yield made
        made.abandon()


def run_in(loop: VirtualLoop, host: Host, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return host.context.run(loop.create_task, work)


async def tell(said: list[str], *words: str) -> None:
    try:
        for word in words:
            said.append(word)
            await asyncio.sleep(1)
    finally:
        said.append("finally")


def test_time_goes_on_only_when_told_and_timers_come_in_order(loop: VirtualLoop) -> None:
    said: list[tuple[str, float]] = []
    begun = loop.time()
    for delay, word in ((2.0, "second"), (1.0, "first"), (2.0, "third"), (3.0, "never")):
        loop.call_later(delay, lambda word=word: said.append((word, loop.time() - begun)))
    loop.settle()
    assert said == []
    loop.advance(2.5)
    assert said == [("first", 1.0), ("second", 2.0), ("third", 2.0)]
    assert loop.time() - begun == 2.5


def test_what_a_timer_sets_off_happens_before_the_next_timer(loop: VirtualLoop) -> None:
    said: list[str] = []
    loop.call_later(1, lambda: loop.call_soon(lambda: said.append("what it set off")))
    loop.call_later(1.5, lambda: said.append("the next"))
    loop.advance(2)
    assert said == ["what it set off", "the next"]


def test_a_timeout_is_one_of_virtual_time(loop: VirtualLoop) -> None:
    async def wait() -> str:
        try:
            async with asyncio.timeout(3_600):
                await asyncio.Event().wait()
        except TimeoutError:
            return "late"
        return "never"

    task = loop.create_task(wait())
    loop.settle()
    assert not task.done()
    loop.advance(3_600)
    assert task.result() == "late"


def test_a_killed_hosts_tasks_vanish_without_their_finally(loop: VirtualLoop) -> None:
    said: list[str] = []
    host, other = Host("n1", 1), Host("n2", 1)
    run_in(loop, host, tell(said, "one", "two"))
    run_in(loop, other, tell(said, "other"))
    loop.settle()
    loop.kill(host)
    loop.advance(10)
    assert said == ["one", "other", "finally"]


def test_a_paused_host_does_later_what_became_due(loop: VirtualLoop) -> None:
    said: list[str] = []
    host = Host("n1", 1)
    run_in(loop, host, tell(said, "one", "two", "three"))
    loop.settle()
    host.is_running = False
    loop.advance(10)
    assert said == ["one"]
    loop.resume(host)
    loop.settle()
    assert said == ["one", "two"]
    loop.advance(1)
    assert said == ["one", "two", "three"]


def test_a_task_of_a_task_is_its_hosts(loop: VirtualLoop) -> None:
    said: list[str] = []

    async def parent() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(tell(said, "child", "again"))

    host = Host("n1", 1)
    run_in(loop, host, parent())
    loop.settle()
    loop.kill(host)
    loop.advance(5)
    assert said == ["child"]


def test_a_call_to_another_thread_is_done_at_once(loop: VirtualLoop) -> None:
    async def work() -> int:
        return await asyncio.to_thread(sum, (1, 2, 3))

    task = loop.create_task(work())
    loop.settle()
    assert task.result() == 6


def test_a_program_that_never_waits_is_told_of(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated, "CALLBACKS_MAX", 100)

    def spin() -> None:
        loop.call_soon(spin)

    spin()
    with pytest.raises(Livelock, match="100 callbacks at one moment"):
        loop.settle()


def test_sets_of_tasks_are_walked_in_the_order_in_which_they_were_made(loop: VirtualLoop) -> None:
    tasks = [loop.create_task(asyncio.sleep(0)) for _ in range(50)]
    assert list(set(tasks)) == tasks

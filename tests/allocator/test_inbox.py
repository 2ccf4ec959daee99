import asyncio

from tabard.allocator.inbox import INBOX_MESSAGES_MAX, Inbox
from tabard.bus.port import READ_MESSAGES_MAX, Stored


def messages(count: int) -> list[Stored]:
    return [Stored(number + 1, "s", b"", 0) for number in range(count)]


async def test_a_full_inbox_holds_back_who_fills_it_until_a_read_fits_again() -> None:
    inbox = Inbox()

    async def fill() -> None:
        while True:
            await inbox.put(messages(READ_MESSAGES_MAX))

    async with asyncio.TaskGroup() as tasks:
        filler = tasks.create_task(fill())
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(inbox) == INBOX_MESSAGES_MAX
        for _ in range(READ_MESSAGES_MAX - 1):
            inbox.pop()
        await asyncio.sleep(0)
        assert len(inbox) == INBOX_MESSAGES_MAX - READ_MESSAGES_MAX + 1
        inbox.pop()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(inbox) == INBOX_MESSAGES_MAX
        filler.cancel()


async def test_the_head_is_seen_before_it_is_taken() -> None:
    inbox = Inbox()
    assert inbox.head is None
    await inbox.put(messages(2))
    assert inbox.head is inbox.head is not None
    inbox.pop()
    assert inbox.head is not None
    assert inbox.head.message == Stored(2, "s", b"", 0)


async def test_waiting_ends_by_message_by_wake_and_by_time() -> None:
    inbox = Inbox()
    await inbox.wait(0.001)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(inbox.wait(60))
        await asyncio.sleep(0)
        inbox.wake()
        await waiting
        waiting = tasks.create_task(inbox.wait(60))
        await asyncio.sleep(0)
        await inbox.put(messages(1))
        await waiting
    await inbox.wait(60)

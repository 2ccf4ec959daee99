import pytest

from tabard.allocator.writer import FencedError, LostError, append
from tabard.bus.memory import MemoryBus
from tabard.bus.port import BusUnavailable, Outgoing, SequenceGap, Stored, Stream

BATCH = [Outgoing("tabard.ledger.a.b", b"one"), Outgoing("tabard.ledger.a.b", b"two")]
OTHER = [Outgoing("tabard.ledger.a.b", b"another's")]


class Flaky(MemoryBus):
    """Answers to `append` in the given order: lost before, lost after, or as it should."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self.answers = list(answers)
        self.reads_stale = 0

    async def append(self, messages, expected_last):  # type: ignore[no-untyped-def]
        answer = self.answers.pop(0) if self.answers else "well"
        if answer == "lost before":
            raise BusUnavailable("lost")
        last = await super().append(messages, expected_last)
        if answer == "lost after":
            raise BusUnavailable("lost")
        return last

    async def read(self, stream, start, limit=1000):  # type: ignore[no-untyped-def]
        if self.reads_stale:
            self.reads_stale -= 1
            return []
        return await super().read(stream, start, limit)

    async def ledger(self) -> list[bytes]:
        return [stored.payload for stored in await super().read(Stream.LEDGER, 1)]


class Pauses(list[int]):
    async def __call__(self, attempt: int) -> None:
        self.append(attempt)
        assert attempt < 10


@pytest.mark.parametrize(
    "answers",
    [(), ("lost before",), ("lost after",), ("lost before", "lost before", "lost after")],
)
async def test_a_batch_is_stored_once_whatever_answers_are_lost(answers: tuple[str, ...]) -> None:
    bus = Flaky(*answers)
    await append(bus, BATCH, 0, Pauses())
    assert await bus.ledger() == [b"one", b"two"]


async def test_a_conflict_with_the_own_batch_is_success() -> None:
    bus = Flaky("lost after")
    # The read that follows is answered by a replica that lags; the append then conflicts.
    bus.reads_stale = 1
    pauses = Pauses()
    await append(bus, BATCH, 0, pauses)
    assert await bus.ledger() == [b"one", b"two"]
    assert pauses == [1]


async def test_someone_elses_batch_in_the_place_is_a_fence() -> None:
    bus = Flaky()
    await bus.append(OTHER, 0)
    with pytest.raises(FencedError, match="LEDGER/1 was written by someone else"):
        await append(bus, BATCH, 0, Pauses())
    assert await bus.ledger() == [b"another's"]


async def test_a_place_that_was_trimmed_away_is_a_fence() -> None:
    bus = Flaky()
    await bus.append([*OTHER, *OTHER], 0)
    await bus.trim(2)
    with pytest.raises(FencedError, match=r"LEDGER begins at 2: .* from 1 on was trimmed away"):
        await append(bus, BATCH, 0, Pauses())


async def test_a_hole_in_the_ledger_is_no_fence() -> None:
    bus = Flaky()
    await bus.append([*OTHER, *OTHER, *OTHER], 0)
    bus.store.forget(Stream.LEDGER, 2)
    with pytest.raises(SequenceGap):
        await append(bus, BATCH, 1, Pauses())


async def test_a_part_of_the_batch_seen_is_not_taken_for_all_of_it() -> None:
    class Partial(Flaky):
        async def read(self, stream, start, limit=1000) -> list[Stored]:  # type: ignore[no-untyped-def]
            return (await super().read(stream, start, limit))[: self.shown]

        shown = 1

    bus = Partial("lost after")

    async def pause(attempt: int) -> None:
        assert attempt == 1
        bus.shown = 2

    await append(bus, BATCH, 0, pause)
    assert await bus.ledger() == [b"one", b"two"]


async def test_a_batch_torn_by_a_dying_bus_is_completed() -> None:
    class Torn(MemoryBus):
        torn = False

        async def append(self, messages, expected_last):  # type: ignore[no-untyped-def]
            if not self.torn:
                self.torn = True
                await super().append(messages[:1], expected_last)
                raise BusUnavailable("died")
            return await super().append(messages, expected_last)

    bus = Torn()
    await append(bus, BATCH, 0, Pauses())
    assert [stored.payload for stored in await bus.read(Stream.LEDGER, 1)] == [b"one", b"two"]


async def test_a_ledger_shorter_than_what_it_acknowledged_is_an_error() -> None:
    with pytest.raises(LostError, match="LEDGER ends at 0, but 7 was acknowledged"):
        await append(Flaky(), BATCH, 7, Pauses())

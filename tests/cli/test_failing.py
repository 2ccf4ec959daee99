import asyncio

import pytest

from command import Tabard
from ledgers import append, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import BusError, BusUnavailable, Stream
from tabard.cli.failing import run


def test_a_hole_in_the_ledger_is_to_be_looked_for_in_each_replica(
    tabard: Tabard, store: MemoryStore
) -> None:
    asyncio.run(append(MemoryBus(store), *small()))
    store.forget(Stream.LEDGER, 4)
    result = tabard("get", "pods")
    assert result.exit_code == 1
    assert "LEDGER holds 5, but not 4 before it" in result.stderr
    assert result.stderr.splitlines()[-1] == "  next: tabard bus check"


def test_who_reads_no_longer_is_no_failure_of_the_command() -> None:
    async def work() -> None:
        async with asyncio.TaskGroup():
            raise BrokenPipeError

    # The command's frame ends such a one without a word.
    with pytest.raises(BrokenPipeError):
        run("watch", work())


def test_of_several_tasks_errors_a_known_one_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        async with asyncio.TaskGroup():
            raise BusError("it is away")

    with pytest.raises(BaseException, match="1"):
        run("watch", work())
    assert capsys.readouterr().err.splitlines()[:2] == ["tabard: cannot watch", "  it is away"]


def test_of_a_bus_that_gives_no_answer_the_doctor_is_to_be_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def work() -> None:
        raise BusUnavailable("no answer")

    with pytest.raises(BaseException, match="1"):
        run("read the cluster's status", work())
    assert capsys.readouterr().err.splitlines()[-1] == "  next: tabard doctor"

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tabard.cluster.errors import NotReached
from tabard.cluster.gate import GateError, ask


@asynccontextmanager
async def agent(socket: Path, answer: bytes | None) -> AsyncIterator[list[bytes]]:
    """Answers every request with `answer`; None never answers."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, socket):
        yield asked


async def test_an_answer_comes_back(tmp_path: Path) -> None:
    async with agent(tmp_path / "s", b'{"id":1,"ok":true,"sequence":7}\n') as asked:
        assert (await ask(tmp_path / "s", "status", 5))["sequence"] == 7
    assert asked == [b'{"id": 1, "op": "status"}\n']


async def test_a_refusal_is_the_agents_own_words(tmp_path: Path) -> None:
    async with agent(tmp_path / "s", b'{"ok":false,"error":"no such pod"}\n'):
        with pytest.raises(GateError, match="no such pod"):
            await ask(tmp_path / "s", "detach", 5)


@pytest.mark.parametrize("answer", [b"", b"{", b"7\n", None])
async def test_what_is_no_answer_is_told(tmp_path: Path, answer: bytes | None) -> None:
    async with agent(tmp_path / "s", answer):
        with pytest.raises((NotReached, GateError), match="the agent at"):
            await ask(tmp_path / "s", "status", 0.2)


async def test_an_agent_that_is_down_is_not_reached(tmp_path: Path) -> None:
    with pytest.raises(NotReached, match="cannot be asked"):
        await ask(tmp_path / "absent", "status", 5)

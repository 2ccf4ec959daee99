"""An agent's gate that answers as the test says, on a real unix socket."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

OK = {
    "ok": True,
    "identity": 300,
    "sequence": 7,
    "local": True,
    "resolve_ms": 0.1,
    "program_ms": 0.2,
}


class StubGate:
    """`answer` turns a request into a reply; None gives none at all."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], Any] = lambda request: OK

    def asked(self, op: str) -> list[dict[str, Any]]:
        return [request for request in self.requests if request["op"] == op]

    @contextlib.asynccontextmanager
    async def serve(self, directory: Path, node: str) -> AsyncIterator[None]:
        path = directory / node / "agent.sock"
        path.parent.mkdir(parents=True, exist_ok=True)
        server = await asyncio.start_unix_server(self._converse, path)
        try:
            yield
        finally:
            server.close()
            path.unlink()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while line := await reader.readline():
                request = json.loads(line)
                self.requests.append(request)
                reply = self.answer(request)
                if isinstance(reply, dict):
                    reply = json.dumps({"id": request["id"], **reply}).encode() + b"\n"
                if reply is not None:
                    writer.write(reply)
                    await writer.drain()

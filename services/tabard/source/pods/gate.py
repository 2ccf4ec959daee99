"""Asking a node's agent: one JSON line to its unix socket, one JSON line back."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tabard.source.errors import PodFailed

SOCKET = "agent.sock"
ANSWER_BYTES_MAX = 1 << 20
GRACE_MS = 1_000
"""How much longer than the agent itself is waited for its answer."""


class Gate:
    """The agents' sockets, `<directory>/<node>/agent.sock`. A request has a connection of its own,
    so that nothing is left of it however it ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def ask(self, node: str, request: dict[str, Any], timeout_ms: int) -> dict[str, Any]:
        """The agent's answer if it is ok; PodFailed otherwise, also if none comes in time."""
        path = self._directory / node / SOCKET
        try:
            async with asyncio.timeout((timeout_ms + GRACE_MS) / 1000):
                line = await _exchange(path, json.dumps({"id": 1, **request}).encode() + b"\n")
        except TimeoutError as error:
            raise PodFailed(
                f"the agent of {node} gave no answer to {request['op']} within {timeout_ms} ms; "
                "see its log"
            ) from error
        except (OSError, ValueError) as error:
            raise PodFailed(
                f"the agent of {node} cannot be reached at {path}: {error}; is it running?"
            ) from error
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise PodFailed(f"the agent of {node} answered {line[:80]!r}, no JSON line") from error
        if not isinstance(answer, dict) or answer.get("ok") is not True:
            said = answer.get("error") if isinstance(answer, dict) else answer
            code = answer.get("code") if isinstance(answer, dict) else "?"
            raise PodFailed(f"the agent of {node} refused {request['op']} ({code}): {said}")
        return answer


async def _exchange(path: Path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path, limit=ANSWER_BYTES_MAX)
    try:
        writer.write(line)
        await writer.drain()
        return await reader.readline()
    finally:
        writer.close()

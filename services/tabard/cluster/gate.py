"""Asking an agent through its gate: newline-delimited JSON on a unix socket, one answer a line."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tabard.cluster.errors import ClusterError, NotReached

ANSWER_BYTES_MAX = 64 << 20
"""Longest answer taken: a drift report names every differing entry."""


class GateError(ClusterError):
    """The agent answered that it could not; the message is the agent's."""


async def ask(socket: Path, operation: str, timeout_s: float, **values: Any) -> dict[str, Any]:
    """The agent's answer to one request. NotReached if nobody answers in time."""
    request = json.dumps({"id": 1, "op": operation, **values}).encode() + b"\n"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(socket, limit=ANSWER_BYTES_MAX)
            try:
                writer.write(request)
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError as error:
        raise NotReached(f"the agent at {socket} gave no answer within {timeout_s:g} s") from error
    except (OSError, ValueError) as error:
        raise NotReached(f"the agent at {socket} cannot be asked: {error}") from error
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise NotReached(f"the agent at {socket} hung up without an answer") from error
    if not isinstance(answer, dict) or not answer.get("ok"):
        said = answer.get("error") if isinstance(answer, dict) else answer
        raise GateError(f"the agent at {socket} refused {operation!r}: {said}")
    return answer

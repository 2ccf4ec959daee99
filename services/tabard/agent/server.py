"""The agent's unix socket: one JSON request on a line, one JSON answer on a line."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, assert_never

import structlog

from tabard.agent.drift import DriftCheck
from tabard.agent.errors import Code, GateError
from tabard.agent.follower import Follower
from tabard.agent.gate import Gate
from tabard.agent.reconciler import Reconciler
from tabard.agent.report import Report
from tabard.agent.requests import (
    Attach,
    Contents,
    Detach,
    Drift,
    Packet,
    Request,
    Status,
    envelope,
    read,
)
from tabard.dataplane.port import DataplaneError

log = structlog.get_logger(__name__)

LINE_BYTES_MAX = 4 << 20
"""Largest request; a pod with the most labels that one may carry fits."""
CONNECTIONS_WAITING_MAX = 1_024
"""Most connections that wait to be welcomed, while many pods start at once (listen(2), backlog)."""
PENDING_MAX = 512
"""Most requests of one connection that are under way; then the next line waits to be read."""

Judge = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Judges a packet given by its fields; ValueError if they describe none."""


class Desk:
    """Answers requests: each gives one JSON object."""

    def __init__(
        self,
        *,
        gate: Gate,
        reconciler: Reconciler,
        follower: Follower,
        report: Report,
        drift: DriftCheck,
        judge: Judge | None,
    ) -> None:
        self.gate = gate
        self._reconciler = reconciler
        self._follower = follower
        self._report = report
        self._drift = drift
        self._judge = judge

    async def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one line; never raises for what a client may send."""
        reply: dict[str, Any] = {}
        try:
            found = envelope(line)
            reply["id"] = found.get("id")
            reply |= await self._carry_out(read(found, self._report.node))
        except GateError as error:
            log.info("agent.request_refused", code=error.code.value, error=str(error))
            return {**reply, "ok": False, "code": error.code.value, "error": str(error)}
        except DataplaneError as error:
            return {**reply, "ok": False, "code": Code.DATAPLANE.value, "error": str(error)}
        return {**reply, "ok": True}

    def refusal(self, line: bytes) -> dict[str, Any]:
        """The answer to one line that is not carried out, for the agent ends."""
        error = GateError(
            Code.STOPPING,
            "the agent is being stopped; what was asked for is not done, and an interface that was "
            "to be guarded stays closed; ask again once it is back",
        )
        reply = {"ok": False, "code": error.code.value, "error": str(error)}
        try:
            return {"id": envelope(line).get("id"), **reply}
        except GateError:
            return reply

    async def _carry_out(self, request: Request) -> dict[str, Any]:
        match request:
            case Attach():
                return asdict(await self.gate.attach(request))
            case Detach():
                await self.gate.detach(request)
                return {}
            case Status():
                return await self._status()
            case Drift():
                return asdict(await self._drift.check())
            case Contents():
                return await self._drift.contents()
            case Packet():
                if self._judge is None:
                    raise GateError(
                        Code.INVALID,
                        f"op is 'packet', which the {self._report.dataplane} dataplane cannot do: "
                        "send a real packet",
                    )
                try:
                    return await self._judge(request.fields)
                except ValueError as error:
                    raise GateError(Code.INVALID, f"the packet cannot be judged: {error}") from None
            case _:
                assert_never(request)

    async def _status(self) -> dict[str, Any]:
        reconciler, report = self._reconciler, self._report
        counters = await reconciler.worker.call(reconciler.dataplane.counters)
        by_direction: dict[str, dict[str, int]] = {}
        for (direction, reason), packets in counters.items():
            by_direction.setdefault(direction.name.lower(), {})[reason.name.lower()] = packets
        return {
            "node": report.node,
            "standing": reconciler.standing.value,
            "sequence": report.sequence,
            "folded": reconciler.state.sequence,
            "events": self._follower.events,
            "dataplane": report.dataplane,
            "mode": reconciler.mode.name.lower(),
            "endpoints": report.endpoints,
            "attached": sorted(reconciler.attachments.attached),
            "map_writes": dict(report.map_writes),
            "drift": report.drift,
            "full": dict(report.full),
            "counters": by_direction,
            "error": report.error,
        }


async def serve(path: Path, desk: Desk) -> None:
    """Serve for ever on the socket `path`; a killed agent's is replaced."""
    async with asyncio.TaskGroup() as group:

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            group.create_task(_converse(reader, writer, desk), name="gate connection")

        server = await asyncio.start_unix_server(
            connected, path, limit=LINE_BYTES_MAX, backlog=CONNECTIONS_WAITING_MAX
        )
        try:
            log.info("agent.serving", socket=str(path))
            await server.serve_forever()
        finally:
            server.close()


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, desk: Desk) -> None:
    room = asyncio.Semaphore(PENDING_MAX)

    async def answer(line: bytes) -> None:
        try:
            await _send(writer, await desk.answer(line))
        except asyncio.CancelledError:  # the agent is being stopped, and nothing waits any more
            _write(writer, desk.refusal(line))
            raise
        finally:
            room.release()

    try:
        async with asyncio.TaskGroup() as group:
            # What was asked is done even if the client is gone by then.
            while line := await _line(reader, writer):
                await room.acquire()
                group.create_task(answer(line), name="gate request")
    finally:
        writer.close()


async def _line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The next line; b"" at the end, and after one that is too long."""
    try:
        return await reader.readline()
    except ValueError:  # LimitOverrunError, as StreamReader.readline gives it
        fact = f"the request has more than {LINE_BYTES_MAX} bytes; the connection is closed"
        await _send(writer, {"ok": False, "code": Code.INVALID.value, "error": fact})
    except ConnectionError:
        pass
    return b""


async def _send(writer: asyncio.StreamWriter, reply: dict[str, Any]) -> None:
    _write(writer, reply)
    with contextlib.suppress(ConnectionError):
        await writer.drain()


def _write(writer: asyncio.StreamWriter, reply: dict[str, Any]) -> None:
    writer.write(json.dumps(reply).encode() + b"\n")

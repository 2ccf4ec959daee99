"""A guarded nats-server for tests: its auth directory, and connections in the roles of others."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats

from tabard.auth.directory import Directory, begin, opened
from tabard.auth.keys import read_key
from tabard.auth.roles import Holder, Role, holder
from tabard.bus.jetstream import JetStreamBus, Options
from tabard.bus.server import LOOPBACK, EmbeddedServer

HOLDERS = (*(Holder(role) for role in Role if role is not Role.AGENT), holder("agent.n1"))
OTHER = holder("agent.n2")
QUICK = Options(connect_timeout_s=5.0, request_timeout_s=5.0)
HASTY = Options(connect_timeout_s=0.5, request_timeout_s=0.5)
"""For connections that are to fail."""


def directory(path: Path, now: datetime | None = None) -> Directory:
    return begin(path, {"nats": (LOOPBACK,)}, (*HOLDERS, OTHER), now or datetime.now(UTC))


def server(auth: Directory, data: Path, name: str = "nats") -> EmbeddedServer:
    """A server with the directory's certificate and accounts; not started."""
    return EmbeddedServer(data, guard=auth.guard(name))


@dataclass(frozen=True, slots=True)
class Guarded:
    """A running guarded server."""

    path: Path
    server: EmbeddedServer

    @property
    def auth(self) -> Directory:
        return opened(self.path)

    def options(self, who: str, base: Options = QUICK) -> Options:
        return replace(base, nkey=self.auth.seed(holder(who)), ca=self.auth.ca)

    @asynccontextmanager
    async def bus(self, who: str, base: Options = QUICK) -> AsyncIterator[JetStreamBus]:
        """A bus in the role of `who`."""
        bus = await JetStreamBus.connect(self.server.url, name=who, options=self.options(who, base))
        try:
            yield bus
        finally:
            await bus.close()

    @asynccontextmanager
    async def raw(self, who: str) -> AsyncIterator["Raw"]:
        """A client that lets everything be tried, in the role of `who`."""
        key = read_key(self.auth.seed(holder(who)))
        raw = Raw(key.inbox)
        raw.client = await nats.connect(
            self.server.url,
            nkeys_seed_str=key.seed,
            inbox_prefix=key.inbox,
            tls=ssl.create_default_context(cafile=self.auth.ca),
            error_cb=raw.note,
            allow_reconnect=False,
        )
        try:
            yield raw
        finally:
            await raw.client.close()


class Raw:
    """nats-py's own client, and what the server denied it, in lower case."""

    client: Any

    def __init__(self, inbox: str) -> None:
        self.inbox = inbox
        self.denied: set[str] = set()

    async def note(self, error: Exception) -> None:
        text = str(error).lower()
        if "permissions violation" in text:  # others are those of closing TLS
            self.denied.add(text.partition(" to ")[2].strip('"'))

    async def publish(
        self,
        subjects: Iterable[str],
        payload: bytes = b"forged",
        to: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Publish on each; back when the server has taken or denied all."""
        for subject in subjects:
            await self.client.publish(subject, payload, reply=to, headers=headers)
        await self._settle()

    async def subscribe(self, subjects: Iterable[str]) -> list[str]:
        """Subscribe to each; the subjects of what comes from then on."""
        heard: list[str] = []

        async def note(message: Any) -> None:
            heard.append(message.subject)

        for subject in subjects:
            await self.client.subscribe(subject, cb=note)
        await self._settle()
        return heard

    async def _settle(self) -> None:
        """Until a message to itself is back: what the server says, it says in order."""
        own = await self.client.subscribe(f"{self.inbox}.own")
        await self.client.publish(f"{self.inbox}.own")
        await own.next_msg(timeout=5)
        await own.unsubscribe()


async def stored(client: Any, streams: Iterable[str]) -> dict[str, dict[str, int]]:
    """Stream → subject → messages, as an administrator's client is told."""
    found = {}
    for stream in streams:
        answer = await client.request(
            f"tabard.api.STREAM.INFO.{stream}", b'{"subjects_filter":">"}', timeout=5
        )
        found[stream] = json.loads(answer.data)["state"].get("subjects") or {}
    return found


async def quiet(turns: int = 5) -> None:
    """Let what is on its way arrive: nothing is waited for that must come."""
    for _ in range(turns):
        await asyncio.sleep(0.02)

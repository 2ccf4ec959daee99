"""A TCP proxy that can lose what a server says, as a broken network does."""

import asyncio
import contextlib
from urllib.parse import urlsplit


class Proxy:
    """Listens on `url` and carries bytes to and from `target`, a nats:// URL."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.url = ""
        self.deaf = False
        """Whether bytes from the server are thrown away."""
        self.connections = 0
        self.reconnected = asyncio.Event()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._links, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection."""
        for link in self._links:
            link.cancel()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        self.connections += 1
        if self.connections > 1:
            self.reconnected.set()
        try:
            out_reader, out_writer = await asyncio.open_connection(
                self._target.hostname, self._target.port
            )
            with contextlib.suppress(OSError, asyncio.CancelledError):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pipe(reader, out_writer, to_client=False))
                    group.create_task(self._pipe(out_reader, writer, to_client=True))
            out_writer.close()
        finally:
            writer.close()
            self._links.discard(task)

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_client: bool
    ) -> None:
        while data := await reader.read(65536):
            if not (to_client and self.deaf):
                writer.write(data)
                await writer.drain()
        raise ConnectionResetError("one side has closed")

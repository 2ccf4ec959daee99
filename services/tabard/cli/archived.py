"""A bus that is files of exported events: `--nats file:ARCHIVE[,file:…]`, so that what was trimmed
is read by the same commands as what is there."""

import time
from collections.abc import Sequence
from pathlib import Path

from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import BusError, Outgoing, Stream
from tabard.ledger.export import ExportError, exported

PREFIX = "file:"


class ArchivedBus(MemoryBus):
    """Holds LEDGER as the files have it; nothing can be written."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(MemoryStore(clock=time.time_ns))
        log = self.store.logs[Stream.LEDGER]
        try:
            log.messages.extend(exported(paths))
        except ExportError as error:
            raise BusError(str(error)) from error
        if not log.messages:
            raise BusError(f"{', '.join(map(str, paths))}: no events are in there")
        log.last = log.messages[-1].sequence
        log.last_by_subject.update((message.subject, message) for message in log.messages)
        if log.messages[0].sequence > 1:
            raise BusError(
                f"{paths[0]} begins at LEDGER/{log.messages[0].sequence}; give the archives of all "
                "trims, oldest first: --nats file:FIRST,file:SECOND"
            )

    async def publish(self, stream: Stream, messages: Sequence[Outgoing]) -> list[int]:
        raise BusError("an archive is read, and not written")

    async def append(self, messages: Sequence[Outgoing], expected_last: int) -> int:
        raise BusError("an archive is read, and not written")

    async def trim(self, before: int) -> int:
        raise BusError("an archive is read, and not written")


def paths_of(urls: Sequence[str]) -> list[Path] | None:
    """The files that `urls` name; None if they name servers. BusError if they name both."""
    files = [Path(url.removeprefix(PREFIX)) for url in urls if url.startswith(PREFIX)]
    if files and len(files) < len(urls):
        raise BusError("--nats names either servers or archives, each with file: before its path")
    return files or None

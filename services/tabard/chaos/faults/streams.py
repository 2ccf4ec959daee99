"""A damaged replica of a stream, at one server of the bus.

A block holds records: length (4 bytes, the highest bit says that there are headers), sequence (8),
time (8), length of the subject (2), subject, message, checksum (8); numbers are little-endian.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tabard.auth.roles import Role
from tabard.bus.port import Stream
from tabard.chaos.fault import Rig
from tabard.chaos.faults import waiting
from tabard.chaos.faults.disks import stopped, stored
from tabard.chaos.faults.harms import Harm, truncated
from tabard.chaos.faults.targets import Whom, process_of
from tabard.cluster import guard
from tabard.cluster.repair import SupervisedHands, check, damaged, repair
from tabard.cluster.tasks import wholly
from tabard.ledger.replicas import examine

ACCOUNT = "$G"
"""Of everybody's, on a bus that asks for no keys."""
HEADER_BYTES, CHECKSUM_BYTES = 22, 8


class DamagedStream:
    """The server is stopped and started again: one that was killed reads its newest block anew, and
    mends it by itself. Healing is the repair of `tabard bus repair`."""

    def __init__(self, whom: Whom, harm: Harm, stream: Stream = Stream.LEDGER) -> None:
        self.name = f"{harm.__name__} file of {stream} at {whom}"
        self._whom, self._harm, self._stream = whom, harm, stream
        self._server = ""

    async def inject(self, rig: Rig, chance: Random) -> str:
        server = await process_of(self._whom, rig, chance)
        self._server = server
        await stopped(rig, server)
        place = stored(rig, server) / "jetstream" / ACCOUNT / "streams" / self._stream / "msgs"
        block, sequence = await wholly(_damage, place, self._harm, chance)
        await waiting.up(rig, [server])
        await waiting.answering(rig.cluster.profile.monitoring, server)
        return f"{server}: {self._stream}/{sequence} in {block}"

    async def heal(self, rig: Rig) -> None:
        if not (server := self._server):
            return
        await waiting.up(rig, [server])
        await waiting.answering(rig.cluster.profile.monitoring, server)
        profile = rig.cluster.profile
        async with guard.connected(profile.nats, None, Role.ADMIN) as bus:
            found = await examine(bus, profile.monitoring, [self._stream])
            if self._stream in damaged(found, server):
                hurt = [self._stream]
                check(found, server, hurt)
                hands = SupervisedHands(rig.data)
                await repair(bus, profile.monitoring, found, server, hurt, hands, lambda line: None)
        self._server = ""


def _damage(place: Path, harm: Harm, chance: Random) -> tuple[Path, int]:
    """Flip a bit of a message, or cut the newest block within one; the block, and the message's
    sequence. Blocks."""
    blocks = sorted(place.glob("*.blk"), key=lambda path: int(path.stem))
    block = blocks[-1] if harm is truncated else chance.choice(blocks)
    content = block.read_bytes()
    at, length, sequence = chance.choice(list(records(content)))
    body = slice(at + HEADER_BYTES, at + length - CHECKSUM_BYTES)
    harmed = harm(content[body], chance)
    rest = b"" if harm is truncated else content[body.stop :]
    block.write_bytes(content[: body.start] + harmed + rest)
    return block, sequence


def records(block: bytes) -> Iterator[tuple[int, int, int]]:
    """(where it begins, its length, its sequence) of each record."""
    at = 0
    while at + HEADER_BYTES <= len(block):
        length = int.from_bytes(block[at : at + 4], "little") & 0x7FFFFFFF
        yield at, length, int.from_bytes(block[at + 4 : at + 12], "little")
        at += length

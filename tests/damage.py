"""Damage to what a nats-server stores: found by the file format, done while the server is stopped.

A block holds records: length (4 bytes, the highest bit says that there are headers), sequence (8),
time (8), length of the subject (2), subject, message, checksum (8); numbers are little-endian.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from tabard.bus.port import Stream

HEADER_BYTES = 22


def folder(store: Path, stream: Stream = Stream.LEDGER, account: str = "$G") -> Path:
    """Where a server with its data in `store` keeps its replica of `stream`."""
    return store / "jetstream" / account / "streams" / stream.value


def flip(stream: Path, sequence: int) -> None:
    """Flip one bit of a message's payload: the server counts it, and leaves it out of answers."""
    block, at, length = _record(stream, sequence)
    content = bytearray(block.read_bytes())
    content[at + length - 20] ^= 4  # before the checksum, within the payload
    block.write_bytes(content)


def cut(stream: Path, sequence: int) -> None:
    """End a block in the middle of a message, and forget the index: all from there to the block's
    end is lost, and the server knows."""
    block, at, _ = _record(stream, sequence)
    os.truncate(block, at + HEADER_BYTES + 4)
    (stream / "msgs" / "index.db").unlink(missing_ok=True)


def blocks(stream: Path) -> list[Path]:
    """The files that hold the messages, in order."""
    return sorted((stream / "msgs").glob("*.blk"), key=lambda path: int(path.stem))


def _record(stream: Path, sequence: int) -> tuple[Path, int, int]:
    for block in blocks(stream):
        for at, length, found in _records(block.read_bytes()):
            if found == sequence:
                return block, at, length
    raise AssertionError(f"{stream} holds no message {sequence}")


def _records(content: bytes) -> Iterator[tuple[int, int, int]]:
    at = 0
    while at + HEADER_BYTES <= len(content):
        length = int.from_bytes(content[at : at + 4], "little") & 0x7FFFFFFF
        yield at, length, int.from_bytes(content[at + 4 : at + 12], "little")
        at += length

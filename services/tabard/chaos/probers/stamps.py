"""Packets in a file while a run goes on: a msgpack array each, in the order in which they ended."""

from collections.abc import Iterator
from dataclasses import astuple, fields
from pathlib import Path
from sys import intern
from typing import IO, Any

import msgpack

from tabard.chaos.record import Packet

BUFFER_BYTES = 1 << 16
_FIELDS = len(fields(Packet))


class Stamps:
    """Writes them to `file`, which is open for writing bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._packer = msgpack.Packer()
        self.written = 0

    def add(self, packet: Packet) -> None:
        self._file.write(self._packer.pack(astuple(packet)))
        self.written += 1


def read(path: Path) -> Iterator[Packet]:
    """The packets of a file that was written to its end; ValueError if it is another's."""
    with path.open("rb") as file:
        for row in msgpack.Unpacker(file, use_list=False):
            if not isinstance(row, tuple) or len(row) != _FIELDS:
                raise ValueError(f"{path} holds something that is no packet: {row!r:.80}")
            # Pods and addresses are few, and packets are many.
            values: Iterator[Any] = (
                intern(each) if isinstance(each, str) else each for each in row
            )
            yield Packet(*values)

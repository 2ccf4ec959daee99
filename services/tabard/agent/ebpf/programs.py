"""Compiled programs into the kernel: their maps put in place, verified, pinned."""

import os
from collections.abc import Mapping
from pathlib import Path

from tabard.agent.ebpf import syscalls
from tabard.agent.ebpf.source import PROGRAMS
from tabard.dataplane.port import DataplaneError


def relocated(instructions: bytes, maps: Mapping[int, int]) -> bytes:
    """The instructions with map numbers replaced by descriptors (BPF_PSEUDO_MAP_FD)."""
    code = bytearray(instructions)
    at, size = 0, syscalls.INSTRUCTION.size
    while at < len(code):
        opcode, registers, offset, immediate = syscalls.INSTRUCTION.unpack_from(code, at)
        if opcode != syscalls.LD_IMM64:
            at += size
            continue
        if registers >> 4 == syscalls.PSEUDO_MAP_FD:
            syscalls.INSTRUCTION.pack_into(code, at, opcode, registers, offset, maps[immediate])
        at += 2 * size  # its second half holds the immediate's upper bits
    return bytes(code)


def load(compiled: Mapping[str, bytes], maps: Mapping[int, int], directory: Path) -> None:
    """Load all programs and pin them in `directory`, over what a killed loader left there."""
    for name, instructions in compiled.items():
        path = directory / name
        try:
            with syscalls.closing(
                syscalls.program_load(relocated(instructions, maps), name)
            ) as program:
                path.unlink(missing_ok=True)
                syscalls.pin(program, str(path))
        except OSError as error:
            raise DataplaneError(f"program {path} cannot be loaded: {error.strerror}") from error


def pinned(directory: Path) -> dict[str, int]:
    """Descriptors of the programs in `directory`; empty unless all are there."""
    found: dict[str, int] = {}
    try:
        for name in PROGRAMS:
            found[name] = syscalls.get(str(directory / name))
    except OSError as error:
        for descriptor in found.values():
            os.close(descriptor)
        if isinstance(error, FileNotFoundError):
            return {}
        raise DataplaneError(f"programs in {directory} cannot be opened: {error}") from error
    return found

"""One pinned map: made or taken over, written and read in batches."""

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

from tabard.agent.ebpf import syscalls
from tabard.agent.ebpf.layout import PERCPU_ARRAY, Shape
from tabard.dataplane.port import DataplaneError, MapFull

BATCH_MAX = 4096
"""Entries in one system call."""

_FULL = (errno.E2BIG, errno.ENOSPC)
"""Hash maps say the first, longest-prefix maps the second."""
_NO_BATCHES = (errno.EINVAL, errno.EOPNOTSUPP, syscalls.ENOTSUPP)


class KernelMap:
    def __init__(self, shape: Shape, descriptor: int) -> None:
        self.shape = shape
        self.descriptor = descriptor

    @classmethod
    def create(cls, shape: Shape, path: Path) -> "KernelMap":
        try:
            descriptor = syscalls.map_create(
                shape.kind, shape.key, shape.value, shape.entries, shape.flags, shape.name
            )
        except OSError as error:
            raise DataplaneError(f"map {path} cannot be made: {_why(error)}") from error
        made = cls(shape, descriptor)
        made.pin(path)
        return made

    @classmethod
    def find(cls, shape: Shape, path: Path, any_size: bool = False) -> "KernelMap | None":
        """What is pinned at `path`; None if nothing is, or a map of another shape.

        `any_size`: it may have room for more or fewer entries than `shape` says.
        """
        try:
            descriptor = syscalls.get(str(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataplaneError(f"map {path} cannot be opened: {_why(error)}") from error
        try:
            info = syscalls.map_info(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise DataplaneError(f"{path} is no map: {_why(error)}") from error
        found = Shape(shape.name, info.kind, info.key, info.value, info.entries, info.flags)
        if found == (replace(shape, entries=info.entries) if any_size else shape):
            return cls(found, descriptor)
        os.close(descriptor)
        return None

    def pin(self, path: Path) -> None:
        try:
            syscalls.pin(self.descriptor, str(path))
        except OSError as error:
            raise DataplaneError(f"map {path} cannot be pinned: {_why(error)}") from error

    def close(self) -> None:
        os.close(self.descriptor)

    def get(self, key: bytes) -> bytes:
        """KeyError if it is not there."""
        try:
            return syscalls.map_lookup(self.descriptor, key, self._value_size())
        except OSError as error:
            raise self._failed("read", error) from error

    def is_empty(self) -> bool:
        try:
            return not any(True for _ in syscalls.map_keys(self.descriptor, self.shape.key))
        except OSError as error:
            raise self._failed("read", error) from error

    def __contains__(self, key: bytes) -> bool:
        try:
            self.get(key)
        except KeyError:
            return False
        return True

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        key, value = self.shape.key, self._value_size()
        try:
            try:
                yield from syscalls.map_items_batch(self.descriptor, key, value, BATCH_MAX)
            except OSError as error:
                if error.errno not in _NO_BATCHES:
                    raise
                for each in syscalls.map_keys(self.descriptor, key):
                    yield each, syscalls.map_lookup(self.descriptor, each, value)
        except OSError as error:
            raise self._failed("read", error) from error

    def update(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Add or replace. MapFull at the first entry that has no room; those before it stay."""
        rest = iter(entries)
        while chunk := list(islice(rest, BATCH_MAX)):
            try:
                try:
                    syscalls.map_update_batch(self.descriptor, chunk)
                except syscalls.BatchError as error:
                    if error.errno not in _NO_BATCHES:
                        raise
                    for key, value in chunk[error.done :]:
                        syscalls.map_update(self.descriptor, key, value)
            except OSError as error:
                if error.errno in _FULL:
                    size = self.shape.entries
                    name = self.shape.name
                    raise MapFull(name, size, size, f"TABARD_{name.upper()}_MAX") from error
                raise self._failed("written", error) from error

    def replace(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Replace; keys that are not there stay so."""
        try:
            for key, value in entries:
                syscalls.map_replace(self.descriptor, key, value)
        except OSError as error:
            raise self._failed("written", error) from error

    def delete(self, keys: Iterable[bytes]) -> None:
        """Keys that are not there are no error."""
        rest = iter(keys)
        while chunk := list(islice(rest, BATCH_MAX)):
            try:
                self._delete(chunk)
            except OSError as error:
                raise self._failed("written", error) from error

    def _delete(self, keys: list[bytes]) -> None:
        while keys:
            try:
                syscalls.map_delete_batch(self.descriptor, keys)
                return
            except syscalls.BatchError as error:
                if error.errno == errno.ENOENT:
                    keys = keys[error.done + 1 :]
                elif error.errno in _NO_BATCHES:
                    for key in keys[error.done :]:
                        syscalls.map_delete(self.descriptor, key)
                    return
                else:
                    raise

    def _value_size(self) -> int:
        cpus = possible_cpus() if self.shape.kind == PERCPU_ARRAY else 1
        return self.shape.value * cpus

    def _failed(self, done: str, error: OSError) -> DataplaneError:
        return DataplaneError(f'map "{self.shape.name}" cannot be {done}: {_why(error)}')


def open_map(shape: Shape, path: Path) -> KernelMap:
    """The map pinned at `path`, or a new one pinned there."""
    found = KernelMap.find(shape, path)
    if found is not None:
        return found
    if path.exists():
        raise DataplaneError(
            f"{path} is pinned, but not by Tabard: it is no {shape.name} map of this schema; "
            "remove the pin and start again"
        )
    return KernelMap.create(shape, path)


@cache
def possible_cpus() -> int:
    """CPUs that a per-CPU value has room for (`0-3` or `0,2-3`): the highest number, and one.

    The kernel sets this when it boots.
    """
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.replace(",", "-").split("-")[-1]) + 1


def _why(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return "not permitted; run as root"
    return error.strerror or str(error)

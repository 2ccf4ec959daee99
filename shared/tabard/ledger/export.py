"""The ledger's stored events in a file, as they were: what a trim leaves to audits.

Gzipped lines of JSON. The first says what the file is; then each event has a line, with its payload
(chain hash included) in base64, so that whoever reads it checks it like the ledger itself.
"""

import gzip
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tabard.bus.port import Stored, Stream

_FORM = "tabard ledger 1"


class ExportError(Exception):
    """A file of exported events cannot be written, or is none; says which, where and why."""


class Export:
    """A file in the making: it appears at `path`, synced, at the end of a `with` that went well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")

    def __enter__(self) -> "Export":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("wb")
            os.fchmod(self._file.fileno(), 0o600)
        except OSError as error:
            raise ExportError(f"{self._partial} cannot be written: {error}") from error
        self._lines = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=6, mtime=0)
        self._write({"form": _FORM})
        return self

    def add(self, messages: Iterable[Stored]) -> None:
        for message in messages:
            payload = b64encode(message.payload).decode()
            self._write(
                {
                    "sequence": message.sequence,
                    "subject": message.subject,
                    "stored_at": message.stored_at,
                    "payload": payload,
                }
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._lines.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if kind is None:
                self._partial.rename(self.path)
                _sync(self.path.parent)
        except OSError as failure:
            raise ExportError(f"{self.path} cannot be written: {failure}") from failure
        finally:
            with suppress(OSError):
                self._partial.unlink(missing_ok=True)

    def _write(self, value: object) -> None:
        try:
            self._lines.write(json.dumps(value).encode() + b"\n")
        except OSError as error:
            raise ExportError(f"{self._partial} cannot be written: {error}") from error


def exported(paths: Iterable[Path]) -> Iterator[Stored]:
    """The events in these files, which must follow each other without a hole."""
    last = None
    for path in paths:
        for message in _read(path):
            if last is not None and message.sequence != last + 1:
                raise ExportError(
                    f"{path}: {Stream.LEDGER}/{message.sequence} follows {last} there; give all "
                    "files, oldest first"
                )
            last = message.sequence
            yield message


def _read(path: Path) -> Iterator[Stored]:
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                value = json.loads(line)
                if number == 1:
                    if value != {"form": _FORM}:
                        raise ValueError(f"it does not begin with {_FORM!r}")
                    continue
                yield Stored(
                    int(value["sequence"]),
                    str(value["subject"]),
                    b64decode(value["payload"], validate=True),
                    int(value["stored_at"]),
                )
    except FileNotFoundError as error:
        raise ExportError(f"there is no file {path}") from error
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{path}, line {number}: not a file of exported events ({error})"
        ) from error


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Manifest files and directories → objects. The one place of this package that touches files."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tabard.manifests.errors import ManifestError
from tabard.manifests.objects import Manifests, Refusal, check
from tabard.manifests.source import TEXT_BYTES_MAX, Document, load
from tabard.manifests.workloads import DEFAULT_NAMESPACE

SUFFIXES = (".yaml", ".yml", ".json")
STANDARD_INPUT = "-"
FILES_MAX = 10_000
"""Most files in one reading."""


def read(paths: Iterable[str | Path], namespace: str = DEFAULT_NAMESPACE) -> Manifests:
    """All objects in `paths` (files, directories, `-` for standard input).

    ManifestError at the first mistake, and nothing is taken. Of a directory the manifest files
    directly in it are read, by name, as kubectl does. Objects that name no namespace are put into
    `namespace`.
    """
    files = [file for path in paths for file in _files(Path(path))]
    if len(files) > FILES_MAX:
        raise ManifestError("", f"{len(files)} files are more than {FILES_MAX}; apply in parts")
    return check((document for file in files for document in _load(file)), namespace)


def survey(
    paths: Iterable[str | Path], namespace: str = DEFAULT_NAMESPACE
) -> tuple[Manifests, list[Refusal]]:
    """As `read`, but what cannot be taken is told of and passed over.

    ManifestError only for a path that is not there or holds nothing to read.
    """
    refused: list[Refusal] = []

    def documents() -> Iterator[Document]:
        for file in [file for path in paths for file in _files(Path(path))]:
            if not file.exists() and str(file) != STANDARD_INPUT:
                raise ManifestError("", "is not there", str(file))
            try:
                yield from _load(file)
            except ManifestError as error:
                refused.append(Refusal(error))

    return check(documents(), namespace, refused), refused


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not found:
        raise ManifestError(
            "", f"holds no {', '.join(SUFFIXES)} file (directories in it are not read)", str(path)
        )
    return found


def _load(file: Path) -> list[Document]:
    if str(file) == STANDARD_INPUT:
        return load(sys.stdin.read(TEXT_BYTES_MAX + 1), "stdin")
    try:
        if file.stat().st_size > TEXT_BYTES_MAX:
            raise ManifestError(
                "", f"is larger than {TEXT_BYTES_MAX} bytes; split the file", str(file)
            )
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ManifestError("", f"cannot be read: {error.strerror}", str(file)) from error
    except UnicodeDecodeError as error:
        raise ManifestError("", f"is not UTF-8: {error.reason}", str(file)) from error
    return load(text, str(file))

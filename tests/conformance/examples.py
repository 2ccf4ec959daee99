"""Cilium's documented examples (suites' README, 4): accepted, or refused as declared unsupported.

A refusal counts only if what it names is what Tabard declares it does not enforce; any other one,
of a document that its authors hold to be right, is a failure. Files that the suite calls doubtful
may be refused for the field that is in doubt.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from conformance.story import CaseError, Row, Rows
from tabard.manifests.errors import ManifestError
from tabard.manifests.source import load
from tabard.policy.model import PolicyError
from tabard.policy.reading import read_object
from tabard.policy.schema import NotEnforced

ACCEPTED = "accepted"
REFUSED = "refused as declared unsupported"
TAGS: Mapping[str, str] = {
    r"\.rules\.(http|kafka|l7|l7proto|dns)\b": "L7",
    r"\.(serverNames|listener|originatingTLS|terminatingTLS)\b": "L7",
    r"\.(from|to)Requires\b": "deprecated:requires",
    r"\.authentication\b": "authentication",
    r"\.(from|to)Groups\b": "toGroups",
}
"""Field paths that are refused by declaration → the tag that says so."""


def reader(folder: Path, entry: Mapping[str, Any]) -> Callable[[], Rows]:
    return partial(_read, folder / entry["file"], bool(entry.get("doubtful")))


def _read(file: Path, is_doubtful: bool) -> Rows:
    try:
        documents = load(file.read_text(encoding="utf-8"), file.name)
    except (OSError, ValueError, ManifestError) as error:
        raise CaseError(f"{file} cannot be read: {error}") from error
    return tuple(_rows([(each.value, each.origin) for each in documents], is_doubtful))


def _rows(documents: list[tuple[dict[str, Any], str]], is_doubtful: bool) -> Iterator[Row]:
    for document, origin in documents:
        tag, refusal = outcome(document, origin)
        probe = f"{document.get('kind')} at {origin}"
        if tag:
            yield Row(probe, REFUSED, partial(str, REFUSED), f"refused: {tag}")
        elif is_doubtful and refusal:
            yield Row(probe, "either", partial(str, "either"), "refused: doubtful")
        else:
            yield Row(probe, ACCEPTED, partial(str, refusal or ACCEPTED), ACCEPTED)


def outcome(document: Mapping[str, Any], origin: str = "") -> tuple[str, str]:
    """The tag of what is unsupported by declaration, and why the document is refused; or "", ""."""
    try:
        read_object(document, origin)
    except PolicyError as error:
        return unsupported(error), str(error)
    return "", ""


def unsupported(error: PolicyError) -> str:
    """The tag of what is right and not enforced; "" if the document is called wrong."""
    if not isinstance(error, NotEnforced):
        return ""
    tags = [tag for path, tag in TAGS.items() if re.search(path, f".{error.path}")]
    return tags[0] if tags else "not enforced"

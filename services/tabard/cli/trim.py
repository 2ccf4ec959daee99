"""`tabard policy trim`: an equivalent smaller set of policies, and the proof that it is one."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tabard.cli.contrast import compared
from tabard.cli.failing import Failure, fail
from tabard.cli.ground import Ground
from tabard.cli.kinds import TrimForm
from tabard.cli.printing import counted, show_table, show_value, tell
from tabard.cli.where import Where, ground
from tabard.ledger.state import ObjectKey, State
from tabard.policy.engine import Engine
from tabard.policy.newcomers import with_newcomers
from tabard.policy.reduction import Document, Reduction, reduce

WHAT = "trim the policies"
FOR_THESE = (
    "the same verdicts for these workloads, a pod without labels in each of their namespaces, "
    "nodes and the world, on every port, whatever addresses they have"
)
FOR_ANY = "the same verdicts for every workload that could be: what went is said by another part"


def trim(
    where: Where,
    any_workload: bool,
    unmatched: bool,
    directory: str,
    output: TrimForm,
) -> None:
    """Print what is left, or write it into `directory`."""
    found = ground(WHAT, where, notes=False)
    if not found.state.endpoints and not any_workload:
        why = "no workload is known, for which policies could be equivalent"
        fail(WHAT, Failure(why, "the same command with their manifests, or with --any-workload"))
    reduction = reduce(found.state, any_workload=any_workload, unmatched=unmatched)
    pairs = _proved(found, reduction)
    meaning = FOR_ANY if any_workload else FOR_THESE
    rows = list(_rows(found, reduction))
    if directory:
        _write(reduction, Path(directory))
    elif output is TrimForm.MANIFESTS:
        _show(reduction.documents)
    match output:
        case TrimForm.JSON | TrimForm.YAML:
            said = {
                "sequence": found.sequence,
                "equivalence": meaning,
                "pairs": pairs,
                "removed": rows,
                "policies": list(reduction.documents.values()),
            }
            show_value(said, output.value)
        case TrimForm.TABLE:
            if rows:
                titles = ["KIND", "NAMESPACE", "NAME", "PATH", "ORIGIN"]
                show_table(titles, ([row[key.lower()] for key in titles] for row in rows))
        case TrimForm.MANIFESTS:
            for row in rows:
                place = "/".join(filter(None, (row["kind"], row["namespace"], row["name"])))
                tell(f"{row['origin']}: {place}: {row['path'] or 'all of it'} goes")
    tell(f"{counted(len(rows), 'part')} removed: {meaning}")
    tell(f"proved by the engine on {counted(pairs, 'pair')} of known parties")


def _proved(found: Ground, reduction: Reduction) -> int:
    """How many pairs of parties were held against each other; they must agree in all."""
    one, _ = with_newcomers(found.state)
    kept = {
        key: replace(accepted, document=dict(reduction.documents[key]))
        for key, accepted in one.policies.items()
        if key in reduction.documents
    }
    other = replace(one, policies=kept)
    said = compared(_on(found, one), _on(found, other))
    if said["changes"]:
        fail(WHAT, Failure("the engine gives other verdicts by what would be left: a fault here"))
    parties: int = said["compared"]
    return parties * parties


def _on(found: Ground, state: State) -> Ground:
    return replace(found, state=state, engine=Engine(state))


def _rows(found: Ground, reduction: Reduction) -> Iterator[dict[str, Any]]:
    for key, path in reduction.removed:
        kind, namespace, name = key
        yield {
            "kind": kind,
            "namespace": namespace,
            "name": name,
            "path": path,
            "origin": found.origin(key, path),
        }


def _show(documents: Mapping[ObjectKey, Document]) -> None:
    print("---\n".join(_text(document) for _, document in sorted(documents.items())), end="")


def _text(document: Document) -> str:
    import yaml

    return yaml.safe_dump(_plain(document), sort_keys=False, allow_unicode=True, width=100)


def _plain(value: Any) -> Any:
    """Without tuples, which YAML has no plain form for."""
    match value:
        case Mapping():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return value


def _write(reduction: Reduction, directory: Path) -> None:
    """A file for each object; Failure if one is there already."""
    texts = {
        directory / f"{'-'.join(filter(None, key)).lower()}.yaml": _text(document)
        for key, document in sorted(reduction.documents.items())
    }
    there = [path for path in texts if path.exists()]
    try:
        if there:
            raise FileExistsError(f"{there[0]} is there already")
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail("write the policies", Failure(str(error), "the same command with an empty directory"))
    tell(f"{counted(len(texts), 'file')} in {directory}{os.sep}")

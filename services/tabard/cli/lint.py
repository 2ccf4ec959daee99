"""`tabard policy lint`: what is probably not meant in policies, with the line where it stands."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tabard.cli.failing import Exit, fail
from tabard.cli.kinds import FailOn, LintForm
from tabard.cli.printing import counted, show_lines, show_table, show_value, tell
from tabard.cli.sarif import sarif
from tabard.cli.where import Where, ground
from tabard.events.observed import Ports
from tabard.identity.labels import LabelFilter
from tabard.ledger.state import ObjectKey, State
from tabard.manifests.errors import ManifestError
from tabard.manifests.forecast import forecast
from tabard.manifests.objects import Refusal, Role
from tabard.manifests.reading import survey
from tabard.manifests.workloads import read_workload
from tabard.policy.lint import catalogue
from tabard.policy.lint.catalogue import RULES, Severity
from tabard.policy.lint.run import ignored, lint
from tabard.policy.lint.survey import Finding, Survey
from tabard.policy.lint.writing import of_document
from tabard.policy.model import PolicyError
from tabard.policy.reading import check_keys, read_object

WHAT = "look at the policies"
STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: ""}

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What was looked at, and what of it is to be told."""

    findings: Sequence[Finding]
    meant: int
    sequence: int | None = None
    has_pods: bool = True


def run(where: Where, fail_on: FailOn, output: LintForm) -> None:
    """Exit.FAILED if something is as bad as `fail_on`, or worse."""
    found = of_manifests(where.files) if where.files else of_ledger(where)
    rows = [_row(finding) for finding in found.findings]
    match output:
        case LintForm.SARIF:
            show_value(sarif(rows), "json")
        case LintForm.JSON | LintForm.YAML:
            show_value(
                {"sequence": found.sequence, "findings": rows, "meant": found.meant}, output.value
            )
        case LintForm.TABLE:
            show_lines(line for finding in found.findings for line in _lines(finding))
    _sum_up(found)
    if fail_on is FailOn.NEVER:
        return
    least = Severity[fail_on.name]
    if any(each.severity >= least for each in found.findings):
        raise SystemExit(Exit.FAILED)


def show_rules() -> None:
    show_table(
        ["RULE", "NAME", "SEVERITY", "MEANS"],
        ([rule.id, rule.name, rule.severity.name.lower(), rule.says] for rule in RULES.values()),
    )


def of_manifests(paths: Sequence[str]) -> Found:
    """What is in files alone; what cannot be taken is a finding, and the rest is looked at."""
    try:
        read, refused = survey(paths)
    except ManifestError as error:
        fail(WHAT, error)
    findings = list(_refused(refused))
    objects = []
    for manifest in read.objects:
        try:
            if manifest.role is Role.POLICY:
                found = read_object(manifest.document, manifest.origin)
                check_keys(found, LabelFilter())
        except PolicyError as error:
            origin = manifest.source.origin_of(error.path)
            findings.append(
                Finding(catalogue.REFUSED, manifest.key, error.path, error.reason, origin)
            )
        else:
            objects.append(manifest)
    by_key = {manifest.key: manifest for manifest in objects}
    state = forecast(objects)
    said: dict[ObjectKey, Document] = {
        each.key: each.document for each in objects if each.role is not Role.WORKLOAD
    }
    declared = _declared(each.document for each in objects if each.role is Role.WORKLOAD)
    looked = Survey(state, said, _by_identity(state, declared), whole=False)
    for finding in lint(looked):
        origin = by_key[finding.object].source.origin_of(finding.path)
        findings.append(replace(finding, origin=origin))
    documents = [(_key(each), each.source.value) for each in refused if each.source is not None]
    return _left(findings, [*said.items(), *documents], None, looked.has_pods)


def of_ledger(where: Where) -> Found:
    """The policies in force as of `where.at`, and those that were refused."""
    found = ground(WHAT, where)
    state = found.state
    declared = _declared(accepted.document for accepted in state.workloads.values())
    looked = Survey(state, {}, _by_identity(state, declared), whole=True)
    findings = [
        replace(finding, origin=found.origin(finding.object, finding.path))
        for finding in lint(looked)
    ]
    findings += (
        Finding(catalogue.REFUSED, key, "", refusal.reason, refusal.origin)
        for key, refusal in state.refused_policies.items()
    )
    return _left(findings, looked.documents.items(), found.sequence, looked.has_pods)


def _refused(refused: Iterable[Refusal]) -> Iterator[Finding]:
    for each in refused:
        key, error = _key(each), each.error
        yield Finding(catalogue.REFUSED, key, error.path, error.reason, error.origin)
        # Declared twice: what it says is read all the same.
        if each.source is not None and key[0] == "Namespace":
            for finding in of_document(key, each.source.value):
                yield replace(finding, origin=each.source.origin_of(finding.path))


def _key(refusal: Refusal) -> ObjectKey:
    """What the object calls itself, as far as it can be read."""
    document = refusal.source.value if refusal.source is not None else {}
    metadata = document.get("metadata")
    named = metadata if isinstance(metadata, Mapping) else {}
    texts = (document.get("kind"), named.get("namespace"), named.get("name"))
    kind, namespace, name = (text if isinstance(text, str) else "" for text in texts)
    return kind, namespace, name


def _declared(documents: Iterable[Document]) -> dict[str, Ports]:
    """Workload, as its pods name their owner → all its containerPorts."""
    workloads = map(read_workload, documents)
    return {workload.owner: workload.template.ports for workload in workloads}


def _by_identity(
    state: State, declared: Mapping[str, Ports]
) -> dict[int, frozenset[tuple[str, int]]]:
    """The containerPorts of each identity's pods, by (protocol, number)."""
    found: dict[int, frozenset[tuple[str, int]]] = {}
    for endpoint in state.endpoints.values():
        ports = declared.get(endpoint.owner, endpoint.ports)
        own = frozenset((protocol, number) for _, number, protocol in ports)
        found[endpoint.identity] = found.get(endpoint.identity, frozenset()) | own
    return found


def _left(
    findings: Iterable[Finding],
    documents: Iterable[tuple[ObjectKey, Document]],
    sequence: int | None,
    has_pods: bool,
) -> Found:
    """Without what authors say is meant, in the order of files and lines."""
    meant: dict[ObjectKey, frozenset[str]] = {}
    for key, document in documents:
        meant[key] = meant.get(key, frozenset()) | ignored(document)
    found = sorted(findings, key=_order)
    left = [each for each in found if each.rule.id not in meant.get(each.object, frozenset())]
    return Found(left, len(found) - len(left), sequence, has_pods)


def _order(finding: Finding) -> tuple[str, int, ObjectKey, str, str]:
    file, line = place(finding.origin)
    return file, line or 0, finding.object, finding.rule.id, finding.path


def place(origin: str) -> tuple[str, int | None]:
    """`file:line` in its two parts; no line if it has none."""
    file, _, line = origin.rpartition(":")
    return (file, int(line)) if file and line.isdecimal() else (origin, None)


def _row(finding: Finding) -> dict[str, Any]:
    kind, namespace, name = finding.object
    file, line = place(finding.origin)
    return {
        "rule": finding.rule.id,
        "name": finding.rule.name,
        "severity": finding.severity.name.lower(),
        "kind": kind,
        "namespace": namespace,
        "object": name,
        "path": finding.path,
        "message": finding.message,
        "mend": finding.rule.mend,
        "file": file,
        "line": line,
    }


def _lines(finding: Finding) -> Iterator[tuple[str, str]]:
    """As compilers tell it, so that editors find the place; beneath it what to do."""
    kind, namespace, name = finding.object
    named = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
    parts = (named.strip(), finding.path, finding.message)
    rule = f"{finding.severity.name.lower()} {finding.rule.id} {finding.rule.name}"
    yield (
        f"{finding.origin or '-'}: {rule}: {': '.join(filter(None, parts))}",
        STYLES[finding.severity],
    )
    yield f"    {finding.rule.mend}", ""


def _sum_up(found: Found) -> None:
    if not found.has_pods:
        tell("note: no workload is known, so nothing was held against pods; name their manifests")
    counts = Counter(finding.severity for finding in found.findings)
    said = [
        counted(counts[severity], severity.name.lower())
        for severity in reversed(Severity)
        if counts[severity]
    ]
    if found.meant:
        said.append(f"{found.meant} meant by annotation")
    tell(", ".join(said) or "nothing to tell")

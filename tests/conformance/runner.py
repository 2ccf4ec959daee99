"""A case's steps, told to one engine; after each step all that the case states of it is asked."""

import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from time import monotonic

from conformance.cluster import Cluster, Refused
from conformance.deciding_rule import deciding_rule
from conformance.planes.plane import Answer, Plane, PlaneError, allowed
from conformance.story import CaseError, Check, Flow, LeftOut, Row, Step, Story
from conformance.suites import Case
from tabard.dataplane.maps import Reason, address_text
from tabard.ledger.state import State


class Kind(Enum):
    WRONG = "wrong verdict"
    REFUSED = "refused"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Failure:
    """`probe`, `expected`, `got` and `rule` are empty where nothing was judged."""

    kind: Kind
    suite: str
    case: str
    step: str
    probe: str = ""
    expected: str = ""
    got: str = ""
    rule: str = ""
    """What decided, in each half that counts."""
    detail: str = ""


@dataclass(slots=True)
class CaseResult:
    case: Case
    passed: int = 0
    """Checks."""
    failures: list[Failure] = field(default_factory=list)
    left_out: str = ""
    """The tag by which the case did not run."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Checks left out of a case that ran, by tag."""
    tags: dict[str, int] = field(default_factory=dict)
    """Passed checks that are counted apart, by tag."""
    folded: int = 0
    """L7 parts that were folded into what they allow on layer 4."""
    seconds: float = 0.0

    @property
    def outcome(self) -> str:
        if self.left_out:
            return "skipped"
        return "failed" if self.failures else "passed"


def run(cases: Iterable[Case], plane: Plane) -> Iterator[CaseResult]:
    """One result for each case, in order."""
    for case in cases:
        started = monotonic()
        result = _run(case, plane)
        result.seconds = monotonic() - started
        yield result


def _run(case: Case, plane: Plane) -> CaseResult:
    result = CaseResult(case, left_out=case.left_out)
    if result.left_out:
        return result
    step = ""

    def fail(kind: Kind, detail: str) -> CaseResult:
        result.failures.append(Failure(kind, case.suite, case.name, step, detail=detail))
        return result

    try:
        story = case.read()
        if not isinstance(story, Story):
            for row in story:
                step = row.probe
                _look(row, result)
            return _nothing(result)
        result.folded = story.folded
        plane.begin()
        cluster = Cluster(
            story.addresses,
            story.nodes,
            story.avoid,
            one_node=story.one_node,
            node_labels=story.node_labels,
            cluster=story.cluster,
            enforcement=story.enforcement,
        )
        for each in story.steps:
            step = each.name
            for tag, number in each.skipped.items():
                result.skipped[tag] = result.skipped.get(tag, 0) + number
            _tell(each, cluster, plane)
            for check in each.checks(cluster):
                _judge(check, step, cluster.state, plane, result)
        plane.end()
    except LeftOut as case_left_out:
        result.left_out = case_left_out.tag
        return result
    except Refused as refused:
        return fail(Kind.REFUSED, str(refused))
    except (CaseError, PlaneError) as error:
        return fail(Kind.ERROR, str(error))
    except Exception as error:  # whatever breaks in one case: it failed, and the others run
        return fail(Kind.ERROR, _broken(error))
    return _nothing(result)


def _nothing(result: CaseResult) -> CaseResult:
    """A case of which nothing was judged is left out, or stated nothing."""
    if not result.passed and not result.failures:
        if result.skipped:
            result.left_out = max(result.skipped, key=lambda tag: result.skipped[tag])
        else:
            case = result.case
            says = "the case states nothing"
            result.failures.append(Failure(Kind.ERROR, case.suite, case.name, "", detail=says))
    return result


def _look(row: Row, result: CaseResult) -> None:
    case = result.case
    try:
        found = row.found()
    except LeftOut as left_out:
        result.skipped[left_out.tag] = result.skipped.get(left_out.tag, 0) + 1
        return
    if found == row.expected:
        result.passed += 1
        if row.tag:
            result.tags[row.tag] = result.tags.get(row.tag, 0) + 1
        return
    result.failures.append(
        Failure(Kind.WRONG, case.suite, case.name, "", row.probe, row.expected, found)
    )


def _broken(error: Exception) -> str:
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (at {Path(at.filename).name}:{at.lineno})"


def _tell(step: Step, cluster: Cluster, plane: Plane) -> None:
    for action in step.actions:
        action(cluster)
    cluster.settle()
    plane.follow(cluster.state, cluster.records())


def _judge(check: Check, step: str, state: State, plane: Plane, result: CaseResult) -> None:
    """All views must say what is expected; of those that do not, the first is told."""
    for view in plane.views:
        outcomes = [_passes(plane, view, flow) for flow in check.flows]
        found = check.found(outcomes)
        if found != check.expected:
            wrong = _telling(check, outcomes)
            result.failures.append(
                Failure(
                    Kind.WRONG,
                    result.case.suite,
                    result.case.name,
                    step,
                    check.probe,
                    check.expected,
                    found,
                    _rule(plane, view, wrong, state),
                )
            )
            return
    result.passed += 1


def _passes(plane: Plane, view: str, flow: Flow) -> bool:
    answer = plane.ask(view, flow)
    return all(map(allowed, map(answer.half, flow.halves)))


def _telling(check: Check, outcomes: list[bool]) -> Flow:
    """A flow that shows why: one that is refused if there is any."""
    refused = [flow for flow, passes in zip(check.flows, outcomes, strict=True) if not passes]
    return refused[0] if refused else check.flows[0]


def _rule(plane: Plane, view: str, flow: Flow, state: State) -> str:
    """What the pure engine says of the flow, and what the plane did if it is another one."""
    at = f"{address_text(flow.source)} -> {address_text(flow.destination)} port {flow.port}"
    if not view:
        return f"{deciding_rule(state, flow)} ({at})"
    answer: Answer = plane.reasons(view, flow)
    said = ", ".join(
        f"{direction.name.lower()} {half.name}"
        for direction in sorted(flow.halves, reverse=True)
        if isinstance(half := answer.half(direction), Reason)
    )
    return f"{said} in {view} mode ({at}); the pure engine: {deciding_rule(state, flow)}"

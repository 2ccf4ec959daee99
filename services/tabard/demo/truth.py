"""Trial 1: every pod to every pod on every port, with real packets, against the pure verdict."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tabard.demo.probe import Answer
from tabard.demo.session import Session, workload_of
from tabard.ledger.state import EndpointState

DEADLINE_S = 1.4
"""A TCP connect sends its first packet twice within this (RFC 6298: again after 1 s)."""
SECOND_DEADLINE_S = 4.0
SOURCES_AT_ONCE = 6
"""Pods that probe at the same time; each is a thread."""

Tell = Callable[[int, int], None]
"""Called with (done, all) probes."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    source: str
    destination: str
    target: str
    expected: bool


@dataclass(slots=True)
class Truth:
    """The outcome; `cells` is (source, destination workload) → port → verdicts of its probes."""

    probes: int = 0
    agree: int = 0
    retried: int = 0
    """Probes that the verdict allows and that were answered only at a second try."""
    disagreements: list[Disagreement] = field(default_factory=list)
    cells: dict[tuple[str, str], dict[str, set[bool]]] = field(default_factory=dict)

    @property
    def disagree(self) -> int:
        return len(self.disagreements)


async def run(session: Session, tell: Tell) -> Truth:
    """Probe all pairs of the session's pods."""
    expectation = session.expectation()
    pods = session.pods()
    places = {address: (pod, workload_of(pod)) for pod in pods for address in pod.addresses}
    targets = {pod.uid: list(session.targets(pod)) for pod in pods}
    everything = sum(map(len, targets.values()))
    total = sum(everything - len(targets[pod.uid]) for pod in pods)
    truth = Truth()
    limit = asyncio.Semaphore(SOURCES_AT_ONCE)

    async def from_pod(source: EndpointState) -> None:
        wanted = [target for pod in pods if pod is not source for target in targets[pod.uid]]
        expected = {target: expectation.allows_pod(source.uid, target, "") for target in wanted}
        async with limit:
            answers = await session.probe(source, wanted, DEADLINE_S)
            # Silence where an answer is due may be a busy machine; a packet that passed is final.
            silent = [a.target for a in answers if expected[a.target] and not a.passed]
            if silent:
                second = await session.probe(source, silent, SECOND_DEADLINE_S)
                answered = {a.target: a for a in second if a.passed}
                truth.retried += len(answered)
                answers = [answered.get(a.target, a) for a in answers]
        for answer in answers:
            _record(truth, source, places[answer.target.address], answer, expected[answer.target])
        tell(truth.probes, total)

    async with asyncio.TaskGroup() as group:
        for pod in pods:
            group.create_task(from_pod(pod), name=f"probe-{pod.name}")
    return truth


def _record(
    truth: Truth,
    source: EndpointState,
    place: tuple[EndpointState, str],
    answer: Answer,
    expected: bool,
) -> None:
    destination, workload = place
    truth.probes += 1
    port = f"{answer.target.port}"
    if answer.target.protocol != "TCP":
        port += f"/{answer.target.protocol}"
    cell = truth.cells.setdefault((workload_of(source), workload), {})
    cell.setdefault(port, set()).add(answer.passed)
    if answer.passed == expected:
        truth.agree += 1
    else:
        truth.disagreements.append(
            Disagreement(
                f"{source.namespace}/{source.name}",
                f"{destination.namespace}/{destination.name}",
                f"{answer.target.address} {port}",
                expected,
            )
        )

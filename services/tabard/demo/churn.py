"""Trial 3: identities change under traffic. No packet may pass that no state in force allowed."""

import asyncio
import time
from dataclasses import dataclass

from tabard.demo.hammer import Hammer
from tabard.demo.probe import Answer, Target
from tabard.demo.session import CHANGE_TIMEOUT_S, Change, Session, TrialError
from tabard.demo.timeline import Timeline
from tabard.events.observed import PodLabelsChanged, WorkloadRemoved, WorkloadSet
from tabard.ledger.state import EndpointState

ROUND_S = 0.1
"""A hammer's round: what is not answered by then counts as dropped."""
LINGER_S = 0.7
"""How long the hammers go on after a change is enforced."""


@dataclass(slots=True)
class Churn:
    """Counts of one part; `passed` and `dropped` are the hammers' probes."""

    name: str
    passed: int = 0
    dropped: int = 0
    passed_after: int = 0
    """Passed after the change was enforced, where the new state denies all: must be 0."""
    leaked: int = 0
    enforced_ms: float = 0.0
    """From sending the change until every node said that it enforces it."""


async def relabel(
    session: Session, pod: EndpointState, labels: dict[str, str], targets: list[Target]
) -> Churn:
    """Change a running pod's labels, so that it may no longer reach `targets`, while it tries."""
    timeline = Timeline(session.expectation(), time.time_ns())
    hammer = Hammer(session.reach, pod, targets, ROUND_S)
    try:
        await _passing(hammer)
        change = await session.change([PodLabelsChanged(pod.uid, tuple(sorted(labels.items())))])
        timeline.change(session.expectation(), change.sent, change.enforced)
        await asyncio.sleep(LINGER_S)
    finally:
        answers = await asyncio.to_thread(hammer.stop)
    if any(session.expectation().allows_pod(pod.uid, target, "") for target in targets):
        raise TrialError("the relabelled pod may still reach a target: the trial proves nothing")
    return _churn("relabel", timeline, {pod.uid: answers}, change)


async def reuse(
    session: Session,
    old: EndpointState,
    stranger: WorkloadSet,
    targets: list[Target],
    port: int,
    client: EndpointState,
) -> Churn:
    """Delete the bare pod `old` and start `stranger`, of another identity, at its address.

    The old pod may reach `targets`, and `client` may reach the old pod's TCP `port`; neither holds
    for the stranger. Both directions are tried all the time.
    """
    at_address = [Target(address, port) for address in old.addresses]
    timeline = Timeline(session.expectation(), time.time_ns())
    hammers = {
        client.uid: Hammer(session.reach, client, at_address, ROUND_S),
        # Its thread keeps the old pod's namespace alive when the name is gone.
        old.uid: Hammer(session.reach, old, targets, ROUND_S),
    }
    try:
        for hammer in hammers.values():
            await _passing(hammer)
        removal = await session.change([WorkloadRemoved("Pod", old.namespace, old.name)])
        while old.uid in session.state.endpoints:
            await session.settle()
        timeline.change(session.expectation(), removal.sent, time.time_ns())
        sent = time.time_ns()
        new = await start(session, stranger)
        if new.addresses != old.addresses:
            raise TrialError(f"{new.name} got {new.addresses}, not {old.addresses}")
        hammers[new.uid] = Hammer(session.reach, new, targets, ROUND_S)
        change = Change(sent, time.time_ns())
        timeline.change(session.expectation(), change.sent, change.enforced)
        await asyncio.sleep(LINGER_S)
    finally:
        answers = {uid: await asyncio.to_thread(hammer.stop) for uid, hammer in hammers.items()}
    expectation = session.expectation()
    if any(expectation.allows_pod(new.uid, target, "") for target in targets) or any(
        expectation.allows_pod(client.uid, target, "") for target in at_address
    ):
        raise TrialError("the stranger may do what the old pod might: the trial proves nothing")
    return _churn("address reuse", timeline, answers, change)


def _churn(
    name: str, timeline: Timeline, answers: dict[str, list[Answer]], change: Change
) -> Churn:
    everything = [answer for group in answers.values() for answer in group]
    return Churn(
        name,
        passed=sum(answer.passed for answer in everything),
        dropped=sum(not answer.passed for answer in everything),
        passed_after=sum(a.passed and a.began > change.enforced for a in everything),
        leaked=sum(len(timeline.leaks(uid, group)) for uid, group in answers.items()),
        enforced_ms=(change.enforced - change.sent) / 1e6,
    )


async def _passing(hammer: Hammer) -> None:
    """Wait until the hammer gets through: only then does its falling silent mean anything."""
    deadline = time.monotonic() + CHANGE_TIMEOUT_S
    while not any(answer.passed for answer in hammer.answers):
        if time.monotonic() > deadline:
            raise TrialError("the allowed probes never got through before the change")
        await asyncio.sleep(0.02)


def _bare(session: Session, workload: WorkloadSet) -> EndpointState | None:
    metadata = workload.document["metadata"]
    owner = f"Pod/{metadata['namespace']}/{metadata['name']}"
    return next((pod for pod in session.state.endpoints.values() if pod.owner == owner), None)


async def start(session: Session, workload: WorkloadSet) -> EndpointState:
    """Start a bare pod; returns once it is bound, enforced everywhere, and up."""
    await session.change([workload])
    deadline = time.monotonic() + CHANGE_TIMEOUT_S
    while (pod := _bare(session, workload)) is None:
        if time.monotonic() > deadline:
            raise TrialError(f"{workload.document['metadata']['name']} did not start")
        await session.settle()
    while pod.uid not in await session.starts():
        if time.monotonic() > deadline:
            raise TrialError(f"{pod.name} did not get ready")
        await asyncio.sleep(0.002)
    return pod

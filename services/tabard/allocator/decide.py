"""decide: what a command means in a state, as ledger events. No change is an empty list."""

from typing import assert_never

from tabard.allocator import names, namespaces, nodes, objects, pods, relabels, retirement
from tabard.allocator.commands import Command, Reject, Resolve, Tick
from tabard.allocator.plan import REASON_MAX, Indexes, Refusal
from tabard.allocator.react import react
from tabard.events import observed
from tabard.events.envelope import Recorded
from tabard.events.ledger import (
    EndpointUnbound,
    EventQuarantined,
    IdentityAllocated,
    LedgerEvent,
    LedgerTrimmed,
    PodRefused,
    RebindPlanned,
    RelabelPlanned,
)
from tabard.ledger.state import State

TICK_EVENTS_MAX = 500
"""Most events of one Tick; the next one, given at once, goes on where it ended."""


def answer(
    state: State, indexes: Indexes, record: Recorded[observed.ObservedEvent], now: int
) -> list[LedgerEvent]:
    """The events that an observed event calls for at `now`; one that cannot be carried is
    quarantined."""
    try:
        return decide(state, indexes, react(record, now))
    except Refusal as refusal:
        return decide(state, indexes, Reject(record.stream, record.sequence, refusal.reason))


def decide(state: State, indexes: Indexes, command: Command) -> list[LedgerEvent]:
    """The events that `command` calls for in `state`, of which nothing is changed.

    `indexes` are in step with `state`. Raises Refusal for an observed event that is well-formed
    and yet cannot be carried; it has had no effect.
    """
    match command:
        case observed.PodStarted():
            return pods.start(state, indexes, command)
        case observed.PodLabelsChanged():
            return pods.relabel(state, indexes, command)
        case observed.PodStopped():
            return pods.stop(state, command)
        case observed.NamespaceLabelsSet():
            return namespaces.label(state, indexes, command)
        case observed.NamespaceRemoved():
            return namespaces.remove(state, indexes, command)
        case observed.PolicySet():
            return objects.set_policy(state, indexes, command)
        case observed.PolicyRemoved():
            return objects.remove_policy(state, command)
        case observed.NodeJoined():
            return nodes.join(state, indexes, command)
        case observed.NodeLeft():
            return nodes.leave(state, command)
        case observed.WorkloadSet():
            return objects.set_workload(state, command)
        case observed.WorkloadRemoved():
            return objects.remove_workload(state, command)
        case observed.QuarantineRequested():
            if command.stream == "LEDGER" and command.sequence > state.sequence:
                raise Refusal(f"LEDGER/{command.sequence} is not written yet")
            return _quarantined(state, command)
        case observed.TrimRequested():
            if command.before > state.sequence:
                raise Refusal(f"LEDGER/{command.before} is not written yet")
            trimmed = (command.before, command.digest, command.archive, command.archive_sha256)
            return [LedgerTrimmed(*trimmed)]
        case Resolve():
            return names.resolve(state, indexes, command)
        case Reject():
            return _quarantined(state, command)
        case Tick():
            return (
                nodes.judge(state, indexes, command, TICK_EVENTS_MAX)
                or nodes.readmit(state, indexes)
                or relabels.carry_out(state, indexes, command, TICK_EVENTS_MAX)
                or names.expire(state, indexes, command, TICK_EVENTS_MAX)
                or retirement.retire(state, command, TICK_EVENTS_MAX)
                or retirement.release(state, indexes, TICK_EVENTS_MAX)
                or pods.retry(state, indexes, TICK_EVENTS_MAX)
                or pods.reclaim(state, indexes)
                or retirement.report(state, indexes)
            )
        case _:
            assert_never(command)


def _quarantined(state: State, command: observed.QuarantineRequested | Reject) -> list[LedgerEvent]:
    if (command.stream, command.sequence) in state.quarantined:
        return []
    return [EventQuarantined(command.stream, command.sequence, command.reason[:REASON_MAX])]


def ahead(events: list[LedgerEvent]) -> int:
    """How many of the first `events` may be written ahead of the rest of their decision.

    Allocating and planning change nothing for anybody, and what is refused in the end may be
    refused before; decided again after that, the rest is shorter. A refused pod's two events stay
    together.
    """
    early = IdentityAllocated | EndpointUnbound | PodRefused | RelabelPlanned | RebindPlanned
    for at, event in enumerate(events):
        if not isinstance(event, early):
            return at
    return len(events)

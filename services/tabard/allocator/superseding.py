"""What of the observed events that wait need not be decided, since a later one undoes it. Pure.

Passing over an event only leaves out states that the ledger would have gone through; it makes none
that it would not have. So of two events about one subject the first is passed over only if nothing
stands between them, and only if the second one is sure to be carried out. A pod that started and
stopped is left out whole: without it the ledger is as it was before its start, and closed to it.
"""

from collections.abc import Iterable

from tabard.allocator import validity
from tabard.events.ledger import (
    EndpointRelabelled,
    EndpointsRebound,
    EventQuarantined,
    LedgerEvent,
    NodeRefused,
    PodRefused,
    PolicyRefused,
    RebindPlanned,
    RelabelPlanned,
)
from tabard.events.observed import (
    NamespaceLabelsSet,
    NamespaceRemoved,
    NodeJoined,
    NodeLeft,
    ObservedEvent,
    PodLabelsChanged,
    PodStarted,
    PodStopped,
    PolicyRemoved,
    PolicySet,
    WorkloadRemoved,
    WorkloadSet,
)
from tabard.ledger.state import State

_REFUSALS = PodRefused | PolicyRefused | NodeRefused | EventQuarantined
_MOVES = EndpointRelabelled | EndpointsRebound
_PLANS = RelabelPlanned | RebindPlanned


def never_ran(state: State, pod: PodStarted) -> bool:
    """Whether `pod`, whose stop waits too, may be left out: nobody else loses an address to it."""
    return (
        not validity.uid(pod.uid)
        and pod.uid not in state.endpoints
        and not any(address in state.bindings for address in pod.addresses)
    )


def is_pair(state: State, first: ObservedEvent, second: ObservedEvent) -> bool:
    """Whether `second` says of the same subject, and whole, what `first` says."""
    match first, second:
        case PodLabelsChanged(uid), PodLabelsChanged(other) | PodStopped(other):
            return uid == other
        case (
            NamespaceLabelsSet(name) | NamespaceRemoved(name),
            NamespaceLabelsSet(other) | NamespaceRemoved(other),
        ):
            return name == other
        case NodeJoined(name), NodeJoined(other) | NodeLeft(other):
            return name == other and name not in state.lost and name not in state.refused_nodes
        case PolicySet() | PolicyRemoved(), PolicySet() | PolicyRemoved():
            return _key(first) == _key(second)
        case WorkloadSet() | WorkloadRemoved(), WorkloadSet() | WorkloadRemoved():
            return _key(first) == _key(second)
        case _:
            return False


def is_undone(
    state: State, first: ObservedEvent, answer: list[LedgerEvent], after: list[LedgerEvent]
) -> bool:
    """Whether the answer to `first` need not be given, where `after` is given instead: both answer
    in `state`, the second to the event that `is_pair` with `first`."""
    if any(isinstance(event, _REFUSALS) for event in (*answer, *after)):
        return False
    if isinstance(first, PolicySet | PolicyRemoved) and _key(first) in state.refused_policies:
        return False
    # What takes a pod away from an identity at once must not wait for nodes instead.
    if any(isinstance(event, _MOVES) for event in answer):
        if any(isinstance(event, _PLANS) for event in after):
            return False
        return not any(uid in state.relabels for uid in _pods(state, first))
    return True


def _pods(state: State, event: ObservedEvent) -> Iterable[str]:
    match event:
        case PodLabelsChanged():
            return (event.uid,)
        case NamespaceLabelsSet() | NamespaceRemoved():
            return state.by_namespace.get(event.name, ())
        case _:
            return ()


def _key(
    event: PolicySet | PolicyRemoved | WorkloadSet | WorkloadRemoved,
) -> tuple[str, str, str]:
    match event:
        case PolicySet() | WorkloadSet():
            return validity.key_of(event.document)
        case _:
            return (event.kind, event.namespace, event.name)

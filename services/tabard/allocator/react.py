"""From what was observed to what is to be done about it."""

from typing import assert_never

from tabard.allocator import validity
from tabard.allocator.commands import Command, Reject, Resolve
from tabard.events import observed
from tabard.events.envelope import Recorded
from tabard.events.observed import ObservedEvent

_LEDGER, _OBSERVED = "LEDGER", "OBSERVED"


def react(record: Recorded[ObservedEvent], now: int) -> Command:
    """The command in `record`: the event itself, or Reject if it is malformed.

    `now` (nanoseconds since the Unix epoch) goes into what depends on the time.

    Started pods and policies have refusals of their own, so what is wrong with those (a pod's UID
    aside) is for `decide` to say.
    """
    fault = _fault(record)
    if fault:
        return Reject(record.stream, record.sequence, fault)
    match record.event:
        case observed.NameAnswered() as said:
            return Resolve(said.name, said.addresses, said.ttl_s, now)
        case event:
            return event


def _fault(record: Recorded[ObservedEvent]) -> str:
    event = record.event
    match event:
        case observed.PodStarted() | observed.PodStopped():
            return validity.uid(event.uid)
        case observed.PodLabelsChanged():
            return validity.uid(event.uid) or validity.label_pairs(event.labels)
        case observed.NamespaceLabelsSet():
            return validity.namespace(event.name, event.labels)
        case observed.NamespaceRemoved():
            return validity.dns_label("namespace", event.name)
        case observed.NodeJoined():
            return validity.node(event)
        case observed.NodeLeft():
            return validity.dns_subdomain("node", event.name)
        case observed.WorkloadSet():
            return validity.document(event.document) or validity.object_key(
                *validity.key_of(event.document)
            )
        case observed.PolicyRemoved() | observed.WorkloadRemoved():
            return validity.object_key(event.kind, event.namespace, event.name)
        case observed.PolicySet():
            return ""
        case observed.NameAnswered():
            return validity.answer(event)
        case observed.QuarantineRequested():
            return _quarantine_fault(record.sequence, event)
        case observed.TrimRequested():
            return validity.trim(event)
        case _:
            assert_never(event)


def _quarantine_fault(sequence: int, event: observed.QuarantineRequested) -> str:
    if event.stream not in (_LEDGER, _OBSERVED):
        return f"only {_LEDGER} and {_OBSERVED} are read in order and can be quarantined"
    if event.sequence < 1 or (event.stream == _OBSERVED and event.sequence >= sequence):
        # What is not written yet must not be skipped unseen.
        return f"{event.stream}/{event.sequence} does not stand before this request"
    return ""

"""Which ledger events are about one object. Pure."""

from collections.abc import Callable

from tabard.events import ledger as events

Concerns = Callable[[events.LedgerEvent], bool]
"""Told every event in order; whether it is about the object."""


def of_pod(namespace: str | None, name: str) -> Concerns:
    """Of all pods that had the name, in any namespace if None."""
    uids: set[str] = set()

    def concerns(event: events.LedgerEvent) -> bool:
        match event:
            case events.EndpointBound() | events.PodRefused():
                if event.name == name and namespace in (None, event.namespace):
                    uids.add(event.uid)
                return event.uid in uids
            case (
                events.RelabelPlanned()
                | events.EndpointRelabelled()
                | events.EndpointUnbound()
                | events.EndpointTombstoned()
            ):
                return event.uid in uids
            case events.RebindPlanned() | events.EndpointsRebound():
                return any(uid in uids for uid, _ in event.changes)
        return False

    return concerns


def of_identity(number: int) -> Concerns:
    def concerns(event: events.LedgerEvent) -> bool:
        match event:
            case events.IdentityAllocated() | events.IdentityRetired() | events.IdentityReleased():
                return event.identity == number
            case events.SettingsAdopted():
                return any(fixed == number for fixed, _ in event.fixed)
        return False

    return concerns


def of_node(name: str) -> Concerns:
    def concerns(event: events.LedgerEvent) -> bool:
        match event:
            case (
                events.NodeAdded()
                | events.NodeRemoved()
                | events.NodeRefused()
                | events.NodeLost()
                | events.NodeReturned()
            ):
                return event.name == name
        return False

    return concerns


def of_policy(namespace: str | None, name: str) -> Concerns:
    """In any namespace if None."""

    def concerns(event: events.LedgerEvent) -> bool:
        match event:
            case events.PolicyAccepted() | events.PolicyRefused() | events.PolicyForgotten():
                return event.name == name and namespace in (None, event.namespace)
        return False

    return concerns


def of_workload(namespace: str | None, name: str) -> Concerns:
    """In any namespace if None."""

    def concerns(event: events.LedgerEvent) -> bool:
        match event:
            case events.WorkloadAccepted() | events.WorkloadForgotten():
                return event.name == name and namespace in (None, event.namespace)
        return False

    return concerns


def of_name(name: str) -> Concerns:
    """Of a domain name."""

    def concerns(event: events.LedgerEvent) -> bool:
        return isinstance(event, events.NameResolved | events.NameForgotten) and event.name == name

    return concerns


def of_binding(address: str) -> Concerns:
    """Of all pods that held the address, while they held it."""
    holder = ""

    def concerns(event: events.LedgerEvent) -> bool:
        nonlocal holder
        match event:
            case events.EndpointBound() if address in event.addresses:
                holder = event.uid
                return True
            case events.EndpointRelabelled():
                return event.uid == holder
            case events.EndpointsRebound():
                return any(uid == holder for uid, _ in event.changes)
            case events.EndpointUnbound() if event.uid == holder:
                holder = ""
                return True
        return False

    return concerns

"""Which ledger events made what is live: the sequences that the state itself does not keep.

A pure observer beside the fold: whoever reads the ledger and wants to explain it shows each record
to a Provenance too. It holds a few steps for each live object and nothing of what is gone.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from tabard.events import ledger as events
from tabard.events.codec import type_name
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.state import ObjectKey


@dataclass(frozen=True, slots=True)
class Step:
    """A ledger event that made something what it is."""

    sequence: int
    type: str
    """As on the wire, such as `policy.accepted`."""
    at: int
    """When it was stored, in nanoseconds since the Unix epoch, by the bus's clock."""
    cause: str = ""
    """`STREAM/sequence`; empty if it answers a clock or a start."""

    @property
    def place(self) -> str:
        return f"LEDGER/{self.sequence}"


@dataclass(frozen=True, slots=True)
class Life:
    """An endpoint's binding and the latest change of its identity or labels, if there was one."""

    bound: Step
    changed: Step | None = None


class Provenance:
    """The steps to what is live, through the last record that `observe` was shown.

    A reader that begins at a snapshot knows only what came after it.
    """

    def __init__(self) -> None:
        self.policies: dict[ObjectKey, Step] = {}
        """The acceptance of the version in force."""
        self.identities: dict[int, Step] = {}
        self.endpoints: dict[str, Life] = {}
        """By pod UID."""
        self.namespaces: dict[str, Step] = {}
        """The latest labelling."""
        self.nodes: dict[str, Step] = {}
        self.names: dict[tuple[str, str], Step] = {}
        """(domain name, address) → since when the one stands for the other."""

    def observe(self, record: LedgerRecord) -> None:
        """Take one step, in the order of the ledger."""
        event = record.event
        step = Step(record.sequence, type_name(event), record.stored_at, record.envelope.cause)
        match event:
            case events.SettingsAdopted():
                for number, _ in event.fixed:
                    self.identities.setdefault(number, step)
            case events.NodeAdded():
                self.nodes[event.name] = step
            case events.NodeRemoved():
                self.nodes.pop(event.name, None)
            case events.NamespaceLabelled():
                self.namespaces[event.name] = step
            case events.NamespaceForgotten():
                self.namespaces.pop(event.name, None)
            case events.IdentityAllocated():
                self.identities[event.identity] = step
            case events.IdentityRetired():
                self.identities.pop(event.identity, None)
            case events.EndpointBound():
                self.endpoints[event.uid] = Life(step)
            case events.EndpointRelabelled():
                self._change(event.uid, step)
            case events.EndpointsRebound():
                for uid, _ in event.changes:
                    self._change(uid, step)
            case events.EndpointUnbound():
                self.endpoints.pop(event.uid, None)
            case events.PolicyAccepted():
                self.policies[event.kind, event.namespace, event.name] = step
            case events.PolicyForgotten():
                self.policies.pop((event.kind, event.namespace, event.name), None)
            case events.NameResolved():
                for address, _ in event.addresses:
                    self.names.setdefault((event.name, address), step)
            case events.NameForgotten():
                for address in event.addresses:
                    self.names.pop((event.name, address), None)
            case (
                events.EpochClaimed()
                | events.NodeRefused()
                | events.NodeLost()
                | events.NodeReturned()
                | events.IdentityReleased()
                | events.NumbersExhausted()
                | events.NumbersAvailable()
                | events.RelabelPlanned()
                | events.RebindPlanned()
                | events.EndpointTombstoned()
                | events.PodRefused()
                | events.PolicyRefused()
                | events.WorkloadAccepted()
                | events.WorkloadForgotten()
                | events.EventQuarantined()
                | events.LedgerTrimmed()
                | events.CursorAdvanced()
            ):
                pass
            case _:
                assert_never(event)

    def _change(self, uid: str, step: Step) -> None:
        life = self.endpoints.get(uid)
        if life is not None:
            self.endpoints[uid] = replace(life, changed=step)

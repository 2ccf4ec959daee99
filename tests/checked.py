"""Ledger records made by hand, for those that look whether a ledger is as it must be."""

from collections.abc import Iterable

from tabard.events import ledger as events
from tabard.events.envelope import Envelope, Recorded
from tabard.events.ledger import LedgerEvent
from tabard.identity.labels import LabelFilter, LabelSet, pod_labels
from tabard.invariants.verdict import Violation
from tabard.ledger.fold import LedgerRecord

SETTINGS = events.SettingsAdopted("default", 0, 8, (), (), (), 1_000)
Told = LedgerEvent | tuple[LedgerEvent, int]
"""An event, alone or with the OBSERVED sequence that caused it."""


def records(*told: Told) -> list[LedgerRecord]:
    """A ledger from its first event on."""
    made = []
    for sequence, one in enumerate(told, 1):
        event, cause = one if isinstance(one, tuple) else (one, 0)
        place = f"OBSERVED/{cause}" if cause else ""
        envelope = Envelope(sequence.to_bytes(16), "", sequence, place)
        made.append(Recorded("LEDGER", sequence, envelope, event))
    return made


def cursor(sequence: int) -> events.CursorAdvanced:
    return events.CursorAdvanced("OBSERVED", sequence)


def claimed(epoch: int = 1, holder: str = "a") -> events.EpochClaimed:
    return events.EpochClaimed(epoch, holder)


def labels_of(app: str) -> LabelSet:
    """Of a pod in namespace `shop` with `app` as its only label."""
    return pod_labels(
        namespace="shop",
        labels={"app": app},
        namespace_labels={},
        service_account="default",
        cluster="default",
        label_filter=LabelFilter(),
    )


def allocated(number: int, app: str) -> events.IdentityAllocated:
    return events.IdentityAllocated(number, labels_of(app))


def bound(
    uid: str, number: int, app: str, *addresses: str, at: int = 0, node: str = "n1"
) -> events.EndpointBound:
    labels = (("app", app),)
    where = ("shop", uid, node, number, addresses, labels, at, "default", (), "", False)
    return events.EndpointBound(uid, *where)


def what(found: Iterable[Violation]) -> list[str]:
    return [violation.what for violation in found]

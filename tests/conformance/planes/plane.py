"""What every plane is asked, and what they answer with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from conformance.story import Flow
from tabard.dataplane.maps import Direction, Reason
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.state import State

JUDGED = frozenset(
    {
        Reason.ALLOWED_NO_POLICY,
        Reason.ALLOWED_POLICY,
        Reason.ALLOWED_HOST,
        Reason.DENIED_POLICY,
        Reason.DENIED_UNKNOWN_PEER,
    }
)
"""Verdicts on policy. Any other (a packet of a known flow, a spoofed source) would be the runner's
own fault, and could pass for the expected answer."""


class PlaneError(Exception):
    """The plane's answers are not verdicts on policy, or it cannot work here."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What each half says, and why if that is known; None where no pod of the cluster stands."""

    egress: Reason | bool | None
    ingress: Reason | bool | None

    def half(self, direction: Direction) -> Reason | bool | None:
        return self.egress if direction is Direction.EGRESS else self.ingress


class Plane(Protocol):
    name: str
    views: tuple[str, ...]
    """Every flow is asked in each of these; all must agree with the case."""

    def begin(self) -> None:
        """A new case begins: nothing is enforced."""
        ...

    def follow(self, state: State, records: Sequence[LedgerRecord]) -> None:
        """The state, the same object all along, has gone on by `records`; what is enforced changes
        by the difference."""
        ...

    def ask(self, view: str, flow: Flow) -> Answer:
        """Both halves of a flow, as if no packet had been sent before."""
        ...

    def reasons(self, view: str, flow: Flow) -> Answer:
        """The same, with the reasons; may be slow."""
        ...

    def end(self) -> None:
        """The case is over. PlaneError if something else than policy gave an answer."""
        ...

    def close(self) -> None:
        """Take away what was made."""
        ...


def allowed(half: Reason | bool | None) -> bool:
    """Whether the half lets the flow pass; where nobody stands, nobody objects."""
    return half is None or (half.allowed if isinstance(half, Reason) else half)

"""The end of an identity: idle, then retired (in quarantine), then released."""

from collections.abc import Mapping

from tabard.allocator.commands import Tick
from tabard.events.ledger import IdentityReleased, IdentityRetired, LedgerEvent
from tabard.identity.numbers import CLUSTER_MIN
from tabard.ledger.state import State

_NS_PER_MS = 1_000_000


def retire(state: State, tick: Tick, events_max: int) -> list[LedgerEvent]:
    """Identities that have had no user for the grace; those fixed by the operator stay."""
    assert state.settings is not None, "the grace is among the settings"
    due = tick.now - state.settings.retire_grace_ms * _NS_PER_MS
    retired: list[LedgerEvent] = []
    for number in state.idle:  # in the order in which they fell idle
        if number < CLUSTER_MIN:
            continue
        since = state.identities[number].idle_since
        if len(retired) == events_max or since is None or since > due:
            break
        retired.append(IdentityRetired(number))
    return retired


def release(state: State, tick: Tick, events_max: int) -> list[LedgerEvent]:
    """Retired numbers whose retirement every live node enforces; with no node, nobody can err."""
    passed = min(
        (_watermark(state, node, tick.watermarks) for node in state.nodes), default=state.sequence
    )
    released: list[LedgerEvent] = []
    for number, retired_at in state.retired.items():  # in the order of their retirement
        if len(released) == events_max or retired_at > passed:
            break
        released.append(IdentityReleased(number))
    return released


def _watermark(state: State, node: str, watermarks: Mapping[str, int]) -> int:
    sequence = watermarks.get(node, 0)
    # Nobody can enforce what is not written: such a word is about another ledger.
    return sequence if sequence <= state.sequence else 0

"""The end of an identity: idle, then retired (in quarantine), then released; and the end of all
numbers."""

from tabard.allocator.commands import NS_PER_MS, Tick
from tabard.allocator.plan import Indexes
from tabard.events.ledger import (
    IdentityReleased,
    IdentityRetired,
    LedgerEvent,
    NumbersAvailable,
    NumbersExhausted,
)
from tabard.identity.numbers import CLUSTER_MIN, is_pod
from tabard.ledger.state import State


def retire(state: State, tick: Tick, events_max: int) -> list[LedgerEvent]:
    """Identities that have had no user for the grace; those fixed by the operator stay."""
    assert state.settings is not None, "the grace is among the settings"
    due = tick.now - state.settings.retire_grace_ms * NS_PER_MS
    retired: list[LedgerEvent] = []
    for number in state.idle:  # in the order in which they fell idle
        if number < CLUSTER_MIN:
            continue
        since = state.identities[number].idle_since
        if len(retired) == events_max or since is None or since > due:
            break
        retired.append(IdentityRetired(number))
    return retired


def release(state: State, indexes: Indexes, events_max: int) -> list[LedgerEvent]:
    """Retired numbers whose retirement every live node enforces; with no node, nobody can err."""
    passed = indexes.watermarks.passed(state)
    released: list[LedgerEvent] = []
    for number, retired_at in state.retired.items():  # in the order of their retirement
        if len(released) == events_max or retired_at > passed:
            break
        released.append(IdentityReleased(number))
    return released


def report(state: State, indexes: Indexes) -> list[LedgerEvent]:
    """That numbers have run out, or that they suffice again; each once.

    To be asked when pods that wait have been tried: whoever waits then could not be helped.
    """
    free = len(indexes.numbering.cluster)
    if state.exhausted is None and state.waiting and not free:
        pods = sum(is_pod(number) for number in state.identities)
        return [NumbersExhausted(pods, indexes.heaviest_keys(state))]
    if state.exhausted is not None and free and not state.waiting:
        return [NumbersAvailable(free)]
    return []

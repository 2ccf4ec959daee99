"""Running pods that are to have another identity: when every node knows it, or time is up.

A peer's node drops packets of an identity that it does not know. All live nodes are waited for, not
only those with peers: which they are hangs on policies and on their mode, and a node that is up
takes no longer than any other.
"""

from tabard.allocator.commands import Tick
from tabard.allocator.plan import Indexes, Plan
from tabard.events.ledger import BEHIND_MAX, EndpointRelabelled, EndpointsRebound, LedgerEvent
from tabard.ledger.state import State, live_nodes

CHANGES_MAX = 4_096
"""Most endpoints in one event: with the longest UIDs it has about 600 kB."""


def is_known(plan: Plan, number: int) -> bool:
    """Whether every live node knows `number`, which `plan` gave, already."""
    state = plan.state
    if number in plan.allotment:
        return not live_nodes(state)
    held = state.identities.get(number)  # reserved ones have no allocation to wait for
    return held is None or held.allocated_at <= plan.indexes.watermarks.passed(state)


def carry_out(state: State, indexes: Indexes, tick: Tick, events_max: int) -> list[LedgerEvent]:
    """What is planned and ready, or has waited for too long.

    Who has just begun to listen, or does so again, has not heard yet who is ready.
    """
    words = indexes.watermarks
    passed = words.passed(state)
    timeout_ns = tick.limits.relabel_timeout_ns
    relabelled: list[LedgerEvent] = []
    rebound: dict[tuple[str, tuple[str, ...]], list[tuple[str, int]]] = {}
    for uid, plan in state.relabels.items():
        if len(relabelled) + len(rebound) == events_max:
            break
        behind: tuple[str, ...] = ()
        if plan.planned_at > passed:
            if min(words.unbroken_ns, tick.now - plan.since) < timeout_ns:
                continue
            behind = _behind(state, indexes, plan.planned_at)
        endpoint = state.endpoints[uid]
        if plan.labels == endpoint.labels:
            of = rebound.setdefault((endpoint.namespace, behind), [])
            of.append((uid, plan.identity))
        else:
            relabelled.append(EndpointRelabelled(uid, plan.identity, plan.labels, behind))
    return [
        *relabelled,
        *(
            event
            for (namespace, behind), changes in rebound.items()
            for event in rebinding(namespace, changes, behind)
        ),
    ]


def rebinding(
    namespace: str, changes: list[tuple[str, int]], behind: tuple[str, ...] = ()
) -> list[EndpointsRebound]:
    """`changes` in as few events as carry them."""
    return [
        EndpointsRebound(namespace, tuple(changes[start : start + CHANGES_MAX]), behind)
        for start in range(0, len(changes), CHANGES_MAX)
    ]


def _behind(state: State, indexes: Indexes, sequence: int) -> tuple[str, ...]:
    words = indexes.watermarks
    late = sorted(name for name in live_nodes(state) if words.of(name) < sequence)
    return tuple(late[:BEHIND_MAX])

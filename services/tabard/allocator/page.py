"""The allocator's /metrics and /readyz, from the state of its parts."""

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from tabard.allocator.patience import Patience
from tabard.allocator.service import Allocator, Leader
from tabard.bus.port import Bus, Stream
from tabard.policy.reading import REFERENT_KINDS
from tabard.process import bus
from tabard.process.metrics import counters, gauges


class AllocatorPage:
    """`bus` and `allocator` are filled in once the process has them."""

    def __init__(self, patience: Patience) -> None:
        self.bus: Bus | None = None
        self.allocator: Allocator | None = None
        self._patience = patience

    def unready(self) -> str:
        stopped = self._patience.stands_before
        reasons = (
            bus.lack(self.bus, self._patience.failure),
            "" if self._leads else "it does not lead yet",
            f"it stands before {stopped}, which it cannot take" if stopped else "",
        )
        return "; ".join(reason for reason in reasons if reason)

    @property
    def _leads(self) -> bool:
        return self.allocator is not None and self.allocator.leader is not None

    async def families(self) -> list[Metric]:
        leader = self.allocator.leader if self.allocator is not None else None
        families = [
            *bus.families("allocator", self.bus),
            GaugeMetricFamily("tabard_allocator_leading", "1 while it leads.", self._leads),
            GaugeMetricFamily(
                "tabard_allocator_stopped",
                "1 while it stands before an event that it cannot take; the log says which.",
                bool(self._patience.stands_before),
            ),
        ]
        if leader is not None:
            families += _of_leader(leader)
            cursor = leader.cursor
            if (end := await bus.last_sequence(self.bus, Stream.OBSERVED)) is not None:
                help = "Observed events, on the bus, that have not had their effect."
                lag = max(0, end - cursor)
                families.append(GaugeMetricFamily("tabard_allocator_cursor_lag_events", help, lag))
        return families


def _of_leader(leader: Leader) -> list[Metric]:
    state, figures = leader.state, leader.figures
    return [
        GaugeMetricFamily("tabard_allocator_epoch", "The epoch that it claimed.", state.epoch),
        GaugeMetricFamily("tabard_allocator_ledger_sequence", "The ledger's end.", state.sequence),
        GaugeMetricFamily(
            "tabard_allocator_cursor_sequence",
            "Observed event through which all have had their effect.",
            leader.cursor,
        ),
        GaugeMetricFamily(
            "tabard_allocator_inbox_messages", "Observed events read, not decided.", leader.waiting
        ),
        *figures.batch_events.collect(),
        *figures.append_s.collect(),
        counters(
            "tabard_allocator_decisions_total",
            "Events appended to the ledger by this process as leader.",
            "type",
            figures.decisions(),
        ),
        gauges(
            "tabard_allocator_identities",
            "Identities: live ones, and numbers retired and not yet free.",
            "state",
            {"live": len(state.identities), "retired": len(state.retired)},
        ),
        gauges(
            "tabard_allocator_refused",
            "Objects that stand refused, and pods among them that wait for a number.",
            "kind",
            {
                "pod": len(state.refused_pods),
                "pod_waiting": len(state.waiting),
                "policy": len(state.refused_policies),
            },
        ),
        GaugeMetricFamily("tabard_allocator_endpoints", "Bound pods.", len(state.endpoints)),
        GaugeMetricFamily(
            "tabard_allocator_policies",
            "Accepted policies.",
            sum(kind not in REFERENT_KINDS for kind, _, _ in state.policies),
        ),
        GaugeMetricFamily("tabard_allocator_nodes", "Nodes.", len(state.nodes)),
        CounterMetricFamily(
            "tabard_allocator_quarantined_total",
            "Events that were refused, or that operators had passed over, in the ledger's whole "
            "life.",
            len(state.quarantined),
        ),
        CounterMetricFamily(
            "tabard_allocator_status_refused_total",
            "Messages on STATUS that could not be read or came on another's subject.",
            figures.unheard,
        ),
    ]

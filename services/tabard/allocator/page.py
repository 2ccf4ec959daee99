"""The allocator's /metrics and /readyz, from the state of its parts."""

from typing import get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from tabard.allocator.figures import Figures
from tabard.allocator.patience import Patience
from tabard.allocator.service import Allocator
from tabard.bus.port import Bus, Stream
from tabard.events.status import Role
from tabard.ledger.state import State
from tabard.policy.reading import REFERENT_KINDS
from tabard.process import bus
from tabard.process.metrics import counters, gauges
from tabard.process.replicas import ReplicaWatch

LAG_EVENTS_MAX = 1_000
"""A follower of a busy leader is behind by some events at any moment; by more it lags."""


class AllocatorPage:
    """`bus` and `allocator` are filled in once the process has them."""

    def __init__(self, patience: Patience) -> None:
        self.bus: Bus | None = None
        self.allocator: Allocator | None = None
        self.replicas: ReplicaWatch | None = None
        self._patience = patience

    def unready(self) -> str:
        stopped = self._patience.stands_before
        reasons = (
            bus.lack(self.bus, self._patience.failure),
            self._behind(),
            f"it stands before {stopped}, which it cannot take" if stopped else "",
        )
        return "; ".join(reason for reason in reasons if reason)

    def _behind(self) -> str:
        """Why it neither leads nor could at any moment."""
        allocator = self.allocator
        if allocator is not None and allocator.leader is not None:
            return ""
        standby = allocator.standby if allocator is not None else None
        if standby is None:
            return "it neither leads nor follows"
        if standby.vacancy:
            return f"nobody leads: {standby.vacancy}"
        if not standby.synced:
            return "it does not lead, and has not folded the ledger to its end"
        if standby.lag is None:
            return "it does not lead, and the bus does not say where the ledger ends"
        if standby.lag > LAG_EVENTS_MAX:
            return f"it does not lead, and is {standby.lag} events behind the ledger's end"
        return ""

    async def families(self) -> list[Metric]:
        allocator = self.allocator
        role = allocator.role if allocator is not None else "starting"
        families = [
            *bus.families("allocator", self.bus),
            gauges(
                "tabard_allocator_role",
                "1 for the role that it has.",
                "role",
                {each: int(each == role) for each in get_args(Role)},
            ),
            GaugeMetricFamily("tabard_allocator_leading", "1 while it leads.", role == "leading"),
            GaugeMetricFamily(
                "tabard_allocator_stopped",
                "1 while it stands before an event that it cannot take; the log says which.",
                bool(self._patience.stands_before),
            ),
        ]
        if self.replicas is not None:
            families += self.replicas.families()
        if allocator is None:
            return families
        leader = allocator.leader
        cursor = (
            leader.cursor if leader is not None else allocator.state.cursors.get(Stream.OBSERVED, 0)
        )
        families += [
            GaugeMetricFamily(
                "tabard_allocator_cursor_sequence",
                "Observed event through which all have had their effect.",
                cursor,
            ),
            GaugeMetricFamily(
                "tabard_allocator_inbox_messages",
                "Observed events read, not decided.",
                leader.waiting if leader is not None else 0,
            ),
            GaugeMetricFamily(
                "tabard_allocator_snapshot_sequence",
                "Ledger sequence of the newest snapshot on the bus, as of the last look.",
                allocator.snapshots.newest,
            ),
            CounterMetricFamily(
                "tabard_allocator_snapshots_total",
                "Snapshots that it stored.",
                allocator.snapshots.taken,
            ),
            GaugeMetricFamily(
                "tabard_allocator_snapshot_failing",
                "1 if the last snapshot that was due could not be stored; the log says why.",
                bool(allocator.snapshots.failure),
            ),
            *_of_state(allocator.state),
            *_of_figures(allocator.figures),
            CounterMetricFamily(
                "tabard_allocator_status_refused_total",
                "Messages on STATUS that could not be read or came on another's subject.",
                allocator.words.unreadable,
            ),
        ]
        lags = (
            ("ledger", Stream.LEDGER, allocator.state.sequence, "Ledger events not folded."),
            ("cursor", Stream.OBSERVED, cursor, "Observed events, on the bus, without effect yet."),
        )
        for name, stream, through, help in lags:
            if (end := await bus.last_sequence(self.bus, stream)) is not None:
                lag = max(0, end - through)
                families.append(GaugeMetricFamily(f"tabard_allocator_{name}_lag_events", help, lag))
        return families


def _of_figures(figures: Figures) -> list[Metric]:
    return [
        CounterMetricFamily(
            "tabard_allocator_takeovers_total", "How often it took the lead.", figures.takeovers
        ),
        CounterMetricFamily(
            "tabard_allocator_fenced_total",
            "How often it lost the lead to another.",
            figures.fenced,
        ),
        CounterMetricFamily(
            "tabard_allocator_superseded_total",
            "Observed events that it passed over, for later ones that undid them.",
            figures.superseded,
        ),
        CounterMetricFamily(
            "tabard_allocator_unheeded_total",
            "Observed events that it passed over, since their node had caused too many events.",
            figures.unheeded,
        ),
        *figures.batch_events.collect(),
        *figures.append_s.collect(),
        counters(
            "tabard_allocator_decisions_total",
            "Events appended to the ledger by this process as leader.",
            "type",
            figures.decisions(),
        ),
    ]


def _of_state(state: State) -> list[Metric]:
    return [
        GaugeMetricFamily("tabard_allocator_epoch", "The ledger's epoch.", state.epoch),
        GaugeMetricFamily(
            "tabard_allocator_ledger_sequence", "Ledger event through which it is.", state.sequence
        ),
        gauges(
            "tabard_allocator_identities",
            "Identities: live ones, numbers retired and not yet free, and free ones that a lost "
            "node may take for what they were.",
            "state",
            {
                "live": len(state.identities),
                "retired": len(state.retired),
                "doubtful": len(state.doubtful),
            },
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
        gauges(
            "tabard_allocator_nodes",
            "Nodes: those that are waited for, lost ones, and those that may not join.",
            "state",
            {
                "live": len(state.nodes) - len(state.lost),
                "lost": len(state.lost),
                "refused": len(state.refused_nodes),
            },
        ),
        GaugeMetricFamily(
            "tabard_allocator_relabels_planned",
            "Running pods whose new identity waits for nodes to know it.",
            len(state.relabels),
        ),
        GaugeMetricFamily(
            "tabard_allocator_numbers_exhausted",
            "1 while pods wait and no number is free; the ledger says which label keys use most.",
            state.exhausted is not None,
        ),
        CounterMetricFamily(
            "tabard_allocator_quarantined_total",
            "Events that were refused, or that operators had passed over, in the ledger's whole "
            "life.",
            len(state.quarantined),
        ),
    ]

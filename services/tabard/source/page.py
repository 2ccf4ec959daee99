"""The source's /metrics and /readyz, from the state of its parts."""

from tabard.bus.port import Bus
from tabard.process import bus
from tabard.process.metrics import Family, counters, gauge, gauges
from tabard.source.pods.keeper import Keeper
from tabard.source.service import Source

STANDINGS = ("starting", "running", "stopping")


class SourcePage:
    """`bus` and `source` are filled in once the process has them."""

    def __init__(self) -> None:
        self.bus: Bus | None = None
        self.source: Source | None = None

    def unready(self) -> str:
        synced = self.source is not None and self.source.synced
        reasons = (
            bus.lack(self.bus),
            "" if synced else "the ledger does not show yet all that was published before",
        )
        return "; ".join(reason for reason in reasons if reason)

    async def families(self) -> list[Family]:
        families = bus.families("source", self.bus)
        if self.source is not None:
            families += _of_source(self.source)
            if self.source.keeper is not None:
                families += _of_keeper(self.source.keeper)
        return families


def _of_source(source: Source) -> list[Family]:
    return [
        gauge(
            "tabard_source_synced",
            "1 once the ledger shows all that was published before.",
            source.synced,
        ),
        gauge(
            "tabard_source_read_sequence",
            "Ledger sequence read and checked.",
            source.state.sequence,
        ),
        gauge("tabard_source_workloads", "Workloads to keep.", len(source.state.workloads)),
        gauge(
            "tabard_source_waiting_pods",
            "Pods that should be there and cannot be started; the log says why.",
            sum(pending.pods for pending in source.pending),
        ),
        counters(
            "tabard_source_published_total",
            "Pod events published.",
            "event",
            {what: source.published[what] for what in ("started", "stopped")},
        ),
    ]


def _of_keeper(keeper: Keeper) -> list[Family]:
    standing = keeper.standing()
    return [
        gauges(
            "tabard_source_pods",
            "Pods whose network this process keeps, by how it stands.",
            "state",
            {name: standing[name] for name in STANDINGS},
        ),
        counters(
            "tabard_source_pod_failures_total",
            "Attempts to start or stop a pod's network that failed; they are tried again.",
            "attempt",
            {name: keeper.failures[name] for name in ("start", "stop")},
        ),
        keeper.ready_s.family(
            "tabard_source_pod_ready_seconds",
            "From a pod's start, as its event says, until its network answers.",
        ),
    ]

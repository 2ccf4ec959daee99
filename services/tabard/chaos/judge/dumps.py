"""fold: each kernel holds what the ledger compiles to, once the cluster has converged."""

from tabard.bus.port import Bus
from tabard.chaos.record import Dump, Record
from tabard.cluster.profile import Profile
from tabard.invariants.verdict import Verdict


async def dumps(bus: Bus, profile: Profile) -> list[Dump]:
    """What each node's kernel holds beside what the ledger compiles to. Call it once the cluster
    has converged; ClusterError if a node cannot be asked."""
    raise NotImplementedError


def fold(record: Record) -> Verdict:
    raise NotImplementedError

"""What verdicts are read from: the ledger at some point, or manifests alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tabard.bus.port import Bus
from tabard.cli.failing import fail
from tabard.cli.moments import At
from tabard.cli.past import sequence_at
from tabard.cli.reach import Target, with_bus
from tabard.ledger.follow import catch_up
from tabard.ledger.provenance import Provenance
from tabard.ledger.state import ObjectKey, State
from tabard.manifests.errors import ManifestError
from tabard.manifests.forecast import forecast
from tabard.manifests.objects import Manifest
from tabard.manifests.reading import read
from tabard.policy.engine import Engine


@dataclass(frozen=True, slots=True)
class Ground:
    """A state and where it is from."""

    state: State
    engine: Engine
    provenance: Provenance | None = None
    """None if no ledger led there."""
    manifests: Mapping[ObjectKey, Manifest] = field(default_factory=dict)

    @property
    def sequence(self) -> int | None:
        return None if self.provenance is None else self.state.sequence

    def origin(self, policy: ObjectKey, path: str) -> str:
        """Where the field stands: its own `file:line`, or what the ledger knows of the policy's."""
        manifest = self.manifests.get(policy)
        if manifest is not None:
            return manifest.source.origin_of(path)
        return self.state.policies[policy].origin


@dataclass(frozen=True, slots=True)
class Where:
    """Where to read from: manifests in `files`, or else a cluster's ledger as of `at`."""

    files: Sequence[str] = ()
    at: At | None = None
    cluster: str = ""
    nats: str = ""


def ground(what: str, where: Where) -> Ground:
    """What `where` says; `what` the command was to do, should that fail."""
    return _of_manifests(what, where.files) if where.files else _of_ledger(what, where)


def _of_manifests(what: str, files: Sequence[str]) -> Ground:
    try:
        found = read(files)
        state = forecast(found.objects)
    except ManifestError as error:
        fail(what, error)
    return Ground(state, Engine(state), manifests={each.key: each for each in found.objects})


def _of_ledger(what: str, where: Where) -> Ground:
    async def work(bus: Bus, target: Target) -> Ground:
        state, provenance = State(), Provenance()
        await catch_up(bus, state, await sequence_at(bus, where.at), provenance.observe)
        return Ground(state, Engine(state), provenance)

    return with_bus(what, where.cluster, where.nats, work)

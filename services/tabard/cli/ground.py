"""What verdicts are read from. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tabard.ledger.provenance import Provenance
from tabard.ledger.state import ObjectKey, State
from tabard.manifests.objects import Manifest
from tabard.policy.engine import Engine


@dataclass(frozen=True, slots=True)
class Ground:
    """A state and where it is from."""

    state: State
    engine: Engine
    provenance: Provenance | None = None
    """None if no ledger led there."""
    manifests: Mapping[ObjectKey, Manifest] = field(default_factory=dict)
    stale: Mapping[str, str] = field(default_factory=dict)
    """Nodes that do not know for too long what the ledger says → what they do; of the present."""

    @property
    def sequence(self) -> int | None:
        return None if self.provenance is None else self.state.sequence

    def origin(self, policy: ObjectKey, path: str) -> str:
        """Where the field stands: its own `file:line`, or what the ledger knows of the policy's."""
        manifest = self.manifests.get(policy)
        if manifest is not None:
            return manifest.source.origin_of(path)
        return self.state.policies[policy].origin

"""What policies may refer to, each as its own object states it: a value."""

from dataclasses import dataclass

from tabard.identity.labels import LabelSet
from tabard.policy.model import Selector


@dataclass(frozen=True, slots=True)
class CidrSet:
    """A CiliumCIDRGroup's CIDRs, canonical, and its own labels (source `cidrgroup`)."""

    name: str
    labels: LabelSet
    prefixes: tuple[str, ...]

    def cidrs(self) -> frozenset[str]:
        return frozenset(self.prefixes)


@dataclass(frozen=True, slots=True)
class ServiceFront:
    """A Service: the pods that it selects, or those at the addresses of its backends."""

    namespace: str
    name: str
    labels: LabelSet
    """Its own (source `k8s`)."""
    pods: Selector | None
    """None: it selects none; Backends say what is behind it."""

    def cidrs(self) -> frozenset[str]:
        return frozenset()


@dataclass(frozen=True, slots=True)
class Backends:
    """Addresses behind the Service `service`, as prefixes: an EndpointSlice or an Endpoints."""

    namespace: str
    service: str
    prefixes: tuple[str, ...]

    def cidrs(self) -> frozenset[str]:
        return frozenset(self.prefixes)


Referent = CidrSet | ServiceFront | Backends

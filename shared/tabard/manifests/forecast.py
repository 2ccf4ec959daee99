"""The state that manifests would bring about, told from them alone: no cluster, no bus.

Each workload stands as one pod, whatever its replicas (a suspended one too): all of its pods have
one identity. Where a pod would run and which address it would get is not known, so it has none, no
ipBlock holds it, and a pod in its node's network is taken to be on another node than its peers.
"""

from collections.abc import Iterable

from tabard.events import ledger as events
from tabard.events.ledger import LedgerEvent
from tabard.events.observed import NamespaceLabelsSet
from tabard.identity.labels import LabelFilter, LabelSet, cidr_label, pod_labels
from tabard.identity.numbers import CIDR_SCOPE, NumberSpace, Reserved
from tabard.ledger.fold import apply
from tabard.ledger.state import State
from tabard.manifests.errors import ManifestError
from tabard.manifests.events import applied
from tabard.manifests.objects import Manifest, Role
from tabard.manifests.pods import labels_of
from tabard.manifests.workloads import Workload, read_workload
from tabard.policy.model import PolicyError
from tabard.policy.reading import check_keys, read_object


def forecast(
    objects: Iterable[Manifest],
    cluster: str = "default",
    label_filter: LabelFilter | None = None,
) -> State:
    """The state once `objects` are applied to an empty cluster of these settings.

    A pod's UID is its owner's `Kind/namespace/name`. ManifestError for a policy that an allocator
    would refuse.
    """
    found = list(objects)
    telling = _Telling(cluster, label_filter or LabelFilter())
    for event in applied(found):
        if isinstance(event, NamespaceLabelsSet):
            telling.tell(events.NamespaceLabelled(event.name, event.labels))
    for manifest in found:
        if manifest.role is Role.POLICY:
            telling.policy(manifest)
        elif manifest.role is Role.WORKLOAD:
            telling.workload(read_workload(manifest.document))
    return telling.state


class _Telling:
    """The least that an allocator does: numbers for label sets, and each event folded at once."""

    def __init__(self, cluster: str, label_filter: LabelFilter) -> None:
        self.state = State()
        self._cluster = cluster
        self._filter = label_filter
        self._free = NumberSpace(cluster_bits=0).free_from(0, ())
        self._free_cidr = iter(range(CIDR_SCOPE, CIDR_SCOPE << 1))

    def tell(self, event: LedgerEvent) -> None:
        self.state.sequence += 1
        apply(self.state, event, self.state.sequence, 0)

    def policy(self, manifest: Manifest) -> None:
        found = read_object(manifest.document, manifest.origin)
        try:
            check_keys(found, self._filter)
        except PolicyError as error:
            at = manifest.source.origin_of(error.path)
            raise ManifestError(error.path, error.reason, at) from error
        for prefix in sorted(found.cidrs()):
            self._number(LabelSet((cidr_label(prefix),)), is_cidr=True)
        self.tell(events.PolicyAccepted(*found.key, manifest.document, manifest.origin))

    def workload(self, workload: Workload) -> None:
        template = workload.template
        name = workload.name
        if workload.kind == "StatefulSet":
            name = f"{name}-{workload.first_ordinal}"
        labels = labels_of(workload, name)
        identity = Reserved.HOST.value
        if not template.host_network:
            identity = self._number(
                pod_labels(
                    namespace=workload.namespace,
                    labels=dict(labels),
                    namespace_labels=self.state.namespaces[workload.namespace],
                    service_account=template.service_account,
                    cluster=self._cluster,
                    ports=template.named_ports,
                    label_filter=self._filter,
                )
            )
        self.tell(
            events.EndpointBound(
                uid=workload.owner,
                namespace=workload.namespace,
                name=name,
                node=workload.owner if template.host_network else "",
                identity=identity,
                addresses=(),
                labels=labels,
                started_at=0,
                service_account=template.service_account,
                ports=template.named_ports,
                owner=workload.owner,
                host_network=template.host_network,
            )
        )

    def _number(self, labels: LabelSet, *, is_cidr: bool = False) -> int:
        if labels not in self.state.numbers:
            number = next(self._free_cidr if is_cidr else self._free)
            self.tell(events.IdentityAllocated(number, labels))
        return self.state.numbers[labels]

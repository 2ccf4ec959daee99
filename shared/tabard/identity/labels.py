"""Labels `source:key=value`, label sets, and which labels make a pod's identity.

A *label set* is the canonical form: a sorted tuple of unique `source:key=value` strings, so that
equal sets are equal values, hash once, and encode to the same bytes on every node.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NewType

LabelSet = NewType("LabelSet", tuple[str, ...])

NAMESPACE_KEY = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS_PREFIX = "io.cilium.k8s.namespace.labels."
SERVICE_ACCOUNT_KEY = "io.cilium.k8s.policy.serviceaccount"
CLUSTER_KEY = "io.cilium.k8s.policy.cluster"
METADATA_NAME = "kubernetes.io/metadata.name"
"""The label the API server sets on every namespace (core/v1 well-known labels)."""
NAMED_PORT_SOURCE = "port"
"""Source of the derived labels for a pod's named ports: `port:http=8080/TCP`."""
NODE_SOURCE = "node"
"""Source of a node's labels."""
HOSTNAME = "kubernetes.io/hostname"
"""The label by which every node is known (core/v1 well-known labels)."""

DERIVED_PREFIXES = (NAMESPACE_KEY, "io.cilium.k8s.")
"""Keys that Tabard derives; a pod that carries one of its own claims another's identity."""

LABELS_MAX = 4096
"""Most labels one pod may carry; one more is refused (labels reach every node)."""


def label_set(labels: Iterable[str]) -> LabelSet:
    """The canonical form of `labels`."""
    return LabelSet(tuple(sorted(set(labels))))


def split_label(label: str) -> tuple[str, str, str]:
    """`source:key=value` as (source, key, value); the value may be empty or absent.

    >>> split_label("k8s:app=web")
    ('k8s', 'app', 'web')
    """
    source, _, rest = label.partition(":")
    key, _, value = rest.partition("=")
    return source, key, value


def cidr_label(prefix: str) -> str:
    """The label of a CIDR, in canonical form (`cidr:10.0.0.0/8`); ValueError if it is none."""
    return f"cidr:{ipaddress.ip_network(prefix)}"


def host_cidr(address: str) -> str:
    """The CIDR of one address alone (`192.0.2.7/32`)."""
    return f"{address}/{128 if ':' in address else 32}"


class LabelFilter:
    """Decides which labels are identity-relevant (after Cilium's pkg/labelsfilter).

    `include` and `exclude` are regular expressions matched at the start of a label's key; one that
    begins with `source:` is matched for that source only. A label is relevant if no include of
    the operator's own is configured and no exclude matches, or if its longest include match is
    longer than its shortest exclude match.
    """

    DEFAULT_INCLUDE = (
        "reserved:.*",
        r"cidr:.*",
        r"io\.kubernetes\.pod\.namespace",
        r"io\.cilium\.k8s\.namespace\.labels",
        r"io\.cilium\.k8s\.policy\.cluster",
        r"io\.cilium\.k8s\.policy\.serviceaccount",
        r"app\.kubernetes\.io",
    )
    DEFAULT_EXCLUDE = (
        r"io\.kubernetes",
        r"kubernetes\.io",
        r"statefulset\.kubernetes\.io/pod-name",
        r"apps\.kubernetes\.io/pod-index",
        r"batch\.kubernetes\.io/job-completion-index",
        r"batch\.kubernetes\.io/controller-uid",
        r".*beta\.kubernetes\.io",
        r"k8s\.io",
        r"pod-template-generation",
        r"pod-template-hash",
        r"controller-revision-hash",
        r"controller-uid",
        r"annotation.*",
        r"topology\.kubernetes\.io",
    )

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self.include = tuple(include)
        self.exclude = tuple(exclude)
        self._include = [_rule(rule) for rule in (*self.DEFAULT_INCLUDE, *self.include)]
        self._exclude = [_rule(rule) for rule in (*self.DEFAULT_EXCLUDE, *self.exclude)]
        # Relevance depends on source and key alone, and a cluster has few distinct keys.
        self._cached = lru_cache(maxsize=65_536)(self._decide)

    def _decide(self, source: str, key: str) -> bool:
        included = max(
            (length for rule in self._include if (length := rule(source, key))), default=0
        )
        excluded = min(
            (length for rule in self._exclude if (length := rule(source, key))), default=0
        )
        if not self.include and not excluded:
            return True
        return included > excluded

    def relevant(self, label: str) -> bool:
        source, key, _ = split_label(label)
        return self._cached(source, key)

    def relevant_key(self, key: str, source: str = "k8s") -> bool:
        """Whether a selector on `key` can ever see a label that is part of an identity."""
        return self._cached(source, key)

    def apply(self, labels: Iterable[str]) -> LabelSet:
        return label_set(label for label in labels if self.relevant(label))


def _rule(text: str):  # type: ignore[no-untyped-def]
    source, separator, pattern = text.partition(":")
    if not separator or not re.fullmatch(r"[a-z0-9-]+", source):
        source, pattern = "", text
    try:
        match = re.compile(pattern).match
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"label filter rule {text!r} is no regular expression ({error}); mend the rule"
        ) from error

    def length(label_source: str, key: str) -> int:
        if source and source != label_source:
            return 0
        found = match(key)
        return found.end() if found else 0

    return length


def pod_labels(
    *,
    namespace: str,
    labels: Mapping[str, str],
    namespace_labels: Mapping[str, str],
    service_account: str,
    cluster: str,
    ports: Iterable[tuple[str, int, str]] = (),
    label_filter: LabelFilter,
) -> LabelSet:
    """The identity-relevant label set of a Kubernetes pod.

    `ports` are the pod's *named* containerPorts as (name, number, protocol). They take part in the
    identity, so that a policy that names a port means one number per identity, on every node,
    without any node having to know the pod (ARCHITECTURE.md, decision 4).

    Keys that Tabard derives are taken from the pod's place, never from its own labels: a pod cannot
    claim another namespace.
    """
    own = [
        f"k8s:{key}={value}"
        for key, value in labels.items()
        if not key.startswith(DERIVED_PREFIXES)
    ]
    derived = [f"k8s:{NAMESPACE_KEY}={namespace}", f"k8s:{CLUSTER_KEY}={cluster}"]
    derived.append(f"k8s:{SERVICE_ACCOUNT_KEY}={service_account or 'default'}")
    named = {METADATA_NAME: namespace, **namespace_labels}
    derived += [f"k8s:{NAMESPACE_LABELS_PREFIX}{key}={value}" for key, value in named.items()]
    # The filter is about labels; a port that it kept out could not be named by a policy.
    named_ports = [
        f"{NAMED_PORT_SOURCE}:{name}={number}/{protocol}" for name, number, protocol in ports
    ]
    return label_set([*label_filter.apply([*own, *derived]), *named_ports])


NamedPorts = frozenset[tuple[str, int, str]]
"""(name, number, protocol)"""


def named_ports(labels: LabelSet) -> NamedPorts:
    """The (name, number, protocol) of a label set's derived port labels."""
    found = []
    for label in labels:
        source, name, value = split_label(label)
        if source == NAMED_PORT_SOURCE:
            number, _, protocol = value.partition("/")
            found.append((name, int(number), protocol))
    return frozenset(found)

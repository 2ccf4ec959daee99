"""The kinds that commands take, by every name that kubectl's users type. Pure."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

SHOWN: Mapping[str, tuple[str, ...]] = {
    "pods": ("pod", "po"),
    "identities": ("identity", "id"),
    "nodes": ("node", "no"),
    "policies": (
        "policy",
        "netpol",
        "networkpolicy",
        "networkpolicies",
        "cnp",
        "ccnp",
        "anp",
        "banp",
    ),
    "bindings": ("binding",),
    "names": ("name", "fqdn", "fqdns"),
    "workloads": ("workload",),
    "streams": ("stream",),
}
"""What `get` shows, by its plural name: the singular, then other names."""

WITHOUT_NAMESPACE = ("nodes", "names", "streams")


class By(StrEnum):
    """What stands for pods in a matrix."""

    WORKLOAD = "workload"
    POD = "pod"
    IDENTITY = "identity"


class LintForm(StrEnum):
    """How findings are shown."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    SARIF = "sarif"


class TrimForm(StrEnum):
    """How trimmed policies are shown: as manifests, or what went of them."""

    MANIFESTS = "manifests"
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class GraphForm(StrEnum):
    MERMAID = "mermaid"
    SVG = "svg"
    DOT = "dot"


class FailOn(StrEnum):
    """From which severity on a finding is a failure."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    NEVER = "never"


_SHORT = {
    "deploy": "deployment",
    "rs": "replicaset",
    "sts": "statefulset",
    "ds": "daemonset",
    "po": "pod",
    "cj": "cronjob",
}


def shown(text: str) -> str | None:
    """The plural name of a kind that `get` shows; None if `text` names none."""
    word = text.lower()
    return next((kind for kind, names in SHOWN.items() if word == kind or word in names), None)


def listed(kinds: Mapping[str, tuple[str, ...]]) -> str:
    """`pods (pod, po), nodes (node, no)`"""
    return ", ".join(f"{kind} ({', '.join(names)})" for kind, names in kinds.items())


def workload(text: str, known: Iterable[str]) -> str | None:
    """Which of the Kubernetes kinds `known` is meant: in any case, plural or short too."""
    word = _SHORT.get(text.lower(), text.lower())
    return next((kind for kind in known if word in (kind.lower(), f"{kind.lower()}s")), None)

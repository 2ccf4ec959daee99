"""Raw Cilium rules as a policy object of the runner's own kind.

Cilium's unit tests feed rules to its engine beneath the layer of Kubernetes objects: no namespace
is put into selectors. To bring them into a running ledger there must be a document that holds them;
its kind is registered here, for the runner alone, and read by the product's reader of rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from tabard.policy import cilium, reading
from tabard.policy.reading import PolicyObject

API_VERSION = "conformance.tabard/v1"
KIND = "CiliumRawRules"
NAMESPACE = "raw"
"""Where such objects lie; it means nothing to their rules."""


def document(name: str, rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The object that holds `rules`.

    Cilium's tests put rules beneath its validation too, which refuses ports and icmps in one item;
    its engine takes both, as if they stood in two.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "rules": [_apart(rule) for rule in rules],
    }


def _apart(rule: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(rule)
    for section in ("ingress", "ingressDeny", "egress", "egressDeny"):
        if section in found:
            found[section] = [
                {name: value for name, value in item.items() if name != left_out}
                for item in found[section]
                for left_out in (
                    ("icmps", "toPorts") if {"icmps", "toPorts"} <= item.keys() else ("",)
                )
            ]
    return found


def _read(found: Mapping[str, Any], origin: str) -> PolicyObject:
    name = found["metadata"]["name"]
    policies = cilium.read_rules(found["rules"], origin)
    key = {"kind": KIND, "namespace": NAMESPACE, "name": name}
    return PolicyObject(**key, policies=tuple(replace(policy, **key) for policy in policies))


reading._READERS[KIND] = ((API_VERSION,), _read)
cast(dict[str, Any], reading.KINDS)[KIND] = (API_VERSION,)

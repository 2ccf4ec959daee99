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


def document(name: str, rules: Sequence[Any]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name},
        "rules": list(rules),
    }


def _read(found: Mapping[str, Any], origin: str) -> PolicyObject:
    name = found["metadata"]["name"]
    policies = cilium.read_rules(found["rules"], origin)
    return PolicyObject(
        KIND,
        "",
        name,
        tuple(replace(policy, kind=KIND, namespace="", name=name) for policy in policies),
    )


reading._READERS[KIND] = ((API_VERSION,), _read)
cast(dict[str, Any], reading.KINDS)[KIND] = (API_VERSION,)

"""Cilium rules without what they say of layer 7.

Tabard refuses L7 rules. What they allow on layer 4 is judged nevertheless: an engine without a
proxy folds a redirect into an allow (suites' README, 2). Nothing else is taken out of a rule, and
DNS rules stay, which are enforced.
"""

from collections.abc import Mapping
from typing import Any

KINDS = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
PROTOCOLS = ("http", "kafka", "l7", "l7proto")
"""Fields of toPorts.rules."""
TERMS = ("serverNames", "listener", "originatingTLS", "terminatingTLS")
"""Fields of toPorts."""


def document_without(document: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The policy and how many L7 fields were taken out of it."""
    found = dict(document)
    if found.get("kind") not in KINDS:
        return found, 0
    taken = 0
    if isinstance(found.get("spec"), Mapping):
        found["spec"], taken = rule_without(found["spec"])
    if isinstance(found.get("specs"), list):
        rules = [rule_without(rule) for rule in found["specs"]]
        found["specs"] = [rule for rule, _ in rules]
        taken += sum(number for _, number in rules)
    return found, taken


def rule_without(rule: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The same of one rule."""
    found, taken = dict(rule), 0
    for section in ("ingress", "egress"):
        items = found.get(section)
        if not isinstance(items, list):
            continue
        found[section] = []
        for item in items:
            if isinstance(item, Mapping) and isinstance(item.get("toPorts"), list):
                ports = [_port_without(port) for port in item["toPorts"]]
                item = {**item, "toPorts": [port for port, _ in ports]}
                taken += sum(number for _, number in ports)
            found[section].append(item)
    return found, taken


def _port_without(port: Any) -> tuple[Any, int]:
    if not isinstance(port, Mapping):
        return port, 0
    found = {name: value for name, value in port.items() if name not in TERMS}
    taken = len(port) - len(found)
    rules = found.get("rules")
    if isinstance(rules, Mapping):
        kept = {name: value for name, value in rules.items() if name not in PROTOCOLS}
        taken += len(rules) - len(kept)
        if len(kept) < len(rules):
            found["rules"] = kept
            if not kept:
                del found["rules"]
    return found, taken

"""Documents that hardly say what their author meant, whatever pods there are."""

from collections.abc import Iterator, Mapping
from typing import Any

from tabard.ledger.state import ObjectKey
from tabard.policy.lint import catalogue
from tabard.policy.lint.survey import Finding, Survey

OLD_ANNOTATION = "net.beta.kubernetes.io/network-policy"
"""Of Namespaces, before networking.k8s.io/v1 (kubernetes 1.2 to 1.6)."""
SELECTORS = ("podSelector", "namespaceSelector", "endpointSelector", "nodeSelector", "pods")
_CILIUM = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")


def writing(survey: Survey) -> Iterator[Finding]:
    """TB401 to TB404."""
    for key, document in sorted(survey.documents.items()):
        yield from of_document(key, document)


def of_document(key: ObjectKey, document: Mapping[str, Any]) -> Iterator[Finding]:
    """The same of one object."""
    if key[0] == "Namespace":
        if OLD_ANNOTATION in annotations(document):
            yield Finding(
                catalogue.DEAD_ANNOTATION,
                key,
                "metadata.annotations",
                f"{OLD_ANNOTATION} isolates nothing since Kubernetes 1.7, here neither",
            )
        return
    for section in ("spec", "specs"):
        yield from _nulls(key, document.get(section), section)
    if key[0] == "NetworkPolicy":
        yield from _of_network_policy(key, document.get("spec") or {})
    elif key[0] in _CILIUM:
        yield from _of_cilium(key, document)


def annotations(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object's; none where something else is written, which refuses it or has no effect."""
    metadata = document.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _nulls(key: ObjectKey, value: Any, path: str) -> Iterator[Finding]:
    """Selectors, or parts of them, that are there and null."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            at = f"{path}.{name}"
            if inner is None and name in (*SELECTORS, "matchLabels", "matchExpressions"):
                yield Finding(catalogue.NULL_SELECTOR, key, at, "is null, which selects everything")
            else:
                yield from _nulls(key, inner, at)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _nulls(key, inner, f"{path}[{index}]")


def _of_network_policy(key: ObjectKey, spec: Mapping[str, Any]) -> Iterator[Finding]:
    types = spec.get("policyTypes")
    for section, direction, side in (("ingress", "Ingress", "from"), ("egress", "Egress", "to")):
        rules = spec.get(section) or []
        if rules and types and direction not in types:
            why = f"has no effect, since policyTypes is {', '.join(types)}"
            yield Finding(catalogue.DEAD_SECTION, key, f"spec.{section}", why)
            continue
        for index, rule in enumerate(rules):
            for field, whom in ((side, "everyone"), ("ports", "every port")):
                if field in (rule or {}) and not rule[field]:
                    yield Finding(
                        catalogue.SURPRISING_EMPTY,
                        key,
                        f"spec.{section}[{index}].{field}",
                        f"is empty, which allows {whom}, not nobody"
                        if field == side
                        else f"is empty, which allows {whom}, not none",
                    )


def _of_cilium(key: ObjectKey, document: Mapping[str, Any]) -> Iterator[Finding]:
    specs = [("spec", document.get("spec"))]
    specs += [(f"specs[{at}]", each) for at, each in enumerate(document.get("specs") or [])]
    for path, spec in specs:
        for section in ("ingress", "egress"):
            for index, rule in enumerate((spec or {}).get(section) or []):
                at = f"{path}.{section}[{index}]"
                if rule == {}:
                    yield Finding(
                        catalogue.SURPRISING_EMPTY,
                        key,
                        at,
                        "is empty, which allows nobody in a Cilium policy, not everyone",
                    )
                for name, value in (rule or {}).items():
                    if name.startswith(("from", "to")) and name != "toPorts" and value == []:
                        why = "is empty, which selects nobody, so the rule allows nothing"
                        yield Finding(catalogue.SURPRISING_EMPTY, key, f"{at}.{name}", why)

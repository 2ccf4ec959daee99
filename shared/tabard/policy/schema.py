"""Reading documents of unknown shape: each look takes a field path, and fails by it.

The published schemas' rules that policy kinds share (meta/v1 ObjectMeta and LabelSelector, ports,
CIDRs). A wrong type, an unknown field or a value that the API server would refuse is a PolicyError
with path, value and reason. Null stands for an absent field, as in the API; a null list item is
refused, since upstream would read it as an empty, all-allowing one.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

from tabard.identity.syntax import DNS_LABEL, DNS_SUBDOMAIN, LABEL_NAME, LABEL_VALUE
from tabard.policy.model import NotEnforced, PolicyError, Requirement

# fmt: off
METADATA = (
    "annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp",
    "finalizers", "generateName", "generation", "labels", "managedFields", "name", "namespace",
    "ownerReferences", "resourceVersion", "selfLink", "uid",
)
# fmt: on


def fail(path: str, value: object, reason: str) -> NoReturn:
    raise PolicyError(path or "(document)", f"is {shown(value)}; {reason}")


def not_enforced(path: str, instead: str) -> NoReturn:
    """`path` is right in its language, and Tabard does not do what it says."""
    raise NotEnforced(path, f"Tabard does not enforce it; {instead}")


def shown(value: object) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def fields(value: object, path: str, *known: str) -> Mapping[str, Any]:
    """A mapping with no field but `known`; null fields are left out, as if absent."""
    if not isinstance(value, Mapping):
        fail(path, value, "it must be a mapping of fields")
    for name in value:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
            raise PolicyError(join(path, str(name)), f"unknown field; {hint}")
    return {name: item for name, item in value.items() if item is not None}


def metadata(
    top: Mapping[str, Any], is_clusterwide: bool = False, notes: tuple[str, ...] = ()
) -> tuple[Mapping[str, Any], str, str]:
    """(the fields, namespace, name) of `top`'s metadata; the namespace is "" if cluster-wide.

    A namespaced object without metadata.namespace lies in `default`. `notes` are fields beside
    ObjectMeta's that have no effect.
    """
    given = fields(top.get("metadata", {}), "metadata", *METADATA, *notes)
    dns = "it must be lower-case letters, digits, '-' and '.', at most 253 (RFC 1123 subdomain)"
    name = text(given.get("name"), "metadata.name", DNS_SUBDOMAIN, dns)
    if is_clusterwide:
        if "namespace" in given:
            fail(
                "metadata.namespace", given["namespace"], "this kind is cluster-wide; leave it out"
            )
        return given, "", name
    namespace = text(
        given.get("namespace", "default"),
        "metadata.namespace",
        DNS_LABEL,
        "it must be lower-case letters, digits and '-', at most 63 (RFC 1123 label)",
    )
    return given, namespace, name


def labels(value: object, path: str) -> tuple[tuple[str, str], ...]:
    """A map of labels as sorted (key, value)."""
    if not isinstance(value, Mapping):
        fail(path, value, "it must be a mapping of label keys to values")
    return tuple(
        sorted(
            (checked_key(key, f"{path}[{key!r}]"), label_value(item, f"{path}[{key!r}]"))
            for key, item in value.items()
        )
    )


def items(given: Mapping[str, Any], name: str, path: str) -> list[tuple[str, Any]]:
    """(path, item) for each item of the list field `name`; none if it is absent."""
    path = join(path, name)
    value = given.get(name, [])
    if not isinstance(value, list | tuple):
        fail(path, value, "it must be a list (begin each item with '- ')")
    return [(f"{path}[{index}]", item) for index, item in enumerate(value)]


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def counted(
    given: Mapping[str, Any], name: str, path: str, least: int, most: int
) -> list[tuple[str, Any]]:
    """As `items`, but at least `least` and at most `most` of them."""
    found = items(given, name, path)
    if not least <= len(found) <= most:
        raise PolicyError(join(path, name), f"has {len(found)} items; it takes {least} to {most}")
    return found


def one_of(value: object, path: str, *known: str) -> tuple[str, Any]:
    """The name and value of the one field that a mapping of alternatives has."""
    given = fields(value, path, *known)
    if len(given) != 1:
        fail(path, value, f"it must have exactly one of {', '.join(known)}")
    ((name, item),) = given.items()
    return name, item


def choice(value: object, path: str, known: Iterable[str]) -> str:
    names = list(known)
    if not isinstance(value, str) or value not in names:
        fail(path, value, f"it must be {', '.join(names[:-1])} or {names[-1]}")
    return value


def integer(value: object, path: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:  # a bool is no number here
        fail(path, value, f"it must be a number in {least}-{most}")
    return value


def text(
    value: object, path: str, pattern: re.Pattern[str], rule: str, length_max: int = 253
) -> str:
    if not isinstance(value, str):
        fail(path, value, "it must be a string (put it in quotes)")
    if len(value) > length_max or not pattern.fullmatch(value):
        fail(path, value, rule)
    return value


def selector(value: object, path: str, label_key: Callable[[str, str], str]) -> list[Requirement]:
    """The requirements of a meta/v1 LabelSelector, ANDed."""
    return requirements(value, path, lambda key, at: ("k8s", label_key(checked_key(key, at), at)))


def requirements(
    value: object, path: str, label: Callable[[object, str], tuple[str, str]]
) -> list[Requirement]:
    """The same; `label` makes of a key as it is written (at a path) its source and itself."""
    given = fields(value, path, "matchLabels", "matchExpressions")
    found = []
    labels_path = f"{path}.matchLabels"
    labels = given.get("matchLabels", {})
    if not isinstance(labels, Mapping):
        fail(labels_path, labels, "it must be a mapping of label keys to values")
    for written, wanted in labels.items():
        at = f"{labels_path}[{written!r}]"
        source, key = label(written, at)
        values = frozenset((label_value(wanted, at),))
        found.append(Requirement(key, "In", values, source))
    for at, item in items(given, "matchExpressions", path):
        found.append(_expression(item, at, label))
    return found


def _expression(
    value: object, path: str, label: Callable[[object, str], tuple[str, str]]
) -> Requirement:
    given = fields(value, path, "key", "operator", "values")
    source, key = label(given.get("key"), f"{path}.key")
    operator = given.get("operator")
    values = frozenset(label_value(item, at) for at, item in items(given, "values", path))
    match operator:
        case "In" | "NotIn":
            if not values:
                fail(f"{path}.values", [], f"operator {operator} needs one value or more")
        case "Exists" | "DoesNotExist":
            if values:
                fail(f"{path}.values", sorted(values), f"operator {operator} takes no values")
        case _:
            fail(f"{path}.operator", operator, "it must be In, NotIn, Exists or DoesNotExist")
    assert isinstance(operator, str)
    return Requirement(key, operator, values, source)


def checked_key(value: object, path: str) -> str:
    rule = (
        "a label key is [prefix/]name: the name at most 63 letters, digits, '-', '_' and '.', "
        "letter or digit at both ends; the prefix a lower-case DNS name"
    )
    if not isinstance(value, str):
        fail(path, value, rule)
    prefix, slash, name = value.rpartition("/")
    if slash:
        text(prefix, path, DNS_SUBDOMAIN, rule)
    text(name, path, LABEL_NAME, rule)
    return value


def label_value(value: object, path: str) -> str:
    rule = (
        "a label value is empty or at most 63 letters, digits, '-', '_' and '.', letter or digit "
        "at both ends"
    )
    return text(value, path, LABEL_VALUE, rule)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def within(inner: Network, outer: Network) -> bool:
    return inner.subnet_of(outer)  # type: ignore[arg-type]


def network(value: object, path: str) -> Network:
    rule = "it must be a CIDR such as 10.0.0.0/8 or fd00::/8"
    if not isinstance(value, str) or "/" not in value:
        fail(path, value, rule)
    address, _, length = value.partition("/")
    if not length.isdecimal():
        fail(path, value, rule)
    try:
        # Bits beyond the length are dropped, as upstream does (ParseCIDRSloppy).
        network = ipaddress.ip_network((address, int(length)), strict=False)
    except ValueError as error:
        raise PolicyError(path, f"is {shown(value)}; {rule}") from error
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        fail(path, value, "IPv4 addresses are written as IPv4 (10.0.0.0/8), not mapped into IPv6")
    return network


def port_number(value: object, path: str) -> int:
    return integer(value, path, 1, 65_535)

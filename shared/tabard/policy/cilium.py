"""Reading cilium.io/v2 CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy, as Cilium does.

The schema is checked here, at the edge (pkg/policy/api rule_validation.go and the published
CustomResourceDefinitions); after reading, nothing about the document can fail. What Tabard does not
enforce is refused by its field, never left out of a policy that is otherwise in force.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tabard.dataplane.maps import Action, Direction
from tabard.policy import cilium_peers, cilium_ports, cilium_selectors, schema
from tabard.policy.cilium_selectors import Scope
from tabard.policy.model import ALL_PORTS, Peer, Policy, Rule

API_VERSION = "cilium.io/v2"
NAMESPACED, CLUSTERWIDE = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"
RAW = "CiliumRule"
"""Kind of the policies that `read_rules` makes; no document has it."""

_SECTIONS = (
    ("ingress", Direction.INGRESS, Action.ALLOW),
    ("ingressDeny", Direction.INGRESS, Action.DENY),
    ("egress", Direction.EGRESS, Action.ALLOW),
    ("egressDeny", Direction.EGRESS, Action.DENY),
)
_DEFAULT_DENY = {"ingress": Direction.INGRESS, "egress": Direction.EGRESS}
_ONE_SELECTOR = "it must have one of endpointSelector and nodeSelector"


def read(document: object, origin: str) -> tuple[tuple[str, str, str], tuple[Policy, ...]]:
    """(kind, namespace, name) and the policies of `spec` and of each of `specs`, in this order."""
    top = schema.fields(document, "", "apiVersion", "kind", "metadata", "spec", "specs", "status")
    kind = top["kind"]
    # Cilium's documentation puts the description there too, where API servers drop it.
    _, namespace, name = schema.metadata(top, kind == CLUSTERWIDE, notes=("description",))
    specs = [("spec", top["spec"])] if "spec" in top else []
    specs += schema.items(top, "specs", "")
    if not specs:
        schema.fail("spec", None, "a policy must have a spec or specs")
    scope = Scope(namespace)
    policies = tuple(
        _policy(spec, section, scope, (kind, namespace, name), origin) for section, spec in specs
    )
    return (kind, namespace, name), policies


def read_rules(rules: Sequence[object], origin: str = "") -> tuple[Policy, ...]:
    """Rules of Cilium's own API (`cilium policy import`), one policy each.

    They lie beneath the Kubernetes layer: no namespace is added to selectors, an empty one is
    everyone (the world too), and addresses may stand for CIDRs. Section `[i]`, name `i`.
    """
    return tuple(
        _policy(rule, f"[{number}]", Scope(is_raw=True), (RAW, "", str(number)), origin)
        for number, rule in enumerate(rules)
    )


def _policy(
    value: object, section: str, scope: Scope, key: tuple[str, str, str], origin: str
) -> Policy:
    given = schema.fields(
        value,
        section,
        "endpointSelector",
        "nodeSelector",
        *(name for name, _, _ in _SECTIONS),
        "enableDefaultDeny",
        "labels",
        "description",
        "log",
    )
    _check_notes(given, section, scope)
    field = "nodeSelector" if "nodeSelector" in given else "endpointSelector"
    if field not in given or {"nodeSelector", "endpointSelector"} <= given.keys():
        schema.fail(f"{section}.{field}", given.get(field), _ONE_SELECTOR)
    at = f"{section}.{field}"
    if field == "nodeSelector":
        if scope.namespace:
            schema.fail(at, given[field], f"nodes have no namespace; make it a {CLUSTERWIDE}")
        subject = cilium_selectors.nodes(given[field], at)
    else:
        subject = cilium_selectors.subject(given[field], at, scope)
        scope = replace(scope, selects_init=cilium_selectors.selects_init(subject))
    rules = [
        _rule(item, path, direction, action, scope)
        for name, direction, action in _SECTIONS
        for path, item in schema.items(given, name, section)
    ]
    if field == "nodeSelector":
        _check_host(rules)
    kind, namespace, name = key
    return Policy(
        kind=kind,
        namespace=namespace,
        name=name,
        subject=subject,
        isolates=frozenset(_isolates(given, rules, section)),
        rules=tuple(rules),
        origin=origin,
        section=section,
        subject_field=field,
        selects_nodes=field == "nodeSelector",
    )


def _check_notes(given: Mapping[str, Any], section: str, scope: Scope) -> None:
    """What a policy says of itself has no effect, but must be well-formed."""
    if "log" in given:
        schema.not_enforced(f"{section}.log", "leave it out; flows name the rule that decided")
    if not isinstance(given.get("description", ""), str):
        schema.fail(f"{section}.description", given["description"], "it must be a string")
    for path, label in schema.items(given, "labels", section):
        if scope.is_raw and isinstance(label, str):
            continue
        parts = schema.fields(label, path, "key", "value", "source", "cidr")
        for name in ("key", "value", "source"):
            if not isinstance(parts.get(name, None if name == "key" else ""), str):
                schema.fail(f"{path}.{name}", parts.get(name), "it must be a string")


def _rule(value: object, path: str, direction: Direction, action: Action, scope: Scope) -> Rule:
    naming = cilium_peers.fields_of(direction, action)
    known = (*naming, "toPorts", "icmps")
    if action is not Action.DENY:
        known = (*known, "authentication")
    given = schema.fields(value, path, *known)
    if "authentication" in given:
        _check_authentication(given["authentication"], f"{path}.authentication")
    ports = cilium_ports.ports(given, path, direction, action, scope)
    peers: list[tuple[str, Peer]] | None
    if given.keys() & set(naming):
        peers = cilium_peers.peers(given, path, direction, action, scope)
    else:
        # Ports alone are for everyone; a rule that is empty, unlike a NetworkPolicy's, for nobody.
        peers = None if ports else []
    return Rule(
        direction,
        None if peers is None else tuple(peer for _, peer in peers),
        tuple(port for _, port in ports) or ALL_PORTS,
        path,
        action,
        peer_paths=tuple(at for at, _ in peers or ()),
        port_paths=tuple(at for at, _ in ports),
    )


def _check_authentication(value: object, path: str) -> None:
    mode = schema.fields(value, path, "mode").get("mode")
    if mode in ("required", "test-always-fail"):
        schema.not_enforced(path, "leave it out")
    if mode != "disabled":
        schema.fail(f"{path}.mode", mode, "it must be disabled")


def _check_host(rules: Sequence[Rule]) -> None:
    for rule in rules:
        for port, at in zip(rule.ports, rule.port_paths, strict=False):
            if port.lookups is not None:
                part, _, _ = at.partition(".")
                schema.not_enforced(
                    f"{rule.path}.{part}.rules.dns",
                    "lookups of pods alone are judged; allow nodes the port without it",
                )


def _isolates(given: Mapping[str, Any], rules: Sequence[Rule], section: str) -> Iterator[Direction]:
    """The directions of which a rule speaks (a denial too), unless enableDefaultDeny differs."""
    path = f"{section}.enableDefaultDeny"
    said = schema.fields(given.get("enableDefaultDeny", {}), path, *_DEFAULT_DENY)
    spoken = {rule.direction for rule in rules}
    for name, direction in _DEFAULT_DENY.items():
        value = said.get(name, direction in spoken)
        if not isinstance(value, bool):
            schema.fail(f"{path}.{name}", value, "it must be true or false, without quotes")
        if value:
            yield direction

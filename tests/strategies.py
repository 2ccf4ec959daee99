"""Random clusters and policies, from words few enough that they meet."""

from typing import Any

from hypothesis import strategies as st

KEYS = ("app", "tier")
VALUES = ("a", "b")
NAMESPACES = ("x", "y")
PORT_NAMES = ("web", "dns")
PROTOCOLS = ("TCP", "UDP", "SCTP")
PORTS = (79, 80, 81, 82, 5353)
CIDRS = (
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.1.0/24",
    "10.1.1.7/32",
    "10.2.0.0/15",
    "0.0.0.0/0",
    "192.168.9.0/24",
)

labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
named_ports = st.dictionaries(
    st.sampled_from(PORT_NAMES), st.tuples(st.sampled_from(PORTS), st.sampled_from(PROTOCOLS))
).map(lambda ports: tuple((name, *port) for name, port in sorted(ports.items())))

_expressions = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(KEYS),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(st.sampled_from(VALUES), min_size=1, max_size=2),
        }
    ),
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(KEYS),
            "operator": st.sampled_from(["Exists", "DoesNotExist"]),
        }
    ),
)
selectors = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=1),
        "matchExpressions": st.lists(_expressions, max_size=2),
    },
)


subjects = st.just({}) | selectors
"""Selectors that often select all."""


@st.composite
def ip_blocks(draw: st.DrawFn) -> dict[str, Any]:
    holes = {
        "0.0.0.0/0": CIDRS[:5],
        "10.0.0.0/8": CIDRS[1:5],
        "10.1.0.0/16": CIDRS[2:4],
        "10.1.1.0/24": CIDRS[3:4],
    }
    cidr = draw(st.sampled_from(CIDRS))
    inside = holes.get(cidr, ())
    excepts = draw(st.lists(st.sampled_from(inside), max_size=2)) if inside else []
    return {"ipBlock": {"cidr": cidr, "except": excepts}}


peers = st.one_of(
    st.fixed_dictionaries({"podSelector": selectors}),
    st.fixed_dictionaries({"namespaceSelector": selectors}),
    st.fixed_dictionaries({"podSelector": selectors, "namespaceSelector": selectors}),
    ip_blocks(),
)


@st.composite
def ports(draw: st.DrawFn) -> dict[str, Any]:
    port: dict[str, Any] = {"protocol": draw(st.sampled_from(PROTOCOLS))}
    match draw(st.sampled_from(["all", "number", "range", "name"])):
        case "number":
            port["port"] = draw(st.sampled_from(PORTS))
        case "range":
            port["port"], port["endPort"] = sorted(
                draw(st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS)))
            )
        case "name":
            port["port"] = draw(st.sampled_from(PORT_NAMES))
    return port


def _rules(side: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    rule = st.fixed_dictionaries(
        {}, optional={side: st.lists(peers, max_size=3), "ports": st.lists(ports(), max_size=2)}
    )
    return st.lists(rule, max_size=2)


specs = st.fixed_dictionaries(
    {"podSelector": selectors},
    optional={
        "policyTypes": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
        "ingress": _rules("from"),
        "egress": _rules("to"),
    },
)


def _narrow_rules(side: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    rule = st.fixed_dictionaries(
        {side: st.lists(peers | ip_blocks(), min_size=1, max_size=2)},
        optional={"ports": st.lists(ports(), min_size=1, max_size=2)},
    )
    return st.lists(rule, min_size=1, max_size=2)


biting_specs = st.fixed_dictionaries(
    {
        "podSelector": subjects,
        "policyTypes": st.just(["Ingress", "Egress"]),
        "ingress": _narrow_rules("from"),
        "egress": _narrow_rules("to"),
    }
)
"""Of policies that are seldom without effect, since each rule names somebody."""

"""What may happen in a fuzzed cluster, as plain data.

Few words of all policy languages, so that rules meet, in either family of addresses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from languages import DOMAINS, cilium, groups, services, tiered
from strategies import NAMESPACES, biting_specs, named_ports, specs
from strategies import labels as label_maps
from traffic import LOCAL, NODES, OUTSIDE, REMOTE
from world import network_policy

Document = dict[str, Any]
PodFacts = Sequence[Any]
"""[namespace, labels, [[name, number, protocol], …]]"""
Happening = Sequence[Any]
"""["apply", document], ["delete", which of all that is there], ["relabel", pod, labels],
["stop", pod], ["restart", pod, labels], ["namespace", name, labels], ["node", name, labels],
["answer", domain name, addresses], ["enforce", mode] or ["settle"]"""

IPV6 = {
    "10.0.0.0/8": "fd10::/16",
    "10.1.0.0/16": "fd10:1::/32",
    "10.1.1.0/24": "fd10:1:1::/48",
    "10.1.1.7/32": "fd10:1:1::7/128",
    "10.2.0.0/15": "fd10:2::/31",
    "0.0.0.0/0": "::/0",
    "192.168.9.0/24": "fd99::/16",
    "IPv4": "IPv6",
    **dict((*LOCAL, *REMOTE, *NODES, *OUTSIDE)),
}
"""IPv6's share of what documents name."""


def key_of(document: Document) -> tuple[str, str, str]:
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


def in_ipv6(found: Any) -> Any:
    match found:
        case {"family": str(), "type": _}:
            return found  # its types differ
        case dict():
            return {key: in_ipv6(value) for key, value in found.items()}
        case list():
            return [in_ipv6(value) for value in found]
        case str():
            return IPV6.get(found, found)
    return found


_BEHIND = tuple(at for at, _ in (OUTSIDE[0], OUTSIDE[1], LOCAL[0], REMOTE[0], NODES[0]))
"""Behind Services may be anyone; pods and nodes are nobody there."""

_network = st.builds(
    lambda name, namespace, spec: network_policy(name, namespace, **spec),
    st.sampled_from(["p", "q"]),
    st.sampled_from(NAMESPACES),
    st.sampled_from([specs, biting_specs, biting_specs]).flatmap(lambda found: found),
)
_pod = st.integers(0, len(LOCAL) + len(REMOTE) - 1)
_answers = st.lists(
    st.sampled_from([at for pair in (*OUTSIDE[:2], LOCAL[0]) for at in pair]),
    min_size=1,
    max_size=3,
    unique=True,
)
_DOCUMENTS = {
    "policy": (_network, 3),
    "tiered": (tiered(), 5),
    "cilium": (cilium(), 5),
    "group": (groups, 1),
    "service": (services(_BEHIND), 2),
}
_HAPPENINGS = {
    "delete": ((st.integers(0, 9),), 3),
    "relabel": ((_pod, label_maps), 2),
    "stop": ((_pod,), 1),
    "restart": ((_pod, label_maps), 1),
    "namespace": ((st.sampled_from(NAMESPACES), label_maps), 1),
    "node": ((st.sampled_from(["n1", "n2"]), label_maps), 1),
    "answer": ((st.sampled_from(DOMAINS), _answers), 3),
    "enforce": ((st.sampled_from(["default", "default", "always", "never"]),), 1),
    "settle": ((), 1),
}


def _often(weighted: Mapping[str, tuple[Any, int]]) -> st.SearchStrategy[str]:
    return st.sampled_from([name for name, (_, times) in weighted.items() for _ in range(times)])


@st.composite
def applied(draw: st.DrawFn) -> Happening:
    document = draw(_DOCUMENTS[draw(_often(_DOCUMENTS))][0])
    return ["apply", in_ipv6(document) if draw(st.booleans()) else document]


@st.composite
def happenings(draw: st.DrawFn) -> Happening:
    """Half of them apply something."""
    if draw(st.booleans()):
        return draw(applied())
    kind = draw(_often(_HAPPENINGS))
    return [kind, *map(draw, _HAPPENINGS[kind][0])]


pods = st.lists(
    st.tuples(st.sampled_from(NAMESPACES), label_maps, named_ports),
    min_size=len(LOCAL) + len(REMOTE),
    max_size=len(LOCAL) + len(REMOTE),
)

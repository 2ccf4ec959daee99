from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabard.allocator.claims import Claims
from tabard.ledger.state import Node

_claimed = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 7), st.integers(29, 32)).map(
            lambda at: str(ip_network((f"10.0.0.{at[0]}", at[1]), strict=False))
        ),
        st.tuples(st.integers(0, 7), st.integers(125, 128)).map(
            lambda at: str(ip_network((f"fd00::{at[0]}", at[1]), strict=False))
        ),
    ),
    max_size=2,
)
_nodes = st.builds(
    lambda name, cidrs, address: Node(name, address, tuple(cidrs)),
    st.sampled_from("abcd"),
    _claimed,
    st.sampled_from([(), ("10.0.0.3",), ("fd00::5",)]),
)


def clashes(one: Node, other: Node) -> bool:
    """The naive twin."""
    mine, theirs = (
        [ip_network(text) for text in (*node.addresses, *node.pod_cidrs)] for node in (one, other)
    )
    return any(
        a.version == b.version and a.overlaps(b)  # type: ignore[arg-type]
        for a in mine
        for b in theirs
    )


@given(joined=st.lists(_nodes, max_size=6), gone=st.sets(st.sampled_from("abcd")), new=_nodes)
def test_a_clash_is_found_exactly_if_two_nodes_ranges_overlap(
    joined: list[Node], gone: set[str], new: Node
) -> None:
    claims, there = Claims(), dict[str, Node]()
    for node in joined:
        claims.add(node)
        there[node.name] = node
    for name in gone:
        claims.remove(name)
        there.pop(name, None)
    expected = any(clashes(new, node) for node in there.values() if node.name != new.name)
    assert bool(claims.clash(new)) == expected
    assert bool(Claims(there.values()).clash(new)) == expected


@pytest.mark.parametrize(
    ("address", "cidr", "said"),
    [
        ("192.0.2.1", "10.1.0.0/24", "192.0.2.1 is node n1's"),
        ("192.0.2.9", "10.0.0.0/24", "10.0.0.0/24 is node n1's"),
        ("10.0.0.9", "10.1.0.0/24", "10.0.0.9 overlaps with 10.0.0.0/24, node n1's"),
        ("192.0.2.9", "10.0.0.128/25", "10.0.0.128/25 overlaps with 10.0.0.0/24, node n1's"),
        ("192.0.2.9", "192.0.2.0/29", "192.0.2.0/29 overlaps with 192.0.2.1, node n1's"),
    ],
)
def test_a_clash_is_told_in_words(address: str, cidr: str, said: str) -> None:
    claims = Claims([Node("n1", ("192.0.2.1",), ("10.0.0.0/24",))])
    assert claims.clash(Node("n2", (address,), (cidr,))) == said
    assert claims.clash(Node("n1", (address,), (cidr,))) == ""

from hypothesis import given
from hypothesis import strategies as st

import naive
from naive import port_blocks
from tabard.dataplane.maps import Action, Protocol, Strength, strength
from tabard.policy.painting import Block, Part, painted

PROTOCOLS = (Protocol.TCP, Protocol.UDP)
EDGES = (0, 1, 5, 6, 7, 8, 80, 255, 256, 1023, 1024, 32_767, 32_768, 65_534, 65_535)
strengths = st.builds(strength, st.sampled_from(Action), st.integers(0, 2))
all_traffic = st.builds(Part, st.just(Protocol.ANY), st.just(0), st.just(65_535), strengths)
ranges = st.builds(
    lambda protocol, ends, value: Part(protocol, min(ends), max(ends), value),
    st.sampled_from(PROTOCOLS),
    st.tuples(st.sampled_from(EDGES), st.sampled_from(EDGES)),
    strengths,
)
sets = st.frozensets(all_traffic | ranges | ranges, max_size=6)
ASKED = [
    (protocol, port)
    for protocol in (*PROTOCOLS, Protocol.SCTP)
    for port in sorted({near for edge in EDGES for near in (edge - 1, edge, edge + 1)})
    if 0 <= port <= 65_535
]
"""Beside each edge something changes, if anywhere."""


def longest(blocks: tuple[Block, ...], protocol: Protocol, port: int) -> Strength:
    """What the longest of the blocks says that match; 0, as nothing does, is the weakest."""
    found = [
        (block.bits + (block.protocol is not Protocol.ANY), block.strength)
        for block in blocks
        if block.protocol is Protocol.ANY
        or (block.protocol is protocol and not (block.port ^ port) >> (16 - block.bits))
    ]
    return max(found, default=(0, Strength(0)))[1]


@given(sets, sets)
def test_longest_match_in_the_blocks_is_strongest_match_in_the_parts(
    parts: frozenset[Part], anyone: frozenset[Part]
) -> None:
    of_anyone = painted(anyone)
    blocks = painted(parts, anyone)
    for protocol, port in ASKED:
        said = naive.strongest([*parts, *anyone], protocol, port)
        assert said == max(longest(all, protocol, port) for all in (blocks, of_anyone))


@given(sets, sets)
def test_without_any_one_block_something_else_would_be_said(
    parts: frozenset[Part], anyone: frozenset[Part]
) -> None:
    of_anyone = painted(anyone)
    blocks = painted(parts, anyone)
    asked = [*ASKED, *((block.protocol, block.port) for block in blocks)]
    for block in blocks:
        rest = tuple(other for other in blocks if other is not block)
        assert any(
            naive.strongest([*parts, *anyone], protocol, port)
            != max(longest(all, protocol, port) for all in (rest, of_anyone))
            for protocol, port in asked
        )


@given(sets, sets)
def test_the_blocks_are_as_few_as_levels_of_whole_runs_need(
    parts: frozenset[Part], anyone: frozenset[Part]
) -> None:
    found = {block[:3]: block.strength for block in painted(parts, anyone)}
    assert found == naive.fewest(list(parts), list(anyone))


def part(protocol: Protocol, first: int, last: int, action: Action = Action.ALLOW) -> Part:
    return Part(protocol, first, last, strength(action))


TCP, ALLOW, DENY = Protocol.TCP, strength(Action.ALLOW), strength(Action.DENY)


def test_neighbours_of_one_strength_are_joined() -> None:
    parts = frozenset((part(TCP, 0, 5), part(TCP, 6, 6), part(TCP, 7, 7)))
    assert painted(parts) == (Block(TCP, 0, 13, ALLOW),)


def test_a_hole_costs_one_block_and_splits_nothing() -> None:
    parts = frozenset((part(TCP, 0, 65_535), part(TCP, 80, 80, Action.DENY)))
    assert set(painted(parts)) == {Block(TCP, 0, 0, ALLOW), Block(TCP, 80, 16, DENY)}


def test_what_anyone_may_is_said_of_nobody_again() -> None:
    anyone = frozenset((part(TCP, 0, 1023),))
    assert painted(frozenset((part(TCP, 80, 80), part(TCP, 443, 443))), anyone) == ()
    assert painted(frozenset((part(TCP, 1022, 1024),)), anyone) == (Block(TCP, 1024, 16, ALLOW),)


def test_a_block_may_lie_over_ports_of_which_anyone_is_told_something_stronger() -> None:
    anyone = frozenset((part(TCP, 80, 80, Action.DENY),))
    assert painted(frozenset((part(TCP, 64, 127),)), anyone) == (Block(TCP, 64, 10, ALLOW),)


def test_to_pass_below_all_else_is_to_say_nothing() -> None:
    assert painted(frozenset((part(Protocol.ANY, 0, 65_535, Action.PASS),))) == ()


@given(st.integers(0, 65_535), st.integers(0, 65_535))
def test_blocks_are_exactly_the_range_and_aligned(one: int, other: int) -> None:
    first, last = sorted((one, other))
    at = first
    blocks = list(port_blocks(first, last))
    for port, bits in blocks:
        size = 1 << (16 - bits)
        assert port == at
        assert port % size == 0
        at += size
    assert at == last + 1
    assert len(blocks) <= 30
    everything = frozenset((part(TCP, first, last),))
    assert sorted(painted(everything)) == [Block(TCP, *block, ALLOW) for block in blocks]


def test_known_ranges_have_the_fewest_blocks() -> None:
    assert list(port_blocks(0, 65_535)) == [(0, 0)]
    assert list(port_blocks(80, 80)) == [(80, 16)]
    assert list(port_blocks(1, 65_535)) == [(1 << bit, 16 - bit) for bit in range(16)]
    assert list(port_blocks(65_535, 65_535)) == [(65_535, 16)]

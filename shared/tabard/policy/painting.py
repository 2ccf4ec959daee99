"""Ports by how strongly something is said of them, and the fewest map entries that say the same.

Of one peer's entries the longest match decides, of the peers under which a packet is looked up the
strongest (`dataplane.verdict`). So an entry is needed only where it is stronger than what is said
of anyone, and a longer one only where it is stronger than the shorter ones around it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from tabard.dataplane.maps import Protocol, Strength

PORTS = 1 << 16
SHAPES_MAX = 16_384
"""Sets of parts whose blocks are remembered: rule sets are alike, and so are their peers."""

_NOTHING = Strength(0)
"""PASS below all else: to leave it to the next tier is to say nothing."""


class Part(NamedTuple):
    """Ports `first` to `last` of a protocol, or with ANY all traffic, and what is said of them."""

    protocol: Protocol
    first: int
    last: int
    strength: Strength


class Block(NamedTuple):
    """What a policy entry says of one peer: `port` and `bits` as in PolicyKey."""

    protocol: Protocol
    port: int
    bits: int
    strength: Strength


@lru_cache(maxsize=SHAPES_MAX)
def painted(parts: frozenset[Part], anyone: frozenset[Part] = frozenset()) -> tuple[Block, ...]:
    """The fewest blocks that say of a peer what the strongest of `parts` say.

    Longest match among them is strongest match: a block within another is the stronger one. Where
    `anyone` says as much they may say nothing, or less.
    """
    own, others = _of_all_traffic(parts), _of_all_traffic(anyone)
    floor = max(own, others)
    blocks = [Block(Protocol.ANY, 0, 0, own)] if own > others else []
    for protocol in sorted({part.protocol for part in parts if part.strength > floor}):
        mine, theirs = (
            [part for part in said if part.protocol is protocol and part.strength > floor]
            for said in (parts, anyone)
        )
        blocks += (Block(protocol, *block) for block in _blocks(mine, theirs, floor))
    return tuple(blocks)


def _of_all_traffic(parts: Iterable[Part]) -> Strength:
    return max((one.strength for one in parts if one.protocol is Protocol.ANY), default=_NOTHING)


class _Run(NamedTuple):
    """Ports from `first` of which the same is said, of a peer and of anyone."""

    first: int
    own: Strength
    others: Strength


def _blocks(
    mine: Sequence[Part], theirs: Sequence[Part], floor: Strength
) -> Iterator[tuple[int, int, Strength]]:
    """(port, bits, strength) for one protocol; of all its ports `floor` is said anyway."""
    edges = {edge for part in (*mine, *theirs) for edge in (part.first, part.last + 1)}
    cuts = sorted(edges - {PORTS} | {0})
    runs = map(_Run, cuts, _heights(mine, cuts), _heights(theirs, cuts))
    return _split(list(runs), 0, 0, floor)


def _heights(parts: Iterable[Part], cuts: Sequence[int]) -> list[Strength]:
    """The greatest strength from each cut to the next."""
    found = [_NOTHING] * len(cuts)
    for part in sorted(parts, key=lambda part: part.strength):
        here = slice(bisect_left(cuts, part.first), bisect_left(cuts, part.last + 1))
        found[here] = [part.strength] * len(found[here])
    return found


def _split(
    runs: Sequence[_Run], port: int, bits: int, around: Strength
) -> Iterator[tuple[int, int, Strength]]:
    """The blocks within the one of `bits` at `port`, which is made of `runs`.

    All of it is at least as strong as `low`, and what is stronger gets blocks within: so one of
    `low` is what it needs, unless what is `around` it says so already, or anyone's.
    """
    low = min(max(run.own, run.others) for run in runs)
    if low > around and any(run.own == low > run.others for run in runs):
        yield port, bits, low
    if len(runs) > 1:
        middle = port + (PORTS >> bits + 1)
        at = bisect_left(runs, middle, key=attrgetter("first"))
        if at == len(runs) or runs[at].first > middle:
            right = [runs[at - 1]._replace(first=middle), *runs[at:]]
        else:
            right = list(runs[at:])
        yield from _split(runs[:at], port, bits + 1, low)
        yield from _split(right, middle, bits + 1, low)

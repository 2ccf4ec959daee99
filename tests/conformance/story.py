"""What a case comes down to, whatever its format: pods, steps, and checks made of flows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tabard.dataplane.maps import Address, Direction
from tabard.events.ledger import Enforcement

if TYPE_CHECKING:
    from conformance.cluster import Cluster

BOTH = frozenset(Direction)


class CaseError(Exception):
    """The case cannot be read or told: nothing of it counts as judged."""


def why(error: Exception) -> str:
    """What is wrong with a file that was read, as its author sees it."""
    match error:
        case KeyError():
            return f"it lacks {error}"
        case TypeError() | AttributeError():
            return f"it is of another form ({error})"
    return str(error)


class LeftOut(Exception):
    """The case is not for this engine, by what it declares; `tag` says which declaration."""

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag


@dataclass(frozen=True, slots=True)
class PodSpec:
    """A pod to start; without an address it is given one of its node's."""

    key: str
    """`namespace/name`"""
    labels: dict[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    ports: tuple[tuple[str, int, str], ...] = ()
    """(name, number, protocol) of the named ones."""
    service_account: str = "default"
    host_network: bool = False


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """An endpoint of raw labels `source:key=value`, which no pod's place adds to."""

    key: str
    labels: tuple[str, ...]
    ports: tuple[tuple[str, int, str], ...] = ()
    """(name, number, protocol) of the named ones."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow's first packet; `port` is the destination port, for ICMP the type. `halves` count."""

    source: Address
    destination: Address
    protocol: int
    port: int
    halves: frozenset[Direction] = BOTH


@dataclass(frozen=True, slots=True)
class Check:
    """One statement of the case: what `flows` must come out as, all of them together."""

    probe: str
    """As shown: `x/a -> y/b 80/TCP`."""
    flows: tuple[Flow, ...]
    expected: str
    found: Callable[[Sequence[bool]], str]
    """What the flows' outcomes (allowed or not) amount to, in the words of `expected`."""


Action = Callable[["Cluster"], None]


@dataclass(frozen=True, slots=True)
class Step:
    """Actions, told one after the other to what runs, and the checks that hold afterwards."""

    name: str
    actions: tuple[Action, ...]
    checks: Callable[["Cluster"], Iterator[Check]]
    skipped: dict[str, int] = field(default_factory=dict)
    """Statements that are left out, by their reason's tag."""


@dataclass(frozen=True, slots=True)
class Story:
    """A case, ready to be told."""

    steps: tuple[Step, ...]
    addresses: frozenset[str] = frozenset()
    """Every address that the case gives to pods, at any step."""
    avoid: frozenset[str] = frozenset()
    """Networks in which no address of the runner's own choice may lie."""
    nodes: tuple[tuple[str, ...], ...] = ((), ())
    """The nodes' addresses, as far as the case gives them."""
    node_labels: tuple[Mapping[str, str], ...] = ()
    """The nodes' labels, as far as the case gives them."""
    one_node: bool = False
    """All pods run on the first node: the case speaks of `host`, which is that one's view."""
    enforcement: Enforcement = "default"
    cluster: str = "default"
    """The cluster's name, which is part of every pod's identity."""
    folded: int = 0
    """L7 parts of the case's rules that were folded into what they allow on layer 4."""


@dataclass(frozen=True, slots=True)
class Row:
    """One statement that is no flow: what a reader or an analysis must find."""

    probe: str
    expected: str
    found: Callable[[], str]
    """In the words of `expected`; LeftOut if it is not judged."""
    tag: str = ""
    """By which it is counted apart, among those that passed."""


Rows = tuple[Row, ...]


def verdict(outcomes: Sequence[bool]) -> str:
    return "allow" if all(outcomes) else "deny"


def both_ends(cuts: Iterable[int], first: int, last: int) -> list[tuple[int, int]]:
    """`first`-`last` cut before each of `cuts`, then each part's last number cut off.

    A part's lowest number stands for it; so each boundary is asked on both of its sides.
    """
    starts = sorted({first, *(cut for cut in cuts if first < cut <= last)})
    found = []
    for start, end in zip(starts, [*(start - 1 for start in starts[1:]), last], strict=True):
        found += [(start, end)] if start == end else [(start, end - 1), (end, end)]
    return found

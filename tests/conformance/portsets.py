"""Sets of connections in np-guard's words: `All Connections`, `TCP 80,443,UDP 53`."""

from collections.abc import Iterable, Mapping, Sequence

from conformance.policies import WITH_PORTS
from conformance.story import CaseError, both_ends
from tabard.dataplane.maps import Protocol

ALL, NONE = "All Connections", "No Connections"

Spans = frozenset[tuple[int, int]]
"""(first, last) ranges of ports or addresses, both included."""
Connections = Mapping[Protocol, Spans]
Parts = Mapping[Protocol, list[tuple[int, int]]]
"""The ports of each protocol, cut wherever a verdict may change; a part's first stands for it."""


def parse(text: str, names: Mapping[str, tuple[Protocol, int]] = {}) -> Connections:
    """The set that `text` tells; `names` are the ports that may be told by name."""
    if text.strip() == ALL:
        return dict.fromkeys(WITH_PORTS, frozenset({(1, 65_535)}))
    if text.strip() == NONE:
        return {}
    found: dict[Protocol, set[tuple[int, int]]] = {}
    protocol = None
    for part in text.replace("{", "").replace("}", "").split(","):
        *named, ports = part.split()
        if named:
            protocol = Protocol[named[0]]
        if ports in names:
            of, number = names[ports]
            found.setdefault(of, set()).add((number, number))
            continue
        if protocol is None:
            raise CaseError(f"{text!r} names no protocol")
        first, _, last = ports.partition("-")
        found.setdefault(protocol, set()).add((int(first), int(last or first)))
    return {protocol: frozenset(spans) for protocol, spans in found.items()}


def union(sets: Iterable[Connections]) -> Connections:
    found: dict[Protocol, Spans] = {}
    for connections in sets:
        for protocol, spans in connections.items():
            found[protocol] = found.get(protocol, frozenset()) | spans
    return found


def cut(cuts: Mapping[Protocol, set[int]], told: Iterable[Connections]) -> Parts:
    """The ports cut where `cuts` say, and where the sets that are `told` begin and end."""
    found = {protocol: set(numbers) for protocol, numbers in cuts.items()}
    for connections in told:
        for protocol, spans in connections.items():
            found[protocol] |= {at for first, last in spans for at in (first, last + 1)}
    return {protocol: both_ends(numbers, 1, 65_535) for protocol, numbers in found.items()}


def told(parts: Parts, pairs: int, outcomes: Sequence[bool]) -> str:
    """What the flows of `pairs` pairs of ends allow, a flow for each part; pairs that differ are
    told apart."""
    size = len(outcomes) // pairs
    texts = []
    for start in range(0, len(outcomes), size):
        rest = iter(outcomes[start : start + size])
        texts.append(
            text(
                {
                    protocol: frozenset(span for span in spans if next(rest))
                    for protocol, spans in parts.items()
                }
            )
        )
    return " or ".join(dict.fromkeys(texts))


def text(connections: Connections) -> str:
    """In np-guard's words, each protocol's ports merged."""
    found = {
        protocol: merged(connections[protocol])
        for protocol in sorted(connections)
        if connections[protocol]
    }
    if not found:
        return NONE
    if set(found) == set(WITH_PORTS) and all(spans == [(1, 65_535)] for spans in found.values()):
        return ALL
    return ",".join(
        f"{protocol.name} "
        + ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
        for protocol, spans in found.items()
    )


def merged(spans: Spans) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found

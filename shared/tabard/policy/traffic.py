"""Sets of traffic: which ports of which protocols. Exact, however many ports there are.

A `Traffic` maps each protocol to the destination ports (for ICMP the types) that are in the set;
a protocol without any is left out. ANY stands for all the protocols that have no name here, so
equal sets are equal values, whatever rules they come from.
"""

from collections.abc import Iterable, Iterator, Mapping

from tabard.dataplane.maps import Protocol

Ranges = tuple[tuple[int, int], ...]
"""(first, last) of each run of ports, in order; runs neither overlap nor touch."""
Traffic = Mapping[Protocol, Ranges]

PORT_MAX = 65_535
ALL: Ranges = ((0, PORT_MAX),)
EVERYTHING: Traffic = dict.fromkeys(Protocol, ALL)
NOTHING: Traffic = {}


def union(parts: Iterable[tuple[Protocol, int, int]]) -> Traffic:
    """What is in any of `parts`, each (protocol, first port, last port); ANY is everything."""
    ports: dict[Protocol, list[tuple[int, int]]] = {}
    for protocol, first, last in parts:
        if protocol is Protocol.ANY:
            return EVERYTHING
        ports.setdefault(protocol, []).append((first, last))
    return {protocol: _joined(ports[protocol]) for protocol in sorted(ports)}


def joined(sets: Iterable[Traffic]) -> Traffic:
    """What is in any of `sets`."""
    ports: dict[Protocol, list[tuple[int, int]]] = {}
    for traffic in sets:
        for protocol, ranges in traffic.items():
            ports.setdefault(protocol, []).extend(ranges)
    return {protocol: _joined(ports[protocol]) for protocol in sorted(ports)}


def intersection(one: Traffic, other: Traffic) -> Traffic:
    """What is in both."""
    both = {
        protocol: tuple(
            (max(first, from_), min(last, to))
            for first, last in ranges
            for from_, to in other.get(protocol, ())
            if max(first, from_) <= min(last, to)
        )
        for protocol, ranges in one.items()
    }
    return {protocol: ranges for protocol, ranges in both.items() if ranges}


def difference(one: Traffic, other: Traffic) -> Traffic:
    """What is in `one` and not in `other`."""
    rest = {
        protocol: tuple(_without(ranges, other.get(protocol, ())))
        for protocol, ranges in one.items()
    }
    return {protocol: ranges for protocol, ranges in rest.items() if ranges}


def contains(traffic: Traffic, protocol: int, port: int) -> bool:
    """Whether this one is in the set; any number may stand for a protocol."""
    try:
        ranges = traffic.get(Protocol(protocol), ())
    except ValueError:
        ranges = traffic.get(Protocol.ANY, ())
    return any(first <= port <= last for first, last in ranges)


def shown(traffic: Traffic) -> str:
    """As a table shows it: `all`, `none`, the likes of `80,443,8000-8080/TCP, all/UDP`; of what no
    list of protocols is the whole `all but 25/TCP`."""
    if traffic == EVERYTHING:
        return "all"
    if Protocol.ANY in traffic:
        return f"all but {shown(difference(EVERYTHING, traffic))}"
    return ", ".join(f"{_shown(traffic[p])}/{p.name}" for p in sorted(traffic)) or "none"


def _shown(ranges: Ranges) -> str:
    if ranges == ALL:
        return "all"
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _joined(runs: list[tuple[int, int]]) -> Ranges:
    found: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)


def _without(ranges: Ranges, holes: Ranges) -> Iterator[tuple[int, int]]:
    for start, last in ranges:
        first = start
        for from_, to in holes:
            if to < first or from_ > last:
                continue
            if first < from_:
                yield first, from_ - 1
            first = to + 1
        if first <= last:
            yield first, last

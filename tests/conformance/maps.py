"""Connectivity maps and differences as np-guard's network-config-analyzer prints them.

A line is a rule on sets of pods, which are named by label expressions, by workloads or by their own
names: `src_ns: [a] src_pods: [app=x, has(tier)] dst: 0.0.0.0/0 conn: All connections`, or simply
`src => dst : conn`. A map means the union of its lines over the topology's pods.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from itertools import product
from typing import Any

from conformance.configurations import (
    REAL,
    Allowed,
    Name,
    Pair,
    Pod,
    Topology,
)
from conformance.story import CaseError
from tabard.dataplane.maps import Protocol
from tabard.policy.traffic import Traffic, difference, joined, shown, union

_MAP = re.compile(r"final fw rules for query: .*?, config: (.*?):")
_RULE = re.compile(r"(?P<src>src.*?) (?P<dst>dst(?:_ns)?:.*?) conn: (?P<conn>.*)")
_PLAIN = re.compile(r"(\S+) => (\S+) : (.*)")
_PODS = re.compile(r"(?:src|dst)_ns: \[(?P<namespaces>.*?)\] (?:src|dst)_pods: \[(?P<pods>.*)\]")
_HEADING = re.compile(r"(\w[\w ]+) \(based on topology from config: .*\) ?:")
_CONNECTION = re.compile(r"\{protocols:(?P<protocols>.*?)(?:,dst_ports:(?P<ports>[\d,-]+))?\}")
_TOKEN = re.compile(r"\s*(and\b|or\b|not in\b|in\b|has\b|!=|[!(){},=]|[^\s!(){},=]+)")
_WORKLOAD = re.compile(r"(.*)\[\w+\]")

_PAIR = re.compile(r"(\S+) and (\S+) (?:are|have) .*(?:semantically equivalent|policies)\.")

Line = tuple[Any, Any, str]
"""(source, destination, connections), the ends as they are written."""


def sections(text: str) -> dict[str, list[Line]]:
    """The lines by what stands above them: a configuration's name, or what they are a change of."""
    found: dict[str, list[Line]] = {}
    heading = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        named = _MAP.fullmatch(line) or _HEADING.fullmatch(line)
        if named is not None:
            heading = named[1]
            found[heading] = []
            continue
        match = _RULE.fullmatch(line) or _PLAIN.fullmatch(line)
        if match is not None:
            found.setdefault(heading, []).append((match[1], match[2], match[3]))
        else:
            raise CaseError(f"the line {line!r} is no connection")
    return found


def differences(text: str) -> dict[tuple[str, str], dict[str, list[Line]]]:
    """The sections by the two configurations that are compared; ("", "") if no line names them."""
    found: dict[tuple[str, str], list[str]] = {}
    pair = ("", "")
    for line in text.splitlines():
        match = _PAIR.fullmatch(line.strip())
        if match is not None:
            pair = (match[1], match[2])
        found.setdefault(pair, []).append("" if match else line)
    return {each: sections("\n".join(lines)) for each, lines in found.items()}


def listed(document: Sequence[Mapping[str, Any]]) -> dict[str, list[Line]]:
    """The same of a YAML file: by configuration."""
    found = {}
    for query in document:
        rules = [rule for each in query["explanation"] for rule in each["rules"]]
        found[query["configs"][0]] = [
            (_end(rule, "src"), _end(rule, "dst"), ",".join(rule["connection"])) for rule in rules
        ]
    return found


def _end(rule: Mapping[str, Any], side: str) -> str:
    if f"{side}_ip_block" in rule:
        return f"{side}: {','.join(rule[f'{side}_ip_block'])}"
    namespaces, pods = ",".join(rule[f"{side}_ns"]), ", ".join(rule[f"{side}_pods"])
    return f"{side}_ns: [{namespaces}] {side}_pods: [{pods}]"


def boundaries(lines: Sequence[Line]) -> Iterator[int]:
    """Where outside ranges begin and end."""
    for line in lines:
        for end in line[:2]:
            for first, last in _ranges(end) or ():
                yield from (first, last + 1)


def expand(lines: Sequence[Line], topology: Topology, cuts: Sequence[int]) -> Allowed:
    """What the lines state of each pair of pods and outside ranges."""
    found: dict[Pair, list[Traffic]] = {}
    for source, target, connections in lines:
        told = traffic(connections)
        senders, receivers = (list(_names(end, topology, cuts)) for end in (source, target))
        for pair in product(senders, receivers):
            if pair[0] != pair[1]:
                found.setdefault(pair, []).append(told)
    return {pair: joined(told) for pair, told in found.items()}


def traffic(text: str) -> Traffic:
    """What connections are told."""
    text = text.strip()
    if text.lower() == "all connections":
        return REAL
    negated = text.startswith("All but ")
    told: list[tuple[Protocol, int, int]] = []
    for match in _CONNECTION.finditer(text):
        for name in match["protocols"].split(","):
            protocol = Protocol[name.strip()]
            for ports in (match["ports"] or "1-65535").split(","):
                first, _, last = ports.partition("-")
                told.append((protocol, int(first), int(last or first)))
    if not told:
        raise CaseError(f"{text!r} is no set of connections")
    return difference(REAL, union(told)) if negated else union(told)


def is_by_workload(lines: Sequence[Line]) -> bool:
    """Whether pods stand under their workload's name, whichever of its pods is meant."""
    return any(_WORKLOAD.fullmatch(end) for line in lines for end in line[:2])


def by_workload(allowed: Allowed, topology: Topology, *, with_itself: bool) -> Allowed:
    """What any pods of two workloads are allowed; a workload `with_itself` too, or not."""
    found: dict[Pair, list[Traffic]] = {}
    for pair, told in allowed.items():
        ends = tuple(
            f"{pod.namespace}/{pod.owner}" if (pod := topology.pods.get(name)) else name
            for name in pair
        )
        if with_itself or ends[0] != ends[1]:
            found.setdefault((ends[0], ends[1]), []).append(told)
    return {pair: joined(told) for pair, told in found.items()}


def compare(expected: Allowed, found: Allowed) -> tuple[str, str]:
    """The first pair on which they differ, as (expected, found); the same for equal ones."""
    for pair in sorted(expected.keys() | found.keys()):
        if expected.get(pair) != found.get(pair):
            arrow = " => ".join(pair)
            return (
                f"{arrow}: {shown(expected.get(pair, {}))}",
                f"{arrow}: {shown(found.get(pair, {}))}",
            )
    return "the listed connections", "the listed connections"


def _ranges(end: str) -> list[tuple[int, int]] | None:
    """(first, last) of each outside range; None for pods."""
    text = end.partition(": ")[2] if end.startswith(("src: ", "dst: ")) else end
    if end.startswith(("src_ns", "dst_ns")) or _WORKLOAD.fullmatch(text):
        return None
    found = []
    for part in text.split(","):
        if "/" in part:
            net = IPv4Network(part)
            found.append((int(net[0]), int(net[-1])))
        else:
            first, _, last = part.partition("-")
            found.append((int(IPv4Address(first)), int(IPv4Address(last or first))))
    return found


def _names(end: str, topology: Topology, cuts: Sequence[int]) -> Iterator[Name]:
    ranges = _ranges(end)
    if ranges is not None:
        for first, last in ranges:
            for at in range(bisect_left(cuts, first), bisect_left(cuts, last + 1)):
                yield str(IPv4Address(cuts[at]))
        return
    match = _PODS.fullmatch(end)
    if match is None:
        (workload,) = _WORKLOAD.fullmatch(end).groups()  # type: ignore[union-attr]
        yield from (
            name
            for name, pod in topology.pods.items()
            if f"{pod.namespace}/{pod.owner}" == workload
        )
        return
    namespaces = {name.strip() for name in match["namespaces"].split(",")}
    wanted = [part.strip() for part in match["pods"].split(", ")]
    for name, pod in topology.pods.items():
        if pod.namespace in namespaces and any(_fits(text, pod) for text in wanted):
            yield name


def _fits(text: str, pod: Pod) -> bool:
    if text == "*":
        return True
    if not any(mark in text for mark in ("=", "has(", " in (", " in(")):
        return text in (pod.owner, pod.name.partition("/")[2])
    return _Expression(text).holds(pod.labels)


class _Expression:
    """`(has(app) and app!=B) or tier in (W,X)`; braces are parentheses."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _TOKEN.findall(text)
        self._labels: Mapping[str, str] = {}

    def holds(self, labels: Mapping[str, str]) -> bool:
        self._labels = labels
        self._left = list(self._tokens)
        found = self._either()
        if self._left:
            raise CaseError(f"{self._text!r} is no label expression")
        return found

    def _either(self) -> bool:
        found = self._all()
        while self._left[:1] == ["or"]:
            self._left.pop(0)
            found = self._all() or found
        return found

    def _all(self) -> bool:
        found = self._one()
        while self._left[:1] == ["and"]:
            self._left.pop(0)
            found = self._one() and found
        return found

    def _one(self) -> bool:
        token = self._left.pop(0)
        if token == "!":
            return not self._one()
        if token in "({":
            found = self._either()
            self._left.pop(0)
            return found
        if token == "has":
            self._left.pop(0)
            key = self._left.pop(0)
            self._left.pop(0)
            return key in self._labels
        operator = self._left.pop(0)
        value = self._labels.get(token)
        if operator in ("in", "not in"):
            values = self._listed()
            return (value in values) == (operator == "in")
        wanted = self._left.pop(0)
        return (value == wanted) == (operator == "=")

    def _listed(self) -> list[str]:
        self._left.pop(0)
        found = []
        while (token := self._left.pop(0)) != ")":
            if token != ",":
                found.append(token)
        return found

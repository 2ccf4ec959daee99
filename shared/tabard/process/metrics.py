"""Metrics in Prometheus's text format (version 0.0.4), made from state at the moment of a scrape.

Names are `tabard_<service>_<thing>_<unit>`. Labels are of closed sets: never a pod's, a policy's or
an address's name. The client library is not used: it costs an agent 2.8 MiB of memory; the tests
read what is written here with that library's parser.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of a histogram of times."""

_STARTED_AT = time.time()
_STATM = Path("/proc/self/statm")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: `samples` are (suffix of the name, labels, value)."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: tuple[tuple[str, Labels, float], ...]


def gauge(name: str, help: str, value: float) -> Family:
    """What goes up and down."""
    return Family(name, "gauge", help, (("", (), value),))


def counter(name: str, help: str, value: float) -> Family:
    """What only grows while the process lives; `name` ends in `_total`."""
    return Family(name, "counter", help, (("", (), value),))


def gauges(name: str, help: str, label: str, values: Mapping[str, float]) -> Family:
    """One gauge for each value of one label."""
    return Family(name, "gauge", help, _labelled(label, values))


def counters(name: str, help: str, label: str, values: Mapping[str, float]) -> Family:
    """One counter for each value of one label."""
    return Family(name, "counter", help, _labelled(label, values))


def _labelled(label: str, values: Mapping[str, float]) -> tuple[tuple[str, Labels, float], ...]:
    return tuple(("", ((label, key),), value) for key, value in sorted(values.items()))


class Histogram:
    """How often a measured value was at most each of `bounds`; cheap enough for every batch."""

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    @property
    def count(self) -> int:
        return sum(self._counts)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self, name: str, help: str) -> Family:
        samples: list[tuple[str, Labels, float]] = []
        through = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            through += count
            samples.append(("_bucket", (("le", _bound(bound)),), through))
        samples += [("_sum", (), self._sum), ("_count", (), through)]
        return Family(name, "histogram", help, tuple(samples))


def own_process() -> list[Family]:
    """What any process can say of itself, by the names that dashboards know."""
    families = [
        counter(
            "process_cpu_seconds_total", "User and system CPU time spent.", time.process_time()
        ),
        gauge("process_start_time_seconds", "When it began, in Unix time.", _STARTED_AT),
    ]
    if _STATM.exists():
        resident = int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        opened = len(os.listdir("/proc/self/fd"))
        families += [
            gauge("process_resident_memory_bytes", "Resident memory.", resident),
            gauge("process_open_fds", "Open file descriptors.", opened),
        ]
    return families


def text(families: Iterable[Family]) -> str:
    """The exposition of `families`, one after the other."""
    lines = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escaped(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for suffix, labels, value in family.samples:
            inside = ",".join(f'{key}="{_escaped(of, quote=True)}"' for key, of in labels)
            place = f"{{{inside}}}" if inside else ""
            lines.append(f"{family.name}{suffix}{place} {_number(value)}")
    return "\n".join(lines) + "\n"


def _bound(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(float(value))


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _escaped(value: str, quote: bool = False) -> str:
    value = value.replace("\\", "\\\\").replace("\n", "\\n")
    return value.replace('"', '\\"') if quote else value

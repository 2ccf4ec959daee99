"""The openb trace (suites/traces/openb): when the pods of a production cluster came and went.

Pure, but for `rows`, which reads the file.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import population
from tabard.events.observed import ObservedEvent, PodStarted, PodStopped

FILE = Path(__file__).parents[3] / "shared/suites/traces/openb/openb_pod_list_default.csv"

Row = dict[str, str]


def rows(path: Path = FILE) -> list[Row]:
    """A row for each pod; FileNotFoundError without the trace."""
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


@dataclass(frozen=True, slots=True)
class Second:
    """What happened in one second of the trace: stops, then starts."""

    at: int
    stopped: tuple[str, ...]
    started: tuple[PodStarted, ...]

    @property
    def events(self) -> list[ObservedEvent]:
        return [*map(PodStopped, self.stopped), *self.started]


def seconds(rows: Sequence[Row], nodes: int) -> Iterator[Second]:
    """The trace by its seconds, stops before starts. A node's freed address is its next one."""
    starts: dict[int, list[int]] = {}
    stops: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        starts.setdefault(int(row["creation_time"]), []).append(index)
        stops.setdefault(int(row["deletion_time"]), []).append(index)
    free = {n: [f"10.244.{n + 1}.{k}" for k in range(250, 0, -1)] for n in range(nodes)}
    held: dict[int, str] = {}
    late: list[int] = []
    for at in sorted(starts.keys() | stops.keys()):
        # A pod that ends in the second of its start ends after it: in the next one.
        stopped = [*late, *(index for index in stops.get(at, ()) if index in held)]
        late = [index for index in stops.get(at, ()) if index not in held]
        for index in stopped:
            free[index % nodes].append(held.pop(index))
        started = []
        for index in starts.get(at, ()):
            held[index] = free[index % nodes].pop()
            started.append(
                _pod(index, rows[index], population.node(index % nodes + 1), held[index], at)
            )
        yield Second(at, tuple(map(_uid, stopped)), tuple(started))
    yield Second(at + 1, tuple(map(_uid, late)), ())


def _uid(index: int) -> str:
    return f"openb-{index:08d}"


def _pod(index: int, row: Row, node: str, address: str, at: int) -> PodStarted:
    labels = {
        "qos": row["qos"],
        "phase": row["pod_phase"],
        "gpus": row["num_gpu"],
        "cpu": row["cpu_milli"],
    }
    return PodStarted(
        uid=_uid(index),
        namespace="openb",
        name=row["name"],
        node=node,
        addresses=(address,),
        labels=tuple(sorted(labels.items())),
        started_at=(at + 1) * 1_000_000_000,
    )

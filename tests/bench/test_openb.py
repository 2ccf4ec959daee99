from bench.openb import Row, Second, seconds
from tabard.events.observed import PodStarted, PodStopped


def row(name: str, created: int, deleted: int, qos: str = "LS") -> Row:
    return {
        "name": name,
        "creation_time": str(created),
        "deletion_time": str(deleted),
        "qos": qos,
        "pod_phase": "Running",
        "num_gpu": "1",
        "cpu_milli": "1000",
    }


def played(*rows: Row, nodes: int = 1) -> list[Second]:
    return [second for second in seconds(rows, nodes) if second.events]


def names(second: Second) -> list[str]:
    return [
        event.name if isinstance(event, PodStarted) else f"-{event.uid[-1]}"
        for event in second.events
        if isinstance(event, PodStarted | PodStopped)
    ]


def test_a_second_stops_before_it_starts_and_seconds_are_in_order() -> None:
    found = played(row("a", 5, 9), row("b", 9, 20), row("c", 2, 9))
    assert [(second.at, names(second)) for second in found] == [
        (2, ["c"]),
        (5, ["a"]),
        (9, ["-0", "-2", "b"]),
        (20, ["-1"]),
    ]


def test_a_pod_that_ends_in_the_second_of_its_start_ends_after_it() -> None:
    assert [(second.at, names(second)) for second in played(row("a", 3, 3), row("b", 4, 5))] == [
        (3, ["a"]),
        (4, ["-0", "b"]),
        (5, ["-1"]),
    ]
    assert [names(second) for second in played(row("a", 3, 3))] == [["a"], ["-0"]]


def test_a_freed_address_is_the_next_ones_and_no_two_live_pods_have_one() -> None:
    found = played(row("a", 1, 5), row("b", 2, 9), row("c", 5, 9))
    a, b, c = [pod for second in found for pod in second.started]
    assert a.addresses == c.addresses != b.addresses
    assert c.started_at > a.started_at


def test_every_pod_starts_once_and_stops_once_on_one_of_the_nodes() -> None:
    rows = [row(f"p{n}", n % 7, n % 7 + n % 3) for n in range(50)]
    found = played(*rows, nodes=3)
    started = [pod.uid for second in found for pod in second.started]
    stopped = [uid for second in found for uid in second.stopped]
    assert len(started) == 50
    assert sorted(started) == sorted(stopped)
    assert {pod.node for second in found for pod in second.started} == {"n1", "n2", "n3"}

import os

import pytest

from scraping import read
from tabard.process.metrics import (
    Family,
    Histogram,
    counter,
    counters,
    gauge,
    gauges,
    own_process,
    text,
)


def test_what_is_written_is_what_prometheus_reads() -> None:
    families = [
        gauge("tabard_x_lag_events", 'says "how far" \\ behind\nit is', 3),
        counter("tabard_x_sent_total", "Sent.", 2.5),
        gauges("tabard_x_entries", "Entries.", "map", {"hosts": 2, "nodes": 0}),
        counters("tabard_x_writes_total", "Writes.", "map", {'a "quoted"\\\n': 1}),
    ]
    assert read(text(families)) == {
        ("tabard_x_lag_events", ()): 3,
        ("tabard_x_sent_total", ()): 2.5,
        ("tabard_x_entries", (("map", "hosts"),)): 2,
        ("tabard_x_entries", (("map", "nodes"),)): 0,
        ("tabard_x_writes_total", (("map", 'a "quoted"\\\n'),)): 1,
    }


def test_a_histogram_counts_each_value_at_its_bound_and_above() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        histogram.observe(value)
    assert histogram.count == 4
    found = read(text([histogram.family("tabard_x_took_seconds", "Took.")]))
    buckets = {labels[0][1]: n for (name, labels), n in found.items() if name.endswith("_bucket")}
    assert buckets == {"1.0": 2, "2.0": 3, "+Inf": 4}
    assert found["tabard_x_took_seconds_sum", ()] == 10.0
    assert found["tabard_x_took_seconds_count", ()] == 4


def test_large_numbers_keep_every_digit() -> None:
    assert "tabard_x_packets_total 9007199254740991" in text(
        [counter("tabard_x_packets_total", "Packets.", 9007199254740991)]
    )


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc")
def test_a_process_tells_its_memory_in_bytes() -> None:
    found = read(text(own_process()))
    assert 10 << 20 < found["process_resident_memory_bytes", ()] < 1 << 30
    assert found["process_open_fds", ()] >= 3


def test_an_empty_family_is_still_named() -> None:
    assert read(text([Family("tabard_x_total", "counter", "None yet.", ())])) == {}

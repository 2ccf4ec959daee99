from prometheus_client.core import GaugeMetricFamily

from scraping import shown
from tabard.process.metrics import counters, gauges, seconds


def test_what_is_written_is_what_prometheus_reads() -> None:
    families = [
        GaugeMetricFamily("tabard_x_lag_events", 'says "how far" \\ behind\nit is', 3),
        gauges("tabard_x_entries", "Entries.", "map", {"hosts": 2, "nodes": 0}),
        counters("tabard_x_writes_total", "Writes.", "map", {'a "quoted"\\\n': 1}),
        counters("tabard_x_packets_total", "Packets.", "map", {"large": 9007199254740991}),
        counters("tabard_x_failures_total", "None yet.", "map", {}),
    ]
    assert shown(families) == {
        ("tabard_x_lag_events", ()): 3,
        ("tabard_x_entries", (("map", "hosts"),)): 2,
        ("tabard_x_entries", (("map", "nodes"),)): 0,
        ("tabard_x_writes_total", (("map", 'a "quoted"\\\n'),)): 1,
        ("tabard_x_packets_total", (("map", "large"),)): 9007199254740991,
    }


def test_a_histogram_has_its_buckets_sum_and_count_and_no_other_series() -> None:
    histogram = seconds("tabard_x_took_seconds", "Took.")
    for value in (0.001, 0.002, 7.0, 11.0):
        histogram.observe(value)
    found = shown(histogram.collect())
    buckets = {float(dict(labels)["le"]): n for (_, labels), n in found.items() if labels}
    assert len(buckets) == 14
    assert [buckets[le] for le in (0.001, 0.0025, 5.0, 10.0, float("inf"))] == [1, 2, 2, 3, 4]
    rest = {name: value for (name, labels), value in found.items() if not labels}
    assert rest == {"tabard_x_took_seconds_sum": 18.003, "tabard_x_took_seconds_count": 4}

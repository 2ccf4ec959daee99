"""What services' metrics are made of, besides the classes of Prometheus's client.

Names are `tabard_<service>_<thing>_<unit>`. Labels are of closed sets: never a pod's, a policy's or
an address's name. Families are made from state at the moment of a scrape; only what is measured is
kept, in a Histogram of no registry: whoever has it shows it, and a test may have many of a name.
"""

from collections.abc import Mapping

from prometheus_client import Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Else each histogram has a series more, of when it was made: the process's start says as much.
disable_created_metrics()  # type: ignore[no-untyped-call]


def gauges(name: str, help: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    """One gauge for each value of one label."""
    family = GaugeMetricFamily(name, help, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def counters(name: str, help: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    """One counter for each value of one label."""
    family = CounterMetricFamily(name, help, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def seconds(name: str, help: str) -> Histogram:
    """A histogram of measured times."""
    return Histogram(name, help, registry=None, buckets=_SECONDS)

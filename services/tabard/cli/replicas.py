"""The bus's servers and replicas, as several commands tell of them."""

import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tabard.bus.replicas import Standing
from tabard.cli.failing import Exit, Failure
from tabard.cli.reach import Target
from tabard.ledger.replicas import Survey, survey

ENVIRONMENT = "TABARD_BUS_MONITORING"
ALLOCATOR = "allocator"
METRICS_S_MAX = 3.0


def monitoring(chosen: Target, given: str) -> tuple[str, ...]:
    """The monitoring URLs of the bus's servers: those of the option, the environment, the profile;
    () if they are not known."""
    text = given or os.environ.get(ENVIRONMENT, "")
    urls = tuple(url.strip() for url in text.split(",") if url.strip())
    return urls or (chosen.profile.monitoring if chosen.profile is not None else ())


def monitored(chosen: Target, given: str) -> tuple[str, ...]:
    """As `monitoring`; a Failure if they are not known."""
    if urls := monitoring(chosen, given):
        return urls
    raise Failure(
        "it is not known where the bus's servers are monitored (nats-server's `http` setting)",
        "the same command with --monitoring http://HOST:8222,…",
        Exit.USAGE,
    )


def row(standing: Standing) -> dict[str, Any]:
    """One replica; what its server did not say is null."""
    replica = standing.replica
    return {
        "server": standing.server,
        "stream": standing.stream.value,
        "account": standing.account,
        "role": None if replica is None else "leader" if replica.leads else "follower",
        "first": replica and replica.first,
        "last": replica and replica.last,
        "messages": replica and replica.messages,
        "bytes": replica and replica.bytes,
        "holes": standing.holes,
        "behind": standing.behind,
        "faults": list(standing.faults),
    }


def document(found: Survey) -> dict[str, Any]:
    """{servers: [{name, url, failure}], replicas: [`row`]}."""
    return {
        "servers": [
            {"name": each.name, "url": each.url, "failure": each.failure} for each in found.servers
        ],
        "replicas": [row(each) for each in found.standings],
    }


def faults(found: Survey) -> list[str]:
    """What is wrong, a line each."""
    return [each.failure for each in found.servers if each.failure] + [
        f"{each.server} {each.stream}: {fault}"
        for each in found.standings
        for fault in each.faults
        # A server without an answer is told once, not for each of its streams.
        if each.reachable
    ]


async def word(chosen: Target, read: Mapping[tuple[str, str], int]) -> dict[str, Any] | None:
    """{servers, answering, faults} of the bus; None if it is not known where it is monitored.

    `read` is what allocators found by reading replicas (`found_by_allocators`).
    """
    urls = monitoring(chosen, "")
    if not urls:
        return None
    found = await survey(urls)
    counted = {(each.server, each.stream.value) for each in found.standings if each.holes}
    return {
        "servers": len(urls),
        "answering": sum(not each.failure for each in found.servers),
        "faults": faults(found)
        + [
            f"{server} {stream}: {holes} messages are missing, as an allocator found by reading"
            for (server, stream), holes in sorted(read.items())
            if (server, stream) not in counted
        ],
    }


def found_by_allocators(chosen: Target) -> dict[tuple[str, str], int]:
    """(server, stream) → holes, by the metrics of the cluster's allocators that answer. Blocks.

    To be asked outside of the bus's network namespace: services' pages are the host's.
    """
    found: dict[tuple[str, str], int] = {}
    if chosen.profile is None or not chosen.profile.monitoring:
        return found
    for name, url in chosen.profile.http.items():
        if name.partition(".")[0] != ALLOCATOR:
            continue
        try:
            with urllib.request.urlopen(f"{url}/metrics", timeout=METRICS_S_MAX) as answer:
                text = answer.read().decode()
        except (OSError, urllib.error.URLError):
            continue  # that it is down is told by `tabard metrics`
        for family in text_string_to_metric_families(text):
            if family.name == "tabard_bus_replica_holes":
                for sample in family.samples:
                    key = (sample.labels["server"], sample.labels["stream"])
                    if holes := int(sample.value):
                        found[key] = max(found.get(key, 0), holes)
    return found

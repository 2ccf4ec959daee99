"""Real applications: the flows that they need must pass their own policies (suites' README, 6)."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from conformance import manifests
from conformance.cluster import Cluster
from conformance.story import CaseError, Check, Flow, Step, Story, verdict, why
from tabard.dataplane.maps import Protocol


def reader(directory: Path) -> Callable[[], Story]:
    return partial(_read, directory)


def _read(directory: Path) -> Story:
    topology = manifests.read([directory / "manifests", directory / "policies"])
    try:
        text = (directory / "required_flows.json").read_text(encoding="utf-8")
        required = json.loads(text)["required_flows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaseError(f"{directory}/required_flows.json cannot be read: {why(error)}") from error
    checks = partial(_checks, topology, required)
    return Story((Step("manifests and policies", manifests.begin(topology), checks),))


def _checks(
    topology: manifests.Topology, required: list[dict[str, Any]], cluster: Cluster
) -> Iterator[Check]:
    for flow in required:
        ends = [flow["from"], flow["to"]]
        for end in ends:
            if end not in topology.workloads:
                raise CaseError(f"the manifests have no workload {end}")
        sources, targets = ([pod.key for pod in topology.workloads[end]] for end in ends)
        protocol = Protocol[flow.get("protocol", "TCP")]
        flows = tuple(
            Flow(cluster.address(source), cluster.address(target), protocol, flow["port"])
            for source in sources
            for target in targets
        )
        yield Check(f"{' -> '.join(ends)} {flow['port']}/{protocol.name}", flows, "allow", verdict)

"""Third-party truth: every case's steps on one running fold, through compiler and verdict.

The suites lie beside the project (`../shared/suites`), or where the environment's SUITES says.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tabard.dataplane.maps import Address, Mode, Protocol, Reason, address
from tabard.dataplane.verdict import Judge, flow_verdict
from tabard.events.ledger import NamespaceForgotten
from world import World

SUITES = Path(os.environ.get("SUITES", Path(__file__).parents[2] / ".." / "shared" / "suites"))
PLAIN = ("k8s-e2e-netpol", "netpol-recipes", "cilium-k8s-netpol-unit", "cyclonus-generated")
NODES = 2


def cases() -> Iterator[Any]:
    for suite in PLAIN:
        files = sorted((SUITES / suite / "cases").glob("*.yaml"))
        if not files:
            reason = f"NOT CHECKED: no cases of {suite} in {SUITES}; set SUITES to where they are"
            yield pytest.param(None, id=suite, marks=pytest.mark.skip(reason=reason))
        for file in files:
            yield pytest.param(file, id=f"{suite}/{file.stem}")


@pytest.mark.parametrize("file", list(cases()))
def test_every_probe_of_the_case_agrees(file: Path) -> None:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    cluster = Cluster(yaml.load(file.read_text(), Loader=loader))
    wrong = []
    for step in cluster.case["steps"]:
        for action in step.get("actions", ()):
            cluster.act(action)
        # One world, so that what a compiler remembers is tried too; its modes must not differ.
        for mode in Mode:
            judges = cluster.world.judges(mode)
            for probe in probes(step):
                if (found := cluster.ask(judges, probe)) != probe["expect"]:
                    wrong.append(f"{step['name']}, {mode.name}: {probe}, but {found}")
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:20])


def probes(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The step's probes; of a matrix, one for each cell off the diagonal."""
    yield from step.get("probes", ())
    matrix = step.get("matrix", {"order": [], "tables": {}})
    pods = matrix["order"]
    for what, directions in matrix["tables"].items():
        protocol, _, port = what.partition("/")
        for direction, rows in directions.items():
            for source, row in zip(pods, rows_of(rows, len(pods)), strict=True):
                for target, cell in zip(pods, row, strict=True):
                    if source != target:
                        yield {
                            "from": source,
                            "to": target,
                            "port": int(port),
                            "protocol": protocol,
                            "direction": direction,
                            "expect": "allow" if cell == "." else "deny",
                        }


def rows_of(rows: list[str] | str, size: int) -> list[str]:
    return ["." * size] * size if rows == "all-allowed" else list(rows)


class Cluster:
    """A case's pods, spread over the nodes of one world."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.world = World(nodes=NODES)
        self.pods = 0
        for name, namespace in case["namespaces"].items():
            self.world.namespace(name, namespace.get("labels") or {})
        for key, pod in case["pods"].items():
            self.create(key, pod)

    def create(self, key: str, pod: dict[str, Any]) -> None:
        self.pods += 1
        ip = pod.get("ip")
        if ip is None or ip in self.world.state.bindings:
            # Some sources give two pods one address, where no address is judged; here only one
            # pod can hold it.
            ip = f"10.255.0.{self.pods}"
        ports = pod.get("ports") or []
        named = self.case["std_ports"] if ports == "std_ports" else ports
        self.world.pod(
            key,
            pod.get("labels") or {},
            node=f"n{self.pods % NODES + 1}",
            ip=ip,
            ports=tuple((p["name"], p["port"], p["protocol"]) for p in named if p.get("name")),
        )

    def act(self, action: dict[str, Any]) -> None:
        ((kind, value),) = action.items()
        match kind:
            case "apply":
                for document in value:
                    self.world.policy(document)
            case "delete":
                self.world.forget(value["namespace"], value["name"], value["kind"])
            case "set_pod_labels":
                self.world.relabel(value["pod"], value["labels"])
            case "set_namespace_labels" | "create_namespace":
                self.world.namespace(value["name"], value["labels"])
            case "create_pod":
                self.create(value["pod"], value)
            case "delete_pod":
                self.world.stop(value)
            case "delete_namespace":
                for uid in list(self.world.state.by_namespace.get(value, {})):
                    self.world.stop(uid)
                self.world.emit(NamespaceForgotten(value))
            case "note":
                pass
            case _:
                raise AssertionError(f"the case asks for {kind}, which this reader does not know")

    def ask(self, judges: Mapping[str, Judge], probe: dict[str, Any]) -> str:
        ports = [probe["port"]] if "port" in probe else boundaries(judges.values())
        return "allow" if all(self.passes(judges, probe, port) for port in ports) else "deny"

    def passes(self, judges: Mapping[str, Judge], probe: dict[str, Any], port: int) -> bool:
        source, destination = self.address(probe["from"]), self.address(probe["to"])
        protocol = Protocol[probe["protocol"]]
        verdict = flow_verdict(judges, source, destination, protocol, port)
        halves = {"ingress": verdict.ingress, "egress": verdict.egress}
        if probe.get("direction", "both") != "both":
            halves = {probe["direction"]: halves[probe["direction"]]}
        # The source's engine may deny an endpoint that no policy selects; here it is open.
        always = self.case.get("settings", {}).get("enforcement") == "always"
        refused = Reason.ALLOWED_NO_POLICY if always else None
        return all(
            reason is None or (reason.allowed and reason is not refused)
            for reason in halves.values()
        )

    def address(self, name: str) -> Address:
        external = self.case.get("externals", {}).get(name)
        return address(external["ip"] if external else self.world.ip(name))


def boundaries(judges: Iterable[Judge]) -> set[int]:
    """Ports that stand for all: verdicts change only where an entry begins or ends."""
    ports = {1}
    for judge in judges:
        for key in judge.maps.policies:
            ports |= {key.port, key.port + (1 << (16 - key.port_bits))}
    return {port for port in ports if 1 <= port <= 65_535}

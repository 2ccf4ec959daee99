"""`tabard policy lint` as a pre-commit hook runs it: all of a process, start to end."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bench import population
from bench.figures import Figure, Target, Yardstick
from bench.lab import Lab

WORKLOADS = 1_000
POLICIES = 500
FILE_OBJECTS = 20
RUNS = 5
PARSE = """
import sys, yaml
for path in sys.argv[1:]:
    with open(path) as file:
        list(yaml.load_all(file, Loader=yaml.CSafeLoader))
"""


def run(lab: Lab) -> list[Figure]:
    workloads, policies = lab.scaled(WORKLOADS, 10), lab.scaled(POLICIES, 2)
    directory = lab.directory / "manifests"
    directory.mkdir(parents=True)
    files = list(_written(directory, [*_workloads(workloads), *_policies(policies)]))
    lint = [sys.executable, "-m", "tabard.cli", "policy", "lint", str(directory)]
    parse = [sys.executable, "-c", PARSE, *map(str, files)]
    # Population's policies name labels that its workloads lack: there is something to find.
    took = tuple(_seconds([*lint, "--fail-on", "never"]) for _ in range(RUNS))
    yardstick = tuple(_seconds(parse) for _ in range(RUNS))
    return [
        Figure(
            "linting.all",
            f"{workloads:,} workloads and {policies:,} policies linted, all of a process",
            "s",
            took,
            Target(5),
            Yardstick("libyaml reads the same files", yardstick),
            means="How long a commit waits for the hook that looks at every policy.",
        )
    ]


def _seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _written(directory: Path, documents: list[dict[str, Any]]) -> Iterator[Path]:
    for number, begin in enumerate(range(0, len(documents), FILE_OBJECTS)):
        path = directory / f"{number:04}.yaml"
        path.write_text(yaml.safe_dump_all(documents[begin : begin + FILE_OBJECTS]))
        yield path


def _policies(count: int) -> list[dict[str, Any]]:
    return list(population.policies(4 * count, egress=True))


def _workloads(count: int) -> Iterator[dict[str, Any]]:
    """Deployments as they are written, with what a policy does not ask about."""
    for number in range(count):
        labels = dict(population.labels(number))
        container = {
            "name": "main",
            "image": f"registry.example/app-{number}:1",
            "ports": [{"name": "http", "containerPort": 8000 + number % 4}],
            "env": [{"name": "LEVEL", "value": "info"}, {"name": "REGION", "value": "eu"}],
            "resources": {"limits": {"cpu": "1", "memory": "256Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        }
        yield {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"app-{number}", "namespace": population.namespace(number)},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": labels["app"]}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }

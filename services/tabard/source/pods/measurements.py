"""How long each pod took to start, as JSON lines in a file for whoever measures a cluster."""

import json
import threading
from dataclasses import asdict
from pathlib import Path

from tabard.events.observed import PodStarted
from tabard.source.pods.runtime import Attached

FILE = "starts.jsonl"
FILE_BYTES_MAX = 4 << 20
"""At this size the file becomes `starts.jsonl.1`, in place of an older one, and is begun anew."""


class Measurements:
    """One line a start: `uid`, `namespace`, `name`, `node`, `started_at` and `ready_at` (both in
    nanoseconds since the Unix epoch) and the fields of Attached. Blocks; any thread may call it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._lock = threading.Lock()

    def add(self, pod: PodStarted, attached: Attached, ready_at: int) -> None:
        line = json.dumps(
            {
                "uid": pod.uid,
                "namespace": pod.namespace,
                "name": pod.name,
                "node": pod.node,
                "started_at": pod.started_at,
                "ready_at": ready_at,
                **asdict(attached),
            }
        )
        with self._lock:
            if self.path.exists() and self.path.stat().st_size + len(line) >= FILE_BYTES_MAX:
                self.path.replace(self.path.with_name(f"{FILE}.1"))
            with self.path.open("a") as file:
                file.write(f"{line}\n")

"""Probers on a real cluster: their packets agree with the ledger, and a kernel that was opened is
found by them."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest

from tabard.agent.ebpf import syscalls
from tabard.agent.ebpf.pins import BPF_ROOT, Pins
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.chaos.fault import Rig
from tabard.chaos.judge.dumps import dumps, fold
from tabard.chaos.judge.evidence import gathered
from tabard.chaos.judge.packets import never_open
from tabard.chaos.probers.running import FILE, ProbersFailed, probing
from tabard.chaos.record import Packet, Record
from tabard.chaos.rig import ClusterRig
from tabard.chaos.watching import Watch
from tabard.cluster.settings import Settings
from tabard.cluster.supervisor import Cluster
from tabard.demo.probe import Target
from tabard.demo.session import Session
from tabard.ledger.state import State
from tabard.manifests.events import applied
from tabard.manifests.reading import read

MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template: &web
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: i, ports: [{name: http, containerPort: 80}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: db, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers:
        - name: c
          image: i
          ports: [{name: sql, containerPort: 5432}, {name: dns, containerPort: 53, protocol: UDP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, ingress: []}
"""
STAMPED_BYTES = 1 << 16


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.ebpf
@pytest.mark.nats
@pytest.mark.timeout(120)
async def test_packets_agree_with_the_ledger_until_a_kernel_is_opened(tmp_path: Path) -> None:
    manifests = tmp_path / "shop.yaml"
    manifests.write_text(MANIFESTS)
    settings = Settings(nodes=2, dataplane="ebpf", extra={"DRIFT_INTERVAL_MS": "3600000"})
    async with Cluster(settings, directory=tmp_path / "run") as cluster:
        session, rig = Session(cluster), ClusterRig(cluster)
        await session.change(applied((await asyncio.to_thread(read, [manifests])).objects))
        await session.pods_up(60)
        record = Record(1, (), "overlay", time.time_ns())
        watch = asyncio.create_task(Watch(cluster.bus, record).run())
        await until(lambda: {word.name for word in record.words} >= set(session.state.nodes))

        async with probing(rig, Random(1)) as probers:
            await probed(rig)
            record.packets = await probers.stop()
        assert agrees(session, record.packets)
        lawful = never_open(record, await gathered(cluster.bus))
        assert lawful.held, lawful

        # The door of one web pod is taken off, and nobody else knows.
        [web, _] = session.pods("shop", "web")
        pins = Pins(BPF_ROOT, cluster.name, web.node)
        (pins.pod(web.uid) / "to_pod").unlink()
        async with probing(rig, Random(2)) as probers:
            await probed(rig)
            record.packets = await probers.stop()
        open_ = never_open(record, await gathered(cluster.bus))
        assert open_.violations == sum(
            each.passed and each.destination_address in web.addresses for each in record.packets
        )
        assert open_.violations > 0

        folded = State()
        record.dumps = await dumps(cluster.bus, cluster.profile, folded)
        assert fold(record).held
        (maps,) = (pins.maps(schema) for schema in pins.schemas())
        with syscalls.closing(syscalls.get(str(maps / "endpoints"))) as endpoints:
            syscalls.map_delete(endpoints, next(syscalls.map_keys(endpoints, 16)))
        record.dumps = await dumps(cluster.bus, cluster.profile, folded)
        assert [len(dump.differences) for dump in record.dumps if dump.node == web.node] == [1]
        assert fold(record).violations == 1
        watch.cancel()


async def probed(rig: ClusterRig) -> None:
    """Some hundreds of packets were stamped."""
    await until(lambda: (rig.data / FILE).stat().st_size >= STAMPED_BYTES)


def agrees(session: Session, packets: list[Packet]) -> bool:
    """Whether each packet passed if and only if the pure verdict on the maps says so."""
    expectation = session.expectation()
    return all(
        each.passed
        is expectation.allows_pod(
            each.source,
            Target(each.destination_address, each.port, each.protocol),
            each.answered,
        )
        for each in packets
    )


async def test_probers_that_fail_end_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    rig = SimpleNamespace(bus=MemoryBus(MemoryStore()), data=tmp_path, run="x")
    with pytest.raises(ProbersFailed, match="ended with 1"):
        async with probing(cast(Rig, rig), Random(1)):
            await asyncio.Event().wait()


async def test_probers_that_nobody_asked_for_packets_end_with_the_block(tmp_path: Path) -> None:
    rig = SimpleNamespace(bus=MemoryBus(MemoryStore()), data=tmp_path, run="x")
    async with probing(cast(Rig, rig), Random(1)) as probers:
        pass
    assert await probers.stop() == []


async def test_ctrl_c_at_the_terminal_is_not_for_the_probers(tmp_path: Path) -> None:
    rig = SimpleNamespace(bus=MemoryBus(MemoryStore()), data=tmp_path, run="x")
    async with probing(cast(Rig, rig), Random(1)) as probers:
        assert os.getpgid(probers.pid) != os.getpgid(0)

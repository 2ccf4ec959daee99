"""Runs on real clusters: what is written down of one, and that none leaves anything behind."""

import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random

import pytest

from clusters import remains
from tabard.chaos.fault import Fault, Rig
from tabard.chaos.faults.partitions import Partition
from tabard.chaos.faults.targets import Whom
from tabard.chaos.record import Record
from tabard.chaos.run import needed, run
from tabard.chaos.scenarios import Scenario
from tabard.cluster import profile
from tabard.cluster.errors import ClusterError
from tabard.cluster.sweep import sweep
from tabard.events.ledger import EndpointBound


class Broken:
    """A fault that cannot be brought about, half-way."""

    name = "broken"
    healed = 0

    async def inject(self, rig: Rig, chance: Random) -> str:
        raise RuntimeError("it is not to be")

    async def heal(self, rig: Rig) -> None:
        Broken.healed += 1


def scenario(name: str, *faults: Fault, **settings: str) -> Scenario:
    def made() -> Sequence[Fault]:
        return faults

    return Scenario(name, "…", made, hold_s=1.0, settings=settings)


def names(record: Record) -> list[str]:
    return [phase.scenario for phase in record.phases]


@pytest.mark.ebpf
@pytest.mark.nats
@pytest.mark.timeout(240)
async def test_a_run_writes_down_what_was_done_said_and_sent_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    name = f"t{secrets.token_hex(3)}"
    wanted = [scenario("cut", Partition(Whom.NODE)), scenario("broken", Broken())]
    ran = await run(wanted, seed=7, name=name, directory=tmp_path, tell=told.append)
    record, evidence = ran.record, ran.evidence

    assert names(record) == ["cut", "broken"]
    (cut,) = record.injected
    assert cut.fault == Partition(Whom.NODE).name
    assert record.phases[0].began < cut.began < cut.healed < cut.converged < record.phases[0].ended
    assert Broken.healed == 1
    assert record.failures == ["broken: broken failed: it is not to be"]

    stored = {message.sequence: message for message in evidence.observed}
    for each in record.acknowledged:
        payload = stored[each.sequence].payload
        assert each.payload_hash == blake2b(payload, digest_size=16).hexdigest()
    assert record.unanswered == 0
    assert {word.name for word in record.words} == {
        *("n1", "n2", "n3"),
        *("allocator-1", "allocator-2"),
    }
    chains = {message.sequence: message.payload[-16:].hex() for message in evidence.stored}
    assert len(record.seen) == len(evidence.ledger)
    assert all(chains[seen.sequence] == seen.chain for seen in record.seen)
    bound = {each.event.uid for each in evidence.ledger if isinstance(each.event, EndpointBound)}
    assert {packet.source for packet in record.packets} <= bound
    assert {packet.passed for packet in record.packets} == {True, False}
    assert {dump.node for dump in record.dumps} == {"n1", "n2", "n3"}
    data = next(line.rpartition(" ")[2] for line in told if "data in" in line)
    assert remains(name, tmp_path, Path(data)) == []


RUN = """
import asyncio, sys
from pathlib import Path
from tabard.chaos.faults.partitions import Partition
from tabard.chaos.faults.targets import Whom
from tabard.chaos.run import run
from tabard.chaos.scenarios import Scenario
from tabard.cli.up import cancelled_by_signals
async def main():
    cut = Scenario("cut", "…", lambda: (Partition(Whom.BUS_LEADER),), hold_s=600.0)
    with cancelled_by_signals():
        await run([cut], seed=1, name=sys.argv[1], directory=Path(sys.argv[2]),
            tell=lambda line: print(line, flush=True))
asyncio.run(main())
"""


@pytest.mark.ebpf
@pytest.mark.nats
@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_under_a_fault_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    name = f"t{secrets.token_hex(3)}"
    command = [sys.executable, "-c", RUN, name, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "partition of" in line:
                break
        found = profile.read(name, tmp_path)
        assert found is not None
        running.send_signal(number)
        running.stdout.read()
    if number is signal.SIGKILL:
        sweep(found, tmp_path, stop_timeout_s=5)
    assert remains(name, tmp_path, Path(found.data)) == []


def test_scenarios_that_need_other_settings_are_not_run_on_one_cluster() -> None:
    some, others = scenario("some", A="1", B="2"), scenario("others", A="1", C="3")
    assert needed([some, others]) == {"A": "1", "B": "2", "C": "3"}
    with pytest.raises(ClusterError, match="more needs A=2, another one A=1"):
        needed([some, scenario("more", A="2")])

"""`tabard doctor`: as a command on a memory bus, and as a process from which things are hidden."""

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters import running
from command import Tabard
from ledgers import append, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.cli import doctor
from tabard.cluster import profile
from tabard.cluster.checkup import Check, fault, ok, warn

MACHINE = [ok("kernel", "Linux 6.18"), warn("btf", "none", "boot another")]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What the machine's checks find."""
    found = list(MACHINE)
    monkeypatch.setattr(doctor.machine, "examine", lambda: iter(found))
    return found


async def a_cluster(store: MemoryStore) -> None:
    store.clock = time.time_ns
    bus = MemoryBus(store)
    head = await append(bus, *small())
    await say(bus, "n1", head)
    await say(bus, "n2", head)


def test_all_is_well_exits_with_zero(
    tabard: Tabard, store: MemoryStore, machine: list[Check]
) -> None:
    asyncio.run(a_cluster(store))
    result = tabard("doctor")
    assert result.exit_code == 0, result.output
    rows = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert rows[0] == ["CHECK", "OUTCOME", "FACT"]
    assert rows[1] == ["kernel", "ok", "Linux 6.18"]
    assert [row[:2] for row in rows if row[0] == "allocator"] == [["allocator", "ok"]]
    assert "warn btf:\nnext: boot another\n" in result.stderr
    assert result.stderr.endswith(" ok, 1 warn, 0 fault\n")


def test_a_fault_exits_with_one_and_says_what_to_type(
    tabard: Tabard, store: MemoryStore, machine: list[Check]
) -> None:
    machine.append(fault("ip", "no `ip` in PATH", "apt-get install iproute2"))
    result = tabard("doctor")
    assert result.exit_code == 1
    assert "fault ip:\nnext: apt-get install iproute2\n" in result.stderr
    told = json.loads(tabard("doctor", "-o", "json").stdout)["checks"]
    assert told[2] == {
        "name": "ip",
        "outcome": "fault",
        "fact": "no `ip` in PATH",
        "next": "apt-get install iproute2",
    }
    assert yaml.safe_load(tabard("doctor", "-o", "yaml").stdout)["checks"][:3] == told[:3]
    assert "apt-get install iproute2" in tabard("doctor", "-o", "wide").stdout
    assert tabard("doctor", "-o", "name").stdout.splitlines()[:3] == ["kernel", "btf", "ip"]
    # The ledger on the bus is empty: nobody ever led.
    assert [each["name"] for each in told if each["outcome"] == "fault"] == ["ip", "allocator"]


def test_without_a_cluster_only_the_machine_is_examined(
    tabard: Tabard, machine: list[Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TABARD_NATS")
    result = tabard("doctor")
    assert result.exit_code == 0
    assert "no cluster runs on this machine" in result.stdout
    profile.claim(replace(running("dead"), started=1), profile.run_directory())
    dead = tabard("doctor")
    assert dead.exit_code == 0
    assert "warn cluster:\nnext: tabard down --cluster dead\n" in dead.stderr
    assert tabard("doctor", "--cluster", "other").exit_code == 1


def test_a_service_that_stands_before_an_event_is_mended_by_what_shows_the_event(
    tabard: Tabard, store: MemoryStore, machine: list[Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TABARD_NATS")
    profile.claim(replace(running("a"), netns=""), profile.run_directory())
    reasons = {
        "allocator": "it stands before OBSERVED/94 (not msgpack), which it cannot take",
        "source": "not in sync",
    }
    rows = [{"name": name, "ready": False, "reason": why} for name, why in reasons.items()]
    monkeypatch.setattr(doctor, "services", lambda profile: rows)
    told = json.loads(tabard("doctor", "-o", "json").stdout)["checks"]
    assert {each["name"]: each["next"] for each in told[-2:]} == {
        "service allocator": "tabard events show 94 --stream OBSERVED",
        "service source": "less /tmp/a/logs/source.log",
    }


@pytest.mark.nats
def test_a_bus_that_gives_no_answer_is_a_fault_beside_the_machines(
    tabard: Tabard, machine: list[Check]
) -> None:
    result = tabard("doctor", "--nats", "nats://127.0.0.1:1", "-o", "json")
    assert result.exit_code == 1
    last = json.loads(result.stdout)["checks"][-1]
    assert (last["name"], last["outcome"]) == ("bus", "fault")
    assert "127.0.0.1:1" in last["fact"]
    assert last["next"] == "nats server check connection -s nats://127.0.0.1:1"


def examined(tmp_path: Path, *before: str, **environment: str) -> dict[str, dict[str, Any]]:
    """What a process says, started by `before` and with `environment`."""
    done = subprocess.run(
        [*before, sys.executable, "-m", "tabard.cli", "doctor", "-o", "json"],
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("TABARD_")},
            "TABARD_RUN_DIR": str(tmp_path),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    checks = {each["name"]: each for each in json.loads(done.stdout)["checks"]}
    faulty = any(each["outcome"] == "fault" for each in checks.values())
    assert done.returncode == (1 if faulty else 0), done.stderr
    return checks


@pytest.mark.ebpf
def test_what_is_hidden_from_a_real_process_is_named(tmp_path: Path) -> None:
    """Another package called bcc, and a PATH without commands."""
    other = tmp_path / "bcc" / "__init__.py"
    other.parent.mkdir()
    other.write_text("")
    checks = examined(tmp_path, PATH="/does/not/exist", PYTHONPATH=str(tmp_path))
    told = {name: check["outcome"] for name, check in checks.items()}
    assert {name: told[name] for name in ("ip", "nft", "bcc", "compiler", "tcx")} == {
        "ip": "fault",
        "nft": "warn",
        "bcc": "fault",
        "compiler": "warn",
        "tcx": "ok",
    }
    assert all(check["next"] for check in checks.values() if check["outcome"] == "fault")


@pytest.mark.ebpf
def test_a_process_without_capabilities_is_told_which(tmp_path: Path) -> None:
    """Root, but with all of them dropped, as in a container."""
    nothing = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    checks = examined(tmp_path, *nothing)
    assert checks["capabilities"]["outcome"] == "fault"
    assert "CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF" in checks["capabilities"]["fact"]
    assert checks["capabilities"]["next"].startswith("sudo ")
    assert checks["tcx"]["outcome"] == "warn"
    assert checks["compiler"]["outcome"] == "ok"

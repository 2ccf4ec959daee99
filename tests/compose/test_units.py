"""The units for plain hosts: systemd reads them, they say nothing that Tabard would not understand,
and leave no more open than they must."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tabard.agent.settings import Settings as AgentSettings
from tabard.allocator.settings import Settings as AllocatorSettings
from tabard.server.settings import Settings as ServerSettings

UNITS = Path(__file__).parents[2] / "compose" / "systemd"
SETTINGS = {
    "tabard-agent@": AgentSettings,
    "tabard-allocator": AllocatorSettings,
    "tabard-nats": ServerSettings,
}
EXPOSURE_MAX = {"tabard-agent@": 3.0, "tabard-allocator": 1.5, "tabard-nats": 1.5}
"""Of 10, as `systemd-analyze security` counts."""
CAPABILITIES = {
    "tabard-agent@": {"CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"},
    "tabard-allocator": set(),
    "tabard-nats": set(),
}

each = pytest.mark.parametrize("name", SETTINGS)


def text(name: str) -> str:
    return (UNITS / f"{name}.service").read_text()


@each
def test_a_unit_sets_what_the_service_knows(name: str) -> None:
    variables = set(re.findall(r"\b(TABARD_[A-Z_]+)=", text(name)))
    known = {f"TABARD_{field.upper()}" for field in SETTINGS[name].model_fields}
    assert variables
    assert variables <= known


@each
def test_a_unit_runs_its_service_with_the_capabilities_that_it_needs_alone(name: str) -> None:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(text(name))
    service = parsed["Service"]
    module = SETTINGS[name].__module__.rpartition(".")[0]
    assert service["ExecStart"] == f"/opt/tabard/bin/python -m {module}"
    assert set(service["CapabilityBoundingSet"].split()) == CAPABILITIES[name]
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["Restart"] == "always"
    assert parsed["Unit"]["StartLimitIntervalSec"] == "0", "else five quick ends are for good"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd's own reader")
@each
def test_systemd_reads_a_unit_without_a_word_and_finds_it_confined(
    name: str, tmp_path: Path
) -> None:
    unit = tmp_path / f"{name}.service"
    unit.write_text(text(name).replace("/opt/tabard/bin/python", sys.executable))
    command = ["systemd-analyze", "--man=no", "verify", unit]
    read = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")
    threshold = f"--threshold={round(EXPOSURE_MAX[name] * 10)}"
    command = ["systemd-analyze", "security", "--offline=true", threshold, unit]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout
